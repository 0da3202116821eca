"""Weights of a first convolution for other channels than those that it was trained on."""

from __future__ import annotations

import torch
from torch import Tensor


def adapt_stem(weight: Tensor, in_channels: int) -> Tensor:
    """Make a first convolution for some channels, such as three, one for ``in_channels``.

    An image of that many equal channels gives the response that it gave as a grey image of the former.

    Parameters
    ----------
    weight
        ``(outputs, channels, height, width)``, of three channels mostly.
    in_channels
        Fewer, such as one or two for three: each has its share of the sum of red, green and blue. More: the former
        follow each other round and round, each divided by how often it occurs.

    Returns
    -------
    Tensor
        ``(outputs, in_channels, height, width)``.

    Examples
    --------
    >>> weight = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    >>> adapt_stem(weight, 1).flatten().tolist(), adapt_stem(weight, 4).flatten().tolist()
    ([6.0], [0.5, 2.0, 3.0, 0.5])
    """
    given = weight.shape[1]
    if in_channels < given:
        return (weight.sum(1, keepdim=True) / in_channels).repeat(1, in_channels, 1, 1)
    source = torch.arange(in_channels, device=weight.device) % given
    times = torch.bincount(source, minlength=given)[source]
    return weight[:, source] / times[:, None, None]
