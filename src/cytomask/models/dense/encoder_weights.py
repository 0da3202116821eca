"""Begin the encoder of a ResNet U-Net from a torchvision ResNet, such as those trained on ImageNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cytomask.errors import ConfigError
from cytomask.models.dense.resnet_unet import ResNetEncoder

_STEM = "conv1.weight"


def encoder_weights(state: Mapping[str, Tensor], encoder: ResNetEncoder) -> dict[str, Tensor]:
    """Take what an encoder needs of the state of a torchvision ResNet: all but the classifier.

    The first convolution may be for another number of channels; see :func:`~cytomask.models.stem_weights.adapt_stem`.

    Raises
    ------
    ConfigError
        If the weights are of another network.

    Examples
    --------
    >>> from torchvision.models import resnet18
    >>> taken = encoder_weights(resnet18().state_dict(), ResNetEncoder(18, in_channels=1))
    >>> tuple(taken["conv1.weight"].shape), "fc.weight" in taken
    ((64, 3, 7, 7), False)
    """
    wanted = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    taken = {name: value for name, value in state.items() if not name.startswith("fc.")}
    found = {name: tuple(value.shape) for name, value in taken.items()}
    for shapes in (wanted, found):
        if _STEM in shapes:
            shapes[_STEM] = (shapes[_STEM][0], -1, *shapes[_STEM][2:])
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name) and not name.endswith("num_batches_tracked"):
            raise ConfigError(
                f"these weights are not of a ResNet-{encoder.depth}", where=name,
                found=found.get(name, "no such tensor"), expected=wanted.get(name, "no such tensor"),
                fix="choose weights of the depth that model.network.depth says",
            )  # fmt: skip
    return taken
