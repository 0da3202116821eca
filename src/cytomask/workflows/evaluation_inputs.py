"""Find and read what is to be evaluated: which prediction belongs to which truth."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cytomask.data.dataset import Dataset, Sample, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES
from cytomask.data.pairs import LABEL_SUFFIXES, stem_of
from cytomask.data.steps import Rescale
from cytomask.errors import ConfigError, CytomaskError, DataError, LabelError
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.pairs import Objects, image_size
from cytomask.formats.images import IMAGE_SUFFIXES
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.progress import say, warn

#: What predict writes beside label images: scored masks, and the list of images.
COCO_NAME, RECORD_NAME = "predictions.json", "run.json"
#: So many files are listed in an error.
LISTED = 10
_OVERLAY = "_overlay"


@dataclass(frozen=True, eq=False)
class Inputs:
    """The pairs to evaluate; reading happens when :meth:`read` is looped over.

    Attributes
    ----------
    pairs
        Name of the image, file of the prediction, file or data set sample of the truth.
    dataset
        The data set of the truth, if it is one.
    scored
        Predicted instances with scores, by the image's name in its label file; empty where there are none.
    """

    pairs: list[tuple[str, Path, Path | Sample]]
    dataset: Dataset | None = None
    scored: Mapping[str, Instances] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes to tell apart: those of the data set, if the predictions have classes at all."""
        tell = self.dataset is not None and all(_plain_name(p) in self.scored for _, p, _ in self.pairs)
        return self.dataset.classes if tell and self.dataset is not None else ("object",)

    def read(self) -> Iterator[Pair]:
        """Read pair by pair.

        Raises
        ------
        LabelError
            If a file is no label image, or prediction and truth differ in size; both files are named.
        """
        several = len(self.class_names) > 1
        for name, path, truth_file in self.pairs:
            scored = self.scored.get(_plain_name(path))
            prediction: Objects = scored if several and scored is not None else read_labels(path)
            truth: Objects
            if isinstance(truth_file, Sample):
                assert self.dataset is not None
                truth = self.dataset.load_layers(_native(truth_file))
                place, group = truth_file.label_path, truth_file.group
            else:
                truth, place, group = read_labels(truth_file), truth_file, {}
            _check_sizes(path, image_size(prediction), place, image_size(truth))
            yield Pair(name, truth, prediction, group, scored)


def find_inputs(predictions: str | Path, truth: str | Path, split: str | None = None) -> Inputs:
    """Pair predictions with truths by name.

    Parameters
    ----------
    predictions
        A label image or a folder of them. Of a folder that holds ``NAME_labels.tif`` only such files are taken.
    truth
        A label image, a folder of them, or a data set (its YAML file or folder).
    split
        Only this split of the data set.

    Raises
    ------
    DataError
        If a path does not exist or holds no label image, or a prediction has no truth, or a truth no prediction; the
        files are listed.
    ConfigError
        If a split is asked for where there is no data set.
    """
    predictions, truth = Path(predictions), Path(truth)
    for path, what in ((predictions, "prediction"), (truth, "truth")):
        if not path.exists():
            raise DataError(f"the {what} does not exist", where=path, fix="check the name and the folder")
    if _is_dataset(truth):
        return _with_dataset(predictions, truth, split)
    if split is not None:
        raise ConfigError(
            "only a data set has splits", where="--split", found=f"{split}, but {truth} holds label images",
            fix="leave out --split, or name the data set's folder or YAML file",
        )  # fmt: skip
    if predictions.is_file() and truth.is_file():
        return Inputs([(_plain_name(truth), predictions, truth)])
    predicted, true = _label_files(predictions), _label_files(truth)
    if truth.is_file():
        # One truth and a folder: the folder may hold the predictions of other images, too.
        predicted = {name: path for name, path in predicted.items() if name in true}
    _check_complete(true, predicted, true.keys() - predicted.keys(), predicted.keys() - true.keys(), truth, predictions)
    return Inputs([(name, predicted[name], path) for name, path in true.items()], scored=_scored(predictions))


def _is_dataset(truth: Path) -> bool:
    if truth.is_file():
        return truth.suffix.lower() in (".yaml", ".yml")
    return any((truth / name).is_file() for name in CONFIG_NAMES) or not _image_files(truth)


