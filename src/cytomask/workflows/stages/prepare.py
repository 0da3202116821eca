"""The stage prepare: what the data are, how many objects of which size, and what some training images look like."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.data.dataset import Dataset
from cytomask.data.object_sizes import box_shapes, equivalent_diameters, size_percentiles
from cytomask.data.sample import Sample, load_sample
from cytomask.errors import ConfigError, DataError
from cytomask.output import new_folder, output_folder
from cytomask.progress import track
from cytomask.reporting.overlay import draw_overlay
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.pictures import write_photo
from cytomask.workflows.trainings.preparation import open_data

#: So many training images are drawn, and the longest side of a picture in pixels.
EXAMPLES, LONGEST_SIDE = 6, 640
#: A column with more values than this groups nothing.
_MOST_GROUPS = 40
DATA_NAME = "data.json"


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:
    """Check the data, count and measure the objects, and draw some training images.

    Parameters
    ----------
    run
        Where to.
    experiment
        Names the data and its splits.

    Returns
    -------
    list of str
        What the data are, for people.

    Raises
    ------
    DataError
        If files are missing, cannot be read or contradict each other, all of which are told together; or there are no
        training images.
    ConfigError
        If evaluation is to group by a column that there is not.
    """
    dataset = open_data(experiment)
    train = dataset.split(experiment.data.train)
    dataset.split(experiment.data.validation)
    if not train:
        raise DataError("there are no training images", where=dataset.source, found=dataset.describe())
    _check_columns(dataset, experiment.evaluation.group_by)
    dataset.verify()
    content = data_record(dataset, experiment)
    if run.data.is_dir():
        shutil.rmtree(run.data)
    with new_folder(run.data) as folder:
        examples = output_folder(folder / "examples")
        content["examples"] = [
            {"name": sample.name, "file": f"{examples.name}/{_draw(sample, examples, number)}"}
            for number, sample in enumerate(_evenly(train, EXAMPLES), start=1)
        ]
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / DATA_NAME).write_text(text, encoding="utf-8")
    told = [dataset.describe()]
    sizes = content["sizes"]
    if sizes:
        told.append(
            f"{content['objects']} objects; their diameters: {sizes['diameter_p5']:.3g} to "
            f"{sizes['diameter_p95']:.3g} pixels, middle {sizes['diameter_p50']:.3g}"
        )
    return told


def _check_columns(dataset: Dataset, columns: Sequence[str]) -> None:
    """Columns that evaluation groups by must be there: it would say so only after the training."""
    known = list(dict.fromkeys(column for sample in dataset.samples for column in sample.group))
    for column in columns:
        if column not in known:
            near = get_close_matches(column, known, 1)
            raise ConfigError(
                f"the data set's table has no column {column!r}",
                where="evaluation.group_by",
                found=", ".join(known) or "no table",
                fix=f"did you mean {near[0]!r}?" if near else "name one of these, or leave it out",
            )


def data_record(dataset: Dataset, experiment: Experiment) -> dict[str, Any]:
    """Count and measure a data set.

    Returns
    -------
    dict
        ``name``, ``path``, ``fingerprint``, ``licence``, ``classes``, ``how_split``, ``images``, ``objects``;
        ``splits``: for each its ``role`` in the experiment (or null), ``images``, ``objects``, ``objects_per_class``,
        ``empty_images``, and ``groups``: for each column of the data set's table its values with how many images have
        them; ``sizes``: percentiles over the training objects as
        :func:`~cytomask.data.object_sizes.size_percentiles` gives them, in pixels (null without objects);
        ``pixel_sizes``: how many images tell which (µm, height and width); ``channels``: their names with how many
        images have them; ``image_sizes``: smallest, middle and largest height and width in pixels.
    """
    section = experiment.data
    roles = {section.test: "test", section.validation: "validation", section.train: "train"}
    parts: dict[str | None, list[Sample]] = {name: dataset.split(name) for name in dataset.split_names}
    rest = [sample for sample in dataset.samples if sample.split is None]
    if rest:
        parts[None] = rest
    channels: Counter[tuple[str, ...]] = Counter()
    pixel_sizes: Counter[tuple[float, float] | None] = Counter()
    shapes: list[tuple[int, int]] = []
    measured: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    splits = []
    progress = iter(track([s for samples in parts.values() for s in samples], "counting objects"))
    for name, samples in parts.items():
        classes: Counter[int] = Counter()
        empty = 0
        for _ in samples:
            image, layers = load_sample(next(progress))
            channels[tuple(image.channels)] += 1
            pixel_sizes[image.pixel_size] += 1
            shapes.append(image.shape)
            classes.update(layers.classes.values())
            empty += not layers.classes
            if name == section.train:
                measured += [(equivalent_diameters(layer), *box_shapes(layer)) for layer in layers.layers]
        splits.append(
            {
                "name": name,
                "role": roles.get(name or ""),
                "images": len(samples),
                "empty_images": empty,
                "objects": classes.total(),
                "objects_per_class": {c: classes[i] for i, c in enumerate(dataset.classes, start=1)},
                "groups": _groups(samples),
            }
        )
    list(progress)
    diameters, sides, elongations = (np.concatenate(column) for column in zip(*measured)) if measured else [_NONE] * 3
    heights, widths = np.array(shapes).reshape(-1, 2).T
    return {
        "name": dataset.name,
        "path": str(section.path),
        "fingerprint": dataset.fingerprint(),
        "licence": section.licence or dataset.licence,
        "classes": list(dataset.classes),
        "how_split": dataset.how_split,
        "images": len(dataset),
        "objects": sum(split["objects"] for split in splits),
        "splits": splits,
        "sizes": size_percentiles(diameters, sides, elongations) if len(diameters) else None,
        "pixel_sizes": [
            {"pixel_size": None if size is None else list(size), "images": n} for size, n in pixel_sizes.most_common()
        ],
        "channels": [{"names": list(names), "images": n} for names, n in channels.most_common()],
        "image_sizes": {
            word: [int(np.percentile(sides, share)) for sides in (heights, widths)]
            for word, share in (("smallest", 0), ("middle", 50), ("largest", 100))
        },
    }


_NONE = np.zeros(0)


def _groups(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """For each column of the data set's table that groups images, how many have which value."""
    columns = dict.fromkeys(column for sample in samples for column in sample.group)
    found = {}
    for column in columns:
        values = Counter(sample.group.get(column, "") for sample in samples)
        if len(values) <= min(_MOST_GROUPS, max(1, len(samples) // 2)):
            found[column] = dict(values.most_common())
    return found


def _evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """So many samples, spread evenly over their order."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def _draw(sample: Sample, folder: Path, number: int) -> str:
    image, layers = load_sample(sample)
    several = len(layers.class_names) > 1
    picture = draw_overlay(
        image, layers.to_instances(), colour_by="class" if several else "object", max_side=LONGEST_SIDE
    )
    return write_photo(folder, f"{number:02d}", picture)
