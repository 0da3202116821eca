"""The command line's table of commands, and how errors reach people.

Nothing heavy is imported here: each command imports its workflow when it runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from cytomask.cli import (
    check,
    compare,
    convert,
    data,
    demo,
    evaluate,
    init,
    lr_find,
    measure,
    models,
    predict,
    preview_augmentation,
    report,
    subimages,
    train,
    tune,
)
from cytomask.cli.run import run as run_experiment
from cytomask.errors import CytomaskError
from cytomask.progress import set_quiet

EXIT_WRONG_INPUT, EXIT_INTERRUPTED = 2, 130

app = typer.Typer(
    name="cytomask",
    help="Find every cell, nucleus and organelle in microscope images, and measure them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_debug = False


def _print_version(wanted: bool) -> None:
    if wanted:
        from cytomask._version import __version__

        typer.echo(f"cytomask {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    set_quiet(quiet)


app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("predict")(predict.predict)
app.command("run")(run_experiment)
app.command("train")(train.train)
app.command("lr-find")(lr_find.lr_find)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("measure")(measure.measure)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("convert")(convert.convert)
app.command("preview-augmentation")(preview_augmentation.preview_augmentation)
app.command("subimages")(subimages.subimages)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    try:
        app(args=arguments, prog_name="cytomask")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except CytomaskError as error:
        if _debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away (`cytomask … | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
