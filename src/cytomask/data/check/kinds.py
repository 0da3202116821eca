"""The table of everything that a check looks for: its name, how grave it is, what to do, and what ``--fix`` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cytomask.data.check.finding import SEVERITIES, Finding, Severity

#: So many objects are named in one finding.
MOST_OBJECTS = 100


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes
    ----------
    title
        What it is called on the screen.
    severity
        How grave it usually is.
    todo
        What a person should do about it.
    fix
        What ``--fix`` does about it; None where it does nothing.
    """

    title: str
    severity: Severity
    todo: str
    fix: str | None = None


_TABLE: dict[str, Kind] = {
    # Files and pairs
    "missing-labels": Kind("image without labels", "error", "annotate it, or take it out of the images' folder"),
    "missing-image": Kind("labels without an image", "error", "bring the image back, or take the labels out"),
    "doubled-name": Kind("several files of one name", "error", "keep one of them, or rename them"),
    "name-case": Kind("names that differ in upper and lower case only", "warning",
                      "rename one: on Windows and macOS one file would overwrite the other"),
    "empty-file": Kind("empty file", "error", "copy or export it again"),
    "unreadable-image": Kind("image that cannot be read", "error", "copy or export it again"),
    "unreadable-labels": Kind("labels that cannot be read", "error", "export them again"),
    "size-mismatch": Kind("labels of another size than their image", "error",
                          "export the labels at the image's size; do not stretch them by hand"),
    "data-set-problem": Kind("something wrong with the data set's files or table", "error", "mend what it says"),
    # Images
    "constant-image": Kind("image of one value", "error", "export it again, or take it out"),
    "few-levels": Kind("image of very few grey levels", "warning",
                       "look whether this is a mask, or was saved with too few bits"),
    "saturated": Kind("saturated objects", "warning",
                      "expose less; intensities of these objects are cut off and their edges bloom"),
    "unused-bits": Kind("values use few of the type's bits", "note",
                        "nothing, if images are normalised (the default); do not divide by the type's maximum"),
    "float-range": Kind("floating-point values outside 0 to 1", "note",
                        "nothing, if images are normalised (the default); else bring all images to one range"),
    "mixed-dtypes": Kind("images of different number types", "note",
                         "make sure that they were exported alike; normalisation (the default) evens it out"),
    "inverted": Kind("contrast inverted against the other images", "warning",
                     "look whether the image was inverted when exported, or belongs to another modality"),
    "grey-as-rgb": Kind("grey image stored as RGB", "note", "nothing needed; one channel takes a third of the room",
                        "keeps one of the three equal channels, unless other images have colours"),
    "alpha": Kind("transparency channel", "note", "nothing needed: it is dropped when read", "drops it"),
    "channels-differ": Kind("images of different channels", "warning",
                            "name the channels to use in the data set's file, or give a step select_channels"),
    "pixel-size-differs": Kind("pixel sizes that differ", "warning",
                               "add the step rescale, or train where objects have one size in pixels"),
    # Label files
    "colour-labels": Kind("labels that are a colour picture", "error",
                          "export the label numbers themselves, not a coloured view of them"),
    "jpeg-labels": Kind("labels saved as JPEG", "error", "export them as TIFF or PNG: JPEG changes the numbers"),
    "smeared-labels": Kind("label numbers smeared by interpolation or lossy packing", "error",
                           "export again; resize labels with nearest neighbour only, and never save them as JPEG"),
    "binary-labels": Kind("one number for all objects", "error",
                          "number the objects: connected components, and cut those that touch"),
    "constant-labels": Kind("label image of one value", "error",
                            "export again: every pixel belongs to one object, so nothing is background"),
    "labels-are-image": Kind("label file that holds the image itself", "error", "bring the labels back"),
    "ids-not-contiguous": Kind("ids that are not 1, 2, 3 …", "note", "nothing: ids need not be contiguous"),
    # Objects
    "no-objects": Kind("image without any object", "note",
                       "make sure that there is really nothing, and it was not forgotten"),
    "scattered-object": Kind("id in several pieces far apart", "warning",
                             "give each piece its own id, if they are several objects", "makes each piece an object"),
    "crumbs": Kind("crumbs beside an object", "warning", "remove the stray pixels", "drops the crumbs"),
    "specks": Kind("specks: objects of a few pixels", "warning", "remove them, if they are slips of the pen",
                   "drops them"),
    "holes": Kind("holes in objects", "warning", "fill them, unless the objects are rings", "fills them"),
    "outlines-only": Kind("outlines instead of masks", "error", "fill the outlines", "fills them"),
    "duplicate-objects": Kind("the same object twice", "warning", "remove one of the two", "drops the later one"),
    "overlapping-objects": Kind("objects that overlap much", "note", "look whether both are right"),
    "merged-objects": Kind("objects that look like several in one", "warning", "look, and cut them apart"),
    "missing-objects": Kind("objects that look forgotten", "warning",
                            "look, and annotate them: unannotated objects teach the model to miss"),
    "shifted-labels": Kind("labels shifted against their image", "warning",
                           "look; find out which step moved one of them, and undo it"),
    "foreign-labels": Kind("labels that do not fit their image", "warning",
                           "look whether they belong to another image"),
    "crowded": Kind("more objects than usual limits allow", "note",
                    "nothing needed here up to 2,000 (above: evaluate with a larger --max-dets); mind the limits of "
                    "other programs"),
    # Annotations in COCO's form
    "duplicate-ids": Kind("annotation ids used twice", "error", "number the annotations anew",
                          "numbers the later ones anew"),
    "doubled-entry": Kind("image listed twice", "error", "list each image once"),
    "orphan-annotation": Kind("annotation of an image that is not listed", "error", "list the image, or remove it",
                              "drops it"),
    "unknown-category": Kind("category that is not listed", "error", "list the category, or correct the annotation"),
    "unused-category": Kind("category without objects", "note", "remove it, or annotate some", "drops it"),
    "few-points": Kind("polygon of fewer than three points", "error", "draw it again, or remove it", "drops it"),
    "empty-mask": Kind("annotation without pixels", "warning", "draw it again, or remove it", "drops it"),
    "broken-mask": Kind("annotation that cannot be read", "error", "draw it again, or remove it"),
    "outside-image": Kind("objects that leave the image", "warning", "cut them at the image's border",
                          "cuts them at the border"),
    "box-convention": Kind("boxes given by two corners", "error",
                           "write [x, y, width, height]; these are [x0, y0, x1, y1]",
                           "computes the boxes from the masks"),
    "box-mismatch": Kind("boxes that do not fit their masks", "warning", "compute the boxes from the masks",
                         "computes the boxes from the masks"),
    # The set as a whole
    "exact-duplicate": Kind("the same image twice", "warning", "keep one of them",
                            "removes it from train where it is in another split, too"),
    "near-duplicate": Kind("images that look nearly alike", "warning",
                           "put them into one split, or keep one: a score on an image seen in training is too good"),
    "conflicting-labels": Kind("the same image annotated in two ways", "warning", "decide which annotation is right"),
    "unassigned": Kind("annotated images in no split", "warning", "give them a split"),
    "empty-split": Kind("split without images", "error", "put images into it, or remove it"),
    "split-imbalance": Kind("groups spread unevenly over the splits", "note",
                            "draw the splits anew, evenly in each group"),
    "group-leak": Kind("one source in several splits", "warning",
                       "keep all images of one source together (splits.together)"),
    "class-imbalance": Kind("classes of very different frequency", "note",
                            "annotate more of the rare class, or draw its images more often"),
    "class-not-in-split": Kind("class that a split lacks", "warning", "draw the splits anew, so that each has some"),
    "sizes-differ": Kind("object sizes that differ between splits", "note",
                         "make sure that all splits come from the same kind of images and magnification"),
    "size-range": Kind("objects of very different sizes", "note",
                       "make sure that one network sees both; consider a model for each size"),
    "tiny-objects": Kind("objects of very few pixels", "note",
                         "scale the images up (step rescale), or a network's grid will miss them"),
    "larger-than-patch": Kind("objects that hardly fit into a training patch", "warning",
                              "train with larger patches, or with a rescale step"),
    "model-diameter": Kind("objects of another size than the model's", "warning",
                           "predict with --diameter, so that images are scaled to the model's objects"),
    "model-classes": Kind("classes that the model does not know", "note", "train a model with these classes"),
    "model-limits": Kind("objects larger than the model can see", "warning",
                         "scale the images down, or train a network with more depth and larger patches"),
}  # fmt: skip

