"""What an evaluation says, in words for a biologist: the headline, what each figure means, how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page import counted
from cytomask.reporting.parts_svg import percent, shares_of_hundred

#: The IoU from which on an object counts as found, in the words at the top.
FOUND = "0.50"
#: Plurals that no rule makes.
_PLURALS = {"nucleus": "nuclei", "nucleolus": "nucleoli", "mitochondrion": "mitochondria", "bacterium": "bacteria"}
#: Fewer images than this are few, and F1 intervals up to these widths are narrow and fair.
_FEW, _VERY_FEW, _NARROW, _FAIR = 10, 5, 0.04, 0.10


@dataclass(frozen=True)
class Figure:
    """A figure of the metrics.

    Attributes
    ----------
    place
        Where it stands in the metrics, and its interval in their intervals.
    name
        What it is called.
    meaning
        What it means, in a plain sentence.
    """

    place: tuple[str, ...]
    name: str
    meaning: str


#: The figures of the page, the most telling first.
FIGURES = (
    Figure(
        ("matching", "pooled", FOUND, "recall"),
        "Found",
        "Of the true objects, the part that the model finds: overlap (IoU) of one half or more (recall).",
    ),
    Figure(
        ("matching", "pooled", FOUND, "precision"),
        "Right",
        "Of the objects that the model finds, the part that matches a true one (precision).",
    ),
    Figure(
        ("matching", "pooled", FOUND, "f1"),
        "F1",
        "Found and Right in one figure; 1 if nothing is missed and nothing wrong.",
    ),
    Figure(
        ("matching", "pooled", FOUND, "mean_matched_iou"),
        "Outline overlap",
        "How well outlines of found objects fit: shared over joint area (mean IoU). Above 80 % is good.",
    ),
    Figure(
        ("matching", "pooled", FOUND, "accuracy"),
        "Accuracy at IoU 0.50",
        "Hits over hits, misses and false finds together. Some papers call it AP; it is not COCO's AP.",
    ),
    Figure(
        ("matching", "pooled", "0.75", "accuracy"),
        "Accuracy at IoU 0.75",
        "The same, where outlines must fit much better.",
    ),
    Figure(
        ("mean_accuracy_50_90",),
        "Mean accuracy, IoU 0.50 to 0.90",
        "Accuracy, averaged over nine demands on the fit.",
    ),
    Figure(
        ("matching", "pooled", FOUND, "pq"),
        "Panoptic quality",
        "F1 times outline overlap: finding and outlining in one figure.",
    ),
    Figure(
        ("aji",),
        "Aggregated Jaccard index",
        "Shared over joint area of all objects and their partners; merged and made-up area lower it.",
    ),
    Figure(
        ("boundary", "pooled", "f1"),
        "Boundary F1",
        "The part of the outlines that lies within a few pixels of the other side's, both ways.",
    ),
    Figure(("pixels", "dice"), "Dice of pixels", "Overlap of the foreground, whatever object it belongs to."),
    Figure(
        ("pixels", "foreground_iou"),
        "IoU of the foreground's pixels",
        "Shared over joint area of all objects, whatever their class; all images together.",
    ),
    Figure(
        ("pixels", "mean_per_image", "foreground_iou"),
        "IoU of the foreground's pixels, mean per image",
        "The same of each image, averaged: every image weighs the same. Images without any object are left out.",
    ),
    Figure(
        ("pixels", "mean_iou"),
        "Mean IoU of pixels",
        "Shared over joint area of each class and the background, averaged.",
    ),
    Figure(
        ("pixels", "pixel_accuracy"),
        "Pixel accuracy",
        "The part of all pixels of the right class; high wherever there is much background.",
    ),
    Figure(
        ("integrated_ap", "overall"),
        "Threshold-integrated precision",
        "Precision, added up over the recall that is lost while ever better outlines are asked for. Some programs call "
        "it mAP; it is not COCO's AP.",
    ),
    Figure(("coco", "segm", "AP"), "COCO AP, masks", "COCO's average precision over IoU 0.50 to 0.95, by the scores."),
    Figure(("coco", "segm", "AP50"), "COCO AP50, masks", "COCO's average precision at IoU 0.50."),
    Figure(("coco", "segm", "AR"), "COCO AR, masks", "COCO's average recall, whatever the score."),
    Figure(("coco", "bbox", "AP"), "COCO AP, boxes", "The same as for masks, by boxes."),
)
#: Other names of the figures of groups and annotators, with what they are called here.
SHORT_NAMES = {
    "f1_50": "F1", "recall_50": "Found", "precision_50": "Right", "accuracy_50": "Accuracy at 0.50",
    "accuracy_75": "Accuracy at 0.75", "mean_matched_iou_50": "Outline overlap", "mean_accuracy_50_90": "Mean accuracy",
    "pq_50": "Panoptic quality", "aji": "AJI", "boundary_f1": "Boundary F1", "dice": "Dice", "mean_iou": "Mean IoU",
    "foreground_iou": "IoU of the foreground",
    "coco_segm_AP": "COCO AP", "coco_segm_AP50": "COCO AP50", "coco_bbox_AP": "COCO AP, boxes",
}  # fmt: skip
#: What is said of each kind of error, the gravest first: its title and what it means.
KINDS = {
    "hit": ("Found", "The outlines overlap (IoU) by one half or more."),
    "missed": ("Missed", "A true object where the model found nothing that fits."),
    "spurious": ("Not real", "The model found an object where there is none."),
    "merged": ("Merged", "Several true objects that the model took for one."),
    "split": ("Split", "One true object that the model cut into several."),
    "poor": ("Poorly outlined", "One for one, but the outlines overlap by less than half."),
}


def look_up(tree: Any, *place: str) -> Any:
    """What stands at a place in nested dictionaries; None where there is nothing.

    Examples
    --------
    >>> look_up({"a": {"b": 3}}, "a", "b"), look_up({"a": None}, "a", "b")
    (3, None)
    """
    for key in place:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def interval_of(metrics: Mapping[str, Any], place: tuple[str, ...]) -> tuple[float, float] | None:
    """The interval of a figure, if it has one."""
    bounds = look_up(metrics.get("confidence_intervals"), *place)
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and None not in bounds:
        return float(bounds[0]), float(bounds[1])
    return None


def plural_of_objects(metrics: Mapping[str, Any]) -> str:
    """What the objects are called: by their class, if there is just one that tells.

    Examples
    --------
    >>> plural_of_objects({"class_names": ["nucleus"]}), plural_of_objects({"class_names": ["a", "b"]})
    ('nuclei', 'objects')
    """
    names = metrics.get("class_names") or []
    if len(names) != 1 or names[0] == "object":
        return "objects"
    name = str(names[0])
    return _PLURALS.get(name.lower(), name if name.endswith("s") else f"{name}s")


def headline(metrics: Mapping[str, Any]) -> tuple[str, object]:
    """The sentence at the top of the page, and what follows it."""
    at = look_up(metrics, "matching", "pooled", FOUND) or {}
    things, n_true, n_pred = plural_of_objects(metrics), at.get("n_true") or 0, at.get("n_pred") or 0
    if not at:
        return f"Evaluation of {counted(metrics.get('n_images', 0), 'image')}", "No objects were matched."
    if not n_true:
        made_up = (
            f"The model finds {counted(n_pred, 'object')}: none of them is real." if n_pred else "Nor does the model."
        )
        return f"The truth holds no {things}", made_up
    if not at.get("recall"):
        instead = (
            f"It finds {counted(n_pred, 'object')}: none of them matches." if n_pred else "It found nothing at all."
        )
        return f"The model finds none of {n_true:,} true {things}", instead
    found = shares_of_hundred([at["recall"], 1 - at["recall"]])[0]
    fit = at.get("mean_matched_iou") or 0
    fitting = element("strong", percent(fit))
    words = [
        "Their outlines overlap the true ones by ",
        fitting,
        f" ({_fit_word(fit)}). Of 100 objects that it finds, ",
    ]
    return f"Of 100 true {things} the model finds {found}", join([*words, _found_objects(metrics, at["precision"])])


def _found_objects(metrics: Mapping[str, Any], precision: float) -> Html:
    """What the objects that the model finds are, as the end of a sentence."""
    kinds = look_up(metrics, "error_kinds", "prediction") or {}
    total = sum(kinds.values())
    if not total or not kinds.get("spurious"):
        right, wrong = shares_of_hundred([precision, 1 - precision])
        if not wrong:
            return join(["all match a true one."])
        verb = "does" if wrong == 1 else "do"
        return join([f"{right} match a true one and ", element("strong", f"{wrong} {verb} not"), "."])
    right, unreal, rest = shares_of_hundred([
        precision, kinds["spurious"] / total, max(0.0, 1 - precision - kinds["spurious"] / total)
    ])  # fmt: skip
    between = f", {rest} {'is' if rest == 1 else 'are'} badly outlined, split or merged," if rest else ""
    verb = "is" if unreal == 1 else "are"
    return join([f"{right} are right{between} and ", element("strong", f"{unreal} {verb} not real"), "."])


def _fit_word(iou: float) -> str:
    words = ((0.9, "excellent"), (0.8, "good"), (0.7, "fair"), (0.0, "rough"))
    return next(word for least, word in words if iou >= least)


def trust(metrics: Mapping[str, Any]) -> tuple[str, list[object]]:
    """How far to trust the figures: a severity (or ``"fine"``), and the sentences."""
    n_images, n_true = int(metrics.get("n_images") or 0), int(metrics.get("n_true") or 0)
    things = plural_of_objects(metrics)
    place = ("matching", "pooled", FOUND, "f1")
    bounds, value = interval_of(metrics, place), look_up(metrics, *place)
    said: list[object] = []
    basis = f"They rest on {counted(n_images, 'image')} with {n_true:,} true {things}."
    if bounds is None or value is None:
        grade = "warning"
        said.append(join([element("strong", "How far these figures hold for other images is not known."), " ", basis]))
        if n_images == 1:
            said.append("One image says nothing of how much images differ. Annotate a few more.")
    else:
        low, high = bounds
        width = high - low
        grade = "fine" if width <= _NARROW else "note" if width <= _FAIR else "warning"
        # An interval from few images is itself rough: narrow ones come by chance.
        grade = "warning" if n_images < _VERY_FEW else "note" if n_images < _FEW and grade == "fine" else grade
        word = {"fine": "well settled", "note": "fairly settled", "warning": "uncertain"}[grade]
        level = percent(float(look_up(metrics, "confidence_intervals", "level") or 0.95))
        said.append(join([element("strong", f"The figures are {word}."), " ", basis]))
        said.append(
            f"F1 is {value:.3f}; had other images of the same kind been drawn, it would probably lie between {low:.3f} "
            f"and {high:.3f} ({level} interval)."
        )
    if len(metrics.get("classes") or ()) > 1:
        said.append("An object counts as found here whatever its class; Classes, below, tells of each by itself.")
    said.append(
        "The intervals say nothing of other microscopes, stains or magnifications: for these, annotate some images."
    )
    return grade, said


def with_interval(value: object, bounds: object, digits: int = 3) -> Html:
    """A figure with its interval behind it.

    Examples
    --------
    >>> with_interval(0.93456, (0.9, 0.95))
    '0.935 <span class="ci">0.900 to 0.950</span>'
    """
    if not isinstance(value, int | float):
        return join(["–"])
    text = f"{value:.{digits}f}"
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and None not in bounds:
        return join([text, " ", element("span", f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}", class_="ci")])
    return join([text])
