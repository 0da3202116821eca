"""Pictures of findings: the image around the place, with what is annotated there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cytomask.data.check.examine import read_objects
from cytomask.data.check.finding import Finding
from cytomask.data.sample import Sample
from cytomask.errors import CytomaskError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.overlay import draw_overlay

#: Least and most side of a picture, in pixels of the image; larger ones are shrunk.
LEAST, MOST = 96, 640


class Pictures:
    """Draws the picture of a finding when it is asked for; the last image is kept, since findings come in runs.

    Parameters
    ----------
    samples
        The images that findings name.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = {sample.name: sample for sample in samples}
        self._last: tuple[str, tuple[Image, Instances] | None] = "", None

    def __call__(self, finding: Finding) -> np.ndarray | None:
        """The picture, uint8 ``(Y, X, 3)``; None where there is nothing to show."""
        if finding.image is None or finding.image not in self._samples:
            return None
        if self._last[0] != finding.image:
            self._last = finding.image, self._read(self._samples[finding.image])
        if self._last[1] is None:
            return None
        image, objects = self._last[1]
        y0, x0, y1, x1 = _window(finding.window, image.shape)
        if y1 <= y0 or x1 <= x0:
            return None
        cut = replace(image, pixels=np.ascontiguousarray(image.window(y0, y1, x0, x1)))
        shown = objects.cropped(y0, x0, y1, x1)
        if finding.objects and finding.window is not None and len(shown):
            # What the finding is about stands out from its neighbours.
            about = np.isin(shown.ids, finding.objects)
            shown = shown.take(about) if about.any() else shown
        return draw_overlay(cut, shown, max_side=MOST, line_width=1 if max(cut.shape) < 200 else None)

    @staticmethod
    def _read(sample: Sample) -> tuple[Image, Instances] | None:
        try:
            image = read_image(sample.image_path, axes=sample.reading.axes, plane=sample.reading.plane)
        except (CytomaskError, OSError):
            return None
        objects = read_objects(sample, {})[0]
        if objects is None or objects.shape != image.shape:
            objects = Instances.empty(image.shape)
        return image, objects


def _window(window: tuple[int, int, int, int] | None, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The window, widened to the least side and cut at the image's border; the whole image without one."""
    if window is None:
        return 0, 0, *shape
    out = []
    for low, high, limit in zip(window[:2], window[2:], shape):
        wider = max(0, LEAST - (high - low))
        begin = max(0, low - wider // 2)
        end = min(limit, max(high, begin + LEAST))
        out.append((max(0, min(begin, end - LEAST)), end))
    return out[0][0], out[1][0], out[0][1], out[1][1]
