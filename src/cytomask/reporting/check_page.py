"""The page of a data check: the verdict, the data set at a glance, every finding with pictures, and what was fine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cytomask.data.check.finding import SEVERITIES, CheckReport, Finding, Severity
from cytomask.reporting.data_overview import data_overview, split_counts, whole_count
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import Section, badge, counted, listed, tick, tile, write_page
from cytomask.reporting.page_pictures import PictureBudget, left_out_note, picture_figure
from cytomask.reporting.page_tables import Cell, Column, number_cell, table

#: So many findings of a kind are in view, and so many are in the page at all; check.json holds all of them.
_IN_VIEW, _LISTED = 5, 400
#: Longer side of a picture in pixels.
_SIDE = 640
#: So many findings are asked for a picture, for each that is wanted: some have none.
_TRIES = 3
_MEANING = {
    "error": "Makes training fail, or teaches the model something wrong.",
    "warning": "Probably harms. Look, and mend it or leave it on purpose.",
    "note": "Worth knowing. Often nothing needs to be done.",
}


def write_check_page(
    path: str | Path,
    report: CheckReport,
    pictures: Callable[[Finding], np.ndarray | None],
    max_pictures_per_kind: int = 6,
    *,
    command: str | None = None,
) -> None:
    """Write a page about the check of a data set: one file that works without a network.

    Parameters
    ----------
    path
        The file.
    report
        What was found.
    pictures
        Gives a picture of a finding, uint8 ``(Y, X, 3)``, or None. It is asked for the worst of each kind only.
    max_pictures_per_kind
        So many pictures of each kind are shown.
    command
        The command that was given, to stand at the foot of the page; None for that of this process, if it is
        ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    by_kind: dict[str, list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: SEVERITIES.index(f.severity)):
        by_kind.setdefault(finding.kind, []).append(finding)
    heading, lead, grade = _verdict(report)
    budget = PictureBudget()
    sections = [Section("data", "The data set", data_overview(report.statistics))]
    if by_kind:
        groups = [
            _group(kind, report.kinds.get(kind, kind), found, pictures, max_pictures_per_kind, budget)
            for kind, found in by_kind.items()
        ]
        body = join([_contents(by_kind, report), *groups, left_out_note(budget)])
        lead_of_findings = "The gravest first. A click on a picture shows it large."
        sections.append(Section("findings", "What was found", body, lead_of_findings))
    fine = [title for kind, title in report.kinds.items() if kind not in by_kind]
    if fine:
        items = (element("li", tick(), title) for title in fine)
        sections.append(
            Section(
                "fine",
                "Looked for, and not found",
                element("div", element("ul", *items, class_="fine-list"), class_="card"),
                f"{counted(len(fine), 'kind')} of fault that this data set does not have, as far as the check can see.",
            )
        )
    write_page(
        path,
        title=f"{report.name}: data check",
        kicker="data check",
        heading=heading,
        lead=lead,
        top=_top(report, grade),
        sections=sections,
        command=command,
    )


def _verdict(report: CheckReport) -> tuple[str, object, str]:
    """The sentence at the top, what follows from it, and the gravest severity (``"fine"`` if there is none)."""
    errors, warnings, notes = (report.count(severity) for severity in SEVERITIES)
    n_images = whole_count(report.statistics.get("images"))
    where = f" in {counted(n_images, 'image')}" if n_images is not None else ""
    counts = [(errors, "error"), (warnings, "warning")]
    told = listed([counted(n, what) for n, what in counts if n])
    if errors:
        files = {f.image or str(f.file) for f in report.findings if f.severity == "error" and (f.image or f.file)}
        on = f" on {counted(len(files), 'image')}" if files else ""
        return (
            f"{told}{where}",
            join(
                [
                    "Training would fail or learn something wrong",
                    on,
                    ". ",
                    element("strong", "Mend the errors before you train."),
                ]
            ),
            "error",
        )
    if warnings:
        return (
            f"No errors, {told}{where}",
            join(
                [
                    element("strong", "Training can start."),
                    " Look at the warnings first: each of them probably costs accuracy.",
                ]
            ),
            "warning",
        )
    if notes:
        return (
            f"Nothing wrong{where}",
            join(
                [
                    element("strong", "Training can start."),
                    f" There {'is' if notes == 1 else 'are'} {counted(notes, 'note')}.",
                ]
            ),
            "note",
        )
    return f"Nothing wrong{where}", element("strong", "Training can start."), "fine"


def _top(report: CheckReport, grade: str) -> Html:
    numbers = []
    for what, singular in (("images", "image"), ("objects", "annotated object")):
        whole = whole_count(report.statistics.get(what))
        if whole is not None:
            numbers.append(tile(f"{whole:,}", singular if whole == 1 else singular + "s", _of_splits(report, what)))
    for severity in SEVERITIES:
        count = report.count(severity)
        kinds = len({f.kind for f in report.findings if f.severity == severity})
        told = f"of {counted(kinds, 'kind')}" if count else "none found"
        numbers.append(
            tile(f"{count:,}", severity if count == 1 else severity + "s", told, severity if count else "fine")
        )
    facts = element(
        "dl",
        element("dt", "Data set"),
        element("dd", element("bdi", report.name)),
        element("dt", "Where"),
        element("dd", element("code", element("bdi", report.source))),
        element("dt", "Looked for"),
        element("dd", f"{counted(len(report.kinds), 'kind')} of fault"),
        class_="facts",
    )
    return join([element("div", *numbers, class_=f"tiles grade-{grade}"), facts])


