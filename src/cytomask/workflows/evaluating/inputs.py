"""Find and read what is to be evaluated: which prediction belongs to which truth, and which class to which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cytomask.data.check.label_faults import label_faults
from cytomask.errors import DataError, LabelError
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.pairs import image_size
from cytomask.formats.images import IMAGE_SUFFIXES
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.progress import say, warn
from cytomask.workflows.evaluating.sides import UNNAMED, Entry, Read, Side, is_one_image, open_side

#: So many files are listed in an error.
LISTED = 10
#: Kind and words of each fault of a pair's label images, by side: ``prediction`` or ``truth``.
Odd = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The pairs to evaluate; reading happens when :meth:`read` is looped over.

    Attributes
    ----------
    pairs
        Name of each image, its prediction and its truth.
    class_names
        The classes to tell apart; one where either side does not tell classes.
    prediction_classes, truth_classes
        Number in ``class_names`` of each class of the side, in order.
    annotators
        Other annotations of the same images: the name of each annotator, and the images that it has, by name.
    """

    pairs: list[tuple[str, Entry, Entry]]
    class_names: tuple[str, ...] = UNNAMED
    prediction_classes: tuple[int, ...] = (1,)
    truth_classes: tuple[int, ...] = (1,)
    annotators: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    _odd: dict[str, list[str]] = field(default_factory=dict)

    def oddities(self) -> list[str]:
        """What is odd about the label images that were read, such as masks in which all objects have one number."""
        return [f"{told[0]}{f' (and {len(told) - 1} more like it)' if told[1:] else ''}" for told in self._odd.values()]

    def read(self) -> Iterator[Pair]:
        """Read pair by pair.

        Raises
        ------
        LabelError
            If a file is no label image, or prediction and truth differ in size; both files are named.
        """
        for index in range(len(self.pairs)):
            pair, odd = self.read_one(index)
            self.note(index, odd)
            yield pair

    def read_one(self, index: int) -> tuple[Pair, Odd]:
        """Read one pair, and say what is odd about its label images.

        Raises
        ------
        LabelError
            As :meth:`read`.
        """
        name, predicted, true = self.pairs[index]
        prediction, truth = predicted.read(), true.read()
        if len(self.class_names) > 1:
            prediction = _numbered(prediction, self.prediction_classes, self.class_names)
            truth = _numbered(truth, self.truth_classes, self.class_names)
        check_sizes(
            (f"prediction {told_name(predicted, name)}", predicted.place, image_size(prediction.objects)),
            (f"truth {told_name(true, name)}", true.place, image_size(truth.objects)),
        )
        odd = {
            what: [(fault.kind, fault.message) for fault in label_faults(side.objects)]
            for what, side in (("prediction", prediction), ("truth", truth))
            if isinstance(side.objects, np.ndarray)
        }
        pair = Pair(
            name,
            truth.objects,
            prediction.objects,
            dict(true.group),
            prediction.scored,
            prediction.scored is not None,
            truth.crowd,
            true.find_image(),
        )
        return pair, odd

    def note(self, index: int, odd: Odd) -> None:
        """Remember what is odd about a label image: an image or a mask in its place gives figures, but of nothing."""
        _, predicted, true = self.pairs[index]
        for what, faults in odd.items():
            place = (predicted if what == "prediction" else true).place
            for kind, message in faults:
                meant = {
                    "binary-labels": "so that it counts as one object; every object needs a number of its own",
                    "smeared-labels": "as in an image, or in a picture of labels",
                    "constant-labels": "so that the image is one object",
                }[kind]
                self._odd.setdefault(f"{what} {kind}", []).append(f"{what} {place}: {message}, {meant}")


