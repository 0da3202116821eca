"""Several models, or several views of each image, as one: what to combine, and the Python door to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytomask.errors import ConfigError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle
from cytomask.prediction.ensemble import Ensemble, Member
from cytomask.prediction.fusion import Fusion
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.views import Augment, plan_views
from cytomask.workflows import notebook
from cytomask.workflows.model import as_image, override_thresholds
from cytomask.workflows.models import find_model, load_model


@dataclass(frozen=True)
class Combination:
    """What is combined with the first model's look at an image.

    Attributes
    ----------
    models
        Further models: names, bundles or runs.
    weights
        How much each model counts, the first included; None: all the same.
    augment, scales
        Views that each model looks at, as for :func:`~cytomask.prediction.views.plan_views`.
    fusion
        How what they find becomes one; None: weighted boxes fusion by masks.

    Raises
    ------
    ConfigError
        If a view is impossible, or there is nothing to fuse but weights or a fusion are given.

    Examples
    --------
    >>> Combination().active, Combination(augment="flips").active, Combination(models=("nuclei",)).active
    (False, True, True)
    """

    models: tuple[str | Path, ...] = ()
    weights: tuple[float, ...] | None = None
    augment: Augment = "none"
    scales: tuple[float, ...] = (1.0,)
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        plan_views(self.augment, self.scales)
        if not self.active and (self.weights is not None or self.fusion is not None):
            raise ConfigError(
                "there is nothing to fuse: one model looks at each image once",
                where="--weights" if self.weights is not None else "--fuse, --fuse-iou, --fuse-score, --fuse-by",
                fix="give another model (--with) or views (--augment, --scales), or leave this out",
            )

    @property
    def active(self) -> bool:
        """Whether there is more than the one model's one look."""
        return bool(self.models) or self.augment != "none" or tuple(self.scales) != (1.0,)


@dataclass(frozen=True, eq=False)
class OpenEnsemble:
    """An ensemble whose models are loaded.

    Attributes
    ----------
    ensemble
        Ready to find objects.
    bundles, paths
        The models, the first included, and where they lie.
    """

    ensemble: Ensemble
    bundles: tuple[Bundle, ...]
    paths: tuple[Path, ...]

    def record(self, combination: Combination) -> dict[str, Any]:
        """What ``run.json`` tells of it."""
        models = [
            {
                "name": bundle.spec.name,
                "family": bundle.spec.family,
                "path": str(path),
                "weights_sha256": bundle.spec.weights_sha256,
                "thresholds": member.postprocess.model_dump(),
                "weight": weight,
            }
            for bundle, path, member, weight in zip(
                self.bundles, self.paths, self.ensemble.members, self.ensemble.weights
            )
        ]
        return {
            "models": models,
            "augment": combination.augment,
            "scales": list(combination.scales),
            "views": len(self.ensemble.views),
            **asdict(self.ensemble.fusion),
        }


def open_ensemble(
    combination: Combination,
    first: tuple[str | Path, Bundle, Predictor],
    thresholds: Mapping[str, float | str | bool | None],
    **settings: Any,
) -> OpenEnsemble:
    """Load the further models, and combine them with the first.

    Parameters
    ----------
    combination
        What to combine.
    first
        The first model: its name, its bundle and its predictor.
    thresholds
        Other thresholds than the models' own, for all of them; those that are None stay.
    **settings
        As for :meth:`~cytomask.prediction.predictor.Predictor.from_bundle`.

    Raises
    ------
    BundleError
        If a model cannot be loaded.
    ConfigError
        If the weights do not fit, or a model has no such threshold.
    """
    name, bundle, predictor = first
    bundles, predictors = [bundle], [predictor]
    for other in combination.models:
        bundles.append(load_model(other))
        predictors.append(Predictor.from_bundle(bundles[-1], **settings))
    ensemble = Ensemble(
        [
            Member(p, override_thresholds(b.postprocess, thresholds, of_several=len(bundles) > 1))
            for p, b in zip(predictors, bundles)
        ],
        weights=combination.weights,
        views=plan_views(combination.augment, combination.scales),
        fusion=combination.fusion,
    )
    return OpenEnsemble(ensemble, tuple(bundles), tuple(find_model(m) for m in (name, *combination.models)))


