"""What a training says about the channels of its images, and what the model keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cytomask.data.channel_mix import ChannelMix
from cytomask.data.channels import ChannelExpectation
from cytomask.data.sample import Sample, load_sample
from cytomask.progress import warn

#: So many images with empty channels are named; of the others it is only said that there are more.
_NAMED = 5


@dataclass
class EmptyChannels:
    """Tells of training images with channels without contrast: each image once, and only the first few."""

    told: set[str] = field(default_factory=set)

    def look(self, name: str, stack: npt.NDArray[np.floating], mix: ChannelMix) -> None:
        """Look at an image's normalised stack, ``(C, Y, X)``: a channel without contrast is all zeros there."""
        empty = [channel for channel, plane in zip(mix.names, stack) if not plane.any()]
        if not empty or name in self.told:
            return
        self.told.add(name)
        if len(self.told) <= _NAMED:
            warn(f"image {name}: without contrast, so zeros for the network: {', '.join(empty)}")
        elif len(self.told) == _NAMED + 1:
            warn("there are more images with channels without contrast; they are not named")


def with_names(
    expected: ChannelExpectation, chosen: Sequence[str | int] | None, train: Sequence[Sample]
) -> ChannelExpectation:
    """Let a model remember the names of the channels that were chosen for it, so that prediction finds them.

    Numbers become the names that the first training image has for them.
    """
    if not chosen or expected.names is not None or not train:
        return expected
    names = tuple(name for name in chosen if isinstance(name, str))
    if len(names) < len(chosen):
        image, _ = load_sample(train[0])
        names = tuple(image.channels[image.channel_index(channel)] for channel in chosen)
    if expected.mode == "rgb" and len(names) == 1:
        names *= 3
    if expected.mode != "program" and len(names) != expected.count:
        # The images will tell what is wrong.
        return expected
    return expected.model_copy(update={"names": names})
