"""Bundles: there and back, and every way in which one can be broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cytomask.errors import BundleError
from cytomask.models.bundle import (
    SPEC_NAME,
    WEIGHTS_NAME,
    Bundle,
    ModelSpec,
    load_bundle,
    save_bundle,
    unzip_bundle,
    zip_bundle,
)
from cytomask.models.registry import build_segmenter
from cytomask.models.star.config import StarPostprocess

CONFIG = {
    "in_channels": 1,
    "classes": ["nucleus"],
    "rays": 8,
    "backbone": {"kind": "residual", "widths": [4, 6], "blocks": [1, 1], "features": 8},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = ModelSpec(name="tiny", family="star", config=CONFIG, postprocess={"score_threshold": 0.4})
    return save_bundle(Bundle(build_segmenter("star", CONFIG), spec), tmp_path / "bundle", card="# tiny")


def edit(folder: Path, **changes: object) -> None:
    fields = yaml.safe_load((folder / SPEC_NAME).read_text())
    (folder / SPEC_NAME).write_text(yaml.safe_dump({**fields, **changes}))


def test_there_and_back(folder: Path) -> None:
    torch.manual_seed(0)
    original = build_segmenter("star", CONFIG).eval()
    loaded = load_bundle(folder)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(original(image)[1], loaded.segmenter(image)[1])
    assert loaded.postprocess == StarPostprocess(score_threshold=0.4)
    assert not loaded.segmenter.training


def test_zipped_and_unzipped(folder: Path, tmp_path: Path) -> None:
    packed = zip_bundle(folder, tmp_path / "model.zip")
    assert load_bundle(packed).spec == load_bundle(folder).spec
    unpacked = unzip_bundle(packed, tmp_path / "again")
    assert {p.name for p in unpacked.iterdir()} == {p.name for p in folder.iterdir()}


def test_a_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such model"):
        load_bundle(tmp_path / "nothing")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a model bundle"):
        load_bundle(tmp_path)


def test_a_newer_bundle_says_to_update(folder: Path) -> None:
    edit(folder, format_version=99)
    with pytest.raises(BundleError, match=r"newer version[\s\S]*update cytomask"):
        load_bundle(folder)


def test_one_flipped_byte_in_the_weights_is_noticed(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_NAME).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(bytes(data))
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(folder)


def test_truncated_weights_without_a_checksum(folder: Path) -> None:
    edit(folder, weights_sha256=None)
    data = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)


def test_weights_of_another_network(folder: Path) -> None:
    edit(folder, config={**CONFIG, "rays": 16})
    with pytest.raises(BundleError, match="do not fit"):
        load_bundle(folder)


def test_an_unknown_family_and_an_unknown_key(folder: Path) -> None:
    edit(folder, family="oracle")
    with pytest.raises(Exception, match="no such model family"):
        load_bundle(folder)
    edit(folder, family="star", colour="blue")
    with pytest.raises(BundleError, match="colour"):
        load_bundle(folder)


def test_yaml_that_would_run_code_does_not(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (folder / SPEC_NAME).write_text(f"name: !!python/object/apply:os.system ['touch {mark}']")
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)
    assert not mark.exists()


def test_a_text_file_named_zip(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_text("hello")
    with pytest.raises(BundleError, match="not a model bundle"):
        load_bundle(tmp_path / "model.zip")


def test_saving_again_replaces_the_weights(folder: Path) -> None:
    before = load_bundle(folder)
    with torch.no_grad():
        for parameter in before.segmenter.parameters():
            parameter.mul_(2)
    save_bundle(before, folder)
    after = load_bundle(folder)
    assert np.array_equal(after.segmenter.probability.bias.detach(), before.segmenter.probability.bias.detach())
    assert not list(folder.glob(".*"))
