"""Begin a residual network from the weights that torchvision publishes for ImageNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from cytomask.errors import ConfigError
from cytomask.models.region.config import ResNetConfig
from cytomask.models.region.resnet import ResNet

_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(?:(conv|bn)([123])|(downsample)\.([01]))\.(\w+)")
_EPS = 1e-5


def torchvision_names(state: Mapping[str, Tensor], config: ResNetConfig) -> dict[str, Tensor]:
    """Translate the state of a torchvision ResNet or ResNeXt to that of :class:`ResNet` with as many channels.

    Those that torchvision publishes were trained on images of red, green and blue; see
    :func:`~cytomask.models.stem_weights.adapt_stem`.
    Without norms (``norm: none``) the convolutions take up what the batch norms did. Offsets of deformable
    convolutions, which torchvision's networks do not have, are 0. The classifier is left out.

    Raises
    ------
    ConfigError
        If ``config`` describes another network, or one whose norms cannot do what batch norms did.

    Examples
    --------
    >>> from torchvision.models import resnet18
    >>> config = ResNetConfig(depth=18, width=64, norm="frozen_batch")
    >>> state = torchvision_names(resnet18().state_dict(), config)
    >>> list(state)[:2], list(state)[-1]
    (['stem.conv1.weight', 'stem.conv1.norm.weight'], 'res5.1.conv2.norm.running_var')
    """
    if config.norm == "group":
        raise ConfigError(
            "weights trained with batch norm cannot be used with group norm", where="backbone.norm", found="group",
            expected="frozen_batch, batch or none", fix="set it to frozen_batch, or begin with random weights",
        )  # fmt: skip
    if config.depth >= 50 and config.stride_in_1x1:
        raise ConfigError(
            "torchvision's networks step in their 3x3 convolutions", where="backbone.stride_in_1x1", found="true",
            expected="false",
        )  # fmt: skip
    mapped = {_ours(name): tensor for name, tensor in state.items() if not name.startswith("fc.")}
    if config.norm == "none":
        mapped = _folded(mapped)
    elif config.norm == "frozen_batch":
        mapped = {name: tensor for name, tensor in mapped.items() if not name.endswith("num_batches_tracked")}

    channels = mapped["stem.conv1.weight"].shape[1] if "stem.conv1.weight" in mapped else 3
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in ResNet(config, channels).state_dict().items()}
    mapped |= {name: torch.zeros(shape) for name, shape in wanted.items() if ".conv2_offset." in name}
    found = {name: tuple(tensor.shape) for name, tensor in mapped.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name) and not name.endswith("num_batches_tracked"):
            raise ConfigError(
                "these weights are of another network than the backbone's settings describe", where=name,
                found=found.get(name, "no such tensor"), expected=wanted.get(name, "no such tensor"),
                fix="choose weights of the backbone's depth, width and groups",
            )  # fmt: skip
    return mapped


def _ours(name: str) -> str:
    """Our name of one of torchvision's tensors; itself where that has another form."""
    if found := _BLOCK.fullmatch(name):
        stage, block, kind, number, shortcut, place, leaf = found.groups()
        layer = "shortcut" if shortcut else f"conv{number}"
        norm = ".norm" if kind == "bn" or place == "1" else ""
        return f"res{int(stage) + 1}.{block}.{layer}{norm}.{leaf}"
    return re.sub(r"^bn1\.", "stem.conv1.norm.", re.sub(r"^conv1\.", "stem.conv1.", name))


def _folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions with biases that do what convolutions and their batch norms did."""
    folded = {}
    for name in state:
        layer, _, leaf = name.rpartition(".")
        if leaf != "weight" or layer.endswith(".norm"):
            continue
        if any(f"{layer}.norm.{part}" not in state for part in ("weight", "bias", "running_mean", "running_var")):
            folded[name] = state[name]
            continue
        weight, bias, mean, variance = (
            state[f"{layer}.norm.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight * (variance + _EPS).rsqrt()
        folded[name] = (state[name].double() * scale[:, None, None, None]).to(state[name].dtype)
        folded[f"{layer}.bias"] = (bias - mean * scale).to(state[name].dtype)
    return folded
