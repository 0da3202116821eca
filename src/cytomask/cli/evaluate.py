"""``cytomask evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A label image, or a folder of them (as predict writes).")],
    truth: Annotated[Path, typer.Argument(help="A label image, a folder of them, or a data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json and per_image.csv.")],
    split: Annotated[str | None, typer.Option(help="Split of the data set to compare with.")] = None,
) -> None:
    """Compare predictions with the truth: matching metrics at every IoU, pooled and per image, with intervals."""
    from cytomask.reporting.tables import print_metrics
    from cytomask.workflows.evaluate import evaluate_predictions

    result = evaluate_predictions(predictions, truth, out, split=split)
    print_metrics(result.metrics)
    typer.echo(f"wrote {out / 'metrics.json'} and {out / 'per_image.csv'}")
