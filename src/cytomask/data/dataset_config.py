"""The data set's YAML file: where images and labels lie, and what they mean."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cytomask.data.splits import USUAL_NAMES, DrawnSplits, SplitConfig, TableSplits, usual_name
from cytomask.data.steps import Step, parse_steps
from cytomask.errors import ConfigError, first_problem

#: A folder that holds one of these needs nothing else.
CONFIG_NAMES = ("dataset.yaml", "dataset.yml")

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ObjectClasses(BaseModel):
    """A table that gives each object its class: one row per object."""

    model_config = ConfigDict(extra="forbid")

    csv: str = Field(description="CSV file")
    image: str = Field("image", description="column with the image's name")
    id: str = Field("id", description="column with the object's value in the label image")
    class_: str = Field("class", alias="class", description="column with the class, by name or number from 1")


class PairConfig(BaseModel):
    """An image and its label image whose names do not tell that they belong together."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(description="the image's file")
    labels: str = Field(description="the label image's file")
    name: str | None = Field(None, description="what to call it; the image's name without its suffix if not given")


class DatasetConfig(BaseModel):
    """A data set of images and label images, or annotations.

    Relative paths are meant from the YAML file's folder (or from ``root``) and must stay inside it.
    """

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="what to call it; the folder's name if not given")
    description: str = ""
    licence: str | None = None
    root: str = Field(".", description="folder from which relative paths are meant")
    images: str | None = Field(None, description="folder of images (with its subfolders), or a pattern: raw/*.tif")
    labels: str | None = Field(None, description="folder of label images, or a pattern")
    pairs: tuple[PairConfig, ...] | None = Field(
        None, min_length=1, description="in place of both: each image with its label image, by file"
    )
    annotations: str | dict[str, str] | None = Field(
        None,
        description="in place of labels: an annotation file or folder, or one for each split: {train: train.json, …}",
    )
    annotation_format: str | None = Field(
        None, description="the annotations' format; told by their content if not given"
    )
    image_suffix: str = Field("", description="what the images' file names have after the name, such as _img")
    label_suffix: str | None = Field(None, description="what the label images' file names have after it, such as _mask")
    table: str | None = Field(None, description="CSV file with a row per image; manifest.csv if there is one")
    name_column: str | None = Field(None, description="the table's column with the images' names")
    splits: SplitConfig | None = Field(None, description="which images are for training, validation, testing")
    classes: tuple[str, ...] | None = Field(None, description="names of the classes, the first has number 1")
    object_classes: ObjectClasses | None = Field(None, description="the class of each object, from a table")
    axes: str | None = Field(None, description="axes of the image files, such as CYX, where they cannot tell")
    plane: int | None = Field(None, ge=0, description="which plane of image files that have several")
    channels: tuple[str, ...] | None = Field(None, description="names of the images' channels, in order")
    pixel_size: _Positive | tuple[_Positive, _Positive] | None = Field(
        None, description="µm per pixel (along y and x), where the image files do not say"
    )
    steps: list[Any] | dict[str, list[Any]] = Field(
        default_factory=list, description="preprocessing steps, for all images or for each split"
    )

    @field_validator("splits", mode="before")
    @classmethod
    def _lists_of_text(cls, value: Any) -> Any:
        # A single name may stand for a list of one, and a number for the name that it is: 17 for "17".
        if not isinstance(value, dict) or not any(str(k).casefold() in USUAL_NAMES for k in value):
            return value
        if {"csv", "column"} & value.keys() and isinstance(value.get("validation", 0.0), int | float):
            return value
        return {
            str(k): [v if isinstance(v, dict | list) else str(v) for v in (vs if isinstance(vs, list) else [vs])]
            for k, vs in value.items()
        }

    @field_validator("annotations")
    @classmethod
    def _usual_splits(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if not isinstance(value, dict):
            return value
        named = {usual_name(split): path for split, path in value.items()}
        if not value or len(named) < len(value):
            raise ValueError("annotations name a file for each split, and each split once")
        return named

    @model_validator(mode="after")
    def _one_kind_of_truth(self) -> Self:
        if self.pairs is not None:
            others = ("images", "labels", "annotations")
            named = next((name for name in others if getattr(self, name) is not None), None)
            if named is not None:
                raise ValueError(f"pairs and {named} exclude each other")
        if self.annotations is None:
            if self.annotation_format is not None:
                raise ValueError("annotation_format says how annotations are read, but none are named")
            return self
        for name, value in (("labels", self.labels), ("object_classes", self.object_classes)):
            if value is not None:
                raise ValueError(f"annotations and {name} exclude each other")
        if isinstance(self.annotations, dict) and self.splits is not None:
            raise ValueError("a file of annotations for each split and splits exclude each other")
        return self

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value) or not all(v.strip() for v in value)):
            raise ValueError("classes need one or more different names (the background is not listed)")
        return value

    @field_validator("steps")
    @classmethod
    def _usual(cls, value: list[Any] | dict[str, list[Any]]) -> list[Any] | dict[str, list[Any]]:
        return {usual_name(k): v for k, v in value.items()} if isinstance(value, dict) else value

    def steps_by_split(self, splits: Sequence[str], where: Path) -> dict[str | None, tuple[Step, ...]]:
        """Preprocessing steps for the images of each split, and (under None) of no split.

        Raises
        ------
        ConfigError
            If steps are given for a split that there is not.
        """
        everyone: list[str | None] = [*splits, None]
        if not isinstance(self.steps, dict):
            return dict.fromkeys(everyone, parse_steps(self.steps))
        unknown = sorted(set(self.steps) - set(splits))
        if unknown:
            raise ConfigError(
                "there are preprocessing steps for a split that the data set has not",
                where=where, found=", ".join(unknown), expected=", ".join(splits),
            )  # fmt: skip
        return {split: parse_steps(self.steps.get(split or "", ())) for split in everyone}


