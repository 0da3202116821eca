"""How far a network looks: the radius of its receptive field, followed layer by layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ReceptiveField:
    """The receptive field of one output position, as a network is walked from input to output.

    Attributes
    ----------
    radius
        Input pixels beyond this distance cannot influence the output.
    jump
        Input pixels between two neighbouring positions of the present layer.

    Examples
    --------
    >>> field = ReceptiveField()
    >>> field.convolve(3).convolve(3, stride=2).convolve(3)
    ReceptiveField(radius=4.0, jump=2.0)
    """

    radius: float = 0.0
    jump: float = 1.0

    def convolve(self, kernel: int, stride: int = 1, times: int = 1) -> ReceptiveField:
        """Pass ``times`` convolutions (or poolings); even kernels count their longer side."""
        for _ in range(times):
            self.radius += (kernel // 2) * self.jump
            self.jump *= stride
        return self

    def upsample(self, factor: int = 2) -> ReceptiveField:
        """Pass nearest-neighbour upsampling: a fine position may sit at the far edge of its coarse one."""
        self.jump /= factor
        self.radius += (factor - 1) * self.jump
        return self