def _with_dataset(predictions: Path, truth: Path, split: str | None) -> Inputs:
    dataset = open_dataset(truth)
    wanted = dataset.samples if split is None else dataset.split(split)
    if not wanted:
        raise DataError("there are no images to compare with", where=truth, found=f"split {split!r} is empty")
    predicted = _label_files(predictions)
    # A prediction is named after the image's file; where files of one name lie in several folders, after these, too.
    short = Counter(sample.name.rsplit("/", 1)[-1] for sample in dataset.samples)
    names: dict[str, str] = {}
    for sample in dataset.samples:
        last = sample.name.rsplit("/", 1)[-1]
        full = sample.name.replace("/", "_")
        names[sample.name] = last if short[last] == 1 and full not in predicted else full
    of_wanted = {names[s.name]: s for s in wanted}
    others = {names[s.name] for s in dataset.samples} - of_wanted.keys()
    extra = predicted.keys() & others
    if extra and len(extra) < len(predicted):
        say(f"{len(extra)} of {len(predicted)} predictions belong to other splits of the data set and are left out")
    missing = of_wanted.keys() - predicted.keys()
    surplus = predicted.keys() - of_wanted.keys() - others
    hint = f"; or compare with one split only: --split {'|'.join(dataset.split_names)}" if split is None else ""
    true = {name: sample.label_path for name, sample in of_wanted.items()}
    _check_complete(true, predicted, missing, surplus, truth, predictions, hint)
    pairs: list[tuple[str, Path, Path | Sample]] = [(s.name, predicted[n], s) for n, s in of_wanted.items()]
    return Inputs(pairs, dataset, _scored(predictions, dataset.classes))


def _check_complete(
    true: Mapping[str, Path], predicted: Mapping[str, Path], missing: Iterable[str], surplus: Iterable[str],
    truth: Path, predictions: Path, hint: str = "",
) -> None:  # fmt: skip
    without_prediction = sorted(true[name].name for name in missing)
    without_truth = sorted(predicted[name].name for name in surplus)
    if not without_prediction and not without_truth:
        return
    found = []
    if without_prediction:
        found.append(
            f"{len(without_prediction)} of {len(true)} truths without a prediction: {_list(without_prediction)}"
        )
    if without_truth:
        found.append(f"{len(without_truth)} of {len(predicted)} predictions without a truth: {_list(without_truth)}")
    raise DataError(
        "predictions and truth do not belong together file by file",
        where=f"{predictions} and {truth}",
        found="\n            ".join(found),
        expected="the same names on both sides, such as a_labels.tif and a.png",
        fix=f"add or remove these files{hint}",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _plain_name(path: Path) -> str:
    """The name by which files are paired: without suffix, ``_labels`` and the like."""
    name = stem_of(path.name)
    suffix = next((s for s in LABEL_SUFFIXES if name.endswith(s) and name != s), "")
    return name.removesuffix(suffix).removesuffix(".ome")


def _image_files(folder: Path) -> list[Path]:
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(p for p in images if p.is_file())


def _label_files(place: Path) -> dict[str, Path]:
    files = [place] if place.is_file() else [p for p in _image_files(place) if not p.stem.endswith(_OVERLAY)]
    if place.is_dir():
        ours = [p for p in files if stem_of(p.name).endswith(LABEL_SUFFIXES[0])]
        files = ours or files
    if not files:
        raise DataError(
            "the folder holds no label images", where=place, expected="files ending in " + ", ".join(IMAGE_SUFFIXES)
        )
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[_plain_name(path)].append(path)
    for several in by_name.values():
        if len(several) > 1:
            raise DataError(
                "several files are of one image", where=place, found=", ".join(p.name for p in several),
                fix="keep one of them",
            )  # fmt: skip
    return {name: paths[0] for name, paths in by_name.items()}


def _native(sample: Sample) -> Sample:
    """The sample at its image's own size, in which predictions are written, whatever size training takes it to."""
    steps = tuple(step for step in sample.reading.steps if not isinstance(step, Rescale))
    return replace(sample, reading=replace(sample.reading, steps=steps))


def _check_sizes(prediction: Path, predicted: tuple[int, int], truth: Path, true: tuple[int, int]) -> None:
    if predicted != true:
        raise LabelError(
            "the prediction and the truth differ in size",
            where=f"{prediction} and {truth}",
            found=f"prediction {prediction.name}: {predicted[0]} x {predicted[1]} pixels (height x width)",
            expected=f"as truth {truth.name}: {true[0]} x {true[1]}",
            fix="check that both are of the same image, neither cropped nor rescaled",
        )


def _scored(folder: Path, class_names: Sequence[str] = ("object",)) -> dict[str, Instances]:
    """Read the scored masks that predict wrote beside the label images, by the image's name there."""
    results, record = folder / COCO_NAME, folder / RECORD_NAME
    if not results.is_file() or not record.is_file():
        return {}
    try:
        images = json.loads(record.read_text(encoding="utf-8"))["images"]
        entries: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in json.loads(results.read_text(encoding="utf-8")):
            entries[entry["image_id"]].append(entry)
        scored = {}
        for image in images:
            objects = entries[image["image_id"]]
            if len(objects) != sum(image["objects"].values()):
                raise DataError("it is of another prediction than run.json")
            scored[_plain_name(Path(f"{image['name']}_labels.tif"))] = Instances.from_rle(
                (image["height"], image["width"]),
                [entry["segmentation"] for entry in objects],
                classes=[entry["category_id"] for entry in objects] if len(class_names) > 1 else None,
                scores=[entry["score"] for entry in objects],
                class_names=tuple(class_names),
            )
    except (OSError, ValueError, KeyError, TypeError, CytomaskError) as error:
        why = error.what if isinstance(error, CytomaskError) else f"{type(error).__name__}: {error}"
        warn(f"{results} is left out, so that there are no COCO metrics: {why}")
        return {}
    return scored