def _why_unread(error: Exception) -> str:
    """In one line, with the place."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is no text"
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())


def read_config(path: Path) -> DatasetConfig:
    """Read a data set's YAML file.

    Raises
    ------
    ConfigError
        If the file cannot be read, has an unknown key (the nearest known one is named) or a wrong value.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            "the data set's file cannot be read", where=path, found=_why_unread(error), expected="YAML in UTF-8"
        ) from error
    if not isinstance(fields, dict):
        raise ConfigError(
            "the data set's file is not a table of settings", where=path,
            found="nothing" if fields is None else type(fields).__name__,
            expected="images: …, labels: …",
        )  # fmt: skip
    try:
        config = DatasetConfig.model_validate(fields)
    except ValidationError as error:
        raise _config_error(error, path) from error
    steps = config.steps
    for part in steps.values() if isinstance(steps, dict) else [steps]:
        parse_steps(part, where=path)
    return config


#: Which settings are known where.
_KNOWN: dict[tuple[str, ...], type[BaseModel]] = {
    (): DatasetConfig,
    ("splits", "table"): TableSplits,
    ("splits", "drawn"): DrawnSplits,
    ("object_classes",): ObjectClasses,
    ("pairs",): PairConfig,
}


def _config_error(error: ValidationError, path: Path) -> ConfigError:
    problem = error.errors()[0]
    *parents, wrong = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
    model = _KNOWN.get(tuple(parents))
    if problem["type"] != "extra_forbidden" or model is None:
        return ConfigError("the data set's file has a wrong setting", where=path, found=first_problem(error))
    known = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(wrong, known, n=1)
    place = ".".join(p for p in (*parents, wrong) if p not in ("table", "drawn"))
    return ConfigError(
        f"the data set's file has an unknown setting {place!r}",
        where=path,
        expected="one of " + ", ".join(known),
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def inside(root: Path, text: str, where: Path, setting: str) -> Path:
    """Resolve a path that a data set's file names; a relative one must not leave the data set's folder.

    Raises
    ------
    ConfigError
        If a relative path leaves the folder by way of ``..``.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{setting} names a home folder that there is not", where=where, found=text) from error
    if path.is_absolute():
        return path
    resolved = Path(os.path.normpath(root / path))
    if not resolved.is_relative_to(os.path.normpath(root)):
        raise ConfigError(
            f"{setting} leads out of the data set's folder",
            where=where,
            found=text,
            expected=f"a path inside {root}",
            fix="move the files into the folder, or write the whole path from the root",
        )
    return resolved
