"""What the report of a run says in plain words: what was trained on what, how good it is, and whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cytomask.reporting.evaluation_words import FOUND, interval_of, look_up, trust
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.parts_svg import percent
from cytomask.reporting.run_facts import RunFacts

#: From these differences on, of F1 between a group and all images, of scores between validation and test, of the recall
#: of small objects from that of all, and of counts, they are told.
_WORSE_GROUP, _GAP, _SMALLER, _MISCOUNT = 0.08, 0.05, 0.15, 0.05
#: Below this F1 a model is of no use by itself: more is wrong or missed than right.
_USELESS = 0.5
#: A group of fewer true objects says little.
_FEW_OBJECTS = 10
#: The order of what is said of how far to trust the figures.
_GRADES = ("fine", "note", "warning", "error")
_LABELS = {"fine": "solid", "note": "fair", "warning": "careful"}


def heading(facts: RunFacts) -> str:
    """The line at the top: the title that was given, else the result in a sentence."""
    if facts.title:
        return facts.title
    at = look_up(facts.metrics, "matching", "pooled", FOUND) or {}
    if at.get("n_true") and at.get("recall"):
        # All and none are said only where it is all or none.
        found = 100 if at["recall"] == 1 else min(99, max(1, round(100 * at["recall"])))
        return f"{facts.name} finds {found} of 100 {facts.things}"
    if facts.metrics is not None and at.get("n_true"):
        return f"{facts.name} finds none of the {facts.things}"
    return f"{facts.name}: {'not evaluated yet' if facts.metrics is None else 'no objects to find'}"


def lead(facts: RunFacts) -> Html:
    """What was trained on what, and how good it is."""
    return join([f"{facts.description.strip().rstrip('.')}. " if facts.description.strip() else "", _made(facts), " ",
                 _quality(facts)])  # fmt: skip


def _made(facts: RunFacts) -> str:
    family = facts.family
    words = [f"{'An' if family[:1] in 'aeiou' else 'A'} {family} model" if family else "A model"]
    epochs = facts.record.get("epochs")
    words.append("was trained" if facts.record or facts.data else "is looked at")
    if isinstance(epochs, int):
        words.append(f"for {counted(epochs, 'epoch')}")
    train = facts.split("train")
    if train:
        words.append(f"on {counted(train['images'], 'image')} with {train['objects']:,} annotated {facts.things}")
    elif named := look_up(facts.model, "training", "data"):
        words.append(f"on: {named}")
    return " ".join(words) + "."


def _quality(facts: RunFacts) -> Html | None:
    metrics = facts.metrics
    at = look_up(metrics, "matching", "pooled", FOUND) or {}
    if metrics is None or not at.get("n_true"):
        return None
    seen = "that it has never seen"
    if facts.optimistic:
        trained_on = look_up(facts.experiment, "data", "train") or "train"
        seen = "on which it was trained" if metrics.get("split") == trained_on else "on which it was chosen and tuned,"
    where = f"On {counted(metrics.get('n_images', 0), 'image')} {seen} it finds "
    if not at.get("tp"):
        return join([where, element("strong", f"none of the {facts.things}"), "."])
    parts: list[object] = [where, element("strong", f"{percent(at['recall'])} of the {facts.things}")]
    if bounds := interval_of(metrics, ("matching", "pooled", FOUND, "recall")):
        parts.append(f" (likely {100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %)")
    parts += ["; of those that it finds, ", element("strong", f"{percent(at['precision'])} are right")]
    if fit := at.get("mean_matched_iou"):
        parts.append(f", and their outlines overlap the annotated ones by {percent(fit)}")
    return join([*parts, "."])


def label(facts: RunFacts, grade: str) -> str:
    """The word beside the verdict."""
    if facts.metrics is None:
        return "unknown"
    return _LABELS.get(grade) or ("optimistic" if facts.optimistic else "no")


def verdict(facts: RunFacts) -> tuple[str, list[object]]:
    """How far to trust the model: a severity (or ``"fine"``), and the sentences."""
    if facts.metrics is None:
        return "warning", [
            join([element("strong", "Nothing is known of how good this model is."), " It was not evaluated."]),
            join(["Evaluate it with ", element("code", f"cytomask run {facts.name}.yaml"), " (all stages), or with ",
                  element("code", "cytomask predict"), " and ", element("code", "cytomask evaluate"), "."]),
        ]  # fmt: skip
    grade, said = trust(facts.metrics)
    if (poor := _poor(facts)) is not None:
        said.insert(0, poor)
        grade = "error"
    findings = [_validation_gap(facts), *_groups(facts.metrics), _small_ones(facts), _counts(facts)]
    for level, sentence in (found for found in findings if found is not None):
        said.insert(len(said) - 1, sentence)
        grade = max(grade, level, key=_GRADES.index)
    if facts.optimistic:
        return "error", [join([element("strong", "These figures are too good."), " ", _loud(facts.metrics)]), *said]
    return grade, said


def _poor(facts: RunFacts) -> Html | None:
    """A clear no where the model is of no use, however well that is known."""
    at = look_up(facts.metrics, "matching", "pooled", FOUND) or {}
    if not at.get("n_true") or at["f1"] >= _USELESS:
        return None
    if not at["tp"]:
        return join([element("strong", "No."), f" It finds none of the {facts.things}."])
    told = f" It misses or gets wrong more than it gets right (F1 {at['f1']:.2f})."
    return join([element("strong", "No."), told])


def _loud(metrics: Mapping[str, Any]) -> str:
    notice = next(str(n) for n in metrics.get("notices") or () if str(n).startswith("OPTIMISTIC"))
    told = notice.removeprefix("OPTIMISTIC").lstrip(": ")
    return f"{told[:1].upper()}{told[1:]}."


def other_notices(metrics: Mapping[str, Any]) -> list[str]:
    """The notices that the verdict does not tell already, as sentences."""
    notices = [str(n) for n in metrics.get("notices") or () if not str(n).startswith("OPTIMISTIC")]
    return [f"{n[:1].upper()}{n[1:]}." for n in notices]


def _validation_gap(facts: RunFacts) -> tuple[str, object] | None:
    held, tested = facts.validation_score, look_up(facts.metrics, "mean_accuracy_50_90")
    if facts.optimistic or held is None or not isinstance(tested, int | float) or not tested:
        return None
    scores = f"mean accuracy {held:.3f} on the validation images, {tested:.3f} on the test images"
    if held - tested > _GAP:
        return "warning", (
            f"It does less well on test images than on those that chose it ({scores}): they differ from what it was "
            "trained on, or it was fitted to few images."
        )
    if tested - held > _GAP:
        return "note", f"The test images are easier than the validation images ({scores}): look at single groups."
    return "fine", f"Test and validation agree ({scores})."


def _groups(metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The worst group of each property, where it is far worse than all images together."""
    whole = look_up(metrics, "matching", "pooled", FOUND, "f1")
    found: list[tuple[str, object]] = []
    for column, groups in (metrics.get("by_group") or {}).items():
        scores = {
            value: float(look_up(one, "figures", "f1_50") or 0)
            for value, one in groups.items()
            if (one.get("n_true") or 0) >= _FEW_OBJECTS
        }
        if whole is None or len(groups) < 2 or not scores:
            continue
        worst = min(scores, key=lambda value: scores[value])
        if whole - scores[worst] > _WORSE_GROUP:
            images = counted(int(groups[worst].get("n_images") or 0), "image")
            found.append(
                (
                    "warning",
                    join(["It does far worse where ", column, " is ", element("bdi", worst),
                          f": F1 {scores[worst]:.2f} ({images}), against {whole:.2f} on all."]),
                )
            )  # fmt: skip
    return found


