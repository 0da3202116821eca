"""Star-convex polygons: a centre, and how far the outline is from it along equally spaced rays.

The representation is that of Schmidt, Weigert, Broaddus and Myers, "Cell Detection with Star-Convex Polygons"
(MICCAI 2018). Ray ``k`` of ``n`` points at the angle ``2 pi k / n`` from the column axis towards growing rows.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import numpy.typing as npt


def ray_angles(n_rays: int) -> npt.NDArray[np.float32]:
    """Angles of the rays, in radians.

    Parameters
    ----------
    n_rays
        Number of rays, at least 3.

    Returns
    -------
    numpy.ndarray
        float32 ``(n_rays,)``, rising from 0 and below 2 pi.

    Raises
    ------
    ValueError
        With fewer than 3 rays, which span no area.

    Examples
    --------
    >>> ray_angles(4).round(2)
    array([0.  , 1.57, 3.14, 4.71], dtype=float32)
    """
    if n_rays < 3:
        raise ValueError(f"a polygon needs at least 3 rays, not {n_rays}")
    # The step is rounded before it is multiplied: so do the reference's compiled kernels, and agreement to the last
    # bit decides on which side of a pixel's edge a vertex falls.
    return np.float32(2 * np.pi / n_rays) * np.arange(n_rays, dtype=np.float32)


def ray_directions(n_rays: int) -> npt.NDArray[np.float32]:
    """Unit steps along the rays, float32 ``(n_rays, 2)``, each ``(dy, dx)``."""
    angles = ray_angles(n_rays).astype(np.float64)
    return np.stack([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def star_distances(
    labels: npt.NDArray[np.integer], n_rays: int = 32, grid: int | tuple[int, int] = (2, 2), *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Measure, from every grid point inside an object, the distance to the object's edge along each ray.

    A ray walks in steps of one pixel until the nearest pixel has another label or lies outside the image, and is then
    taken back to the edge of the last pixel inside.

    Parameters
    ----------
    labels
        Label image ``(Y, X)``, any integer type; 0 is background.
    n_rays
        Number of rays, at least 3.
    grid
        Spacing of the grid points in pixels, one number or ``(y, x)``. The first point is pixel ``(0, 0)``.
    threads
        How many threads share the rows. One by default: in training, other processes prepare other patches.

    Returns
    -------
    numpy.ndarray
        float32 ``(ceil(Y / grid_y), ceil(X / grid_x), n_rays)``, in pixels; 0 where the grid point is background.

    Raises
    ------
    ValueError
        When ``labels`` is not a two-dimensional integer array, or ``grid`` is below 1.

    Examples
    --------
    >>> labels = np.zeros((5, 9), np.int32)
    >>> labels[1:4, 2:7] = 1
    >>> star_distances(labels, n_rays=4, grid=1)[2, 4]
    array([2.5, 1.5, 2.5, 1.5], dtype=float32)
    """
    labels = label_image(labels)
    grid_y, grid_x = (int(grid), int(grid)) if isinstance(grid, int | np.integer) else (int(grid[0]), int(grid[1]))
    if grid_y < 1 or grid_x < 1:
        raise ValueError(f"grid must be at least 1, not {grid}")
    height, width = labels.shape
    out = np.zeros(((height + grid_y - 1) // grid_y, (width + grid_x - 1) // grid_x, n_rays), np.float32)
    directions = ray_directions(n_rays)
    if threads <= 1:
        _star_distances(labels, directions, grid_y, grid_x, out, 0, len(out))
        return out
    # More bands than threads, since objects are not spread evenly over the rows.
    edges = np.linspace(0, len(out), 4 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        bands = itertools.pairwise(edges)
        list(pool.map(lambda band: _star_distances(labels, directions, grid_y, grid_x, out, *band), bands))
    return out


def star_vertices(
    points: npt.NDArray[np.floating] | npt.NDArray[np.integer], distances: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Turn centres and distances into the corners of polygons.

    Parameters
    ----------
    points
        Centres ``(N, 2)``, each ``(y, x)`` in pixels.
    distances
        Distances along the rays ``(N, n_rays)``, in pixels.

    Returns
    -------
    numpy.ndarray
        float32 ``(N, n_rays, 2)``, each corner ``(y, x)``.

    Examples
    --------
    >>> star_vertices(np.array([[10, 20]]), np.array([[3.0, 1.0, 3.0, 1.0]])).round(3).tolist()
    [[[10.0, 23.0], [11.0, 20.0], [10.0, 17.0], [9.0, 20.0]]]
    """
    points = np.asarray(points, np.float32)
    distances = np.asarray(distances, np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or distances.ndim != 2 or len(points) != len(distances):
        raise ValueError(f"points (N, 2) and distances (N, rays) do not fit: {points.shape} and {distances.shape}")
    return distances[:, :, None] * ray_directions(distances.shape[1]) + points[:, None, :]


def label_image(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return ``labels`` as a contiguous int32 ``(Y, X)`` array, or say why it is none."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be a two-dimensional integer array, not {labels.dtype} {labels.shape}")
    if not np.can_cast(labels.dtype, np.int32) and labels.size and labels.max() > np.iinfo(np.int32).max:
        raise ValueError(f"labels must be at most {np.iinfo(np.int32).max}, not {labels.max()}")
    return np.ascontiguousarray(labels, np.int32)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _star_distances(labels, directions, grid_y, grid_x, out, first, last):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    n_rays = len(directions)
    half, one = np.float32(0.5), np.float32(1)
    for i in range(first, last):
        for j in range(out.shape[1]):
            label = labels[i * grid_y, j * grid_x]
            if label == 0:
                continue
            centre_y, centre_x = np.float32(i * grid_y), np.float32(j * grid_x)
            for k in range(n_rays):
                dy, dx = directions[k, 0], directions[k, 1]
                y = np.float32(0)
                x = np.float32(0)
                while True:
                    y += dy
                    x += dx
                    row, column = int(np.rint(centre_y + y)), int(np.rint(centre_x + x))
                    if row < 0 or row >= height or column < 0 or column >= width or labels[row, column] != label:
                        break
                # The last step overshot the edge: go back to half a pixel past the last pixel inside.
                back = half / max(abs(dy), abs(dx)) - one
                y += back * dy
                x += back * dx
                out[i, j, k] = np.sqrt(x * x + y * y)