class ModelEnsemble:
    """Several loaded models that predict as one. Made by :func:`load_ensemble`.

    Attributes
    ----------
    bundles
        The networks and their specifications.
    combination
        How they are combined.
    """

    def __init__(self, models: Sequence[str | Path], combination: Combination, **settings: Any) -> None:
        first = load_model(models[0])
        self.combination = combination
        opened = open_ensemble(
            combination, (models[0], first, Predictor.from_bundle(first, **settings)), {}, **settings
        )
        self.bundles, self._ensemble = opened.bundles, opened.ensemble

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the object classes of all models."""
        return self._ensemble.classes

    def predict(
        self,
        image: Image | np.ndarray | str | Path,
        *,
        axes: str | None = None,
        channels: Sequence[str | int] | None = None,
        diameter: float | Literal["auto"] | None = None,
        **thresholds: float | str | bool,
    ) -> Instances:
        """Segment one image with all models, and fuse what they find.

        Parameters
        ----------
        image, axes, channels, diameter, **thresholds
            As for :meth:`~cytomask.workflows.model.Model.predict`, for each model.

        Returns
        -------
        Instances
            In the image's own pixels.
        """
        ensemble = self._ensemble
        if thresholds:
            several = len(ensemble.members) > 1
            ensemble = Ensemble(
                [
                    Member(m.predictor, override_thresholds(m.postprocess, thresholds, of_several=several))
                    for m in ensemble.members
                ],
                weights=ensemble.weights,
                views=ensemble.views,
                fusion=self.combination.fusion,
            )
        image = as_image(image, axes)
        found = ensemble.find(image, diameter=diameter, channels=channels).instances
        notebook.remember(found, image)
        return found


def load_ensemble(
    models: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    augment: Augment = "none",
    scales: Sequence[float] = (1.0,),
    fusion: Fusion | None = None,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
) -> ModelEnsemble:
    """Load several models that are to predict as one.

    Parameters
    ----------
    models
        At least one, each as for :func:`~cytomask.workflows.model.load`. Each prepares an image in its own way; classes
        of the same name are the same.
    weights
        How much each model counts; None: all the same.
    augment, scales
        Views that each model looks at, as for :func:`~cytomask.prediction.views.plan_views`.
    fusion
        How what they find becomes one; None: weighted boxes fusion by masks.
    device, precision, tile, overlap, batch_size
        As for :func:`~cytomask.workflows.model.load`.

    Raises
    ------
    BundleError
        If there is no such model, or it is damaged.
    ConfigError
        If there is no model, or an option is wrong.

    Examples
    --------
    >>> both = load_ensemble(["nuclei", "runs/mine"], weights=[1, 2])      # doctest: +SKIP
    >>> labels = both.predict("cells.tif").to_labels()                     # doctest: +SKIP
    """
    if not models or isinstance(models, str | Path):
        raise ConfigError("an ensemble is made of a list of models", found=models or "none", expected="one or more")
    combination = Combination(
        tuple(models[1:]), tuple(weights) if weights is not None else None, augment, tuple(scales), fusion
    )
    return ModelEnsemble(
        models, combination, device=device, precision=precision, tile=tile, overlap=overlap, batch_size=batch_size
    )


def combination(
    models: Sequence[str | Path] = (),
    weights: str | None = None,
    augment: str = "none",
    scales: str = "1",
    *,
    method: str | None = None,
    iou: float | None = None,
    score: float | None = None,
    by: str | None = None,
) -> Combination:
    """Understand what a command line asks to combine.

    Parameters
    ----------
    models
        Further models.
    weights, scales
        Numbers with commas between.
    augment
        As for :class:`Combination`.
    method, iou, score, by
        Of the fusion; those that are None stay as they are by default.

    Raises
    ------
    ConfigError
        If something cannot be understood, or does not fit.

    Examples
    --------
    >>> combination(["runs/mine"], "2,1", scales="0.8,1").weights
    (2.0, 1.0)
    """
    fields = {"method": method, "iou_threshold": iou, "score_threshold": score, "by": by}
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    return Combination(
        tuple(models),
        _numbers(weights, "--weights") if weights is not None else None,
        augment,  # type: ignore[arg-type]
        _numbers(scales, "--scales"),
        Fusion(**given) if given else None,
    )


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(
            "numbers are not understood", where=where, found=text, expected="numbers with commas between, such as 2,1"
        ) from None
