"""The contract that every model family fulfils.

Training, tuning, tiling, evaluation and serving are written once, against this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from cytomask.errors import ConfigError
from cytomask.geometry.competition import settle_shapes, soften_shapes
from cytomask.geometry.fate import KEPT, OPEN
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter_config import Postprocess, SegmenterConfig
from cytomask.models.suppression import competing_shapes


class Segmenter(nn.Module, ABC):
    """A network together with the meaning of its output.

    Class attributes name the family and its two configuration classes; ``stride`` and ``halo`` tell tiling what it
    needs to know.
    """

    family: ClassVar[str]
    config_class: ClassVar[type[SegmenterConfig]]
    postprocess_class: ClassVar[type[Postprocess]]
    #: True when an object must lie whole inside one tile's window to be found as from the whole image.
    needs_whole_objects: ClassVar[bool] = True

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def stride(self) -> int:
        """Input sides must be multiples of this many pixels."""

    @property
    def alignment(self) -> int:
        """Tiles must begin at multiples of this many pixels, a multiple of the stride, to be seen as in the whole."""
        return self.stride

    def layer_groups(self) -> list[list[nn.Module]]:
        """The network's parts from the input to the output, for training phases: the last is what is always trained.

        Together they hold every parameter once. A phase with a frozen encoder trains the last group only; with
        discriminative learning rates, earlier groups learn more slowly. Families override this.
        """
        return [[self]]

    @property
    def first_convolution(self) -> str | None:
        """Name of the weight through which the image's channels enter, if it can be adapted to other channels."""
        return None

    def from_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the arrays of other software's checkpoint to this network's names, as far as they have a place.

        The first convolution keeps its channels. Families that know such checkpoints override this.

        Raises
        ------
        ConfigError
            If this network takes no such weights.
        """
        raise ConfigError(
            "networks of this family take no weights of other software",
            found=f"model.family: {self.family}; arrays such as {next(iter(state), 'none')}",
            expected="model.family: region or dense",
            fix="choose one of these families, or begin with a model of the same family",
        )

    @property
    @abstractmethod
    def halo(self) -> int:
        """A pixel further away than this cannot influence an output (the receptive field's radius, in pixels)."""

    @property
    def sees_all(self) -> bool:
        """True when all pixels of a tile influence its outputs, however far away: then tiles change results."""
        return False

    @abstractmethod
    def targets(self, layers: LabelLayers) -> dict[str, np.ndarray]:
        """Training targets of one patch. Pure; runs in the loader's workers."""

    @abstractmethod
    def losses(self, images: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        """Loss terms of a batch, already weighted: their sum is what is minimised.

        ``targets`` is what :meth:`collate` made of the targets of the batch's images.
        """

    @classmethod
    def collate(cls, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join training items (``image``, and its targets) into a batch.

        Families whose targets differ in shape from image to image override this.
        """
        return default_collate(list(items))

    @abstractmethod
    def propose(
        self, images: Tensor, postprocess: Postprocess, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Proposals]:
        """Run the network on ``images`` (float32 ``(B, C, Y, X)``); return the proposals of each image.

        ``sizes`` tells how many rows and columns of each are picture: what lies below and right of them was only
        added to fill up the network's stride. None: all are.
        """

    @abstractmethod
    def bounds(self, proposals: Proposals) -> np.ndarray:
        """Boxes ``(N, 4)``, ``(y0, x0, y1, x1)`` in network pixels, around all that a proposal covers or competes for.

        **Proposals whose boxes share no area never compete.** So an image's conflicts can be settled part by part.
        Boxes may be too large, at the cost of time.
        """

    @abstractmethod
    def boxes(self, proposals: Proposals) -> np.ndarray:
        """Tight boxes ``(N, 4)``, floats ``(y0, x0, y1, x1)`` in network pixels, whose edges are whole numbers.

        They lie in those of :meth:`bounds`, and follow from each proposal alone.
        """

    def settle(
        self, proposals: Proposals, postprocess: Postprocess, fates: np.ndarray, foreign: np.ndarray
    ) -> np.ndarray:
        """Settle conflicts between proposals, as far as these alone can tell.

        A proposal's fate may hang on those with which it competes, and only on what they are in themselves and on
        their fates. **Told from a part of the proposals, a fate other than** ``OPEN`` **must be the one that it has
        among all**, whatever those are that are not given. ``OPEN`` may be said only of proposals that are foreign, or
        compete with a better one that is open; so where all are given, none is open.

        Parameters
        ----------
        proposals
            All of a score above the threshold, in canonical order: by row, then column, of their points. Of equal
            scores, the first is better.
        fates
            uint8 ``(N,)``: what is known before, ``KEPT`` or ``OPEN`` of :mod:`cytomask.geometry.fate`.
        foreign
            bool ``(N,)``: true where the proposal may compete with others that are not given.

        Returns
        -------
        numpy.ndarray
            uint8 ``(N,)``: ``OPEN``, ``KEPT`` or ``DROPPED``.

        Notes
        -----
        The usual way is hard suppression by the IoU of boxes or masks. Families that know better override this.
        """
        shapes = competing_shapes(self, proposals, postprocess.nms_by, postprocess.per_class)
        return settle_shapes(shapes, proposals.scores, postprocess.nms_threshold, fates, foreign)

    def soften(self, proposals: Proposals, postprocess: Postprocess) -> Proposals:
        """Lower the scores of proposals that overlap better ones (Soft-NMS), and drop those that fall too low.

        Parameters
        ----------
        proposals
            **All** of an image, in canonical order: the score of each hangs on those of many others.
        postprocess
            Its ``nms`` is ``linear`` or ``gaussian``.

        Returns
        -------
        Proposals
            Those whose new score is above the threshold, with that score, in the order that they had.
        """
        assert postprocess.nms != "hard"
        shapes = competing_shapes(self, proposals, postprocess.nms_by, postprocess.per_class)
        scores = soften_shapes(
            shapes, proposals.scores, postprocess.nms, threshold=postprocess.nms_threshold,
            sigma=postprocess.nms_sigma, prune=postprocess.score_threshold,
        )  # fmt: skip
        kept = scores > postprocess.score_threshold
        return replace(proposals, scores=scores.astype(np.float32)).take(kept)

    @abstractmethod
    def render(
        self, proposals: Proposals, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> Instances:
        """Draw proposals that survive, each by itself and in their order; one that covers no pixel has an empty mask.

        Parameters
        ----------
        proposals
            In pixels of the network's input.
        shape
            Height and width of the native image, in native pixels.
        scale
            Network pixels per native pixel, along y and x.
        """

    def resolve(
        self,
        proposals: Proposals,
        postprocess: Postprocess,
        shape: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> Instances:
        """Settle conflicts between all proposals of an image, and render what survives.

        Parameters
        ----------
        proposals
            In pixels of the network's input, in canonical order; those not above ``postprocess.score_threshold`` are
            dropped here again, so that one generous :meth:`propose` serves many thresholds.
        shape
            Height and width of the native image, in native pixels.
        scale
            Network pixels per native pixel, along y and x.

        Returns
        -------
        Instances
            Numbered 1, 2, 3 … in the order of the proposals; none is empty. With Soft-NMS, scores are the lowered ones.
        """
        proposals = proposals.take(proposals.scores > postprocess.score_threshold)
        if postprocess.nms == "hard":
            n = len(proposals)
            fates = self.settle(proposals, postprocess, np.full(n, OPEN, np.uint8), np.zeros(n, bool))
            proposals = proposals.take(fates == KEPT)
        else:
            proposals = self.soften(proposals, postprocess)
        rendered = self.render(proposals, shape, scale)
        return rendered.take(rendered.areas() > 0).renumbered()

    @torch.inference_mode()
    def predict(self, images: Tensor, postprocess: Postprocess) -> list[Instances]:
        """Segment a batch of images, each as one tile: ``float32 (B, C, Y, X)`` in, one ``Instances`` each out."""
        shape = (int(images.shape[-2]), int(images.shape[-1]))
        return [self.resolve(p, postprocess, shape) for p in self.propose(images, postprocess)]

    @classmethod
    def generous(cls, postprocess: Postprocess, score_threshold: float, nms_threshold: float) -> Postprocess:
        """Settings for :meth:`propose` whose proposals serve :meth:`resolve` with all stricter ones.

        Families that suppress within :meth:`propose` already override this.

        Parameters
        ----------
        postprocess
            What else is set.
        score_threshold, nms_threshold
            The lowest score and the highest overlap threshold that will be asked for.
        """
        return postprocess.model_copy(update={"score_threshold": score_threshold})

    @classmethod
    def propose_from_data(cls, statistics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Settings that fit the data's object sizes, and the reasons. Families override what they can derive."""
        return {}, []
