"""Settling, drawing and painting tile by tile gives what doing it at once gives, object for object."""

from __future__ import annotations

import shutil
import tracemalloc
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.geometry.fate import DROPPED, KEPT, OPEN
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.proposals import Proposals
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.prediction import blockwise
from cytomask.prediction.blockwise import Painter, blocks, draw, number_objects, outlook, settle, visit
from cytomask.prediction.spool import Spool
from cytomask.prediction.tiles import plan_tiles

RAYS = 8
STAR = build_segmenter(
    "star", {"rays": RAYS, "grid": 2, "backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}}
)


def polygons(points: np.ndarray, radii: np.ndarray, scores: np.ndarray) -> Proposals:
    """Discs, or stars where radii are ``(N, RAYS)``."""
    points = np.asarray(points, np.float32).reshape(-1, 2)
    radii = np.asarray(radii, np.float32)
    distances = np.broadcast_to(radii if radii.ndim == 2 else radii[:, None], (len(points), RAYS)).copy()
    classes = np.ones(len(points), np.int32)
    return Proposals(points, np.asarray(scores, np.float32), classes, {"distances": distances})


def fill(spool: Spool, proposals: Proposals, shape: tuple[int, int], tile: int) -> None:
    tiles = plan_tiles(shape, tile=tile, stride=STAR.stride, halo=STAR.halo)
    spool.begin(tiles, tile, 1)
    for number, piece in enumerate(tiles):
        owned = proposals.take(piece.owns(proposals.points))
        spool.add(number, owned, STAR.bounds(owned))


def settle_all(spool: Spool, segmenter: Segmenter, postprocess: Postprocess) -> int:
    reach, left = outlook(spool)
    return settle(lambda tiles: ((n, visit(spool, segmenter, postprocess, n, reach)) for n in tiles), left)


def draw_all(spool: Spool, segmenter: Segmenter, shape: tuple[int, int], scale: tuple[float, float]) -> int:
    for number in range(len(spool.tiles)):
        draw(spool, segmenter, number, shape, scale)
    return number_objects(spool)


def check(
    folder: str | Path,
    proposals: Proposals,
    shape: tuple[int, int],
    tile: int,
    threshold: float = 0.3,
    scale: tuple[float, float] = (1.0, 1.0),
    block: int = 24,
) -> int:
    """Compare both ways; returns the rounds that settling took."""
    postprocess = StarPostprocess(score_threshold=0.0, nms_threshold=threshold)
    native = tuple(max(1, round(n / s)) for n, s in zip(shape, scale))
    whole = STAR.resolve(proposals.in_canonical_order(), postprocess, native, scale)
    spool = Spool(Path(folder) / "spool")
    fill(spool, proposals, shape, tile)
    rounds = settle_all(spool, STAR, postprocess)
    assert draw_all(spool, STAR, native, scale) == len(whole)
    names = STAR.config.classes
    parts = Instances.concatenate([spool.objects(n, native, names) for n in range(len(spool.tiles))])
    parts = parts.take(np.argsort(parts.ids))
    for name in ("ids", "scores", "windows", "bits", "boxes", "classes"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    painter = Painter(spool, native, names)
    labels = np.zeros(native, np.uint32)
    for y0, x0, y1, x1 in blocks(native, block):
        labels[y0:y1, x0:x1] = painter.paint(y0, x0, y1, x1)
    np.testing.assert_array_equal(labels, whole.to_labels())
    return rounds


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.integers(24, 90),
    count=st.integers(0, 250),
    largest=st.sampled_from([3.0, 12.0, 60.0]),
    levels=st.sampled_from([1, 3, 1000]),
    threshold=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 0.75), (2.0, 2.0)]),
)
def test_any_proposals(seed, height, width, tile, count, largest, levels, threshold, scale):
    rng = np.random.default_rng(seed)
    places = np.array(list(product(range(0, height, 2), range(0, width, 2))))
    points = places[rng.permutation(len(places))[:count]]
    radii = rng.uniform(0.1, largest, (len(points), RAYS))
    scores = 0.1 + 0.9 * rng.integers(1, levels + 1, len(points)) / levels
    with TemporaryDirectory() as folder:
        check(folder, polygons(points, radii, scores), (height, width), tile, threshold, scale)


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("along", [0, 1])
def test_a_chain_across_all_tiles(tmp_path, rising, along):
    """Each disc conflicts with the next: the fate of the last hangs on that of the first, twenty tiles away."""
    points = np.full((80, 2), 8.0)
    points[:, along] = 2 * np.arange(80)
    scores = np.linspace(0.2, 0.9, 80)
    shape = (160, 16) if along == 0 else (16, 160)
    # With the best at the far end nothing is certain in a tile before the next one's; the way back settles all.
    assert check(tmp_path, polygons(points, np.full(80, 3.0), scores if rising else scores[::-1]), shape, 8) <= 2


