"""The preview shows the very items that training draws, and each transform alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

import cytomask
from cytomask.cli.app import run
from cytomask.data.intensity import IntensityConfig
from cytomask.errors import ConfigError
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.label_layers import LabelLayers
from cytomask.workflows.generated import generate_field
from cytomask.workflows.preview_augmentation import GEOMETRY, preview_augmentation
from cytomask.workflows.trainings.preparation import experiment_on, open_data, training_images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small fields for training and one for validation."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("val", "d")):
        for name in names:
            pixels, labels = generate_field(rng, size=96, objects=9)
            for kind in ("images", "labels"):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
            Picture.fromarray(pixels).save(root / split / f"images/{name}.png")
            write_labels(root / split / f"labels/{name}.png", labels)
    return root


def recipe(place: Path, **sections: object) -> Path:
    path = place / "small.yaml"
    fields = {"name": "small", "patches": {"size": 64}, "training": {"steps_per_epoch": 5, "batch_size": 2, "seed": 3}}
    path.write_text(yaml.safe_dump({**fields, **sections}))
    return path


class _Targets:
    def targets(self, layers: LabelLayers) -> dict[str, np.ndarray]:
        return {"labels": layers.layers}


@pytest.mark.parametrize(
    "sections",
    [{}, {"data": {"normalisation": {"method": "mean_std", "mean": [50], "std": [20]}}},
     {"patches": {"mode": "image", "short_edge": [48, 64], "long_edge": 80}}],
)  # fmt: skip
def test_items_are_those_of_training(tmp_path: Path, data: Path, sections: dict[str, object]) -> None:
    path = recipe(tmp_path, **sections)
    grid = preview_augmentation(path, data=data, columns=2, rows=3, epoch=2)
    settings = experiment_on(path, data)
    train = open_data(settings).split("train")
    items = training_images(settings, train, _Targets())
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for epoch in range(1, 5):
        items.set_epoch(epoch)
        for index in range(len(items)):
            item = items[index]
            name = train[items.chosen(index)].name
            seen.setdefault(name, []).append((item["image"].numpy(), item["labels"].numpy()))
    assert sorted(row.title for row in grid.rows) == sorted(sample.name for sample in train)
    assert [row.title for row in grid.rows] == list(seen)
    for row in grid.rows:
        for tile, (pixels, labels) in zip(row.tiles, seen[row.title][:2]):
            shown = tile.pixels
            if "data" in sections:
                # The network gets the same values, moved and scaled.
                shown = (shown * 255 - 50) / 20
            np.testing.assert_allclose(shown, pixels, atol=1e-4)
            assert (tile.objects.to_labels() > 0).sum() == (labels > 0).any(axis=0).sum()


def test_each_transform_is_alone_at_one_place(tmp_path: Path, data: Path) -> None:
    path = recipe(tmp_path, augmentation={"rotation": {"probability": 0.0}})
    grid = preview_augmentation(path, data=data, columns=3, by_transform=True, images=["b"])
    rows = {row.title: row for row in grid.rows}
    switched_on = {"none", "all together"} | {*GEOMETRY, *IntensityConfig.model_fields} - {"rotation", "tint", "colour"}
    assert rows.keys() == switched_on
    assert any("rotation, tint, colour" in line for line in grid.lines)
    (plain,) = rows["none"].tiles
    assert plain.caption == "unchanged"
    words = {"scale": "zoom", "low_resolution": "low resolution", "flips": "", "quarter_turns": ""}
    for name in rows.keys() - {"none", "all together"}:
        for tile in rows[name].tiles:
            assert words.get(name, name) in tile.caption or tile.caption == "unchanged", name
            assert "," not in tile.caption or name in ("scale", "flips"), tile.caption
        geometry = name in GEOMETRY
        moved = [
            tile.objects.shape != plain.objects.shape
            or not np.array_equal(tile.objects.to_labels() > 0, plain.objects.to_labels() > 0)
            for tile in rows[name].tiles
        ]
        changed = [not np.array_equal(tile.pixels, plain.pixels) for tile in rows[name].tiles]
        assert any(changed), name
        assert any(moved) if geometry else not any(moved), name
    for tile in rows["flips"].tiles:
        # The same place, turned over.
        views = [plain.pixels, plain.pixels[:, ::-1], plain.pixels[:, :, ::-1], plain.pixels[:, ::-1, ::-1]]
        near = min(float(np.abs(np.roll(view, 1, axis) - tile.pixels)[:, 2:-2, 2:-2].mean())
                   for view in views for axis in (1, 2)) if tile.caption != "unchanged" else 0.0  # fmt: skip
        exact = min(float(np.abs(view - tile.pixels).mean()) for view in views)
        assert min(near, exact) < 0.02


def test_channel_programs_are_told(tmp_path: Path) -> None:
    pixels, labels = generate_field(np.random.default_rng(1), size=96, objects=9)
    for kind in ("images", "labels"):
        (tmp_path / "data/train" / kind).mkdir(parents=True)
    stack = np.stack([pixels, 255 - pixels, pixels // 2])
    image = Image.from_array(stack, axes="CYX", channels=["DAPI", "actin", "tubulin"])
    write_ome_tiff(tmp_path / "data/train/images/a.ome.tif", image)
    write_labels(tmp_path / "data/train/labels/a.tif", labels)
    program = {"mode": "program", "program": ["DAPI", {"random": ["actin", "tubulin"]}, "black"]}
    path = recipe(tmp_path, data={"channels": program})
    source = tmp_path / "data"
    grid = preview_augmentation(path, data=source, columns=6)
    captions = [tile.caption for tile in grid.rows[0].tiles]
    assert all("1: DAPI, 2: " in caption and "3: black" in caption for caption in captions)
    assert {"actin", "tubulin"} == {caption.split("2: ")[1].split(",")[0] for caption in captions}
    assert "network channels: 1 = DAPI; 2 = random (actin, tubulin); 3 = black" in grid.lines
    for tile in grid.rows[0].tiles:
        assert tile.pixels.shape == (3, 64, 64)
        assert (
            not tile.pixels[2].any() or "noise" in tile.caption or "+" in tile.caption or "unevenness" in tile.caption
        )
    apart = preview_augmentation(path, data=source, columns=1, split_channels=True)
    whole = preview_augmentation(path, data=source, columns=1)
    assert apart.picture.shape[1] > whole.picture.shape[1] + 300
    by_transform = preview_augmentation(path, data=source, columns=6, by_transform=True)
    rows = {row.title: row for row in by_transform.rows}
    assert len({tile.caption for tile in rows["channels"].tiles}) == 2
    # Elsewhere nothing is drawn for the channels, so that each change is seen alone.
    assert all("2: actin" in tile.caption for tile in rows["gamma"].tiles)


def test_seed_and_notebook(tmp_path: Path, data: Path) -> None:
    path = recipe(tmp_path)
    one = cytomask.preview_augmentation(path, data=data, rows=1, columns=2)
    again = preview_augmentation(path, data=data, rows=1, columns=2)
    other = preview_augmentation(path, data=data, rows=1, columns=2, seed=4)
    assert (one.picture == again.picture).all()
    assert one.picture.shape != other.picture.shape or (one.picture != other.picture).any()
    with Picture.open(io.BytesIO(one._repr_png_())) as shown:
        assert (np.asarray(shown) == one.picture).all()


def test_the_command(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = recipe(tmp_path), tmp_path / "see.png"
    words = ["preview-augmentation", str(path), "--data", str(data), "--rows", "1", "--columns", "1"]
    assert run([*words, "--out", str(out), "--set", "patches.size=32"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    with Picture.open(out) as shown:
        assert min(shown.size) > 190
    for wrong, told in (
        (["--image", "zz"], "no training image of this name"),
        (["--image", "d"], "no training image of this name"),
        (["--columns", "900"], "out of its range"),
        (["--out", str(tmp_path / "see.jpg")], "a preview is a PNG file"),
        (["--by-transform", "--image", "a", "--image", "b"], "one row per transform"),
    ):
        assert run([*words, "--out", str(tmp_path / "other.png"), *wrong]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "other.png").exists()
    assert run([*words, "--out", str(data / "train/images/a.png")]) == 2
    assert "would replace one of the images" in capsys.readouterr().err


def test_no_data() -> None:
    with pytest.raises(ConfigError, match="names no data"):
        preview_augmentation("nuclei")
