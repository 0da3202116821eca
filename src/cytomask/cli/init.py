"""``cytomask init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="The data set that is looked at, and that the file names.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Extend this recipe; only what differs is written.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Model family: star, region or dense (default: by the objects' shapes).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the experiment (default: the data's or the recipe's).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path("experiment.yaml"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A setting in place of a proposal. May be repeated.")
    ] = None,
    dvc: Annotated[bool, typer.Option("--dvc", help="Write a DVC pipeline of the stages, too.")] = False,
    run: Annotated[
        Path | None, typer.Option("--run", help="With --dvc: folder of the run (default: runs/NAME).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not time a step of training.")] = False,
    schema: Annotated[Path | None, typer.Option(help="Only write the JSON Schema of experiments.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Only list the recipes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Begin an experiment: look at the data, and write a commented file with proposals and the reasons for them."""
    from cytomask.workflows.init import begin_experiment, recipe_purposes

    if schema is not None:
        from cytomask.workflows.experiments.schema import write_schema

        typer.echo(f"written: {write_schema(schema)}")
        return
    if list_ or (data is None and recipe is None):
        purposes = recipe_purposes()
        width = max(map(len, purposes))
        for one, said in purposes.items():
            typer.echo(f"{one:<{width}}  {said}")
        if not list_:
            typer.echo("\nbegin with: cytomask init --data PATH, or cytomask init --recipe NAME --data PATH")
        return
    path, experiment = begin_experiment(
        data, recipe=recipe, family=family, name=name, out=out, overrides=set_ or [], force=force, timing=not quick
    )
    typer.echo(f"written: {path}")
    if dvc:
        from cytomask.workflows.dvc_pipeline import write_pipeline

        for written in write_pipeline(path, run or path.parent / "runs" / experiment.name):
            if written != path:
                typer.echo(f"written: {written}")
    if data is not None:
        typer.echo(f"examine the data: cytomask check {data}")
    typer.echo(f"run it:           cytomask run {path}" + ("" if data else " --data PATH"))
