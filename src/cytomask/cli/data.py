"""``cytomask data``: published data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Published data sets: list them, show one, fetch one.", no_args_is_help=True)


@app.command("list")
def list_data_sets() -> None:
    """List the published data sets that can be fetched by name."""
    from cytomask.workflows.data_sets.catalogue import describe_catalogue

    for line in describe_catalogue():
        typer.echo(line)


@app.command("show")
def show_data_set(name: Annotated[str, typer.Argument(help="A name that `cytomask data list` shows.")]) -> None:
    """Show what a data set holds, its licence, and what to cite."""
    from cytomask.workflows.data_sets.catalogue import find_data_set

    for line in find_data_set(name).describe():
        typer.echo(line)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="A name that `cytomask data list` shows.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to make (default: of the data set's name).")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence; needed where it forbids commercial use.")
    ] = False,
    sha256: Annotated[
        list[str] | None,
        typer.Option(metavar="[FILE=]DIGITS", help="Checksum of a downloaded file, where none is known; repeatable."),
    ] = None,
) -> None:
    """Fetch a data set and make it ready: `cytomask check` and `train` open its folder at once."""
    import sys

    from cytomask.workflows.data_sets.catalogue import find_data_set
    from cytomask.workflows.data_sets.fetching import get_data_set

    entry = find_data_set(name)
    for line in entry.describe():
        typer.echo(line, err=True)
    if not entry.commercial and not accept_licence and sys.stdin.isatty():
        accept_licence = typer.confirm("Do you accept this licence?", err=True)
    checksums = dict(text.rpartition("=")[::2] for text in sha256 or [])
    for line in get_data_set(name, out, accept_licence=accept_licence, sha256=checksums).lines:
        typer.echo(line)