#: Every kind by name.
KINDS = _TABLE
#: What each kind is called on the screen.
TITLES = {name: kind.title for name, kind in _TABLE.items()}
#: A sentence about each kind, for the reference.
DESCRIPTIONS = {
    name: f"{kind.severity}: {kind.title}. To do: {kind.todo}." + (f" `--fix` {kind.fix}." if kind.fix else "")
    for name, kind in _TABLE.items()
}
_PLACES = {name: place for place, name in enumerate(_TABLE)}


def finding(
    kind: str,
    message: str,
    *,
    severity: Severity | None = None,
    todo: str | None = None,
    objects: Iterable[int] = (),
    window: Sequence[int] | None = None,
    **about: Any,
) -> Finding:
    """Make a finding with what the table says of its kind.

    Parameters
    ----------
    kind
        Its name in the table.
    message
        What was found, with numbers.
    severity, todo
        Where they differ from the table's.
    objects
        Ids of the objects; the first hundred are kept.
    window
        Where to look, ``(y0, x0, y1, x1)``.
    about
        Further fields of :class:`~cytomask.data.check.finding.Finding`.

    Examples
    --------
    >>> one = finding("specks", "2 objects of at most 3 px", image="a")
    >>> one.severity, one.fix
    ('warning', 'drops them')
    """
    row = KINDS[kind]
    return Finding(
        kind,
        severity or row.severity,
        message,
        todo or row.todo,
        objects=tuple(int(i) for i in islice(objects, MOST_OBJECTS)),
        window=None if window is None else (int(window[0]), int(window[1]), int(window[2]), int(window[3])),
        fix=row.fix,
        **about,
    )


def gravest_first(findings: list[Finding]) -> list[Finding]:
    """Sort findings: errors first, then by kind as in the table, then the worst of a kind."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), _PLACES[f.kind], -f.value, f.image or ""))


def many(count: int, thing: str, plural: str | None = None) -> str:
    """Count in words.

    Examples
    --------
    >>> many(1, "object"), many(1200, "box", "boxes")
    ('1 object', '1,200 boxes')
    """
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
