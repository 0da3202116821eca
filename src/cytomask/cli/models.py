"""``cytomask models``: list, show, import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Models: list the shipped ones, show one, export one to a file, import it again.", no_args_is_help=True
)


@app.command("list")
def list_models() -> None:
    """List the shipped models."""
    from cytomask.workflows.models import describe_models

    for line in describe_models():
        typer.echo(line)


@app.command("show")
def show_model(model: Annotated[str, typer.Argument(help="A name, a bundle, or a run's folder.")]) -> None:
    """Show what a model is, what it expects, and how well it does."""
    from cytomask.workflows.models import describe_model

    typer.echo(describe_model(model))


@app.command("export")
def export_model(
    model: Annotated[str, typer.Argument(help="A name, a bundle, or a run's folder.")],
    target: Annotated[Path, typer.Argument(help="The zip file to write.")],
) -> None:
    """Pack a model into one zip file."""
    from cytomask.workflows.models import export_bundle

    typer.echo(f"wrote {export_bundle(model, target)}")


@app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(help="A zip file that export wrote.")],
    folder: Annotated[Path, typer.Argument(help="The bundle's folder to make.")],
) -> None:
    """Unpack a model into a folder."""
    from cytomask.workflows.models import import_bundle

    typer.echo(f"wrote {import_bundle(source, folder)}")