def test_a_chain_to_and_fro(tmp_path):
    """A winding chain needs several rounds, and ends."""
    rng = np.random.default_rng(5)
    points = np.array(list(product(range(0, 96, 4), range(0, 96, 4))), float)
    order = np.concatenate(
        [row if i % 2 else row[::-1] for i, row in enumerate(np.arange(len(points)).reshape(24, 24))]
    )
    scores = np.empty(len(points))
    scores[order] = np.linspace(0.9, 0.1, len(points))
    assert check(tmp_path / "winding", polygons(points, np.full(len(points), 6.0), scores), (96, 96), 16) > 2
    check(tmp_path / "equal", polygons(points, np.full(len(points), 6.0), np.full(len(points), 0.5)), (96, 96), 16)
    check(tmp_path / "random", polygons(points, rng.uniform(2, 9, len(points)), rng.random(len(points))), (96, 96), 24)


def test_objects_larger_than_many_tiles(tmp_path):
    """The worst of a small corner loses against a giant whose middle is far away."""
    points = np.array([[60, 60], [2, 60], [60, 118], [118, 60], [60, 2], [4, 4]], float)
    radii, scores = np.array([70, 5, 5, 5, 5, 3]), np.array([0.9, 0.5, 0.6, 0.7, 0.8, 0.95])
    check(tmp_path, polygons(points, radii, scores), (120, 120), 16)
    spool = Spool(tmp_path / "spool")
    spool.tiles = tuple(plan_tiles((120, 120), tile=16, stride=STAR.stride, halo=STAR.halo))
    kept = sorted(p for n in range(len(spool.tiles)) for p in map(tuple, spool.survivors(n).points.tolist()))
    assert kept == [(4.0, 4.0), (60.0, 60.0)]


@pytest.mark.parametrize("cells", [1, 9, 200])
def test_a_coarse_search_misses_nothing(tmp_path, monkeypatch, cells):
    """Where boxes reach far, neighbours are sought by fewer and larger cells."""
    monkeypatch.setattr(blockwise, "MOST_CELLS", cells)
    rng = np.random.default_rng(cells)
    points = np.array(list(product(range(0, 128, 4), range(0, 96, 4))), float)
    radii = np.where(rng.random(len(points)) < 0.01, 90, rng.uniform(1, 9, len(points)))
    check(tmp_path, polygons(points, radii, rng.random(len(points)).round(1) + 0.05), (128, 96), 32)


def test_memory_is_bounded_by_the_tile(spots, grey, tmp_path):
    pixels = np.zeros((2000, 2000), np.uint8)
    pixels[100:1900:200, 100:1900:200] = 255
    image, predictor = grey(pixels), spots(tile=256)
    names = predictor.segmenter.config.classes

    def run(image: Image, folder: Path) -> np.ndarray:
        """Do all that needs the network and the labels; returns the pixels of each object."""
        prepared, spool = predictor.prepare(image), Spool(folder)
        missing = predictor.begin_spool(spool, prepared)
        assert list(predictor.fill_spool(spool, prepared, predictor.postprocess, missing)) == missing
        settle_all(spool, predictor.segmenter, predictor.postprocess)
        total = draw_all(spool, predictor.segmenter, image.shape, (1.0, 1.0))
        painter, areas = Painter(spool, image.shape, names), np.zeros(total + 1, np.int64)
        for block in blocks(image.shape, 256):
            areas += np.bincount(painter.paint(*block).ravel(), minlength=total + 1)
        return areas[1:]

    run(grey(pixels[:300, :300]), tmp_path / "small")  # compiles
    tracemalloc.start()
    try:
        areas = run(image, tmp_path / "large")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(areas, predictor.predict(image).areas())
    assert len(areas) == 81
    # The label image alone would be 16 MB.
    assert peak < 6_000_000


def test_visitors_that_see_nothing_of_each_other(tmp_path):
    """Tiles visited at the same time know only what was told before the round; the end is the same."""
    rng = np.random.default_rng(7)
    points = np.array(list(product(range(0, 96, 4), range(0, 96, 4))), float)
    proposals = polygons(points, rng.uniform(2, 12, len(points)), rng.random(len(points)))
    postprocess, folder = StarPostprocess(score_threshold=0.0), tmp_path / "spool"
    whole = STAR.resolve(proposals.in_canonical_order(), postprocess, (96, 96))
    spool = Spool(folder)
    fill(spool, proposals, (96, 96), 16)
    reach, left = outlook(spool)

    def visits(tiles: list[int]) -> list[tuple[int, int]]:
        shutil.rmtree(tmp_path / "before", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "before")
        found = []
        for number in tiles:
            alone = Spool(tmp_path / f"alone-{number}")
            shutil.copytree(tmp_path / "before", alone.folder)
            alone.join(spool.tiles)
            found.append((number, visit(alone, STAR, postprocess, number, reach)))
            shutil.copy(alone.folder / f"fates-{number:06d}.npy", folder)
            shutil.rmtree(alone.folder)
        return found

    assert settle(visits, left) > 1
    assert draw_all(spool, STAR, (96, 96), (1.0, 1.0)) == len(whole)
    painted = Painter(spool, (96, 96), STAR.config.classes).paint(0, 0, 96, 96)
    np.testing.assert_array_equal(painted, whole.to_labels())


