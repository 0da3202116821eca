"""What a comparison says, in words: who is ahead, how sure that is, and the leaderboard as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cytomask.reporting.page import counted, listed

#: What a model costs: name in tables, heading.
COSTS = (
    ("parameters", "parameters"),
    ("file_bytes", "file"),
    ("training_minutes", "training"),
    ("epochs", "epochs"),
    ("best_validation", "best validation score"),
    ("seconds_per_megapixel", "prediction, s per megapixel"),
    ("peak_memory_mb", "memory, MB"),
)
#: Below this corrected p-value a difference is said to be real.
LEVEL = 0.05


def verdict(table: Mapping[str, Any]) -> tuple[str, str, str]:
    """Who is ahead: a grade (``fine``, ``note`` or ``warning``), one sentence, and what follows from it.

    Examples
    --------
    >>> one = {"name": "a", "figures": {"f1_50": 0.9}}
    >>> verdict({"models": [one], "rank_by": "f1_50", "figures": {"f1_50": "F1"}, "pairs": [], "n_images": 2})[1]
    'a: F1 0.900'
    """
    models, rank_by = table["models"], table["rank_by"]
    title = str(table["figures"][rank_by])
    best, value = models[0]["name"], models[0]["figures"][rank_by]
    known = "not defined" if value is None else f"{value:.3f}"
    if len(models) == 1:
        return "note", f"{best}: {title} {known}", "There is one model only, so nothing to compare it with."
    second = models[1]["name"]
    pair = pair_of(table, rank_by, best, second)
    heading = f"{best} is ahead: {known}, then {second} with {number(models[1]['figures'][rank_by])}"
    if pair is None or value is None:
        return "warning", heading, f"By {_plain(title)}. They have no image in common."
    if not pair["difference"]:
        return "note", f"{best} and {second} are level: {known}", f"By {_plain(title)}."
    told = f"By {_plain(title)}. {best} is better than {second} {_on_images(pair)}, by {difference(pair)} overall."
    p, n = pair["p_holm"], pair["n_images"]
    if p is not None and p < LEVEL:
        return "fine", heading, f"{told} Chance alone would hardly do that ({p_text(p)})."
    smallest = table["smallest_p"]
    if smallest >= LEVEL:
        why = f"but {counted(n, 'image')} cannot prove anything: even the clearest difference has p = {smallest:.3g}"
        return "warning", heading, f"{told} This may be so, {why}."
    return "note", heading, f"{told} Chance alone could do that ({p_text(p)}): do not count on the order of these two."


def pair_of(table: Mapping[str, Any], figure: str, first: str, second: str) -> dict[str, Any] | None:
    """How two models differ in a figure, seen from the first; None where they have no image in common."""
    for pair in table["pairs"]:
        if pair["figure"] != figure or {pair["first"], pair["second"]} != {first, second}:
            continue
        if pair["first"] == first:
            return dict(pair)
        turned = dict(pair, first=first, second=second, values=pair["values"][::-1])
        turned["first_better"], turned["second_better"] = pair["second_better"], pair["first_better"]
        for key, other in (("difference", "difference"), ("low", "high"), ("high", "low")):
            turned[key] = None if pair[other] is None else -pair[other]
        return turned
    return None


def difference(pair: Mapping[str, Any]) -> str:
    """A difference with its interval.

    Examples
    --------
    >>> difference({"difference": 0.031, "low": 0.01, "high": 0.05})
    '+0.031 (+0.010 to +0.050)'
    """
    if pair["difference"] is None:
        return "–"
    told = f"{pair['difference']:+.3f}"
    if pair["low"] is not None and pair["high"] is not None:
        told += f" ({pair['low']:+.3f} to {pair['high']:+.3f})"
    return told


def p_text(p: float | None) -> str:
    """A p-value in words.

    Examples
    --------
    >>> p_text(0.25), p_text(0.00012), p_text(None)
    ('p = 0.25', 'p < 0.001', 'p is not defined')
    """
    if p is None or math.isnan(p):
        return "p is not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def number(value: float | None) -> str:
    """A figure with three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def cost_text(name: str, value: float | None, *, short: bool = False) -> str:
    """What a model costs, with its unit.

    Examples
    --------
    >>> cost_text("file_bytes", 3_400_000), cost_text("training_minutes", 83.4), cost_text("parameters", 1_204_000)
    ('3.4 MB', '1 h 23 min', '1.20 M')
    """
    if value is None:
        return "–"
    if name == "file_bytes":
        return f"{value / 1e6:,.1f} MB"
    if name == "parameters":
        return f"{value / 1e6:,.2f} M" if value >= 1e5 else f"{value:,.0f}"
    if name == "training_minutes":
        hours, minutes = divmod(round(value), 60)
        return f"{value:.1f} min" if value < 10 else f"{hours} h {minutes} min" if hours else f"{minutes} min"
    if name == "seconds_per_megapixel":
        return f"{value:.2g} s/megapixel" if short else f"{value:.2f}"
    if name == "peak_memory_mb":
        return f"{value:,.0f} MB" if short else f"{value:,.0f}"
    return f"{value:.3f}" if name == "best_validation" else f"{value:,.0f}"


