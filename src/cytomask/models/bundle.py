"""A model bundle: a folder (or one zip) with all that prediction needs.

``model.yaml`` says what the model is and how images must be prepared for it; ``weights.safetensors`` holds the
numbers. Neither can carry code, so a bundle from anywhere can be opened safely.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from cytomask._version import __version__
from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import Normalisation, PercentileNormalisation
from cytomask.data.working_size import ImageSize
from cytomask.errors import BundleError, first_problem
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.output import output_folder, replacing

#: Raised when a field changes its meaning; older numbers stay readable.
FORMAT_VERSION = 1
SPEC_NAME, WEIGHTS_NAME, CARD_NAME = "model.yaml", "weights.safetensors", "README.md"
#: No honest bundle holds more in its two text files.
_MAX_TEXT = 4 * 2**20
_MAX_WEIGHTS = 4 * 2**30


class TrainingRecord(BaseModel):
    """Where a model comes from."""

    model_config = ConfigDict(extra="allow")

    data: str | None = Field(None, description="name of the training data")
    data_licence: str | None = Field(None, description="licence of the training data")
    data_fingerprint: str | None = None
    command: str | None = None
    minutes: float | None = None
    hardware: str | None = None


class ModelSpec(BaseModel):
    """The content of ``model.yaml``."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    cytomask_version: str = __version__
    name: str
    family: str
    config: dict[str, Any]
    channels: ChannelExpectation = Field(default_factory=ChannelExpectation)
    normalisation: Normalisation = Field(default_factory=PercentileNormalisation)
    pixel_size: float | None = Field(None, gt=0, description="µm per pixel that the model was trained at")
    diameter: float | None = Field(None, gt=0, description="median object diameter in training, in network pixels")
    diameter_range: tuple[float, float] | None = Field(None, description="object diameters it was trained for, pixels")
    resize: ImageSize | None = Field(
        None, description="size that whole images are brought to, where no diameter is given; else the pixel size says"
    )
    precision: Literal["auto", "float32"] = Field(
        "auto", description="float32: what the network computes in unless told otherwise; auto: what is fast"
    )
    postprocess: dict[str, Any] = Field(default_factory=dict)
    training: TrainingRecord = Field(default_factory=TrainingRecord)
    metrics: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: str | None = None


class Bundle:
    """A network together with its specification.

    Attributes
    ----------
    segmenter
        The network, in evaluation mode when loaded.
    spec
        Everything else.
    path
        Where it was loaded from, or None.
    """

    def __init__(self, segmenter: Segmenter, spec: ModelSpec, path: Path | None = None) -> None:
        self.segmenter, self.spec, self.path = segmenter, spec, path

    @property
    def postprocess(self) -> Postprocess:
        """The thresholds, as the family's own class."""
        return self.segmenter.postprocess_class.model_validate(self.spec.postprocess)


def save_bundle(bundle: Bundle, folder: str | Path, card: str | None = None, *, half: bool = False) -> Path:
    """Write a bundle into a folder; an existing bundle there is replaced file by file, each atomically.

    Parameters
    ----------
    bundle
        What to save. Its ``spec`` is updated with the checksum of the weights.
    folder
        Where to.
    card
        Text of a model card, written as ``README.md``.
    half
        Keep weights in half precision, in half the space; networks compute as before.
    """
    target = output_folder(folder)
    state = {name: t.detach().cpu().contiguous() for name, t in bundle.segmenter.state_dict().items()}
    if half:
        limit = torch.finfo(torch.float16).max
        state = {n: t.clamp(-limit, limit).half() if t.is_floating_point() else t for n, t in state.items()}
    data = save_tensors(state)
    spec = bundle.spec.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    with replacing(target / WEIGHTS_NAME) as path:
        path.write_bytes(data)
    with replacing(target / SPEC_NAME) as path:
        path.write_text(spec_to_yaml(spec), encoding="utf-8")
    if card is not None:
        with replacing(target / CARD_NAME) as path:
            path.write_text(card, encoding="utf-8")
    return target


def spec_to_yaml(spec: ModelSpec) -> str:
    """Write a specification as YAML, in the order of its fields."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def zip_bundle(folder: str | Path, target: str | Path) -> Path:
    """Pack a bundle's folder into one zip file."""
    with replacing(target) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in (SPEC_NAME, WEIGHTS_NAME, CARD_NAME):
            if (Path(folder) / name).exists():
                archive.write(Path(folder) / name, name)
    return Path(target)


def unzip_bundle(source: str | Path, folder: str | Path) -> Path:
    """Unpack the known files of a zipped bundle; anything else in the archive is left alone."""
    target = output_folder(folder)
    for name in (SPEC_NAME, WEIGHTS_NAME, CARD_NAME):
        limit = _MAX_WEIGHTS if name == WEIGHTS_NAME else _MAX_TEXT
        data = _read_zip(Path(source), name, limit, required=name != CARD_NAME)
        if data is not None:
            with replacing(target / name) as path:
                path.write_bytes(data)
    return target


