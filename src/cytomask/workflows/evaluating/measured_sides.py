"""How measurements of predicted objects are distributed beside those of the true ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytomask.errors import CytomaskError
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.pairs import crowd_ids, to_instances
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure
from cytomask.output import replacing

MEASUREMENTS_NAME = "measurements.json"
#: Bars of a histogram, and the part of the values that lie within its ends.
BINS, _TAIL = 30, 0.002
_SIDES = ("true", "predicted")
#: What is compared: column with and without a pixel size, what it is called, units, whether sizes spread over decades.
_PROPERTIES = (
    ("area_um2", "area_px", "area", "µm²", "px", True),
    ("equivalent_diameter_um", "equivalent_diameter_px", "diameter", "µm", "px", False),
    ("eccentricity", "eccentricity", "eccentricity", "", "", False),
)


@dataclass
class MeasuredSides:
    """Gathers measurements of true and of predicted objects, image by image.

    Objects that touch the border of the image, and crowd regions, are left out on both sides: what is cut off has
    another size than it has.
    """

    _tables: dict[str, list[pd.DataFrame]] = field(default_factory=lambda: {side: [] for side in _SIDES})
    _of_micrometres: bool = True

    def add(self, pair: Pair, class_names: Sequence[str]) -> None:
        """Measure the objects of both sides; intensities only where the image can be read."""
        image = _image(pair)
        truth, crowd = to_instances(pair.truth), crowd_ids(pair.truth, pair.crowd)
        truth = truth.take(~np.isin(truth.ids, list(crowd)))
        for side, objects in zip(_SIDES, (truth, to_instances(pair.prediction))):
            table = measure(objects, image)
            table["class"] = [_class_name(objects, int(c), class_names) for c in objects.classes]
            self._of_micrometres &= "area_um2" in table
            self._tables[side].append(table[~table["touches_border"].to_numpy(bool)])

    def summary(self) -> dict[str, Any]:
        """Histograms and quartiles of each property and class, as in ``measurements.json``.

        Returns
        -------
        dict
            ``border``: that objects at the border are left out; ``properties``: a list with ``name``, ``unit``,
            ``logarithmic`` and ``classes``, by name: ``edges`` (B + 1) of the bins, and for ``true`` and ``predicted``
            each ``n``, ``counts`` (B) and ``quartiles``. What lies beyond the outer edges is in the outer bins.
        """
        tables = {side: pd.concat(parts, ignore_index=True) for side, parts in self._tables.items() if parts}
        if not tables:
            return {"border": "left out", "properties": []}
        rows = [(um if self._of_micrometres else px, name, unit_um if self._of_micrometres else unit_px, log)
                for um, px, name, unit_um, unit_px, log in _PROPERTIES]  # fmt: skip
        brightness = [c for c in tables["predicted"].columns if str(c).startswith("intensity_mean")]
        for column in brightness:
            channel = str(column).removeprefix("intensity_mean").strip("_")
            rows.append((str(column), f"mean intensity{f' of {channel}' if len(brightness) > 1 else ''}", "", False))
        properties = []
        for column, name, unit, logarithmic in rows:
            values = {side: table.get(column) for side, table in tables.items()}
            if any(v is None for v in values.values()):
                continue
            classes = {}
            for one in dict.fromkeys([*tables["true"]["class"], *tables["predicted"]["class"]]):
                of_class = {side: _known(values[side][tables[side]["class"] == one]) for side in _SIDES}
                if any(len(v) for v in of_class.values()):
                    classes[str(one)] = _histograms(of_class, logarithmic)
            if classes:
                properties.append({"name": name, "unit": unit, "logarithmic": logarithmic, "classes": classes})
        return {"border": "left out", "properties": properties}


def measure_sides(pairs: Iterable[Pair], class_names: Sequence[str]) -> dict[str, Any]:
    """Measure all pairs, one after the other."""
    measured = MeasuredSides()
    for pair in pairs:
        measured.add(pair, class_names)
    return measured.summary()


def write_measurements(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``measurements.json``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(summary, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _histograms(values: Mapping[str, np.ndarray], logarithmic: bool) -> dict[str, Any]:
    every = np.concatenate(list(values.values()))
    low, high = (float(v) for v in np.quantile(every, (_TAIL, 1 - _TAIL)))
    if high <= low:
        low, high = low - max(0.5, 0.1 * abs(low)), high + max(0.5, 0.1 * abs(high))
    logarithmic = logarithmic and low > 0
    edges = np.geomspace(low, high, BINS + 1) if logarithmic else np.linspace(low, high, BINS + 1)
    found: dict[str, Any] = {"edges": edges.tolist()}
    for side, of_side in values.items():
        counts = np.histogram(np.clip(of_side, edges[0], edges[-1]), edges)[0]
        quartiles = np.quantile(of_side, (0.25, 0.5, 0.75)).tolist() if len(of_side) else None
        found[side] = {"n": len(of_side), "counts": counts.tolist(), "quartiles": quartiles}
    return found


def _known(values: pd.Series) -> np.ndarray:
    numbers = values.to_numpy(float)
    return numbers[np.isfinite(numbers)]


def _class_name(objects: Instances, number: int, class_names: Sequence[str]) -> str:
    """The class by name; where classes are not told apart, that of both sides together."""
    return objects.class_names[number - 1] if len(class_names) > 1 else class_names[0]


def _image(pair: Pair) -> Image | None:
    if pair.image is None:
        return None
    try:
        image = read_image(pair.image)
    except CytomaskError:
        return None
    return image if image.shape == tuple(to_instances(pair.truth).shape) else None
