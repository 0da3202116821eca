"""Sections of the report of a run that tell how the model was made: the data, the training, the tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cytomask.reporting.evaluation_words import look_up
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.page_tables import Cell, Column, number_cell, table
from cytomask.reporting.parts_svg import stacked_bar
from cytomask.reporting.run_facts import RunFacts

#: So many settings that were tried are in the table, the best first.
_MOST_TRIED = 12
_ROLES = {"train": "training", "validation": "validation", "test": "test"}
#: Colours of the splits' bars.
_STYLES = {"train": "part s1", "validation": "part s3", "test": "part s2"}
#: Settings of post-processing, in words.
_SETTINGS = {
    "score_threshold": "least score of an object",
    "nms": "how objects compete",
    "nms_by": "compete by",
    "nms_threshold": "overlap (IoU) at which the better scored wins",
    "nms_sigma": "width of Gaussian competition",
    "per_class": "only objects of one class compete",
    "min_area": "smallest object, px",
    "fill_holes": "holes are filled",
    "objects": "how pixels become objects",
    "seed_threshold": "least probability of a seed",
    "mask_threshold": "probability from which a pixel belongs to the object",
}


def data(facts: RunFacts, pictures: Html | None) -> Html:
    """What the data are: where from, how many of what, how large, and what they look like."""
    known = facts.data
    if known is None:
        missing = more("Counts, sizes and examples are missing: `cytomask run EXPERIMENT` gathers them.")
        return join([element("div", _data_facts(facts), class_="card"), missing, pictures])
    parts: list[Html | None] = [
        element("div", element("div", _data_facts(facts), class_="card"), _split_bars(known), class_="columns even")
    ]
    parts.append(element("div", _split_table(known, facts.things), class_="under"))
    parts.append(element("div", element("div", _sizes(facts), class_="card"), _groups(known), class_="columns under"))
    if pictures is not None:
        parts += [element("h3", "Training images with their annotation", class_="under"), pictures]
    return join(parts)


def more(text: str) -> Html:
    """A sentence on how to get what is missing; what stands between backticks is a command."""
    pieces = text.split("`")
    return element("p", *(element("code", p) if k % 2 else p for k, p in enumerate(pieces)), class_="muted")


def definition_list(rows: Sequence[tuple[str, object]]) -> Html:
    """Names and what they mean, those without a value left out."""
    parts = [
        part
        for name, value in rows
        if value not in (None, "", [])
        for part in (element("dt", name), element("dd", value))
    ]
    return element("dl", *parts, class_="facts")


def _data_facts(facts: RunFacts) -> Html:
    known = facts.data or {}
    training = facts.model.get("training") or {}
    print_ = known.get("fingerprint") or training.get("data_fingerprint")
    licence = known.get("licence") or training.get("data_licence")
    channels = "; ".join(
        f"{', '.join(one['names']) or 'one channel'} ({counted(one['images'], 'image')})"
        for one in (known.get("channels") or [])[:4]
    )
    return definition_list(
        [
            ("Data set", element("bdi", str(known.get("name") or training.get("data") or "not told"))),
            ("Where", element("code", element("bdi", str(known["path"]))) if known.get("path") else None),
            ("Licence", licence or "not told: ask before you share the model"),
            ("Classes", ", ".join(str(c) for c in known.get("classes") or [])),
            ("Channels", channels),
            ("Splits", known.get("how_split")),
            ("Image sizes", _image_sizes(known)),
            ("Pixel size", _pixel_sizes(known)),
            ("Fingerprint", element("code", str(print_)) if print_ else None),
        ]
    )


def _image_sizes(known: Mapping[str, Any]) -> str | None:
    sizes = known.get("image_sizes") or {}
    if not sizes:
        return None
    low, middle, high = (sizes[word] for word in ("smallest", "middle", "largest"))
    if low == high:
        return f"{low[0]} × {low[1]} px (height × width)"
    return f"{low[0]} × {low[1]} to {high[0]} × {high[1]} px, mostly {middle[0]} × {middle[1]}"


def _pixel_sizes(known: Mapping[str, Any]) -> str | None:
    told = []
    for one in (known.get("pixel_sizes") or [])[:4]:
        size = one.get("pixel_size")
        text = "not told" if size is None else " × ".join(f"{s:.4g}" for s in dict.fromkeys(size)) + " µm"
        told.append(f"{text} ({counted(one['images'], 'image')})")
    return "; ".join(told) or None


def _split_bars(known: Mapping[str, Any]) -> Html:
    """Images and objects by split, each as a bar."""
    splits = [one for one in known["splits"] if one["images"]]
    bars = []
    for key, title in (("images", "Images"), ("objects", "Annotated objects")):
        told = [(_split_name(one), int(one[key]), _STYLES.get(one["role"], "part s6")) for one in splits]
        if sum(n for _, n, _ in told):
            head = join([element("b", title), f": {sum(n for _, n, _ in told):,}"])
            bars += [element("p", head, class_="bar-name"), stacked_bar(told, title=f"{title} by split")]
    legend = (
        element("li", _swatch(_STYLES.get(one["role"], "part s6")), element("bdi", _split_name(one))) for one in splits
    )
    return element("div", *bars, element("ul", *legend, class_="kinds"), class_="card")


def _split_name(one: Mapping[str, Any]) -> str:
    name, role = one.get("name"), _ROLES.get(one.get("role") or "")
    return "in no split" if name is None else f"{name} ({role})" if role and role != name else str(name)


def _swatch(style: str) -> Html:
    square = element("rect", x=1, y=1, width=14, height=14, rx=3, class_=style)
    return element("svg", square, viewBox="0 0 16 16", class_="swatch", aria_hidden="true")


def _split_table(known: Mapping[str, Any], things: str) -> Html:
    classes = [str(c) for c in known.get("classes") or []]
    columns = [
        Column("split"),
        Column("images", number=True),
        Column("without objects", number=True),
        Column(things if len(classes) == 1 else "objects", number=True),
        *([Column(c, number=True) for c in classes] if len(classes) > 1 else []),
    ]
    rows = [
        [
            Cell(_split_name(one)),
            number_cell(one["images"]),
            number_cell(one.get("empty_images")),
            number_cell(one["objects"]),
            *([number_cell(one["objects_per_class"].get(c)) for c in classes] if len(classes) > 1 else []),
        ]
        for one in known["splits"]
    ]
    return table(columns, rows, caption="Images and objects by split", sortable=False)


def _sizes(facts: RunFacts) -> Html:
    sizes = (facts.data or {}).get("sizes")
    head = element("h3", f"How large the {facts.things} are", class_="over-table")
    if not sizes:
        return join([head, element("p", "There are no objects to measure.", class_="muted")])
    places = [(int(key.removeprefix("diameter_p")), float(value)) for key, value in sizes.items()
              if key.startswith("diameter_p")]  # fmt: skip
    rows = [[Cell(_share(p)), number_cell(value, 1)] for p, value in sorted(places)]
    columns = [Column("of the training objects"), Column("diameter, px", number=True)]
    listing = table(columns, rows, caption="Diameters of the training objects", sortable=False)
    return join([head, listing])


def _share(percentile: int) -> str:
    return "half are smaller than" if percentile == 50 else f"{percentile} % are smaller than"


def _groups(known: Mapping[str, Any]) -> Html | None:
    """Which kinds of images are in which split."""
    splits = [one for one in known["splits"] if one.get("groups")]
    found: dict[str, set[str]] = {}
    for one in splits:
        for column, values in one["groups"].items():
            found.setdefault(column, set()).update(values)
    # Sizes and counts sort images, but say nothing of their kind.
    columns = [c for c, values in found.items() if len(values) > 1 and not all(map(_is_number, values))][:3]
    parts: list[Html] = []
    for column in columns:
        values = list(dict.fromkeys(v for one in splits for v in one["groups"].get(column, {})))[:20]
        head = [Column(column), *(Column(_split_name(one), number=True) for one in splits)]
        rows = [
            [Cell(value or "(not told)"), *(number_cell(one["groups"].get(column, {}).get(value, 0)) for one in splits)]
            for value in values
        ]
        parts.append(table(head, rows, caption=f"Images by {column} and split", sortable=False))
    if not parts:
        return None
    return element("div", element("h3", "Kinds of images", class_="over-table"), *parts, class_="card stacked-tables")


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()


def training(facts: RunFacts) -> Html:
    """The curves, and what they end with."""
    record = facts.record
    best = record.get("best_score")
    told = definition_list(
        [
            ("Model", join([facts.family, _parameters(facts)])),
            ("Began with", element("bdi", str(look_up(facts.experiment, "initial") or "random weights"))),
            ("Epochs", record.get("epochs")),
            ("Best validation score", _best(best, record.get("best_epoch"))),
            ("Time", minutes_word(record.get("minutes"))),
            ("Seed", record.get("seed")),
            ("Chosen from the data", "; ".join(str(reason) for reason in record.get("chosen_from_data") or [])),
        ]
    )
    if not facts.charts:
        missing = more("There are no curves: the folder holds no `metrics.csv` or `steps.csv` of the training.")
        return join([element("div", told, class_="card"), missing])
    cards = (element("div", drawing, class_="card") for _, drawing in facts.charts)
    return join([element("div", told, class_="card"), element("div", *cards, class_="columns two under")])


def _parameters(facts: RunFacts) -> str:
    name = look_up(facts.model, "config", "backbone", "kind")
    return f", network {name}" if name else ""


def _best(score: object, epoch: object) -> str | None:
    if not isinstance(score, int | float) or not math.isfinite(score):
        return None
    return f"{score:.3f} after epoch {epoch}" if epoch is not None else f"{score:.3f}"


def minutes_word(minutes: object) -> str | None:
    """A time in the unit that suits it.

    Examples
    --------
    >>> minutes_word(0.2), minutes_word(33.7), minutes_word(300)
    ('12 s', '34 min', '5.0 h')
    """
    if not isinstance(minutes, int | float):
        return None
    if minutes < 2:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def tuning(facts: RunFacts) -> Html:
    """How objects are found: the settings of post-processing, and what was tried for them."""
    found = facts.tuning or {}
    after = found.get("after") or facts.model.get("postprocess") or {}
    before = found.get("before") or look_up(facts.model, "metrics", "tuning", "before") or {}
    used = facts.prediction.get("thresholds") or {}
    rows = []
    for name in dict.fromkeys([*after, *used]):
        value = after.get(name)
        cells = [Cell(join([_SETTINGS.get(name, name), " ", element("code", name)])), _setting(before.get(name)),
                 _setting(value)]  # fmt: skip
        rows.append([*cells, _setting(used.get(name, value))])
    columns = [Column("setting"), Column("before tuning"), Column("tuned"), Column("used on the test images")]
    parts: list[Html | None] = [_tuning_sentence(facts)]
    parts.append(table(columns, rows, caption="How objects are found", sortable=False) if rows else None)
    if tried := [one for one in found.get("tried") or [] if isinstance(one, Mapping)]:
        parts.append(_tried(tried))
    return join(parts)


def _setting(value: object) -> Cell:
    text = "–" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return Cell(text)


def _tuning_sentence(facts: RunFacts) -> Html:
    found = facts.tuning or {}
    if found.get("tuned"):
        split, n = found.get("split"), int(found.get("images") or 0)
        return element(
            "p",
            f"Tuned on {counted(n, 'image')} of split {split}: {len(found.get('tried') or [])} settings were tried; "
            f"the score ({found.get('metric')}) went from {found['score_before']:.3f} to ",
            element("strong", f"{found['score_after']:.3f}"),
            ". The test images took no part in it.",
        )
    if found.get("why"):
        return element("p", f"The settings were not tuned: {found['why']}.")
    told = look_up(facts.model, "metrics", "tuning")
    if isinstance(told, Mapping):
        score = told.get("mean_accuracy_50_90")
        shown = f": mean accuracy {score:.3f}" if isinstance(score, int | float) else ""
        return element("p", f"The model was tuned on {told.get('images')} images of split {told.get('split')}{shown}.")
    return more("Nothing is known of tuning. `cytomask tune` finds the best settings on validation images.")


def _tried(tried: Sequence[Mapping[str, Any]]) -> Html | None:
    score = next((key for key in reversed(list(tried[0])) if isinstance(tried[0][key], float)), None)
    if score is None:
        return None
    rows = sorted((one for one in tried if isinstance(one.get(score), int | float)), key=lambda one: -one[score])
    settings = [
        key
        for key in dict.fromkeys(key for one in rows for key in one)
        if key != score and len({str(one.get(key)) for one in rows}) > 1
    ]
    columns = [*(Column(key) for key in settings), Column(score.replace("_", " "), number=True)]
    lines = [[*(_setting(one.get(key)) for key in settings), number_cell(float(one[score]))] for one in rows]
    listing = table(columns, lines[:_MOST_TRIED], caption="Settings that were tried, the best first", head_column=False)
    told = f"The best {_MOST_TRIED} of {len(rows)} settings that were tried"
    summary = told if len(rows) > _MOST_TRIED else f"All {len(rows)} settings that were tried"
    return element("details", element("summary", summary), listing, class_="under")
