"""Write what a comparison found: tables, a page, and all of it as JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.output import replacing
from cytomask.reporting.compare_words import COSTS, cost_text, leaderboard_markdown

if TYPE_CHECKING:
    from cytomask.workflows.compare import Compared

BOARD_NAME, BOARD_TABLE, PAIRS_TABLE, IMAGES_TABLE = "leaderboard.md", "leaderboard.csv", "pairs.csv", "per_image.csv"
ALL_NAME, PAGE_NAME = "comparison.json", "compare.html"


def write_comparison(
    folder: Path,
    table: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    compared: Sequence[Compared] | None,
    n_pictures: int,
) -> None:
    """Write all files; they appear together, when the last is complete.

    Parameters
    ----------
    folder
        Where to.
    table
        The comparison.
    rows
        A dictionary for each image and model.
    compared
        The models in the order of the table, for pictures; None writes no page.
    n_pictures
        So many images, those on which they disagree most, are shown.
    """
    with ExitStack() as together:

        def into(name: str) -> Path:
            return together.enter_context(replacing(folder / name))

        text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
        into(ALL_NAME).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        into(BOARD_NAME).write_text(leaderboard_markdown(table), encoding="utf-8")
        write_table(into(BOARD_TABLE), leaderboard_rows(table))
        write_table(into(PAIRS_TABLE), pair_rows(table))
        write_table(into(IMAGES_TABLE), rows)
        if compared is not None:
            # Drawing is slow to import, and not needed without the page.
            from cytomask.reporting.compare_page import write_compare_page
            from cytomask.workflows.comparing.pictures import make_disagreements

            pictures = make_disagreements(compared, table["rank_by"], n_pictures)
            write_compare_page(folder / PAGE_NAME, table, rows, pictures)


def leaderboard_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each model, the best first: figures with the bounds of their intervals, errors, and what it costs."""
    rows = []
    for rank, model in enumerate(table["models"], start=1):
        row = {"rank": rank, "model": model["name"], "kind": model["kind"], "source": model["source"]}
        row |= {key: model[key] for key in ("n_images", "n_true", "n_pred")}
        for name, value in model["figures"].items():
            low, high = model["confidence_intervals"][name] or (None, None)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        for side, counts in model["error_kinds"].items():
            row |= {f"{side}_{kind}": count for kind, count in counts.items()}
        rows.append(row | {"family": model["family"]} | {name: model[name] for name, _ in COSTS})
    return rows


def pair_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each figure and pair of models."""
    rows = []
    for pair in table["pairs"]:
        row = {key: value for key, value in pair.items() if key != "values"}
        row["first_value"], row["second_value"] = pair["values"]
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; what is not known stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: "" if v is None or (isinstance(v, float) and math.isnan(v)) else v for k, v in row.items()}
            )


def print_comparison(table: Mapping[str, Any]) -> list[str]:
    """The leaderboard in lines for the screen."""
    title = table["figures"][table["rank_by"]]
    lines = [f"{title} on {table['n_images']} image{'' if table['n_images'] == 1 else 's'}:"]
    width = max(len(model["name"]) for model in table["models"])
    for rank, model in enumerate(table["models"], start=1):
        value, bounds = model["figures"][table["rank_by"]], model["confidence_intervals"][table["rank_by"]]
        told = "not defined" if value is None else f"{value:.3f}"
        if bounds is not None and None not in bounds:
            told += f" ({bounds[0]:.3f} to {bounds[1]:.3f})"
        costs = [
            cost_text(name, model[name], short=True)
            for name in ("seconds_per_megapixel", "peak_memory_mb")
            if model[name]
        ]
        lines.append(f"  {rank}. {model['name']:<{width}}  {told}" + (f"  {', '.join(costs)}" if costs else ""))
    return lines