def _of_splits(report: CheckReport, what: str) -> str:
    splits = split_counts(report.statistics.get(what))
    return ", ".join(f"{split} {count:,}" for split, count in splits.items()) if len(splits) > 1 else ""


def _contents(by_kind: Mapping[str, Sequence[Finding]], report: CheckReport) -> Html:
    columns = [
        Column(""),
        Column("kind"),
        Column("findings", number=True),
        Column("images", number=True),
        Column("to do"),
    ]
    rows = []
    for kind, found in by_kind.items():
        images = len({f.image for f in found if f.image})
        link = element("a", report.kinds.get(kind, kind), href=f"#kind-{_anchor(kind)}")
        rows.append(
            [
                Cell(badge(found[0].severity), str(SEVERITIES.index(found[0].severity))),
                Cell(link, report.kinds.get(kind, kind)),
                number_cell(len(found)),
                number_cell(images) if images else Cell("–", 0.0),
                Cell(_usual_todo(found)),
            ]
        )
    return element("div", table(columns, rows, caption="Kinds of findings", head_column=False), class_="contents")


def _group(
    kind: str,
    title: str,
    found: Sequence[Finding],
    pictures: Callable[[Finding], np.ndarray | None],
    most: int,
    budget: PictureBudget,
) -> Html:
    found = sorted(found, key=lambda f: (SEVERITIES.index(f.severity), -f.value, f.image or "", f.message))
    severity: Severity = found[0].severity
    todo = _usual_todo(found)
    fixes = Counter(f.fix for f in found if f.fix)
    facts = [element("dt", "What it means"), element("dd", _MEANING[severity])]
    facts += [element("dt", "To do"), element("dd", _sentence(todo))]
    if fixes:
        facts += [
            element("dt", "By itself"),
            element("dd", element("code", "cytomask check --fix"), f" {fixes.most_common(1)[0][0]}."),
        ]
    shown = list(_pictures(kind, title, found, pictures, most, budget))
    lines = [_line(f, todo) for f in found[:_LISTED]]
    messages = [element("ul", *lines[:_IN_VIEW], class_="messages")]
    if len(lines) > _IN_VIEW:
        more = [element("ul", *lines[_IN_VIEW:], class_="messages")]
        if len(found) > _LISTED:
            more.append(element("p", f"… and {len(found) - _LISTED:,} more: check.json lists all.", class_="muted"))
        messages.append(element("details", element("summary", f"{len(found) - _IN_VIEW:,} more"), *more))
    return element(
        "article",
        element(
            "header",
            badge(severity),
            element("h3", title[:1].upper() + title[1:]),
            element("span", counted(len(found), "finding"), class_="count"),
        ),
        element("dl", *facts),
        element("div", *shown, class_="gallery") if shown else None,
        *messages,
        class_=f"card finding {severity}",
        id=f"kind-{_anchor(kind)}",
    )


def _pictures(
    kind: str,
    title: str,
    found: Sequence[Finding],
    pictures: Callable[[Finding], np.ndarray | None],
    most: int,
    budget: PictureBudget,
) -> list[Html]:
    figures: list[Html] = []
    for finding in found[: most * _TRIES]:
        if len(figures) == most:
            break
        picture = pictures(finding)
        if picture is None:
            continue
        source = budget.photo(picture, _SIDE)
        if source is None:
            break
        name = _name(finding) or title
        caption = join([element("bdi", name, class_="name"), ": ", finding.message])
        scale = min(1.0, _SIDE / max(picture.shape[:2]))
        size = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
        figures.append(picture_figure(source, size, f"{title} in {name}", caption, group=kind))
    return figures


def _line(finding: Finding, todo: str) -> Html:
    name = _name(finding)
    split = f" ({finding.split})" if finding.split else ""
    facts = []
    if finding.objects:
        few = ", ".join(str(i) for i in finding.objects[:8])
        facts.append(f"ids {few}" + (" …" if len(finding.objects) > 8 else ""))
    if finding.window:
        y0, x0, y1, x1 = finding.window
        facts.append(f"at y {y0} to {y1}, x {x0} to {x1}")
    return element(
        "li",
        element("bdi", name, class_="name") if name else None,
        _sentence(finding.message),
        element("small", f" {'; '.join(facts)}{split}") if facts or split else None,
        element("small", f" To do: {finding.todo}.") if finding.todo != todo else None,
        title=str(finding.file) if finding.file else None,
    )


def _usual_todo(found: Sequence[Finding]) -> str:
    return Counter(f.todo for f in found).most_common(1)[0][0]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _name(finding: Finding) -> str:
    return finding.image or ("" if finding.file is None else finding.file.name)


def _anchor(kind: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in kind)
