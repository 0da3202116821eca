"""The Python door: load a model, predict, get instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle
from cytomask.prediction.ensemble import Ensemble, Member
from cytomask.prediction.fusion import Fusion
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.views import Augment, plan_views
from cytomask.workflows import notebook
from cytomask.workflows.models import load_model

#: Settings of post-processing that tell how objects compete.
_SUPPRESSION = ("nms", "nms_by", "nms_threshold", "nms_sigma", "per_class")


class Model:
    """A loaded model, ready to predict. Made by :func:`load`.

    Attributes
    ----------
    bundle
        The network and its specification.
    predictor
        The one prediction path, with the bundle's settings.
    """

    def __init__(self, bundle: Bundle, **settings: Any) -> None:
        self.bundle = bundle
        self.predictor = Predictor.from_bundle(bundle, **settings)

    @property
    def name(self) -> str:
        return self.bundle.spec.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the object classes; the name of class id ``c`` is ``classes[c - 1]``."""
        return self.bundle.segmenter.config.classes

    def predict(
        self,
        image: Image | np.ndarray | str | Path,
        *,
        axes: str | None = None,
        channels: Sequence[str | int] | None = None,
        diameter: float | Literal["auto"] | None = None,
        augment: Augment = "none",
        scales: Sequence[float] = (1.0,),
        fusion: Fusion | None = None,
        **thresholds: float | str | bool,
    ) -> Instances:
        """Segment one image.

        Parameters
        ----------
        image
            A file, an array, or an :class:`~cytomask.image.Image`. Any depth; grey, colour or several channels.
        axes
            Axes of a file or an array where they are not plain: ``"YX"``, ``"CYX"``, ``"YXC"``.
        channels
            Which channels to use, by name or number, when there are more than the model needs.
        diameter
            Typical object diameter in the image's pixels, or ``"auto"``.
        augment, scales
            Test-time augmentation: views that are segmented besides, as for
            :func:`~cytomask.prediction.views.plan_views`.
        fusion
            How what is found in the views becomes one; None: weighted boxes fusion by masks.
        **thresholds
            Other post-processing than the model's: ``score_threshold=0.6``, ``nms_threshold=0.3``, ``nms="gaussian"``,
            ``nms_by="box"``, ``nms_sigma=0.3``, ``per_class=True``, and what else its family has: of a dense model
            ``seed_threshold=0.4``, ``objects="shape"``, ``min_area=50``.

        Returns
        -------
        Instances
            In the image's own pixels.

        Examples
        --------
        >>> from skimage import data
        >>> model = load("nuclei")                                        # doctest: +SKIP
        >>> labels = model.predict(data.human_mitosis()).to_labels()      # doctest: +SKIP
        """
        image = as_image(image, axes)
        postprocess = self.bundle.postprocess
        if thresholds:
            postprocess = override_thresholds(postprocess, thresholds)
        if augment == "none" and tuple(scales) == (1.0,):
            found = self.predictor.predict(image, diameter=diameter, channels=channels, postprocess=postprocess)
        else:
            views = plan_views(augment, scales)
            ensemble = Ensemble([Member(self.predictor, postprocess)], views=views, fusion=fusion)
            found = ensemble.find(image, diameter=diameter, channels=channels).instances
        notebook.remember(found, image)
        return found


def as_image(image: Image | np.ndarray | str | Path, axes: str | None = None) -> Image:
    """Take an image, an array or a file as an image."""
    if isinstance(image, np.ndarray):
        return Image.from_array(image, axes=axes)
    return image if isinstance(image, Image) else read_image(image, axes=axes)


def override_thresholds(
    postprocess: Any, thresholds: Mapping[str, float | str | bool | None], *, of_several: bool = False
) -> Any:
    """Replace some of a model's thresholds and other settings of post-processing; those that are None stay.

    Parameters
    ----------
    postprocess
        The model's own.
    thresholds
        The others, by name.
    of_several
        They are meant for several models: settings of suppression are left out where objects do not compete.

    Raises
    ------
    ConfigError
        If the family has no such setting, or the value is out of range.
    """
    from pydantic import ValidationError

    from cytomask.errors import ConfigError, first_problem

    changed = {name: value for name, value in thresholds.items() if value is not None}
    idle = [n for n in _SUPPRESSION if n in changed and changed[n] != getattr(postprocess, n)]
    if postprocess.competing:
        idle = []
    if idle and not of_several:
        raise ConfigError(
            "objects of this model's family do not compete, so there is nothing to suppress",
            found=", ".join(f"{name} {changed[name]}" for name in idle),
            expected=", ".join(name for name in type(postprocess).model_fields if name not in _SUPPRESSION),
            fix="leave out " + ", ".join(f"--{name.replace('_', '-')}" for name in idle),
        )
    changed = {name: value for name, value in changed.items() if name not in idle}
    try:
        return type(postprocess).model_validate({**postprocess.model_dump(), **changed})
    except ValidationError as error:
        raise ConfigError(
            "a setting of post-processing is wrong",
            found=first_problem(error),
            expected=", ".join(type(postprocess).model_fields),
        ) from error


def load(
    model: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    overlap: int | None = None,
    blend: int | None = None,
    batch_size: int | None = None,
) -> Model:
    """Load a model by name, path or run.

    Parameters
    ----------
    model
        A shipped model's name (``"nuclei"``), a bundle's folder or zip, or a run's folder.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    precision
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    tile, overlap, blend, batch_size
        How large images are cut; see :class:`~cytomask.prediction.predictor.Predictor`. None chooses.

    Raises
    ------
    BundleError
        If there is no such model, or it is damaged.
    """
    return Model(
        load_model(model), device=device, precision=precision, tile=tile, overlap=overlap, blend=blend,
        batch_size=batch_size,
    )  # fmt: skip
