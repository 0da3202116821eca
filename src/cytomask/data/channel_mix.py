"""Network channels as sums of an image's channels: drawn anew for each training item, fixed in prediction.

Whatever an expression of a channel program says, what it does to an image is linear: each network channel is a weighted
sum of the image's normalised channels. So a drawing of a program is a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cytomask.data.normalise import MeanStd, Normalisation

#: More names than this are counted, not listed.
_FEW = 6


@dataclass(frozen=True)
class Channel:
    """One channel of the image: by number or name, or (when settled for an image) its place in the stack."""

    which: int | str


@dataclass(frozen=True)
class Black:
    """Zeros."""


@dataclass(frozen=True)
class Every:
    """All channels of the image; only as a member of a random choice or a merge."""


@dataclass(frozen=True)
class RandomOf:
    """One of several, each as likely as the others; without chance the middle one, of two middle ones the first."""

    options: tuple[Node, ...]

    @property
    def middle(self) -> Node:
        """What is taken without chance."""
        return self.options[(len(self.options) - 1) // 2]


@dataclass(frozen=True)
class MergeOf:
    """The mean of several. Each is left out with the chance ``dropout``, and what remains is not made up for."""

    members: tuple[Node, ...]
    dropout: float = 0.0


@dataclass(frozen=True)
class Dropped:
    """Zeros with the chance ``dropout``; without chance never."""

    of: Node
    dropout: float


Node: TypeAlias = Channel | Black | Every | RandomOf | MergeOf | Dropped


@dataclass(frozen=True)
class ChannelMix:
    """A channel program settled for the channels of one image.

    Attributes
    ----------
    nodes
        One for each network channel; channels are places in ``names``.
    names
        Names of the stack's channels: those of the image that the program may use, in the image's order.

    Examples
    --------
    >>> mix = ChannelMix((Channel(1), MergeOf((Channel(0), Channel(1))), Black()), ("DAPI", "actin"))
    >>> mix.matrix().tolist()
    [[0.0, 1.0], [0.5, 0.5], [0.0, 0.0]]
    >>> mix.words()
    '1 actin, 2 mean of DAPI and actin, 3 black'
    """

    nodes: tuple[Node, ...]
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many channels the network gets."""
        return len(self.nodes)

    def matrix(self) -> npt.NDArray[np.float32]:
        """Weights without chance, as validation and prediction use them: float32 ``(network, stack)``."""
        return self._matrix(None)

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw weights, as training uses them: float32 ``(network, stack)``."""
        return self._matrix(rng)

    def _matrix(self, rng: np.random.Generator | None) -> npt.NDArray[np.float32]:
        matrix = np.zeros((len(self.nodes), len(self.names)), np.float64)
        for row, node in zip(matrix, self.nodes):
            _add(node, rng, row, 1.0)
        return matrix.astype(np.float32)

    def words(self) -> str:
        """What each network channel is without chance, counted from 1."""
        return ", ".join(f"{i} {_words(node, self.names)}" for i, node in enumerate(self.nodes, start=1))


def _add(node: Node, rng: np.random.Generator | None, row: npt.NDArray[np.float64], amount: float) -> None:
    """Add a node's weights, times ``amount``, to those of a network channel."""
    if isinstance(node, Channel):
        row[int(node.which)] += amount
    elif isinstance(node, Dropped):
        if rng is None or rng.random() >= node.dropout:
            _add(node.of, rng, row, amount)
    elif isinstance(node, RandomOf):
        chosen = node.middle if rng is None else node.options[int(rng.integers(len(node.options)))]
        _add(chosen, rng, row, amount)
    elif isinstance(node, MergeOf):
        for member in node.members:
            if rng is None or rng.random() >= node.dropout:
                _add(member, rng, row, amount / len(node.members))


def _words(node: Node, names: Sequence[str]) -> str:
    if isinstance(node, Channel):
        return names[int(node.which)]
    if isinstance(node, Dropped):
        return _words(node.of, names)
    if isinstance(node, RandomOf):
        middle = _words(node.middle, names)
        return middle if len(node.options) == 1 else f"{middle} (the middle one of {len(node.options)})"
    if isinstance(node, MergeOf):
        listed = [_words(member, names) for member in node.members]
        if len(listed) == 1:
            return listed[0]
        if len(listed) > _FEW:
            return f"mean of {len(listed)} channels"
        return f"mean of {', '.join(listed[:-1])} and {listed[-1]}"
    return "black"


