"""The published data sets that cytomask knows: where they lie, what they hold, under which licence."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from cytomask.errors import ConfigError
from cytomask.storage.systems import name_of

CATALOGUE = Path(__file__).parent


class SourceFile(BaseModel):
    """A file that is downloaded."""

    model_config = ConfigDict(extra="forbid")

    url: str
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="its checksum, where it is known")
    into: str = Field("", description="folder that it is put or unpacked into")

    @property
    def name(self) -> str:
        """What the file is called."""
        return name_of(self.url)


class Pairs(BaseModel):
    """How images and labels are paired that no name brings together."""

    model_config = ConfigDict(extra="forbid")

    images: str = Field(description="pattern of the images")
    labels: tuple[str, str] = Field(description="what in an image's path to replace, and by what, for its labels'")
    suffix: str | None = Field(None, description="what labels' names end in, if not in the same as images'")
    columns: tuple[str, ...] = Field((), description="what the images' folders, from the first, tell")


class DataSetEntry(BaseModel):
    """A published data set."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    holds: str
    images: int | None = None
    homepage: str
    licence: str
    commercial: bool = Field(True, description="whether commercial use is allowed")
    citation: str
    note: str = ""
    files: tuple[SourceFile, ...] = Field(min_length=1)
    pairs: Pairs | None = None
    dataset: dict[str, Any] = Field(description="settings of its dataset.yaml")
    format: Literal[1] = 1

    def describe(self) -> list[str]:
        """What people should know before they download it, a line each."""
        use = "" if self.commercial else ": NON-COMMERCIAL USE ONLY, of the data and of models trained on it"
        known = sum(file.sha256 is not None for file in self.files)
        checks = (
            "known"
            if known == len(self.files)
            else f"known for {known} of {len(self.files)} files; what the first download of the others has is kept"
        )
        rows = {
            "holds": self.holds,
            "licence": self.licence + use,
            "cite": self.citation,
            "from": self.homepage,
            "files": ", ".join(file.url for file in self.files),
            "checksums": checks,
            "note": self.note,
        }
        return [f"{self.name}: {self.title}", *(f"  {key + ':':<11}{text}" for key, text in rows.items() if text)]


@cache
def read_catalogue(folder: Path | None = None) -> dict[str, DataSetEntry]:
    """All data sets by their names.

    Examples
    --------
    >>> "s-bsst265" in read_catalogue()
    True
    """
    found = {}
    for path in sorted((folder or CATALOGUE).glob("*.yaml")):
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.stem] = DataSetEntry.model_validate({"name": path.stem, **fields})
    return found


def find_data_set(name: str) -> DataSetEntry:
    """One data set of the catalogue.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    catalogue = read_catalogue(CATALOGUE)
    if name not in catalogue:
        near = difflib.get_close_matches(name.lower(), catalogue, n=1, cutoff=0.4)
        raise ConfigError(
            "there is no such data set in the catalogue",
            found=name, expected=", ".join(catalogue), fix=f"did you mean {near[0]!r}?" if near else None,
        )  # fmt: skip
    return catalogue[name]


def describe_catalogue() -> list[str]:
    """One line per data set."""
    return [
        f"{one.name:<22} {one.licence:<13} {one.title}" + ("" if one.commercial else " (non-commercial)")
        for one in read_catalogue(CATALOGUE).values()
    ]
