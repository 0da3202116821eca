"""Weights of detectron2's checkpoints for the region family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytomask.errors import BundleError
from cytomask.formats.pickle_parts import PickleError
from cytomask.formats.torch_files import TorchFile, open_torch_file
from cytomask.models.region.config import RegionConfig
from cytomask.models.region.detectron2_names import our_name, present_name, reason_to_ignore

_STEM = "pyramid.backbone.stem.conv1.weight"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint: ``.pth`` of a training, ``.pkl`` of the zoo, or a backbone of Caffe2's.

    Nothing in the file is run: it is followed by :mod:`cytomask.formats.torch_files`.

    Returns
    -------
    dict
        Detectron2's present names -> tensors. Names of earlier versions and of backbones by themselves are turned into
        these.

    Raises
    ------
    BundleError
        If the file is no such checkpoint, is broken, or would run something.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model_final.pth"
    ...     torch.save({"model": {"backbone.fpn_lateral2.bias": torch.zeros(3)}, "iteration": 9}, path)
    ...     read_checkpoint(path)
    {'backbone.fpn_lateral2.bias': tensor([0., 0., 0.])}
    """
    path = Path(path)
    try:
        with open_torch_file(path) as file:
            return {present_name(name): tensor for name, tensor in _arrays(file).items()}
    except OSError as error:
        raise BundleError("the checkpoint cannot be read", where=path, found=error.strerror or error) from error
    except PickleError as error:
        raise BundleError(
            "the file is no checkpoint that can be read",
            where=path,
            found=str(error),
            expected="a .pth file of torch.save or a .pkl file of detectron2's zoo, with a table 'model' of arrays",
        ) from error


def to_cytomask(state: Mapping[str, Tensor], config: RegionConfig, *, bgr: bool = True) -> dict[str, Tensor]:
    """Translate weights from detectron2's names to those of :class:`RegionSegmenter`.

    Parameters
    ----------
    state
        As :func:`read_checkpoint` gives it. What :func:`left_out` names is left out.
    config
        The network that they are for. Nothing is checked against it but what kind of norm layers it has: where frozen
        batch norms come without statistics, these are 0 and 1.
    bgr
        The first convolution of the checkpoint takes blue, green, red, as all of the zoo do; it is made to take red,
        green, blue.

    Examples
    --------
    >>> weight = torch.arange(3.0).reshape(1, 3, 1, 1)
    >>> to_cytomask({"backbone.bottom_up.stem.conv1.weight": weight, "pixel_std": weight}, RegionConfig())
    {'pyramid.backbone.stem.conv1.weight': tensor([[[[2.]], [[1.]], [[0.]]]])}
    """
    counted = "batch" in _norms(config)
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        mine = our_name(name)
        if mine is not None and (counted or not mine.endswith(".num_batches_tracked")):
            ours[mine] = tensor
    if bgr and _STEM in ours and ours[_STEM].dim() == 4 and ours[_STEM].shape[1] == 3:
        ours[_STEM] = ours[_STEM].flip(1)
    if config.backbone.norm == "frozen_batch":
        for name in [n for n in ours if n.startswith("pyramid.backbone.") and n.endswith(".norm.weight")]:
            norm = name.removesuffix("weight")
            ours.setdefault(f"{norm}running_mean", torch.zeros_like(ours[name]))
            ours.setdefault(f"{norm}running_var", torch.ones_like(ours[name]))
    return ours


def left_out(state: Mapping[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    """Tell which arrays :func:`to_cytomask` leaves out: those not needed, with the reason, and those not known.

    Examples
    --------
    >>> left_out({"pixel_mean": torch.zeros(3), "roi_heads.keypoint_head.conv_fcn1.bias": torch.zeros(3)})
    ({'pixel_mean': 'the configuration says how pixels are normalised'}, ['roi_heads.keypoint_head.conv_fcn1.bias'])
    """
    others = [name for name in state if our_name(name) is None]
    reasons = {name: reason for name in others if (reason := reason_to_ignore(name)) is not None}
    return reasons, [name for name in others if name not in reasons]


def _norms(config: RegionConfig) -> set[str]:
    mask = config.mask.norm if config.mask.kind == "convolution" else "none"
    return {config.backbone.norm, config.pyramid.norm, config.box.norm, mask}


def _arrays(file: TorchFile) -> dict[str, Tensor]:
    """All arrays of the table of weights, wherever the kind of checkpoint has it."""
    content: Any = file.content
    for key in ("model", "model_state", "state_dict", "blobs"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise PickleError("it holds no table of arrays")
    found = {name: file.tensor(part) for name, part in content.items() if isinstance(name, str)}
    arrays = {name: tensor for name, tensor in found.items() if tensor is not None}
    if not arrays:
        raise PickleError("it holds no arrays")
    return arrays
