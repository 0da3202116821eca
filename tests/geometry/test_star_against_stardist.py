"""Star distances, depth, suppression and rendering agree with the stardist package and scikit-image on real labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from cytomask.geometry.object_distance import normalised_edt
from cytomask.geometry.polygon_mask import render_polygons
from cytomask.geometry.polygon_nms import polygon_nms
from cytomask.geometry.star import star_distances, star_vertices
from cytomask.instances import Instances

stardist_geometry = pytest.importorskip("stardist.geometry", reason="the oracle needs the stardist package")


@pytest.fixture(scope="module")
def real_labels(shared_data: Path) -> list[np.ndarray]:
    from cytomask.formats.label_images import read_labels

    nuclei = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[::120]
    dense = sorted((shared_data / "histology" / "labels").glob("*.png"))[:1]
    return [read_labels(path)[:512, :512] for path in [*nuclei, *dense]]


@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize("rays", [8, 32])
def test_distances_on_real_labels(real_labels: list[np.ndarray], grid: int, rays: int) -> None:
    for labels in real_labels:
        theirs = stardist_geometry.star_dist(labels, rays, grid=(grid, grid))
        ours = star_distances(labels, rays, grid)
        assert np.allclose(ours, theirs, atol=1e-5)
        assert np.array_equal(ours, star_distances(labels, rays, grid, threads=3))


def test_labels_beyond_16_bits_are_told_apart() -> None:
    labels = np.zeros((9, 12), np.int32)
    labels[2:7, 2:6], labels[2:7, 6:10] = 1, 1 + 2**16
    assert star_distances(labels, 4, 1)[4, 4, 0] == 1.5


def test_depth_on_real_labels(real_labels: list[np.ndarray]) -> None:
    from stardist.utils import edt_prob

    for labels in real_labels:
        assert np.allclose(normalised_edt(labels), edt_prob(labels), atol=1e-5)


def candidates(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a network would propose: distances with noise at all deep points, scored by depth."""
    rng = np.random.default_rng(seed)
    distances, depth = star_distances(labels, 32, 2), normalised_edt(labels, grid=2)
    rows, columns = np.nonzero(depth > 0.3)
    points = 2 * np.stack([rows, columns], axis=1).astype(np.float32)
    noisy = distances[rows, columns] * rng.normal(1, 0.08, (len(rows), 32))
    scores = depth[rows, columns] + rng.normal(0, 0.05, len(rows))
    return points, noisy.astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.7])
def test_survivors_on_real_labels(real_labels: list[np.ndarray], threshold: float) -> None:
    from stardist.nms import non_maximum_suppression_inds

    different = total = 0
    for seed, labels in enumerate(real_labels):
        points, distances, scores = candidates(labels, seed)
        if not len(points):
            continue
        order = np.argsort(-scores, kind="stable")
        theirs = np.zeros(len(scores), bool)
        theirs[order] = non_maximum_suppression_inds(
            distances[order], points[order], scores[order], thresh=threshold, verbose=False
        )
        different += np.count_nonzero(theirs != polygon_nms(points, distances, scores, threshold))
        total += len(scores)
    # Clipper rounds corners of intersections to whole pixels; a pair within that of the threshold may differ.
    assert total > 2_000
    assert different <= max(2, total // 5_000)


def test_label_image_on_real_labels(real_labels: list[np.ndarray]) -> None:
    for seed, labels in enumerate(real_labels):
        points, distances, scores = candidates(labels, seed)
        keep = polygon_nms(points, distances, scores, 0.4)
        points, distances, scores = points[keep], distances[keep], scores[keep]
        theirs = stardist_geometry.polygons_to_label(distances, points, labels.shape, prob=scores)
        windows, bits, offsets = render_polygons(star_vertices(points, distances), labels.shape)
        classes = np.ones(len(scores), np.int32)
        ours = Instances.from_packed(
            shape=labels.shape, windows=windows, bits=bits, offsets=offsets, classes=classes, scores=scores
        ).to_labels()
        assert np.array_equal(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_any_polygon_is_drawn_as_by_scikit_image(seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-6, 26, (5, 7, 2))
    if whole:
        corners = np.round(corners)
    vertices = corners.astype(np.float32)
    windows, bits, offsets = render_polygons(vertices, (20, 22))
    for i, shape in enumerate(vertices):
        expected = np.zeros((20, 22), bool)
        expected[polygon(shape[:, 0].astype(float), shape[:, 1].astype(float), expected.shape)] = True
        y0, x0, y1, x1 = windows[i]
        drawn = np.zeros((20, 22), bool)
        crop = np.unpackbits(bits[offsets[i] : offsets[i + 1]], count=(y1 - y0) * (x1 - x0)).astype(bool)
        drawn[y0:y1, x0:x1] = crop.reshape(y1 - y0, x1 - x0)
        assert np.array_equal(drawn, expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_survivors_do_not_overlap_beyond_the_threshold(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(20, 60, (40, 2)).round().astype(np.float32)
    distances = np.repeat(rng.uniform(6, 12, (40, 1)), 16, axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, 40).astype(np.float32)
    keep = polygon_nms(points, distances, scores, threshold)
    assert keep[scores.argmax()]
    vertices = np.trunc(star_vertices(points, distances))
    masks = []
    for shape in vertices[keep]:
        fine = np.zeros((640, 640), bool)
        fine[polygon(8 * shape[:, 0], 8 * shape[:, 1], fine.shape)] = True
        masks.append(fine)
    for i, one in enumerate(masks):
        for other in masks[:i]:
            share = np.count_nonzero(one & other) / min(np.count_nonzero(one), np.count_nonzero(other))
            assert share <= threshold + 0.05


def test_nothing_and_degenerate_polygons() -> None:
    empty = polygon_nms(np.zeros((0, 2), np.float32), np.zeros((0, 8), np.float32), np.zeros(0, np.float32), 0.4)
    assert empty.shape == (0,)
    points = np.full((3, 2), 10, np.float32)
    keep = polygon_nms(points, np.zeros((3, 8), np.float32), np.array([0.5, 0.9, 0.1], np.float32), 0.4)
    assert keep[1]
