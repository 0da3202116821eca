"""What a training begins with: a model of cytomask's, or weights that others have trained.

``initial`` of an experiment names a model (shipped, a bundle, a run), known weights that are downloaded once, or a
checkpoint file of detectron2 or torchvision.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.errors import BundleError, ConfigError
from cytomask.models.bundle import ModelSpec
from cytomask.progress import say, warn
from cytomask.storage.downloads import Checksum, cache_folder, fetch
from cytomask.workflows.models import find_model, load_model, shipped_models

if TYPE_CHECKING:
    from torch import Tensor

    from cytomask.models.segmenter import Segmenter

_TORCHVISION = "https://download.pytorch.org/models/"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
#: How names of checkpoint files end.
CHECKPOINTS = (".pkl", ".pth", ".pt")
#: Families that take such files, that of an experiment that names none first.
_CHECKPOINT_FAMILIES = ("region", "dense")


@dataclass(frozen=True)
class KnownWeights:
    """Weights that have a name: where they are, and the network that they are for.

    Attributes
    ----------
    url
        The last part of the path holds the first digits of the checksum.
    checksum
        SHA-256 (torchvision) or MD5 (detectron2's zoo).
    models
        By family, settings that fit them, used where the experiment does not say otherwise. The first family is that
        of an experiment that names none.
    """

    url: str
    checksum: Checksum
    models: Mapping[str, Mapping[str, Any]]

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return cache_folder() / "weights" / self.url.rpartition("/")[2]


def _torchvision(file: str, **backbone: Any) -> KnownWeights:
    digits = file.rpartition("-")[2].removesuffix(".pth")
    models: dict[str, dict[str, Any]] = {"region": {"backbone": {"norm": "frozen_batch", **backbone}}}
    if backbone["depth"] <= 50:
        models["dense"] = {"network": {"kind": "resnet_unet", "depth": backbone["depth"]}}
    return KnownWeights(_TORCHVISION + file, Checksum("sha256", digits), models)


def _zoo(file: str, backbone: Mapping[str, Any], **model: Any) -> KnownWeights:
    digits = file.rpartition("_")[2].removesuffix(".pkl")
    settings = {"norm": "frozen_batch", "freeze": 2, "stem_stride": 4, **backbone}
    return KnownWeights(_DETECTRON2 + file, Checksum("md5", digits), {"region": {"backbone": settings, **model}})


_MSRA = {"stride_in_1x1": True}
_X32X8D = {"groups": 32, "group_width": 8}
_POINTREND = {"mask": {"kind": "pointrend"}, "box": {"train_on_predicted": True}}
_POINTREND_FILES = "PointRend/InstanceSegmentation/pointrend_rcnn_"
_MASK_FILES = "COCO-InstanceSegmentation/mask_rcnn_"

#: Weights by name. Those of ``imagenet/`` are backbones, those of ``coco/`` whole networks.
KNOWN: dict[str, KnownWeights] = {
    "imagenet/resnet18": _torchvision("resnet18-f37072fd.pth", depth=18, width=64),
    "imagenet/resnet34": _torchvision("resnet34-b627a593.pth", depth=34, width=64),
    "imagenet/resnet50": _torchvision("resnet50-0676ba61.pth", depth=50),
    "imagenet/resnet101": _torchvision("resnet101-63fe2227.pth", depth=101),
    "imagenet/resnet152": _torchvision("resnet152-394f9c45.pth", depth=152),
    "imagenet/resnext101_32x8d": _torchvision("resnext101_32x8d-8ba56ff5.pth", depth=101, **_X32X8D),
    "coco/mask_rcnn_R_50_FPN_3x": _zoo(
        f"{_MASK_FILES}R_50_FPN_3x/137849600/model_final_f10217.pkl", {"depth": 50, **_MSRA}
    ),
    "coco/mask_rcnn_R_101_FPN_3x": _zoo(
        f"{_MASK_FILES}R_101_FPN_3x/138205316/model_final_a3ec72.pkl", {"depth": 101, **_MSRA}
    ),
    "coco/mask_rcnn_X_101": _zoo(
        f"{_MASK_FILES}X_101_32x8d_FPN_3x/139653917/model_final_2d9806.pkl", {"depth": 101, **_X32X8D}
    ),
    "coco/cascade_mask_rcnn_R_50_FPN_3x": _zoo(
        "Misc/cascade_mask_rcnn_R_50_FPN_3x/144998488/model_final_480dd8.pkl",
        {"depth": 50, **_MSRA},
        cascade=True,
        box={"class_agnostic": True},
    ),
    "coco/cascade_mask_rcnn_X_152": _zoo(
        "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv/18131413/model_0039999_e76410.pkl",
        {"depth": 152, **_X32X8D, "deformable": (False, True, True, True)},
        cascade=True,
        box={"convolutions": 4, "linear": 1, "norm": "group", "class_agnostic": True},
        mask={"kind": "convolution", "convolutions": 8, "norm": "group"},
    ),
    "coco/pointrend_R_50": _zoo(
        f"{_POINTREND_FILES}R_50_FPN_3x_coco/164955410/model_final_edd263.pkl", {"depth": 50, **_MSRA}, **_POINTREND
    ),
    "coco/pointrend_X_101": _zoo(
        f"{_POINTREND_FILES}X_101_32x8d_FPN_3x_coco/28119989/model_final_ba17b9.pkl",
        {"depth": 101, **_X32X8D},
        **_POINTREND,
    ),
}


def settings_of(initial: str, family: str | None = None) -> tuple[dict[str, Any], ModelSpec | None]:
    """Settings of a model, with its family, that fit the initial weights; and its specification if it has one.

    A checkpoint file does not tell its network's settings: only the family is given.

    Parameters
    ----------
    initial
        What to begin with.
    family
        The family that is wanted. Weights that serve several families are for this one then; others tell their own.

    Raises
    ------
    BundleError
        If there is no such model, nor such weights, nor such a file.
    """
    kind = _kind(initial)
    if kind == "model":
        spec = load_model(initial).spec
        return {"family": spec.family, **spec.config}, spec
    models = KNOWN[initial].models if kind == "known" else {name: {} for name in _CHECKPOINT_FAMILIES}
    chosen = family if family is not None and family in models else next(iter(models))
    return {"family": chosen, **models[chosen]}, None


def completed(model: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in settings where a model's own leave them open, within sections too; a section of another kind stays.

    Examples
    --------
    >>> completed({"backbone": {"freeze": 0}}, {"backbone": {"depth": 101, "freeze": 2}, "cascade": True})
    {'backbone': {'depth': 101, 'freeze': 0}, 'cascade': True}
    """
    filled = {**settings, **model}
    for name, value in settings.items():
        own = model.get(name)
        if (
            isinstance(value, Mapping)
            and isinstance(own, Mapping)
            and own.get("kind", value.get("kind")) == value.get("kind", own.get("kind"))
        ):
            filled[name] = completed(own, value)
    return filled


def begin_with(segmenter: Segmenter, initial: str, sha256: str | None = None) -> list[str]:
    """Give a network the initial weights, where they fit; tell which layers were made anew.

    A layer of which any array does not fit (those that depend on the classes, where there are others) stays as it is.

    Parameters
    ----------
    segmenter
        Changed in place.
    initial
        What to begin with.
    sha256
        SHA-256 that the file with the weights must have.

    Raises
    ------
    BundleError
        If the weights cannot be read, or none fits.
    ConfigError
        If the file has another checksum, or the weights are of another family.
    DownloadError
        If known weights cannot be fetched.
    """
    given = _weights(segmenter, initial, sha256)
    own = segmenter.state_dict()
    wrong = {name.rpartition(".")[0] for name, value in given.items() if name in own and own[name].shape != value.shape}
    fitting = {name: v for name, v in given.items() if name in own and name.rpartition(".")[0] not in wrong}
    if not fitting:
        raise BundleError(
            "the initial weights are for another network: nothing fits",
            where=initial,
            found=", ".join(sorted(given)[:3]),
            expected=", ".join(sorted(own)[:3]),
            fix="let the experiment's model be the one that the weights are of",
        )
    segmenter.load_state_dict(fitting, strict=False)
    # How many batches a norm has seen is no weight, and not always kept.
    missing = {name for name in own.keys() - fitting.keys() if not name.endswith("num_batches_tracked")}
    new = sorted({name.rpartition(".")[0] for name in missing})
    say(
        f"began with {len(fitting)} of {len(own)} arrays of {initial}"
        + (f"; made anew: {', '.join(new)}" if new else "")
    )
    unused = sorted(given.keys() - own.keys())
    if unused:
        warn(f"{len(unused)} arrays of {initial} have no place in this network, such as {unused[0]}")
    return new


def _kind(initial: str) -> str:
    """Tell ``model``, ``known`` and ``file`` apart; what lies on disk goes before names."""
    path = Path(initial)
    if path.suffix.lower() in CHECKPOINTS and not path.is_dir():
        if not path.is_file():
            raise BundleError("there is no such checkpoint", where=path)
        return "file"
    if initial in KNOWN and not path.exists():
        return "known"
    try:
        find_model(initial)
    except BundleError as error:
        if path.exists():
            raise
        near = difflib.get_close_matches(initial, [*KNOWN, *shipped_models()], n=1)
        raise BundleError(
            "there is no such model or weights to begin with",
            where=initial,
            expected="a model's name, bundle or run; a checkpoint ("
            + ", ".join(CHECKPOINTS)
            + "); or one of "
            + ", ".join(KNOWN),
            fix=f"did you mean {near[0]!r}?" if near else None,
        ) from error
    return "model"


def _weights(segmenter: Segmenter, initial: str, sha256: str | None) -> dict[str, Tensor]:
    """The initial weights by this network's names."""
    kind = _kind(initial)
    if kind == "model":
        bundle = load_model(initial)
        if sha256 is not None and bundle.spec.weights_sha256 != sha256.lower():
            raise _wrong_file(initial, str(bundle.spec.weights_sha256), sha256)
        return _for_channels(dict(bundle.segmenter.state_dict()), segmenter)
    path = Path(initial)
    if kind == "known":
        known = KNOWN[initial]
        path = fetch(known.url, known.path, known.checksum)
    if sha256 is not None and (found := Checksum("sha256", sha256).of(path)) != sha256.lower():
        raise _wrong_file(path, found, sha256)
    from cytomask.models.region.detectron2_weights import read_checkpoint

    return _for_channels(segmenter.from_checkpoint(read_checkpoint(path)), segmenter)


def _wrong_file(where: str | Path, found: str, expected: str) -> ConfigError:
    return ConfigError(
        "the initial weights are not those that the experiment was made with",
        where=where,
        found=f"sha256 {found}",
        expected=f"initial_sha256: {expected.lower()}",
    )


def _for_channels(weights: dict[str, Tensor], segmenter: Segmenter) -> dict[str, Tensor]:
    """The same weights, those of the first convolution for as many channels as the network has."""
    from cytomask.models.stem_weights import adapt_stem

    stem, channels = segmenter.first_convolution, segmenter.config.in_channels
    if stem is not None and stem in weights and weights[stem].ndim == 4 and weights[stem].shape[1] != channels:
        return {**weights, stem: adapt_stem(weights[stem], channels)}
    return weights