@dataclass(frozen=True, eq=False)
class DrawnChannels:
    """What a drawing of a program put into each network channel; as text in words.

    Attributes
    ----------
    matrix
        Weights, float32 ``(network, stack)``.
    names
        Names of the stack's channels.

    Examples
    --------
    >>> str(DrawnChannels(np.float32([[1, 0], [0.5, 0.5], [0.5, 0], [0, 0]]), ("DAPI", "actin")))
    '1: DAPI, 2: half DAPI + half actin, 3: half DAPI, 4: black'
    """

    matrix: npt.NDArray[np.float32]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(f"{i}: {self._channel(row)}" for i, row in enumerate(self.matrix.tolist(), start=1))

    def _channel(self, row: Sequence[float]) -> str:
        parts = [f"{_share(weight)}{name}" for weight, name in zip(row, self.names) if weight]
        return " + ".join(parts) or "black"


def _share(weight: float) -> str:
    if abs(weight - 1) < 1e-6:
        return ""
    return "half " if abs(weight - 0.5) < 1e-6 else f"{weight:.2g} "


def channels_of(node: Node) -> Iterator[int | str]:
    """All channels that a node may use, some perhaps twice."""
    if isinstance(node, Channel):
        yield node.which
    elif isinstance(node, Dropped):
        yield from channels_of(node.of)
    elif isinstance(node, RandomOf | MergeOf):
        for member in node.options if isinstance(node, RandomOf) else node.members:
            yield from channels_of(member)


def replaced(node: Node, place: Callable[[int | str], int]) -> Node:
    """Give a node other channels."""
    if isinstance(node, Channel):
        return Channel(place(node.which))
    if isinstance(node, Dropped):
        return Dropped(replaced(node.of, place), node.dropout)
    if isinstance(node, RandomOf):
        return RandomOf(tuple(replaced(option, place) for option in node.options))
    if isinstance(node, MergeOf):
        return MergeOf(tuple(replaced(member, place) for member in node.members), node.dropout)
    return node


def mixed(
    matrix: npt.NDArray[np.float32], planes: Callable[[int], npt.NDArray[np.floating]], shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Sum planes as a matrix says.

    Parameters
    ----------
    matrix
        float32 ``(network, stack)``.
    planes
        Gives a channel of the stack, ``(Y, X)``; asked once for each that has a weight, and for no other.
    shape
        ``(Y, X)``.

    Returns
    -------
    numpy.ndarray
        float32 ``(network, Y, X)``. Pixel for pixel: the same bits in whatever window a pixel is.

    Examples
    --------
    >>> stack = np.float32([[[1, 2]], [[3, 4]]])
    >>> mixed(np.float32([[0.5, 0.5], [0, 0]]), stack.__getitem__, (1, 2)).tolist()
    [[[2.0, 3.0]], [[0.0, 0.0]]]
    """
    result = np.zeros((len(matrix), *shape), np.float32)
    for channel in np.flatnonzero(matrix.any(axis=0)):
        plane = planes(int(channel))
        for out, weight in zip(result, matrix[:, channel]):
            if weight == 1:
                out += plane
            elif weight:
                out += weight * plane
    return result


@dataclass(frozen=True, eq=False)
class FixedMix:
    """How normalised channels become network channels in prediction.

    Attributes
    ----------
    matrix
        float32 ``(network, stack)``.
    last
        What is done to the network channels at the end.
    """

    matrix: npt.NDArray[np.float32]
    last: MeanStd | None = None

    @classmethod
    def of(cls, mix: ChannelMix, normalisation: Normalisation) -> FixedMix:
        """Take a program's weights without chance; the stack is to be normalised by :func:`before_mixing`."""
        return cls(mix.matrix(), normalisation if isinstance(normalisation, MeanStd) else None)

    def apply(self, stack: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mix a window of the normalised stack, float32 ``(C, h, w)``."""
        pixels = mixed(self.matrix, stack.__getitem__, (stack.shape[1], stack.shape[2]))
        return pixels if self.last is None else self.last.from_unit(pixels)


def before_mixing(normalisation: Normalisation) -> Normalisation:
    """How the stack's channels are normalised before they are mixed: zero must mean nothing.

    What a mean is subtracted from is the network's channels, of which there may be another number.
    """
    return normalisation.unit() if isinstance(normalisation, MeanStd) else normalisation
