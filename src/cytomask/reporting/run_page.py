"""The report of a run: one page for who must decide whether to trust a model, and for who must repeat it."""

from __future__ import annotations

import shlex
from pathlib import Path

from cytomask.reporting import evaluation_sections as of
from cytomask.reporting import run_making as making
from cytomask.reporting import run_scores as scores
from cytomask.reporting.evaluation_page import error_bars, headline_tiles, hundreds
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import Section, badge, tile, write_page
from cytomask.reporting.page_pictures import PictureBudget
from cytomask.reporting.page_tables import Cell, Column, table
from cytomask.reporting.run_facts import RunFacts
from cytomask.reporting.run_words import heading, label, lead, other_notices, verdict

#: Bytes of pictures, as they stand in the page: of examples of the data, then also of the best and worst images, then
#: also of the chosen ones. The page stays below 5 MB.
_ROOM_OF_EXAMPLES, _ROOM_OF_EXTREMES, _ROOM = 700_000, 3_100_000, 4_000_000
#: So many files are listed.
_MOST_FILES = 60
#: Longer texts of experiments are cut.
_MOST_TEXT = 60_000


def write_run_page(path: str | Path, facts: RunFacts, *, command: str | None = None) -> None:
    """Write the report of a run: one file that works without a network.

    Parameters
    ----------
    path
        The file.
    facts
        What is known of the run; a part of the page whose facts are not there tells how to get them.
    command
        The command that was given, to stand at the foot of the page; None for that of this process, if it is
        ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    budget = PictureBudget(_ROOM_OF_EXAMPLES)
    examples = scores.gallery(facts, "example", budget, "gallery six")
    # Each part tells of its own pictures only.
    budget.most, budget.left_out = _ROOM_OF_EXTREMES, 0
    worst = scores.layered_pictures(facts, "worst", budget)
    budget.left_out = 0
    best = scores.layered_pictures(facts, "best", budget)
    budget.most, budget.left_out = _ROOM, 0
    chosen = scores.gallery(facts, "chosen", budget, "rows")
    metrics = facts.metrics
    bodies: list[tuple[str, str, Html | None, str | None]] = [
        ("data", "The data", making.data(facts, examples), None),
        ("training", "The training", making.training(facts), None),
        ("settings", "How objects are found", making.tuning(facts), None),
    ]
    if metrics is not None:
        bodies += [
            ("errors", "What goes wrong", error_bars(metrics), "Every object has one fate."),
            ("worst", "The images that went worst", worst, "Click or press enter to enlarge; 1 to 4 change the layer."),
            ("best", "The images that went best", best, None),
            ("curves", "How strict may one be?", of.curves(metrics),
             "The fit that is asked for grows to the right. A curve that stays high means tight outlines."),
            ("sizes", "Small and large objects", of.by_size(metrics), None),
            ("groups", "Kinds of images", of.by_group(metrics), None),
            ("classes", "Classes", of.classes(metrics), None),
            ("integrated", "Precision over all fits, by group", scores.integrated(metrics), None),
            ("measurements", "Measurements", scores.measurements(facts),
             "What one would publish: predicted objects beside annotated ones. Dotted lines are medians; objects that "
             "touch the border are left out."),
        ]  # fmt: skip
    bodies.append(("pictures", "More images", chosen, "Not chosen for how they went: drawn by chance, or named."))
    if metrics is not None:
        bodies += [
            ("images", "Every image", of.every_image(facts.rows, {}), "The worst first. Click on a heading to sort."),
            ("figures", "All figures", scores.figures(metrics), None),
        ]
    bodies.append(("repeat", "How to repeat this", _repeat(facts), None))
    sections = [Section(name, title, body, said) for name, title, body, said in bodies if body is not None]
    write_page(
        path,
        title=f"Report: {facts.title or facts.name}",
        kicker=f"run report · {facts.name}",
        heading=heading(facts),
        lead=lead(facts),
        top=_top(facts),
        sections=sections,
        command=command,
    )


def _top(facts: RunFacts) -> Html:
    grade, said = verdict(facts)
    notices = other_notices(facts.metrics) if facts.metrics is not None else []
    question = element("h2", "Should one trust it?", class_="question")
    box = element(
        "div",
        badge(grade, label(facts, grade)),
        element("div", *(element("p", sentence) for sentence in (*said, *notices))),
        class_=f"verdict {grade}",
    )
    tiles: list[Html] = []
    if facts.metrics is not None:
        tiles = headline_tiles(facts.metrics)
        dots = hundreds(facts.metrics)
    else:
        dots = None
        best = facts.record.get("best_score")
        if isinstance(best, int | float):
            tiles.append(tile(f"{best:.3f}", "Validation score", "Mean accuracy over IoU 0.50 to 0.90 on the images "
                              "that chose the model; new images score less."))  # fmt: skip
    row = element("div", *tiles, class_="tiles") if tiles else None
    # Figures that are too good are not shown before it is said that they are.
    return join([question, box, dots, row] if facts.optimistic else [dots, row, question, box])


def _repeat(facts: RunFacts) -> Html:
    prediction, record = facts.prediction, facts.record
    commands = _commands(facts)
    environment = making.definition_list(
        [
            ("cytomask", prediction.get("cytomask") or record.get("cytomask")),
            ("Python", prediction.get("python") or record.get("python")),
            ("PyTorch", record.get("torch") or prediction.get("torch")),
            ("NumPy", prediction.get("numpy")),
            ("System", prediction.get("platform")),
            ("Trained on", (facts.model.get("training") or {}).get("hardware")),
            ("Predicted on", ", ".join(str(v) for v in (prediction.get("device"), prediction.get("precision")) if v)),
            ("Seed", record.get("seed")),
            ("Data fingerprint", _code((facts.data or {}).get("fingerprint")
                                       or (facts.model.get("training") or {}).get("data_fingerprint"))),
            ("Weights, SHA-256", _code(facts.model.get("weights_sha256")
                                       or (prediction.get("model") or {}).get("weights_sha256"))),
        ]
    )  # fmt: skip
    cards = [element("div", element("h3", "Environment"), environment, class_="card titled")]
    if times := _times(facts):
        cards.append(element("div", element("h3", "Stages"), times, class_="card titled"))
    parts: list[Html | None] = [
        element("div", element("h3", "Commands"), *commands, class_="card titled"),
        element("div", *cards, class_="columns even under"),
    ]
    if facts.experiment_text:
        text = facts.experiment_text[:_MOST_TEXT]
        cut = " (cut)" if len(facts.experiment_text) > _MOST_TEXT else ""
        shown = element("pre", element("code", text), tabindex=0)
        summary = element("summary", f"The experiment with all its settings{cut}")
        parts.append(element("details", summary, shown, class_="under"))
    parts.append(_files(facts))
    return join(parts)


def _code(text: object) -> Html | None:
    return element("code", str(text)) if text else None


def _commands(facts: RunFacts) -> list[Html]:
    """The command that does all of it again, and those that were given."""
    said = []
    if facts.experiment_text:
        name = shlex.quote(f"{facts.name}.yaml")
        said += [
            element("p", "All of it again, from the experiment below saved as ", element("code", name), ":"),
            element("pre", element("code", f"cytomask run {name} --out runs/{shlex.quote(facts.name)}")),
        ]
    given = []
    trained = (facts.model.get("training") or {}).get("command")
    if trained:
        given.append(("training", str(trained)))
    asked = facts.prediction.get("command")
    if isinstance(asked, list) and asked:
        words = [Path(str(asked[0])).name, *(str(word) for word in asked[1:])]
        if shlex.join(words) != trained:
            given.append(("prediction", shlex.join(words)))
    if given:
        said.append(element("p", "The commands that were given:"))
        said += [element("pre", element("code", f"# {what}\n{text}")) for what, text in given]
    return said or [element("p", "The folder does not tell which commands made it.", class_="muted")]


def _times(facts: RunFacts) -> Html | None:
    rows = []
    for name, known in facts.stages.items():
        minutes = known.get("minutes")
        shown = making.minutes_word(minutes) if isinstance(minutes, int | float) else ""
        said = known.get("said") or []
        rows.append([Cell(name), Cell(shown), Cell(str(said[0]) if said else "")])
    if not rows:
        return None
    columns = [Column("stage"), Column("took", number=True), Column("what it said")]
    return table(columns, rows, caption="Stages of the run", sortable=False)


def _files(facts: RunFacts) -> Html | None:
    if not facts.files:
        return None
    rows = [
        [Cell(element("bdi", name, class_="name"), name), Cell(what), Cell(_bytes(size), float(size))]
        for name, what, size in facts.files[:_MOST_FILES]
    ]
    listing = table(
        [Column("file"), Column("what it is"), Column("size", number=True)], rows, caption="Files of the run"
    )
    left = len(facts.files) - _MOST_FILES
    note = element("p", f"and {left:,} more files", class_="muted") if left > 0 else None
    where = element("p", "In ", element("code", element("bdi", str(facts.path))), ":")
    return element("details", element("summary", "Files of the run"), where, listing, note, class_="under")


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