def test_nothing_at_all(tmp_path):
    assert check(tmp_path, polygons(np.zeros((0, 2)), np.zeros((0, RAYS)), np.zeros(0)), (100, 70), 16) == 0


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    """Broken off after any tile, settling and drawing go on to the same end."""
    rng = np.random.default_rng(1)
    points = np.array(list(product(range(0, 96, 4), range(0, 96, 4))), float)
    proposals = polygons(points, rng.uniform(2, 12, len(points)), rng.random(len(points)))
    postprocess = StarPostprocess(score_threshold=0.0)
    whole = STAR.resolve(proposals.in_canonical_order(), postprocess, (96, 96))
    spool = Spool(tmp_path / "spool")
    fill(spool, proposals, (96, 96), 32)

    class Stop(Exception):
        pass

    def finish(spool: Spool, postprocess: StarPostprocess) -> tuple[int, int]:
        return settle_all(spool, STAR, postprocess), draw_all(spool, STAR, (96, 96), (1.0, 1.0))

    for name in ("write_fates", "write_objects", "write_ids"):
        original, left = getattr(Spool, name), [0]

        def stop_soon(self, *arguments, original=original, left=left):
            if left[0] == 0:
                raise Stop
            left[0] -= 1
            original(self, *arguments)

        monkeypatch.setattr(Spool, name, stop_soon)
        for left[0] in (1, 2, 3):
            with pytest.raises(Stop):
                finish(spool, postprocess)
        monkeypatch.setattr(Spool, name, original)
        if name == "write_fates":
            settle_all(spool, STAR, postprocess)
    assert finish(spool, postprocess) == (0, len(whole))
    painted = Painter(spool, (96, 96), STAR.config.classes).paint(0, 0, 96, 96)
    np.testing.assert_array_equal(painted, whole.to_labels())


def test_damaged_files_are_made_anew(tmp_path):
    proposals = polygons(np.array([[10, 10], [30, 40]]), np.array([4, 4]), np.array([0.5, 0.6]))
    spool = Spool(tmp_path / "spool")
    fill(spool, proposals, (64, 64), 32)
    tiles = spool.tiles
    (tmp_path / "spool" / "proposals-000001.npy").write_bytes(b"")
    cut = tmp_path / "spool" / "proposals-000000.npy"
    cut.write_bytes(cut.read_bytes()[:-8])
    spool.begin(tiles, 32, 1)
    assert spool.finished() == {2, 3}
    # Fates that cannot be read are unknown; those of another number of proposals, too.
    (tmp_path / "spool" / "fates-000002.npy").write_bytes(b"\x93NUMPY")
    assert spool.fates(2, 2).tolist() == [OPEN, OPEN]
    spool.write_fates(2, np.array([KEPT, DROPPED], np.uint8))
    assert spool.fates(2, 2).tolist() == [KEPT, DROPPED]
    assert spool.fates(2, 3).tolist() == [OPEN] * 3


def test_another_plan_begins_anew(tmp_path):
    proposals = polygons(np.array([[10, 10], [30, 40]]), np.array([4, 4]), np.array([0.5, 0.6]))
    spool = Spool(tmp_path / "spool")
    fill(spool, proposals, (64, 64), 32)
    spool.begin(spool.tiles, 32, 1)
    assert len(spool.finished()) == 4
    spool.begin(spool.tiles, 32, 2)
    assert spool.finished() == set()
    assert spool.plan()["batch"] == 2


def test_bounds_hold_what_is_drawn_and_suppressed(tmp_path):
    rng = np.random.default_rng(3)
    proposals = polygons(rng.uniform(0, 100, (200, 2)), rng.uniform(0.01, 30, (200, RAYS)), rng.random(200))
    bounds = STAR.bounds(proposals)
    drawn = STAR.render(proposals, (100, 100))
    there = drawn.areas() > 0
    assert (drawn.windows[there, :2] >= bounds[there, :2]).all()
    assert (drawn.windows[there, 2:] <= bounds[there, 2:]).all()
    # Those whose boxes do not meet tell nothing of each other: alone, each is kept.
    postprocess = StarPostprocess(score_threshold=0.0, nms_threshold=0.0)
    for i, j in rng.integers(0, 200, (300, 2)):
        a, b = bounds[i], bounds[j]
        if i != j and not ((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all()):
            pair = proposals.take(np.array([i, j]))
            assert STAR.settle(pair, postprocess, np.zeros(2, np.uint8), np.zeros(2, bool)).tolist() == [KEPT, KEPT]