def leaderboard_markdown(table: Mapping[str, Any]) -> str:
    """The leaderboard and the pairs as Markdown."""
    _, heading, told = verdict(table)
    lines = [f"# {_safe(heading)}", "", _safe(told), ""]
    place = f"{table['data']}, split {table['split']}" if table["split"] else str(table["data"])
    images, objects = counted(table["n_images"], "image"), counted(table["n_true"], "true object")
    lines += [f"Data: {_safe(place)}; {images}, {objects}.", ""]
    lines += [f"- {_safe(notice)}" for notice in table["notices"]]
    lines += [""] if table["notices"] else []
    names = [name for name in table["figures"] if any(m["figures"].get(name) is not None for m in table["models"])]
    rows = [
        [str(rank), model["name"], *(_with_interval(model, name) for name in names)]
        for rank, model in enumerate(table["models"], start=1)
    ]
    level = f"{100 * table['confidence_intervals']['level']:g} %"
    lines += ["## Leaderboard", "", f"In brackets: {level} bootstrap intervals over images.", ""]
    lines += _markdown_table(["", "model", *(table["figures"][name] for name in names)], rows)
    known = [(key, title) for key, title in COSTS if any(m[key] is not None for m in table["models"])]
    if known:
        lines += ["", "## What they cost", ""]
        costs = [
            [m["name"], m["family"] or "–", *(cost_text(key, m[key]) for key, _ in known)] for m in table["models"]
        ]
        lines += _markdown_table(["model", "family", *(title for _, title in known)], costs)
    kinds = list(dict.fromkeys(kind for m in table["models"] for side in m["error_kinds"].values() for kind in side))
    counts = [
        [m["name"], *(str(m["error_kinds"]["truth"].get(k, m["error_kinds"]["prediction"].get(k, 0))) for k in kinds)]
        for m in table["models"]
    ]
    lines += [
        "",
        "## What goes wrong",
        "",
        "True objects by what became of them; spurious: predicted ones that are not",
    ]
    lines[-1] += " real."
    lines += ["", *_markdown_table(["model", *kinds], counts)]
    if table["pairs"]:
        lines += ["", "## Pairs", "", "p-values of a permutation test over images, corrected for all pairs (Holm).", ""]
        pairs = [
            [table["figures"][p["figure"]], p["first"], p["second"], difference(p), p_text(p["p"]), p_text(p["p_holm"])]
            for p in table["pairs"]
        ]
        lines += _markdown_table(["figure", "first", "second", "first less second", "p", "corrected"], pairs)
    return "\n".join(lines) + "\n"


def _with_interval(model: Mapping[str, Any], name: str) -> str:
    value, bounds = model["figures"].get(name), model["confidence_intervals"].get(name)
    if value is None or not bounds or None in bounds:
        return number(value)
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(_safe(cell) for cell in line) + " |" for line in lines]


def _safe(text: object) -> str:
    """Names come from anywhere: they must not end a cell, or begin markup."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _plain(title: str) -> str:
    return title if title[1:2].isupper() or title.startswith("F1") else title[:1].lower() + title[1:]


def _on_images(pair: Mapping[str, Any]) -> str:
    ties = pair["n_images"] - pair["first_better"] - pair["second_better"]
    parts = [f"on {pair['first_better']} of {counted(pair['n_images'], 'image')}"]
    parts += [f"equal on {ties}"] if ties else []
    return listed(parts)
