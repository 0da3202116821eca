"""The command line: what people type, what they read, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image as Picture

from cytomask.__main__ import main
from cytomask.models.bundle import SPEC_NAME, WEIGHTS_NAME, Bundle, ModelSpec, load_bundle, save_bundle
from cytomask.models.registry import build_segmenter

CONFIG = {
    "in_channels": 1,
    "classes": ["nucleus"],
    "rays": 16,
    "backbone": {"kind": "residual", "widths": [4, 6], "blocks": [1, 1], "features": 8},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    spec = ModelSpec(name="tiny", family="star", config=CONFIG, channels={"mode": "select", "count": 1})
    return save_bundle(Bundle(build_segmenter("star", CONFIG), spec), tmp_path_factory.mktemp("model") / "tiny")


def picture(path: Path, array: np.ndarray) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def expect_error(capsys: pytest.CaptureFixture[str], arguments: list[str | Path], *parts: str) -> None:
    """The command must exit with 2 and say all of ``parts`` on stderr, without a traceback."""
    assert main([str(a) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for part in parts:
        assert part in said, said


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cytomask.__main__ import main; code = main(['--help']);"
        "heavy = {'torch', 'numpy', 'pandas', 'skimage', 'matplotlib', 'numba', 'lightning'} & set(sys.modules);"
        "print('HEAVY', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    for command in ("demo", "train", "tune", "predict", "evaluate", "models"):
        assert command in done.stdout


def test_predict_writes_what_it_says(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    image = picture(tmp_path / "a.tif", rng.integers(0, 4000, (70, 90)).astype(np.uint16))
    assert main(["--quiet", "predict", str(model), str(image), "--out", str(tmp_path / "out")]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a_labels.tif",
        "a_overlay.png",
        "a_objects.csv",
        "predictions.json",
        "run.json",
    }
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    assert labels.shape == (70, 90)
    objects = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(objects) == labels.max()
    assert "a.tif" in capsys.readouterr().out


def test_a_constant_image_has_no_objects_and_that_is_an_answer(tmp_path: Path, model: Path) -> None:
    image = picture(tmp_path / "flat.tif", np.full((64, 64), 700, np.uint16))
    code = main(["predict", str(model), str(image), "--out", str(tmp_path / "out"), "--score-threshold", "0.9"])
    assert code == 0
    assert tifffile.imread(tmp_path / "out" / "flat_labels.tif").max() == 0


def test_the_images_of_a_split(tmp_path: Path, model: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for stem in "abc":
            picture(tmp_path / "data" / name / f"{stem}.tif", np.eye(40, dtype=np.uint8))
    (tmp_path / "data" / "manifest.csv").write_text("name,split\na,train\nb,test\nc,test\n")
    out = tmp_path / "out"
    assert main(["predict", str(model), str(tmp_path / "data"), "--split", "test", "--out", str(out)]) == 0
    assert sorted(p.name for p in out.glob("*_labels.tif")) == ["b_labels.tif", "c_labels.tif"]


def bad_images(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = picture(folder / "whole.tif", np.ones((64, 64), np.uint16))
    cut = folder / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:300])
    text = folder / "text.tif"
    text.write_text("These are not pixels.")
    nans = picture(folder / "nan.tif", np.where(np.eye(8) > 0, np.nan, 1).astype(np.float32))
    five = picture(folder / "five.tif", np.zeros((5, 32, 32), np.uint8))
    return {
        "missing": (folder / "missing.tif", "missing.tif"),
        "truncated": (cut, "cut.tif"),
        "text": (text, "text.tif"),
        "nan": (nans, "8"),
        "five channels": (five, "--channels"),
    }


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "nan", "five channels"])
def test_a_bad_image(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path, part = bad_images(tmp_path)[kind]
    out = tmp_path / "out"
    expect_error(capsys, ["predict", model, path, "--out", out], part)
    left = [p.name for p in out.rglob("*") if p.is_file()] if out.exists() else []
    assert not [name for name in left if "labels" in name or name.startswith(".")]


def test_one_bad_image_of_two_does_not_stop_the_other(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = picture(tmp_path / "good.tif", np.eye(64, dtype=np.uint8) * 200)
    bad, _ = bad_images(tmp_path)["text"]
    expect_error(capsys, ["predict", model, good, bad, "--out", tmp_path / "out"], "text.tif")
    assert (tmp_path / "out" / "good_labels.tif").is_file()


def test_an_rgba_image_is_handled_and_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(name="grey", family="star", config=CONFIG, channels={"mode": "gray"})
    bundle = save_bundle(Bundle(build_segmenter("star", CONFIG), spec), tmp_path / "grey")
    rgba = np.random.default_rng(0).integers(0, 255, (40, 40, 4)).astype(np.uint8)
    rgba[..., 3] = 255
    Picture.fromarray(rgba).save(tmp_path / "rgba.png")
    assert main(["predict", str(bundle), str(tmp_path / "rgba.png"), "--out", str(tmp_path / "out")]) == 0
    assert "transparency is dropped" in (tmp_path / "out" / "run.json").read_text()


def test_an_output_folder_that_is_a_file(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    (tmp_path / "out").write_text("mine")
    expect_error(capsys, ["predict", model, image, "--out", tmp_path / "out"], "is a file")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_folder(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    expect_error(capsys, ["predict", model, image, "--out", locked / "out"], "cannot be written")


def test_bundles_that_are_newer_or_damaged(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    newer = tmp_path / "newer"
    newer.mkdir()
    fields = yaml.safe_load((model / SPEC_NAME).read_text())
    (newer / SPEC_NAME).write_text(yaml.safe_dump({**fields, "format_version": 9}))
    (newer / WEIGHTS_NAME).write_bytes((model / WEIGHTS_NAME).read_bytes())
    expect_error(capsys, ["predict", newer, image, "--out", tmp_path / "out"], "newer version", "update")
    (newer / SPEC_NAME).write_text(yaml.safe_dump(fields))
    (newer / WEIGHTS_NAME).write_bytes((model / WEIGHTS_NAME).read_bytes()[:-8])
    expect_error(capsys, ["predict", newer, image, "--out", tmp_path / "out"], "damaged")
    assert not (tmp_path / "out" / "a_labels.tif").exists()


def test_an_unknown_model_lists_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(tmp_path / "a.tif", np.zeros((32, 32), np.uint8))
    expect_error(capsys, ["predict", "nukes", image, "--out", tmp_path / "out"], "no such model", "nuclei")


def test_label_images_of_two_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = picture(tmp_path / "one.tif", np.zeros((10, 10), np.uint8))
    two = picture(tmp_path / "two.tif", np.zeros((10, 12), np.uint8))
    expect_error(capsys, ["evaluate", one, two, "--out", tmp_path / "out"], "one.tif", "10", "12")


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict"]) == 2
    assert main(["fly"]) == 2
    capsys.readouterr()


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "predict", "nukes", "a.tif", "--out", str(tmp_path)]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_model_is_packed_and_unpacked(tmp_path: Path, model: Path) -> None:
    packed = tmp_path / "tiny.zip"
    assert main(["models", "export", str(model), str(packed)]) == 0
    assert main(["models", "import", str(packed), str(tmp_path / "again")]) == 0
    assert main(["models", "show", str(tmp_path / "again")]) == 0
    assert main(["models", "export", str(model), str(packed)]) == 2


def test_a_model_is_packed_in_half_precision(tmp_path: Path, model: Path) -> None:
    whole, packed = tmp_path / "whole.zip", tmp_path / "half.zip"
    assert main(["models", "export", str(model), str(whole)]) == 0
    assert main(["models", "export", str(model), str(packed), "--half"]) == 0
    assert packed.stat().st_size < 0.9 * whole.stat().st_size
    one, other = (load_bundle(path).segmenter.state_dict() for path in (model, packed))
    for name, tensor in one.items():
        assert other[name].dtype == tensor.dtype
        assert torch.allclose(other[name], tensor, rtol=1e-3, atol=1e-6)