def find_inputs(
    predictions: str | Path,
    truth: str | Path,
    split: str | None = None,
    annotators: Sequence[str | Path] = (),
    max_images: int | None = None,
) -> Inputs:
    """Pair predictions with truths by name.

    Parameters
    ----------
    predictions
        A label image, a folder of them, or annotations of any format. Of a folder that holds ``NAME_labels.tif`` only
        such files are taken.
    truth
        The same, or a data set (its YAML file or folder).
    split
        Only this split of the data set.
    annotators
        Other annotations of the same images, in any form that the truth may have.
    max_images
        Only so many images, the first by their names.

    Raises
    ------
    DataError
        If a path does not exist or holds no objects, or a prediction has no truth, or a truth no prediction; the files
        are listed. If an annotator has none of the images.
    ConfigError
        If a split is asked for where there is no data set.
    """
    true = open_side(truth, "truth", split)
    if split is not None and split not in true.splits:
        raise DataError(
            f"the data set has no split {split!r}",
            where=true.place,
            found=", ".join(true.splits) or "no splits",
            expected=split,
            fix="name one of these, or say in the data set's file how it is split",
        )
    wanted = [name for name, entry in true.entries.items() if split is None or entry.split == split]
    wanted = wanted[:max_images]
    if not wanted:
        raise DataError("there are no images to compare with", where=truth, found=f"split {split!r} is empty")
    predicted = open_side(predictions, "prediction", truth=_one_file(true, wanted) or Path(truth))
    if Path(predictions).resolve() == Path(truth).resolve():
        warn("predictions and truth are the same: the figures say nothing")
    if is_one_image(Path(predictions)) and len(true.entries) == len(predicted.entries) == 1:
        partner = {wanted[0]: next(iter(predicted.entries))}
    else:
        partner = pair_names(list(true.entries), list(predicted.entries))
    _check_complete(true, predicted, wanted, partner, split)
    pairs = [(name, predicted.entries[partner[name]], true.entries[name]) for name in wanted]
    class_names, of_prediction, of_truth = join_classes(predicted.classes, true.classes)
    found = {}
    for place in annotators:
        if not Path(place).exists():
            raise DataError("the annotator's file or folder does not exist", where=place, fix="check the name")
        label = Path(place).stem if Path(place).stem not in found else str(place)
        found[label] = annotator_entries(open_side(place, "truth"), wanted, len(true.entries))
    return Inputs(pairs, class_names, of_prediction, of_truth, found)


def pair_names(true: Sequence[str], predicted: Sequence[str]) -> dict[str, str]:
    """Find the prediction of each true image by name.

    Equal names belong together, also where ``/`` between folders was written as ``_``; then names whose last part is
    the same, where only one image on either side bears it.

    Examples
    --------
    >>> pair_names(["a/1", "a/2", "b/2", "c"], ["1", "a_2", "b/2", "x"])
    {'a/1': '1', 'a/2': 'a_2', 'b/2': 'b/2'}
    """
    pairs: dict[str, str] = {}
    left = dict.fromkeys(predicted)
    flat = {name.replace("/", "_"): name for name in predicted}
    for name in true:
        other = name if name in left else flat.get(name.replace("/", "_"))
        if other in left:
            pairs[name] = other
            del left[other]
    last_true, last_predicted = (Counter(_last(name) for name in side) for side in (true, predicted))
    by_last = {_last(name): name for name in left if last_predicted[_last(name)] == 1}
    for name in true:
        end = _last(name)
        if name not in pairs and last_true[end] == 1 and end in by_last:
            pairs[name] = by_last[end]
    return {name: pairs[name] for name in true if name in pairs}


