"""Results made of all objects of all images: the list of recognised objects, charts of the classes, a submission.

They are made from the COCO results of each image, which are kept until a run has ended; so they are the same whether an
image was done in memory, on disk, or in an earlier run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table
from cytomask.progress import say
from cytomask.reporting.class_charts import ClassStatistics, write_area_chart, write_count_chart
from cytomask.workflows.predicting.outputs import SHARED_OUTPUTS, Outputs
from cytomask.workflows.predicting.submission import NumberedImage, write_submission

#: Objects that are held at a time.
_AT_A_TIME = 2000
COLUMNS = ("File Name", "Class Name", "Object Number", "Area", "Centroid", "BoundingBox")


@dataclass(frozen=True)
class DoneImage:
    """What is left of an image that is done.

    Attributes
    ----------
    path
        The image.
    lines
        Its objects, as :func:`~cytomask.workflows.predicting.coco_results.coco_lines` gives them.
    shape
        Height and width in pixels.
    pixel_size
        µm along y and x, where known.
    number
        What it is called in a submission.
    """

    path: Path
    lines: Path
    shape: tuple[int, int]
    pixel_size: tuple[float, float] | None = None
    number: NumberedImage = field(default_factory=lambda: NumberedImage(1))

    def objects(self, classes: Sequence[str]) -> Iterator[Instances]:
        """The objects in their order, some at a time."""
        with self.lines.open(encoding="utf-8") as file:
            while entries := [json.loads(line) for line in islice(file, _AT_A_TIME)]:
                yield Instances.from_rle(
                    self.shape,
                    [entry["segmentation"] for entry in entries],
                    classes=[entry["category_id"] for entry in entries],
                    scores=[entry["score"] for entry in entries],
                    class_names=classes,
                )


def write_run_outputs(plan: Outputs, images: Sequence[DoneImage], classes: Sequence[str]) -> None:
    """Write what is wanted of all images together, but for the COCO results.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    if "recognized-objects" in plan.save:
        write_table(plan.folder / SHARED_OUTPUTS["recognized-objects"][0], _recognised(images, classes))
    if "charts" in plan.save:
        count_chart, area_chart = (plan.folder / name for name in SHARED_OUTPUTS["charts"])
        statistics = _statistics(images, classes)
        write_count_chart(count_chart, statistics)
        write_area_chart(area_chart, statistics)
    if "submission" in plan.save:
        for image in images:
            image.number.check_size(image.path, image.shape)
        (name,) = SHARED_OUTPUTS["submission"]
        left_out = write_submission(plan.folder / name, [(image.lines, image.number, image.shape) for image in images])
        if left_out:
            say(f"{name}: {left_out} objects whose boxes are empty or outside of the image are left out")


def _recognised(images: Sequence[DoneImage], classes: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows of the list, image by image; before them the columns, as there may be no rows."""
    yield pd.DataFrame({name: pd.Series([], dtype="string") for name in COLUMNS})
    names = Counter(image.path.name for image in images)
    for image in images:
        name = image.path.name if names[image.path.name] == 1 else image.path.as_posix()
        number = 1
        for objects in image.objects(classes):
            table = measure(objects)
            places = table[["centroid_y", "centroid_x"]].to_numpy()
            boxes = table[["box_y0", "box_x0", "box_y1", "box_x1"]].to_numpy()
            rows = {
                "File Name": [name] * len(table),
                "Class Name": table["class"].to_numpy(),
                "Object Number": np.arange(number, number + len(table)),
                "Area": table["area_px"].to_numpy(),
                "Centroid": [f"({y:.10g}, {x:.10g})" for y, x in places.tolist()],
                "BoundingBox": [str(tuple(box)) for box in boxes.tolist()],
            }
            number += len(table)
            yield pd.DataFrame(rows)


def _statistics(images: Sequence[DoneImage], classes: Sequence[str]) -> ClassStatistics:
    known = bool(images) and all(image.pixel_size is not None for image in images)
    statistics = ClassStatistics(classes, unit="µm²" if known else "px")
    for image in images:
        y, x = image.pixel_size if known and image.pixel_size is not None else (1.0, 1.0)
        statistics.begin_image()
        for objects in image.objects(classes):
            statistics.add(objects.classes, objects.areas() * (y * x))
    return statistics
