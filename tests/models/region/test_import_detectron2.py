"""Imported checkpoints find what detectron2 finds; bad ones are refused with what is wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytomask.__main__ import main
from cytomask.errors import BundleError, ConfigError, OutputError
from cytomask.image import Image
from cytomask.models.bundle import load_bundle, read_spec
from cytomask.prediction.predictor import Predictor
from cytomask.workflows.import_detectron2 import class_names, import_detectron2

from .seeded_detectron2 import CONFIGURATIONS, picture, seeded

FIXTURES = Path(__file__).parent / "fixtures"


def checkpoint(folder: Path, network: str) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """The weights in detectron2's names, and what detectron2 finds with them; the configuration is written."""
    with np.load(FIXTURES / f"detectron2_{network}.npz") as file:
        kept = dict(file)
    state = {}
    for text in kept["arrays"]:
        name, *shape = str(text).split(" ")
        state[name] = seeded(name, tuple(map(int, shape)))
    state |= {key.removeprefix("scaled:"): torch.from_numpy(a) for key, a in kept.items() if key.startswith("scaled:")}
    (folder / "config.yaml").write_text(CONFIGURATIONS[network])
    return state, kept


def save(folder: Path, state: dict[str, torch.Tensor], ending: str = "pth", **more: Any) -> Path:
    path = folder / f"model_final.{ending}"
    if ending == "pth":
        torch.save({"model": state, "optimizer": {"state": {0: torch.zeros(3)}}, "iteration": 5, **more}, path)
    else:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test", **more}, 2))
    return path


@pytest.mark.parametrize(("network", "ending"), [("mask_rcnn", "pkl"), ("cascade", "pth"), ("pointrend", "pth")])
def test_an_imported_model_finds_what_detectron2_finds(network: str, ending: str, tmp_path: Path) -> None:
    state, kept = checkpoint(tmp_path, network)
    state["pixel_mean"] = torch.zeros(3, 1, 1)  # as the zoo's files have it
    bundle = import_detectron2(save(tmp_path, state, ending), tmp_path / "config.yaml", tmp_path / "bundle")
    loaded = load_bundle(bundle)
    predictor = Predictor.from_bundle(loaded, device="cpu", tile=512)
    prepared = predictor.prepare(Image.from_array(picture(), axes="YXC", rgb=True))
    proposals = predictor.propose(prepared)
    found = loaded.segmenter.render(proposals, prepared.native_shape)
    order, expected = np.lexsort((-np.asarray(proposals.scores),)), np.lexsort((-kept["scores"],))
    assert len(proposals) == len(kept["scores"]) == 40
    boxes = loaded.segmenter.boxes(proposals)[order][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(boxes, kept["boxes"][expected], atol=1e-3)
    np.testing.assert_allclose(np.asarray(proposals.scores)[order], kept["scores"][expected], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(proposals.classes)[order] - 1, kept["classes"][expected])
    masks = np.stack([found.full_mask(int(k)) for k in order])
    theirs = np.unpackbits(kept["masks"], axis=-1, count=picture().shape[1])[expected].astype(bool)
    assert theirs.sum() > 1000
    # Rounding may turn a pixel whose probability is one half.
    assert (masks != theirs).sum() <= 2
    assert ((masks & theirs).sum((1, 2)) >= 0.99 * (masks | theirs).sum((1, 2))).all()
    # The whole way through the model's own suppression changes nothing.
    assert len(predictor.predict(Image.from_array(picture(), axes="YXC", rgb=True))) == (found.areas() > 0).sum()


@pytest.fixture(scope="module")
def mask_rcnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("detectron2")
    return folder, checkpoint(folder, "mask_rcnn")[0]


def test_the_command(
    mask_rcnn: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, state = mask_rcnn
    path = save(tmp_path, state | {"pixel_std": torch.ones(3)})
    command = ["models", "import", "detectron2", str(path), "--config-file", str(folder / "config.yaml")]
    assert main([*command, "--out", str(tmp_path / "mine"), "--classes", "nucleus,cell,vessel"]) == 0
    said = capsys.readouterr()
    assert "wrote" in said.out
    assert "not used: pixel_std" in said.err
    spec = read_spec(tmp_path / "mine")
    assert spec.family == "region"
    assert spec.config["classes"] == ["nucleus", "cell", "vessel"]
    assert spec.precision == "float32"
    assert spec.postprocess["score_threshold"] == 0.05
    assert "model_final.pth" in (tmp_path / "mine" / "README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "mine" / "README.md").read_text()
    # Bundles are exported and imported as ever.
    assert main(["models", "export", str(tmp_path / "mine"), str(tmp_path / "mine.zip")]) == 0
    assert main(["models", "import", str(tmp_path / "mine.zip"), str(tmp_path / "again")]) == 0
    assert read_spec(tmp_path / "again") == spec


def test_another_number_of_classes(mask_rcnn: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    folder, state = mask_rcnn
    path, config = save(tmp_path, state), folder / "config.yaml"
    with pytest.raises(BundleError) as told:
        import_detectron2(path, config, tmp_path / "out", changes=["MODEL.ROI_HEADS.NUM_CLASSES=80"])
    for part in ("3 classes in the checkpoint", "80 classes", "--set MODEL.ROI_HEADS.NUM_CLASSES=3"):
        assert part in str(told.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="2: a, b"):
        import_detectron2(path, config, tmp_path / "out", classes="a,b")


def test_arrays_that_do_not_fit(mask_rcnn: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    folder, state = mask_rcnn
    lateral, config = "backbone.fpn_lateral2.weight", folder / "config.yaml"

    def refused(state: dict[str, torch.Tensor]) -> str:
        with pytest.raises(BundleError) as told:
            import_detectron2(save(tmp_path, state), config, tmp_path / "out")
        return str(told.value)

    assert "1 missing (pyramid.lateral.0.weight)" in refused({k: v for k, v in state.items() if k != lateral})
    keypoints = "roi_heads.keypoint_head.conv_fcn1.weight"
    assert f"1 without a place ({keypoints})" in refused(state | {keypoints: torch.zeros(2)})
    assert "1 of another shape" in refused(state | {lateral: state[lateral][:3]})
    only = {k.removeprefix("backbone.bottom_up."): v for k, v in state.items() if ".bottom_up." in k}
    assert "missing (pyramid.lateral.0.weight" in refused(only)
    assert not (tmp_path / "out").exists()


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return exec, ("raise SystemExit(9)",)


@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_a_checkpoint_that_would_run_something(
    mask_rcnn: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    folder, state = mask_rcnn
    path = save(tmp_path, state, ending, hooks=_Runs())
    command = ["models", "import", "detectron2", str(path), "--config-file", str(folder / "config.yaml")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "exec" in said
    assert "Traceback" not in said


def test_a_folder_in_use_is_left_alone(mask_rcnn: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    folder, state = mask_rcnn
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError):
        import_detectron2(save(tmp_path, state), folder / "config.yaml", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_classes_from_coco_json_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}]}))
    assert class_names(str(path), 2) == ("a", "b")
    for text in ("{", "[]", '{"categories": [{"id": "x", "name": "a"}]}', '{"categories": 3}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="no COCO JSON"):
            class_names(str(path), 2)
    with pytest.raises(ConfigError, match="cannot be read"):
        class_names(str(tmp_path / "missing.json"), 2)
    for names in ("a,a", "a,", "a,b,c", ""):
        with pytest.raises(ConfigError, match="2 different names"):
            class_names(names, 2)