def join_classes(
    predicted: tuple[str, ...], true: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """Match the classes of both sides by name, whatever their case.

    Returns
    -------
    tuple
        The names of all classes, those of the truth first, and for each side the number (from 1) of each of its classes
        among them. One class, and ones, where a side does not tell classes or no name is on both sides.

    Examples
    --------
    >>> join_classes(("Nucleus", "debris"), ("cell", "nucleus"))
    (('cell', 'nucleus', 'debris'), (2, 3), (1, 2))
    >>> join_classes(("object",), ("cell", "nucleus"))
    (('object',), (1,), (1, 1))
    """
    one = (UNNAMED, (1,) * len(predicted), (1,) * len(true))
    if UNNAMED in (predicted, true) or len(predicted) == len(true) == 1:
        return one
    folded = [name.strip().casefold() for name in true]
    names, numbers = list(true), []
    for name in predicted:
        key = name.strip().casefold()
        if key not in folded:
            folded.append(key)
            names.append(name)
        numbers.append(folded.index(key) + 1)
    if len(names) == len(predicted) + len(true):
        warn(
            f"no class has the same name on both sides (predicted: {', '.join(predicted)}; true: {', '.join(true)}): "
            "objects are compared whatever their class"
        )
        return one
    return tuple(names), tuple(numbers), tuple(range(1, len(true) + 1))


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _one_file(side: Side, names: Sequence[str]) -> Path | None:
    """The JSON file that holds all of these images, if it is one: it names the images that COCO results number."""
    places = {side.entries[name].place for name in names}
    return places.pop() if len(places) == 1 and all(p.suffix.lower() == ".json" for p in places) else None


def annotator_entries(side: Side, wanted: Sequence[str], n_true: int) -> dict[str, Entry]:
    """The images of an annotator by the names of the truth; an annotator need not have all of them.

    Raises
    ------
    DataError
        If there is none.
    """
    if n_true == len(side.entries) == 1:
        return {wanted[0]: next(iter(side.entries.values()))}
    partner = pair_names(wanted, list(side.entries))
    if not partner:
        raise DataError(
            "the annotator has none of the images",
            where=side.place,
            found=_list(sorted(side.entries)),
            expected=f"some of {_list(sorted(wanted))}",
        )
    if len(partner) < len(wanted):
        say(f"{side.place.name} has {len(partner)} of the {len(wanted)} images; annotators are compared on these")
    return {name: side.entries[other] for name, other in partner.items()}


def _check_complete(
    true: Side, predicted: Side, wanted: Sequence[str], partner: Mapping[str, str], split: str | None
) -> None:
    # One truth and a folder: the folder may hold the predictions of other images, too.
    single = is_one_image(true.place) and len(true.entries) == 1 and len(partner) == 1
    surplus = [] if single else sorted(predicted.entries.keys() - set(partner.values()))
    missing = [name for name in wanted if name not in partner]
    others = sum(name in partner for name in true.entries) - (len(wanted) - len(missing))
    if not missing and not surplus:
        if others:
            say(
                f"{others} of {len(predicted.entries)} predictions belong to other splits of the data set and are left "
                "out"
            )
        return
    found = []
    if missing:
        names = _list(sorted(told_name(true.entries[name], name) for name in missing))
        found.append(f"{len(missing)} of {len(wanted)} truths without a prediction: {names}")
    if surplus:
        names = _list([told_name(predicted.entries[name], name) for name in surplus])
        found.append(f"{len(surplus)} of {len(predicted.entries)} predictions without a truth: {names}")
    of_splits = {true.entries[name].split for name in partner} - {None, split}
    if len(missing) == len(wanted) and len(of_splits) == 1:
        hint = f"; or compare with the split that the predictions are of: --split {of_splits.pop()}"
    elif len(missing) == len(wanted) and all(name.isdecimal() for name in predicted.entries):
        hint = "; if these are COCO results, name the COCO file that they are of as the truth"
    elif true.splits and split is None:
        hint = f"; or compare with one split only: --split {'|'.join(true.splits)}"
    else:
        hint = ""
    raise DataError(
        "predictions and truth do not belong together file by file",
        where=f"{predicted.place} and {true.place}",
        found="\n            ".join(found),
        expected="the same names on both sides, such as a_labels.tif and a.png",
        fix=f"add or remove these files{hint}",
    )


def told_name(entry: Entry, name: str) -> str:
    """The file of an image where it has one of its own, else the image's name."""
    own = _last(name) in entry.place.name or entry.place.suffix.lower() in IMAGE_SUFFIXES
    return entry.place.name if own else name


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _numbered(side: Read, numbers: Sequence[int], class_names: tuple[str, ...]) -> Read:
    """Number the classes anew."""
    table = np.array([0, *numbers], np.int32)

    def anew(objects: Instances) -> Instances:
        return replace(objects, classes=table[objects.classes], class_names=class_names)

    objects = side.objects
    if isinstance(objects, Instances):
        objects = anew(objects)
    elif isinstance(objects, LabelLayers):
        classes = {i: int(table[c]) for i, c in objects.classes.items()}
        objects = replace(objects, classes=classes, class_names=class_names)
    return Read(objects, None if side.scored is None else anew(side.scored), side.crowd)


def check_sizes(one: tuple[str, Path, tuple[int, int]], other: tuple[str, Path, tuple[int, int]]) -> None:
    """Raise :class:`~cytomask.errors.LabelError` if two sides of an image, each a name, a place and a size, differ."""
    (what, place, size), (reference, other_place, expected) = one, other
    if size != expected:
        raise LabelError(
            f"the {what.split()[0]} and the {reference.split()[0]} differ in size",
            where=f"{place} and {other_place}",
            found=f"{what}: {size[0]} x {size[1]} pixels (height x width)",
            expected=f"as {reference}: {expected[0]} x {expected[1]}",
            fix="check that both are of the same image, neither cropped nor rescaled",
        )
