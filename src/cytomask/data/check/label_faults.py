"""What is wrong with a label file before its objects are looked at: a colour view, JPEG, one number for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.ndimage import label

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.errors import CytomaskError
from cytomask.formats.images import IMAGE_SUFFIXES, file_kind, read_file
from cytomask.formats.label_images import as_label_numbers, read_labels
from cytomask.geometry.overlap import relabel_sequential

#: A label image has at least so many numbers before most of them can be called smeared.
_MANY_IDS = 12
#: Share of the numbers without any pixel that is surrounded by its own number: thin seams between objects.
SMEARED = 0.3
#: A single number in at least so many pieces, of which the largest holds at most this share, stands for many objects.
PIECES, MAIN_SHARE = 3, 0.8


def read_label_file(path: Path, **about: Any) -> tuple[npt.NDArray[np.int32] | None, list[Finding]]:
    """Read a label image, and say what is wrong with it.

    Parameters
    ----------
    path
        The file.
    about
        Fields for the findings: image, file, split.

    Returns
    -------
    tuple
        int32 ``(Y, X)``, or None if there are no labels in it; and the findings.
    """
    try:
        if path.stat().st_size == 0:
            return None, [finding("empty-file", "the label file has 0 bytes", **about)]
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if file_kind(path) == "JPEG":
                return None, [
                    finding("jpeg-labels", f"{path.name} is a JPEG file, whose packing changes numbers", **about)
                ]
            raw = read_file(path, stored=True)
            if raw.n_channels != 1:
                said = "a colour picture" if raw.rgb else f"{raw.n_channels} channels"
                return None, [finding("colour-labels", f"{path.name} holds {said} in place of label numbers", **about)]
            labels = as_label_numbers(np.asarray(raw.pixels[0]), path)
        else:
            labels = read_labels(path)
    except (CytomaskError, OSError) as error:
        return None, [finding("unreadable-labels", sentence(error), **about)]
    return labels, label_faults(labels, **about)


def sentence(error: CytomaskError | OSError) -> str:
    """An error in one line."""
    if isinstance(error, OSError):
        return f"the file cannot be read: {error.strerror or error}"
    said = [str(error.what)]
    said += [f"found {error.found}"] if error.found is not None else []
    said += [f"expected {error.expected}"] if error.expected is not None else []
    return "; ".join(said)


def label_faults(labels: npt.NDArray[np.int32], **about: Any) -> list[Finding]:
    """Find what is wrong with the numbers of a label image.

    Examples
    --------
    >>> labels = np.zeros((40, 40), np.int32)
    >>> labels[2:10, 2:10] = labels[20:28, 2:10] = labels[2:10, 20:28] = 255
    >>> [f.message for f in label_faults(labels)]
    ['all 3 pieces have the number 255']
    """
    low, high = int(labels.min()), int(labels.max())
    if low == high:
        return [finding("constant-labels", f"every pixel has the number {low}", **about)] if low else []
    ids, cores, seams, areas = _cores(labels)
    if len(ids) == 1:
        pieces, count = label(labels > 0, np.ones((3, 3), int))
        sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
        count = int((sizes >= 9).sum())
        if count >= PIECES and sizes[0] <= MAIN_SHARE * sizes.sum():
            return [finding("binary-labels", f"all {count} pieces have the number {int(ids[0])}", value=count, **about)]
    # Thin objects of their own lie in the background; seams lie beside other numbers.
    thin = (cores == 0) & (seams > 0.5 * areas)
    if len(ids) >= _MANY_IDS and thin.mean() > SMEARED and areas[thin].sum() < 0.8 * areas.sum():
        return [finding(
            "smeared-labels",
            f"{many(int(thin.sum()), 'number')} of {len(ids)} occur only in seams one or two pixels wide",
            value=float(thin.mean()), **about,
        )]  # fmt: skip
    return []


def _cores(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids; of each, how many pixels are surrounded by their own number, how many touch another; and areas."""
    core, seam = _surroundings(np.ascontiguousarray(labels))
    ids = None
    if labels.max() > 4 * labels.size:
        labels, ids = relabel_sequential(labels)
    areas = np.bincount(labels.ravel())
    cores = np.bincount(labels[core], minlength=len(areas))
    seams = np.bincount(labels[seam], minlength=len(areas))
    there = np.flatnonzero(areas[1:])
    return there + 1 if ids is None else ids, cores[1:][there], seams[1:][there], areas[1:][there]


@njit(cache=True, nogil=True)
def _surroundings(labels):  # type: ignore[no-untyped-def]
    """Pixels whose four neighbours have their number, and those with a neighbour of another object's number."""
    height, width = labels.shape
    core = np.ones((height, width), np.bool_)
    seam = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                v, u = y + dy, x + dx
                if 0 <= v < height and 0 <= u < width and labels[v, u] != own:
                    core[y, x] = False
                    if labels[v, u] != 0:
                        seam[y, x] = True
    return core, seam
