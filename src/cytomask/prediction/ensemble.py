"""Segment with several models, or several views of the image, and fuse what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cytomask.errors import ConfigError
from cytomask.geometry.box_fusion import check_weights
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.fusion import Fusion, common_classes
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.views import View, segment_views


@dataclass(frozen=True, eq=False)
class Member:
    """One model of an ensemble, with the thresholds that it is to use."""

    predictor: Predictor
    postprocess: Postprocess


@dataclass(frozen=True, eq=False)
class Found:
    """What an ensemble found in an image.

    Attributes
    ----------
    instances
        The fused objects, in native pixels.
    scale
        Network pixels per native pixel for the first model, along y and x.
    told
        How the image was prepared, and what was fused, for people.
    """

    instances: Instances
    scale: tuple[float, float]
    told: tuple[str, ...]


class Ensemble:
    """Several models and views as one.

    Parameters
    ----------
    members
        At least one model; each prepares the image in its own way.
    weights
        How much each model counts; None: all the same.
    views
        Each model looks at all of them.
    fusion
        How what they find becomes one.

    Raises
    ------
    ConfigError
        If the weights do not fit the models.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        weights: Sequence[float] | None = None,
        views: Sequence[View] = (View(),),
        fusion: Fusion | None = None,
    ) -> None:
        try:
            self.weights = check_weights(weights, len(members)).tolist()
        except ValueError as error:
            given = ", ".join(f"{weight:g}" for weight in weights or ())
            raise ConfigError(
                "the weights do not fit the models", where="--weights", found=given,
                expected=f"{len(members)} numbers above 0, one for each model",
            ) from error  # fmt: skip
        self.members, self.views = tuple(members), tuple(views)
        thresholds = [member.postprocess.score_threshold for member in members]
        self.fusion = (fusion or Fusion()).resolved(thresholds, self.weights)
        self.classes = common_classes([member.predictor.segmenter.config.classes for member in members])

    def find(
        self,
        image: Image,
        *,
        diameter: float | Literal["auto"] | None = None,
        channels: Sequence[str | int] | None = None,
    ) -> Found:
        """Segment one image with all models and views.

        Parameters
        ----------
        image, diameter, channels
            As for :meth:`~cytomask.prediction.predictor.Predictor.predict`, for each model.

        Raises
        ------
        ChannelError, ConfigError, CytomaskError
            As :meth:`~cytomask.prediction.predictor.Predictor.predict`.
        """
        parts: list[Instances] = []
        told: list[str] = []
        scale: tuple[float, float] | None = None
        for member in self.members:
            prepared = member.predictor.prepare(
                image, diameter=diameter, channels=channels, postprocess=member.postprocess
            )
            scale = scale or prepared.scale
            told += [sentence for sentence in prepared.told if sentence not in told]
            parts += segment_views(member.predictor, prepared, self.views, member.postprocess)
        weights = [weight for weight in self.weights for _ in self.views]
        fused = self.fusion.fuse(parts, weights)
        objects = f"{len(fused)} object{'' if len(fused) == 1 else 's'}"
        counts = " + ".join(str(len(part)) for part in parts)
        told.append(f"{objects} fused by {self.fusion.method} of {len(parts)} predictions with {counts}")
        return Found(fused, scale or (1.0, 1.0), tuple(told))
