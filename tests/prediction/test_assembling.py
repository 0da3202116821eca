"""Objects of maps: from tiles on disk as from the whole, from tiled networks as from whole ones, and blended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import PercentileNormalisation
from cytomask.errors import ConfigError
from cytomask.geometry.object_distance import normalised_edt
from cytomask.image import Image
from cytomask.models.dense.config import DenseConfig, DensePostprocess
from cytomask.models.dense.maps import to_blocks
from cytomask.models.dense.segmenter import DenseSegmenter
from cytomask.models.registry import build_segmenter
from cytomask.prediction.assembling import assemble, warn_of_cut_groups
from cytomask.prediction.blockwise import number_objects, outlook
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.spool import Spool
from cytomask.prediction.tiles import plan_tiles
from cytomask.workflows.generated import generate_field

UNET = {"network": {"kind": "resnet_unet", "depth": 18, "width": 8}, "output": "distance"}
SWIN = {"network": {"kind": "swin_unet", "width": 16, "blocks": [2, 2, 2], "window": 4}, "output": "binary"}


@pytest.fixture(scope="module")
def unet() -> DenseSegmenter:
    torch.manual_seed(0)
    return build_segmenter("dense", UNET).eval()  # type: ignore[return-value]


def spooled(
    folder: Path, segmenter: DenseSegmenter, maps: np.ndarray, settings: DensePostprocess, tile: int, scale: float
) -> np.ndarray:
    """Label image of what is made of maps tile by tile."""
    shape = (maps.shape[1], maps.shape[2])
    native = (round(shape[0] / scale), round(shape[1] / scale))
    scales = (shape[0] / native[0], shape[1] / native[1])
    pieces = to_blocks(torch.from_numpy(maps), segmenter.config, settings.score_threshold)
    spool = Spool(folder / "spool")
    tiles = plan_tiles(shape, tile=tile, stride=32)
    spool.begin(tiles, tile, 1)
    for number, one in enumerate(tiles):
        owned = pieces.take(one.owns(pieces.points))
        spool.add(number, owned, segmenter.bounds(owned))
    reach, _ = outlook(spool)
    cut = [
        number
        for number in range(len(tiles))
        if not assemble(spool, segmenter, settings, number, reach, shape, native, scales)
    ]
    assert cut == []
    count = number_objects(spool)
    labels = np.zeros(native, np.int32)
    for number in range(len(tiles)):
        part = spool.objects(number, native, ("object",)).to_labels()
        assert not (labels[part > 0]).any()
        labels += part.astype(np.int32)
    assert labels.max() == count
    expected = segmenter.resolve(pieces, settings, native, scales)
    assert np.array_equal(labels, expected.to_labels())
    return labels


@pytest.mark.parametrize(("tile", "scale"), [(64, 1.0), (96, 1.0), (128, 0.6), (64, 1.7)])
@pytest.mark.parametrize("objects", ["auto", "shape"])
def test_tile_by_tile_the_objects_are_those_of_the_whole(
    unet: DenseSegmenter, tmp_path: Path, tile: int, scale: float, objects: str
) -> None:
    _, labels = generate_field(np.random.default_rng(1), size=330, objects=110)
    labels = labels[:300]
    maps = np.stack([(labels > 0).astype(np.float32), normalised_edt(labels.astype(np.int32))])
    settings = DensePostprocess(objects=objects, min_area=5, seed_threshold=0.6)
    found = spooled(tmp_path, unet, maps, settings, tile, scale)
    assert found.max() > 50


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.5])
def test_blocks_of_a_low_threshold_serve_higher_ones(unet: DenseSegmenter, scale: float) -> None:
    maps = np.full((2, 64, 96), 0.45, np.float32)
    maps[:, 10:30, 20:32] = 0.9  # to the last column of its block
    native = (round(64 / scale), round(96 / scale))
    scales = (64 / native[0], 96 / native[1])
    settings = DensePostprocess(objects="components")
    wanted, generous = (
        unet.resolve(to_blocks(torch.from_numpy(maps), unet.config, threshold), settings, native, scales)
        for threshold in (0.5, 0.0)
    )
    assert len(wanted) == 1
    assert np.array_equal(wanted.to_labels(), generous.to_labels())


def test_a_group_larger_than_its_tile_is_looked_at_whole(unet: DenseSegmenter, tmp_path: Path) -> None:
    maps = np.zeros((2, 640, 640), np.float32)
    maps[0, 100:110, 10:630] = 1  # a long band, whose seeds are at its ends
    maps[1, 100:110, 10:20] = maps[1, 100:110, 600:630] = 0.9
    maps[0, 300:640, 300:310] = maps[1, 630:640, 300:310] = 1
    found = spooled(tmp_path, unet, maps, DensePostprocess(), 64, 1.0)
    assert found.max() == 3


def test_what_is_cut_is_told(
    unet: DenseSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cytomask.prediction.assembling.MOST_PIXELS", 300 * 300)
    maps = np.zeros((2, 640, 640), np.float32)
    maps[:, 100:110, 10:630] = 1
    pieces = to_blocks(torch.from_numpy(maps), unet.config, 0.5)
    spool = Spool(tmp_path / "spool")
    tiles = plan_tiles((640, 640), tile=64, stride=32)
    spool.begin(tiles, 64, 1)
    for number, one in enumerate(tiles):
        owned = pieces.take(one.owns(pieces.points))
        spool.add(number, owned, unet.bounds(owned))
    reach, _ = outlook(spool)
    whole = [
        assemble(spool, unet, DensePostprocess(), number, reach, (640, 640), (640, 640), (1.0, 1.0))
        for number in range(len(tiles))
    ]
    # The bar crosses one row of tiles.
    assert whole.count(False) == 10
    warn_of_cut_groups(whole.count(False))
    assert "larger than can be looked at at once" in capsys.readouterr().err


def picture(height: int, width: int) -> Image:
    pixels, _ = generate_field(np.random.default_rng(3), size=max(height, width), objects=height * width // 900)
    return Image.from_array(pixels[:height, :width])


def predictor(segmenter: DenseSegmenter, **settings: int | None) -> Predictor:
    return Predictor(
        segmenter, channels=ChannelExpectation(), normalisation=PercentileNormalisation(), device="cpu",
        precision="float32", postprocess=DensePostprocess(score_threshold=0.0), **settings,  # type: ignore[arg-type]
    )  # fmt: skip


def maps_of(segmenter: DenseSegmenter, image: Image, **settings: int | None) -> np.ndarray:
    one = predictor(segmenter, **settings)
    prepared = one.prepare(image)
    return segmenter.maps(one.propose(prepared), (0, 0, *prepared.shape)).astype(np.float32)


def test_a_tiled_unet_sees_what_the_whole_sees(unet: DenseSegmenter) -> None:
    image = picture(64, 1000)
    whole, tiled = (maps_of(unet, image, tile=tile) for tile in (1024, 224))
    assert len(predictor(unet, tile=224).tiles((64, 1000))) > 4
    assert np.abs(whole - tiled).max() <= 1e-3
    assert whole.std() > 1e-3


def test_a_tiled_swin_unet_sees_what_the_whole_sees() -> None:
    torch.manual_seed(0)
    swin: DenseSegmenter = build_segmenter("dense", SWIN).eval()  # type: ignore[assignment]
    assert swin.alignment == 64
    image = picture(64, 700)
    whole, tiled = (maps_of(swin, image, tile=tile) for tile in (1024, 192))
    assert len(predictor(swin, tile=192).tiles((64, 700))) > 3
    assert np.abs(whole - tiled).max() <= 1e-3
    assert whole.std() > 1e-3


@pytest.mark.parametrize(
    ("network", "stride", "alignment"),
    [({"blocks": [1, 1, 1], "window": 3}, 32, 96), ({"blocks": [1, 1], "window": 3, "patch": 2}, 32, 96),
     ({"blocks": [1, 1], "window": 2, "patch": 3}, 96, 96)],
)  # fmt: skip
def test_tiles_fit_both_the_blocks_and_the_windows_of_any_swin_unet(
    network: dict[str, object], stride: int, alignment: int
) -> None:
    torch.manual_seed(0)
    settings = {"kind": "swin_unet", "width": 8, "heads": 2, **network}
    swin: DenseSegmenter = build_segmenter("dense", {"network": settings, "output": "binary"}).eval()  # type: ignore[assignment]
    assert (swin.stride, swin.alignment) == (stride, alignment)
    image = picture(40, 900)
    whole, tiled = (maps_of(swin, image, tile=tile) for tile in (1024, 200))
    assert len(predictor(swin, tile=200).tiles((40, 900))) > 4
    assert np.abs(whole - tiled).max() <= 1e-3
    assert (tiled > 0).all()


def test_blended_tiles_pass_into_one_another(unet: DenseSegmenter) -> None:
    image = picture(64, 1000)
    whole = maps_of(unet, image, tile=1024)
    cores = [t.core[1] for t in predictor(unet, tile=256, blend=64).tiles((64, 1000)) if np.isfinite(t.core[1])]
    near = np.concatenate([np.arange(-8, 8) + int(core) for core in cores])
    assert len(cores) > 2
    wrong = [np.abs(maps_of(unet, image, tile=256, blend=width) - whole)[0][:, near].mean() for width in (64, 0)]
    assert wrong[0] < 0.6 * wrong[1]


def test_only_maps_can_be_blended() -> None:
    star = build_segmenter("star", {"backbone": {"kind": "residual", "widths": [8, 16], "blocks": [1, 1]}})
    with pytest.raises(ConfigError, match="only maps of pixels can be blended"):
        Predictor(star, channels=ChannelExpectation(), normalisation=PercentileNormalisation(), blend=32)


def test_negative_blending_is_refused(unet: DenseSegmenter) -> None:
    with pytest.raises(ConfigError, match="less than nothing"):
        predictor(unet, blend=-32)


def test_tiles_of_a_network_that_sees_all_of_them_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    network = {**UNET["network"], "self_attention": True}  # type: ignore[dict-item]
    attending: DenseSegmenter = build_segmenter("dense", {"network": network}).eval()  # type: ignore[assignment]
    image = picture(32, 96)
    one = predictor(attending, tile=96)
    one.propose(one.prepare(image))
    one = predictor(attending, tile=32, blend=32)
    one.propose(one.prepare(image))
    assert "self-attention" not in capsys.readouterr().err
    one = predictor(attending, tile=32)
    for _ in range(2):
        one.propose(one.prepare(image))
    assert capsys.readouterr().err.count("self-attention looks at all of a tile") == 1


def test_a_constant_map_stays_constant_when_tiles_are_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = DenseSegmenter(DenseConfig.model_validate({**UNET, "output": "binary"})).eval()
    monkeypatch.setattr(
        segmenter, "forward", lambda images, sizes=None: torch.full((len(images), 1, *images.shape[2:]), 1.0)
    )
    maps = maps_of(segmenter, picture(200, 700), tile=160, blend=32)
    assert np.abs(maps - maps[0, 0, 0]).max() < 2e-3
