"""What a check found, on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cytomask.data.check.finding import SEVERITIES, CheckReport, Finding

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
#: Width where there is no terminal, and how many findings of a kind are shown.
_WIDTH, _SHOWN = 120, 3


def print_report(report: CheckReport, console: Console | None = None, shown: int = _SHOWN) -> None:
    """Print the kinds that were found with their counts, and the first findings of each error and warning.

    Parameters
    ----------
    report
        What was found.
    console
        Where to print; None for the terminal.
    shown
        So many findings of a kind.

    Examples
    --------
    >>> from pathlib import Path
    >>> found = Finding("specks", "warning", "2 objects of at most 3 px", "remove them", image="a")
    >>> print_report(CheckReport("mine", Path("mine"), (found,), {"specks": "specks"}), Console(width=80))
    mine: 0 errors, 1 warning, 0 notes; 1 kind of check
    <BLANKLINE>
    severity  what    kind    found
    ───────────────────────────────
    warning   specks  specks      1
    <BLANKLINE>
    specks
      a: 2 objects of at most 3 px
      to do: remove them
    """
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH)
    counts = {severity: report.count(severity) for severity in SEVERITIES}
    said = ", ".join(f"{n} {severity}{'' if n == 1 else 's'}" for severity, n in counts.items())
    kinds = len(report.kinds)
    console.print(escape(f"{report.name}: {said}; {kinds} kind{'' if kinds == 1 else 's'} of check"), style="bold")
    if not report.findings:
        console.print("nothing was found")
        _print_settings(console, report)
        return
    groups = [(key, list(members)) for key, members in groupby(report.findings, lambda f: (f.severity, f.kind))]
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in ("severity", "what", "kind"):
        table.add_column(name, no_wrap=name != "what")
    table.add_column("found", justify="right")
    for (severity, kind), members in groups:
        style = _STYLES[severity]
        title = escape(report.kinds.get(kind, kind))
        table.add_row(f"[{style}]{severity}[/]", title, kind, f"{len(members):,}")
    console.print(table)
    for (severity, kind), members in groups:
        if severity != "note" or counts["error"] + counts["warning"] == 0:
            _print_kind(console, report.kinds.get(kind, kind), severity, members, shown)
    _print_settings(console, report)


def _print_settings(console: Console, report: CheckReport) -> None:
    """What training would choose for these objects."""
    for family, chosen in report.statistics.get("settings", {}).items():
        console.print(f"[bold]training a {escape(family)} model would choose[/]")
        for reason in chosen["reasons"]:
            console.print("  " + escape(reason), soft_wrap=True)


def _print_kind(console: Console, title: str, severity: str, members: Sequence[Finding], shown: int) -> None:
    console.print(f"[{_STYLES[severity]}]{escape(title)}[/]")
    for found in members[:shown]:
        console.print("  " + escape(_place(found) + found.message), soft_wrap=True)
    if len(members) > shown:
        console.print(f"  and {len(members) - shown:,} more")
    for todo in list(dict.fromkeys(found.todo for found in members))[:2]:
        console.print(f"  [cyan]to do:[/] {escape(todo)}", soft_wrap=True)


def _place(found: Finding) -> str:
    place = found.image or (found.file.name if found.file is not None else "")
    if found.split is not None and place:
        place += f" ({found.split})"
    return f"{place}: " if place else ""