def read_spec(path: str | Path) -> ModelSpec:
    """Read and check ``model.yaml`` of a bundle (a folder or a zip).

    Raises
    ------
    BundleError
        If it is missing, damaged, or written by a newer version.
    """
    path = Path(path)
    raw = _read_member(path, SPEC_NAME, _MAX_TEXT)
    try:
        fields = yaml.safe_load(raw.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleError(
            "the model's description cannot be read",
            where=path / SPEC_NAME,
            found=str(error).splitlines()[0],
            expected="YAML text",
            fix="copy the bundle again from where it came",
        ) from error
    if not isinstance(fields, dict):
        raise BundleError("the model's description is not a table", where=path / SPEC_NAME, found=type(fields).__name__)
    version = fields.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            "the model bundle was written by a newer version of cytomask",
            where=path,
            found=f"bundle format {version} (cytomask {fields.get('cytomask_version')})",
            expected=f"bundle format up to {FORMAT_VERSION} (this is cytomask {__version__})",
            fix="update cytomask: pip install --upgrade cytomask",
        )
    try:
        return ModelSpec.model_validate(fields)
    except ValidationError as error:
        raise BundleError(
            "the model's description has a wrong entry", where=path / SPEC_NAME, found=first_problem(error)
        ) from error


def load_bundle(path: str | Path) -> Bundle:
    """Load a bundle from a folder or a zip, on the CPU, ready to predict.

    Raises
    ------
    BundleError
        If a file is missing, damaged, or from a newer version, or the weights do not fit the network.
    """
    path = Path(path)
    spec = read_spec(path)
    data = _read_member(path, WEIGHTS_NAME, _MAX_WEIGHTS)
    where = path / WEIGHTS_NAME
    again = "copy the bundle again from where it came"
    found = hashlib.sha256(data).hexdigest()
    if spec.weights_sha256 is not None and found != spec.weights_sha256:
        raise BundleError(
            "the model's weights are damaged: their checksum is wrong",
            where=where,
            found=found[:16] + "…",
            expected=spec.weights_sha256[:16] + "…",
            fix=again,
        )
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise BundleError("the model's weights cannot be read", where=where, found=error, fix=again) from error
    segmenter = build_segmenter(spec.family, spec.config)
    _load_state(segmenter, state, where)
    segmenter.eval()
    bundle = Bundle(segmenter, spec, path)
    try:
        _ = bundle.postprocess
    except ValidationError as error:
        raise BundleError(
            "the model's thresholds are wrong", where=path / SPEC_NAME, found=first_problem(error)
        ) from error
    return bundle


def _load_state(segmenter: Segmenter, state: dict[str, torch.Tensor], where: Path) -> None:
    expected = segmenter.state_dict()
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or extra or wrong:
        raise BundleError(
            "the model's weights do not fit its network",
            where=where,
            found=f"{len(missing)} missing, {len(extra)} unknown, {len(wrong)} of another shape: "
            + ", ".join((missing + extra + wrong)[:3]),
            expected=f"{len(expected)} arrays",
            fix="model.yaml and weights.safetensors must come from one bundle",
        )
    segmenter.load_state_dict({k: v.to(expected[k].dtype) for k, v in state.items()})


def _read_member(path: Path, name: str, limit: int) -> bytes:
    if not path.exists():
        raise BundleError("there is no such model", where=path, fix="`cytomask models list` shows the shipped ones")
    if path.is_file():
        data = _read_zip(path, name, limit, required=True)
        assert data is not None
        return data
    member = path / name
    if not member.is_file():
        raise BundleError(
            f"the folder is not a model bundle: it has no {name}",
            where=path,
            found=", ".join(sorted(p.name for p in path.iterdir())[:6]) or "an empty folder",
            expected=f"{SPEC_NAME} and {WEIGHTS_NAME}",
            fix="name the folder that `cytomask train` wrote",
        )
    try:
        if member.stat().st_size > limit:
            raise BundleError("a file of the bundle is too large", where=member, found=member.stat().st_size)
        return member.read_bytes()
    except OSError as error:
        raise BundleError("a file of the bundle cannot be read", where=member, found=error.strerror) from error


def _read_zip(path: Path, name: str, limit: int, *, required: bool) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                if not required:
                    return None
                raise BundleError(
                    f"the file is not a model bundle: it holds no {name}",
                    where=path,
                    found=", ".join(archive.namelist()[:6]) or "an empty archive",
                )
            if archive.getinfo(name).file_size > limit:
                raise BundleError("a file of the bundle is too large", where=f"{path}:{name}")
            return archive.read(name)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise BundleError(
            "the file is not a model bundle", where=path, found=error, expected="a folder or a zip with " + SPEC_NAME
        ) from error


def copy_bundle(source: str | Path, target: str | Path) -> Path:
    """Copy a bundle's known files into another folder."""
    folder = output_folder(target)
    for name in (SPEC_NAME, WEIGHTS_NAME, CARD_NAME):
        if (Path(source) / name).is_file():
            with replacing(folder / name) as path:
                shutil.copyfile(Path(source) / name, path)
    return folder