def _small_ones(facts: RunFacts) -> tuple[str, object] | None:
    bins = (facts.metrics or {}).get("by_size") or []
    whole = look_up(facts.metrics, "matching", "pooled", FOUND, "recall")
    known = [one for one in bins if isinstance(one.get("recall"), int | float)]
    if whole is None or len(known) < 2:
        return None
    low = min(known, key=lambda one: one["recall"])
    if whole - low["recall"] < _SMALLER:
        return None
    which = {0: "small", len(bins) - 1: "large"}.get(bins.index(low), "middle-sized")
    d0, d1 = low["diameter_px"]
    return "note", (
        f"Of {which} {facts.things} (diameter {d0:.0f} to {d1:.0f} px) it finds {percent(low['recall'])}, of all "
        f"{percent(whole)}."
    )


def _counts(facts: RunFacts) -> tuple[str, object] | None:
    n_true, n_pred = (int((facts.metrics or {}).get(key) or 0) for key in ("n_true", "n_pred"))
    if not n_true:
        return None
    part = n_pred / n_true - 1
    told = f"{n_pred:,} for {n_true:,} {facts.things}"
    if abs(part) < _MISCOUNT:
        return "fine", f"Counts come out right: {told}."
    return "note", f"Counts come out {percent(abs(part))} too {'high' if part > 0 else 'low'}: {told}."
