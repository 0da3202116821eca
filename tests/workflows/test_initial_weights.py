"""What a training begins with: names, files and models, and layers that do not fit."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytomask.data.dataset import open_dataset
from cytomask.errors import BundleError, ConfigError
from cytomask.models.bundle import Bundle, ModelSpec, save_bundle
from cytomask.models.region.config import RegionConfig
from cytomask.models.registry import build_segmenter, family_class
from cytomask.models.segmenter import Segmenter
from cytomask.storage.downloads import Checksum
from cytomask.workflows import generated
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.trainings import initial_weights
from cytomask.workflows.trainings.initial_weights import KNOWN, KnownWeights, begin_with, completed, settings_of
from cytomask.workflows.trainings.preparation import complete_experiment

SMALL: dict[str, Any] = {
    "backbone": {"depth": 18, "width": 64, "norm": "frozen_batch"},
    "pyramid": {"width": 16},
    "box": {"linear": 1, "linear_width": 16},
    "mask": {"kind": "convolution", "convolutions": 1, "width": 16},
}


def network(**settings: Any) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter("region", {**SMALL, "in_channels": 3, "classes": ["a", "b"], **settings})


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision.models import resnet18

    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "resnet18-00000000.pth"
    torch.save(resnet18().state_dict(), path)
    return path


def stem(model: Segmenter) -> torch.Tensor:
    return model.state_dict()["pyramid.backbone.stem.conv1.weight"]


def test_torchvisions_backbone(resnet: Path) -> None:
    model = network()
    new = begin_with(model, str(resnet))
    given = torch.load(resnet, weights_only=True)
    assert torch.equal(stem(model), given["conv1.weight"])
    assert torch.equal(model.state_dict()["pyramid.backbone.res5.1.conv2.weight"], given["layer4.1.conv2.weight"])
    assert new
    assert not any(name.startswith("pyramid.backbone") for name in new)


def test_the_first_convolution_is_made_for_other_channels(resnet: Path) -> None:
    model = network(in_channels=1)
    begin_with(model, str(resnet))
    given = torch.load(resnet, weights_only=True)["conv1.weight"]
    assert torch.allclose(stem(model), given.sum(dim=1, keepdim=True), atol=1e-6)


def dense(depth: int = 18, **settings: Any) -> Segmenter:
    torch.manual_seed(0)
    network = {"kind": "resnet_unet", "depth": depth}
    return build_segmenter("dense", {"network": network, "in_channels": 3, **settings})


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_torchvisions_resnet_becomes_the_encoder_of_a_dense_network(resnet: Path, channels: int) -> None:
    model = dense(in_channels=channels).eval()
    new = begin_with(model, str(resnet))
    assert new
    assert not any(name.startswith("network.encoder") for name in new)
    given = torch.load(resnet, weights_only=True)
    own = model.state_dict()
    for name, value in given.items():
        if not name.startswith(("fc.", "conv1.")):
            assert torch.equal(own[f"network.encoder.{name}"], value), name
    # A grey image of the new channels is seen as it was seen in three.
    grey = torch.rand(1, 1, 32, 32)
    seen = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), given["conv1.weight"], stride=2, padding=3)
    found = torch.nn.functional.conv2d(
        grey.expand(-1, channels, -1, -1), own["network.encoder.conv1.weight"], stride=2, padding=3
    )
    assert torch.allclose(found, seen, atol=1e-4)


def test_a_dense_network_begins_with_another_of_other_classes_and_channels(tmp_path: Path) -> None:
    old = dense(classes=["a", "b"], in_channels=3)
    spec = ModelSpec(name="old", family="dense", config=old.config.model_dump(mode="json"))
    save_bundle(Bundle(old, spec), tmp_path / "old")
    new = dense(classes=["a"], in_channels=1)
    remade = begin_with(new, str(tmp_path / "old"))
    # The image is joined to the last features: their number changes with the channels.
    assert remade == ["network.head", "network.residual.conv1", "network.residual.conv2"]
    stem = "network.encoder.conv1.weight"
    assert torch.allclose(new.state_dict()[stem], old.state_dict()[stem].sum(1, keepdim=True), atol=1e-6)


def test_known_weights_tell_the_settings_of_the_family_that_is_asked_for(resnet: Path) -> None:
    network = {"kind": "resnet_unet", "depth": 34}
    assert settings_of("imagenet/resnet34", "dense") == ({"family": "dense", "network": network}, None)
    assert settings_of("imagenet/resnet34")[0]["family"] == "region"
    assert settings_of("imagenet/resnet101", "dense")[0]["family"] == "region"
    assert settings_of(str(resnet), "dense") == ({"family": "dense"}, None)
    assert settings_of(str(resnet), "star") == settings_of(str(resnet)) == ({"family": "region"}, None)


def test_a_dense_network_takes_no_weights_of_another_network(tmp_path: Path, resnet: Path) -> None:
    with pytest.raises(ConfigError, match="not of a ResNet-34"):
        begin_with(dense(34), str(resnet))
    torch.save({"model": {"roi_heads.box_predictor.cls_score.bias": torch.zeros(81)}}, tmp_path / "c.pth")
    with pytest.raises(ConfigError, match="not of a ResNet-18"):
        begin_with(dense(), str(tmp_path / "c.pth"))
    swin = build_segmenter("dense", {"network": {"kind": "swin_unet", "width": 8, "blocks": [1, 1], "heads": 1}})
    with pytest.raises(ConfigError, match="ResNet encoders only"):
        begin_with(swin, str(resnet))


def test_a_checkpoint_of_detectron2_turns_blue_green_red_about(tmp_path: Path) -> None:
    weight = torch.arange(64 * 3 * 49, dtype=torch.float32).reshape(64, 3, 7, 7)
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {"backbone.bottom_up.stem.conv1.weight": weight.numpy()}}))
    model = network()
    begin_with(model, str(path))
    assert torch.equal(stem(model), weight.flip(1))


def test_known_weights_are_fetched_into_the_cache(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYTOMASK_CACHE", str(tmp_path))
    digits = hashlib.sha256(resnet.read_bytes()).hexdigest()
    known = KnownWeights(
        "https://nowhere.invalid/resnet18.pth", Checksum("sha256", digits[:8]), {"region": {"cascade": True}}
    )
    monkeypatch.setitem(KNOWN, "imagenet/mine", known)
    asked = []

    def fetched(url: str, target: Path, checksum: Checksum) -> Path:
        asked.append((url, target, checksum))
        return resnet

    monkeypatch.setattr(initial_weights, "fetch", fetched)
    assert settings_of("imagenet/mine") == ({"family": "region", "cascade": True}, None)
    model = network()
    begin_with(model, "imagenet/mine", digits.upper())
    assert asked == [(known.url, tmp_path / "weights" / "resnet18.pth", known.checksum)]
    assert torch.equal(stem(model), torch.load(resnet, weights_only=True)["conv1.weight"])
    with pytest.raises(ConfigError, match="initial_sha256"):
        begin_with(model, "imagenet/mine", "0" * 64)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_known_weights_name_a_network_and_a_checksum(name: str) -> None:
    known = KNOWN[name]
    for family, settings in known.models.items():
        family_class(family).config_class.model_validate({**settings, "in_channels": 3})
    dense = name in ("imagenet/resnet18", "imagenet/resnet34", "imagenet/resnet50")
    assert list(known.models) == (["region", "dense"] if dense else ["region"])
    assert known.url.startswith("https://")
    assert known.checksum.digits in known.url.rpartition("/")[2]
    assert len(known.checksum.digits) == (8 if name.startswith("imagenet/") else 6)
    int(known.checksum.digits, 16)


def test_layers_that_depend_on_the_classes_are_made_anew_as_wholes(tmp_path: Path) -> None:
    three = network(classes=["a", "b", "c"])
    with torch.no_grad():
        for parameter in three.parameters():
            parameter.fill_(7.0)
    spec = ModelSpec(name="three", family="region", config=three.config.model_dump(mode="json"))
    save_bundle(Bundle(three, spec), tmp_path / "three")
    two = network()
    before = {name: value.clone() for name, value in two.state_dict().items()}
    new = begin_with(two, str(tmp_path / "three"))
    parameters = dict(two.named_parameters())
    changed = {name for name, value in parameters.items() if not torch.equal(value, before[name])}
    # Each layer is either all new or all loaded; those of two and of three classes differ in shape.
    shapes = {name: p.shape for name, p in three.named_parameters()}
    unfit = {n.rpartition(".")[0] for n, p in parameters.items() if shapes[n] != p.shape}
    assert 3 <= len(unfit) <= 6
    assert set(new) == unfit
    assert changed == {n for n in parameters if n.rpartition(".")[0] not in unfit}
    assert all((parameters[name] == 7).all() for name in changed)


def test_a_bundle_can_be_pinned(tmp_path: Path) -> None:
    star = build_segmenter("star", {"rays": 8, "backbone": {"kind": "residual", "widths": [6, 8], "blocks": [1, 1]}})
    save_bundle(Bundle(star, ModelSpec(name="s", family="star", config=star.config.model_dump(mode="json"))), tmp_path)
    with pytest.raises(ConfigError, match="not those"):
        begin_with(star, str(tmp_path), "a" * 64)
    from cytomask.models.bundle import read_spec

    assert begin_with(star, str(tmp_path), read_spec(tmp_path).weights_sha256) == []


def test_sections_are_filled_in() -> None:
    settings = KNOWN["coco/pointrend_X_101"].models["region"]
    filled = completed({"backbone": {"freeze": 0}, "classes": ["a"]}, settings)
    expected = {"depth": 101, "groups": 32, "group_width": 8, "stem_stride": 4, "norm": "frozen_batch", "freeze": 0}
    assert filled["backbone"] == expected
    assert filled["mask"] == {"kind": "pointrend"}
    own = completed({"mask": {"kind": "convolution", "width": 64}}, settings)
    assert own["mask"] == {"kind": "convolution", "width": 64}


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ("coco/mask_rcnn_R_50_FPN_3", "did you mean 'coco/mask_rcnn_R_50_FPN_3x'"),
        ("nucleii", "did you mean 'nuclei'"),
        ("gone.pth", "no such checkpoint"),
    ],
)
def test_what_is_not_there(initial: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        settings_of(initial)


def test_weights_of_another_family_or_network(tmp_path: Path, resnet: Path) -> None:
    star = build_segmenter("star", {"rays": 8, "backbone": {"kind": "residual", "widths": [6, 8], "blocks": [1, 1]}})
    with pytest.raises(ConfigError, match="no weights of other software"):
        begin_with(star, str(resnet))
    torch.save({"model": {"roi_heads.box_predictor.cls_score.bias": torch.zeros(81)}}, tmp_path / "c.pth")
    with pytest.raises(BundleError, match="nothing fits"):
        begin_with(network(), str(tmp_path / "c.pth"))


@pytest.mark.parametrize("model", [None, {"family": "region", "backbone": {"freeze": 2}, "box": {"beta": 0.5}}])
def test_a_network_is_that_of_its_initial_model_but_for_what_is_said(
    tmp_path: Path, model: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within sections: one setting of a backbone does not make it another backbone."""
    old = network()
    spec = ModelSpec(name="old", family="region", config=old.config.model_dump(mode="json"))
    save_bundle(Bundle(old, spec), tmp_path / "bundle")
    monkeypatch.setattr(generated, "SPLITS", {"train": 1, "val": 1, "test": 1})
    data = generated.write_generated_dataset(tmp_path / "data", np.random.default_rng(0))
    said = {"initial": str(tmp_path / "bundle"), **({} if model is None else {"model": model})}
    dataset = open_dataset(data)
    filled, reasons = complete_experiment(Experiment.model_validate(said), dataset, dataset.split("train"))
    settings = dict(filled.model)
    assert settings.pop("family") == "region"
    known = RegionConfig.model_validate({**SMALL, "in_channels": 1, "classes": dataset.classes}).model_dump()
    for section, changes in (model or {}).items():
        if section != "family":
            known[section].update(changes)
    assert RegionConfig.model_validate(settings).model_dump() == known
    assert not reasons
