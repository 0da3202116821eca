"""``cytomask models``: list, show, import, export, push and pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _Commands(TyperGroup):
    """Commands whose names may be of two words: ``import detectron2`` besides ``import``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        name = " ".join(args[:2])
        return super().parse_args(ctx, [name, *args[2:]] if name in self.commands else args)


app = typer.Typer(
    cls=_Commands,
    help="Models: list the shipped ones, show one, export one to a file, import it again, import one of detectron2, or "
    "share one in a folder or bucket.",
    no_args_is_help=True,
)


@app.command("list")
def list_models(
    store: Annotated[
        str | None, typer.Argument(help="A folder or bucket with shared models: s3://bucket/models.")
    ] = None,
) -> None:
    """List the shipped models, or those of a folder or bucket."""
    from cytomask.workflows.model_store import describe_stored
    from cytomask.workflows.models import describe_models

    for line in describe_models() if store is None else describe_stored(store):
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
    half: Annotated[
        bool, typer.Option("--half", help="Keep weights in half precision: half the size, nearly the same results.")
    ] = False,
) -> None:
    """Pack a model into one zip file."""
    from cytomask.workflows.models import export_bundle

    typer.echo(f"wrote {export_bundle(model, target, half=half)}")


@app.command("push")
def push(
    model: Annotated[str, typer.Argument(help="A name, a bundle, or a run's folder.")],
    store: Annotated[str, typer.Argument(help="A folder or bucket to share models in: s3://bucket/models.")],
    name: Annotated[str | None, typer.Option(help="What to call it (default: the model's own name).")] = None,
    version: Annotated[
        str | None, typer.Option(help="A version that there is not yet (default: the next number).")
    ] = None,
) -> None:
    """Share a model in a folder or bucket, as a new version."""
    from cytomask.workflows.model_store import push_model
    from cytomask.workflows.models import find_model

    typer.echo(f"pushed {store.rstrip('/')}/{push_model(find_model(model), store, name=name, version=version)}")


@app.command("pull")
def pull(
    address: Annotated[str, typer.Argument(help="STORE/NAME or STORE/NAME@VERSION: s3://bucket/models/nuclei@3.")],
    folder: Annotated[Path, typer.Argument(help="The bundle's folder to make.")],
) -> None:
    """Copy a shared model here, and make sure that it is whole."""
    from cytomask.workflows.model_store import pull_model, spec_of

    made = pull_model(address, folder)
    typer.echo(f"wrote {made} ({spec_of(made)})")


@app.command("import")
def import_model(
    source: Annotated[Path, typer.Argument(help="A zip file that export wrote.")],
    folder: Annotated[Path, typer.Argument(help="The bundle's folder to make.")],
) -> None:
    """Unpack a model into a folder. (A checkpoint of detectron2: see `cytomask models import detectron2 --help`.)"""
    from cytomask.workflows.models import import_bundle

    typer.echo(f"wrote {import_bundle(source, folder)}")


@app.command("import detectron2")
def import_detectron2_model(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth or .pkl file of detectron2; nothing in it is run.")],
    config_file: Annotated[
        Path,
        typer.Option("--config-file", help="Its configuration: YAML of the zoo, or of the training."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder to make.")],
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the classes: a,b,c or a COCO JSON; else COCO's 80, or class1, class2 …"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the configuration; may be repeated."),
    ] = None,
) -> None:
    """Turn a Mask R-CNN, Cascade R-CNN or PointRend checkpoint of detectron2 into a model that gives its results."""
    from cytomask.workflows.import_detectron2 import import_detectron2

    made = import_detectron2(checkpoint, config_file, out, classes=classes, changes=changes or ())
    typer.echo(f"wrote {made}")
