"""Channel names and pixel size out of TIFF metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cytomask.errors import ImageError
from cytomask.formats.images import read_image
from cytomask.formats.tiff_metadata import micrometres
from cytomask.image import Image

_PLANE = np.arange(30 * 20, dtype=np.uint16).reshape(30, 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


def _read(path: Path, array: np.ndarray = _PLANE, **options: Any) -> Image:
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    return read_image(path)


def test_ome_channels_and_pixel_size(path: Path) -> None:
    names = ["DAPI", "Alexa 488", "Phalloidin"]
    metadata = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    image = _read(path, np.stack([_PLANE] * 3), ome=True, metadata=metadata)
    assert image.channels == tuple(names)
    assert image.pixel_size == (0.5, 0.25)
    assert "axes CYX: told by the OME metadata" in image.resolved
    assert "the pixel size is told by the OME metadata" in image.resolved


@pytest.mark.parametrize(
    ("unit", "factor"), [("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4), ("m", 1e6), ("Å", 1e-4), ("inch", 25_400)]
)
def test_ome_units(path: Path, unit: str, factor: float) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    assert _read(path, ome=True, metadata=metadata).pixel_size == pytest.approx((0.5 * factor, 0.25 * factor))


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_ome_sizes_that_are_no_lengths(path: Path, unit: str) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": unit}
    assert _read(path, ome=True, metadata=metadata).pixel_size is None


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_ome_sizes_that_cannot_be(path: Path, size: float) -> None:
    assert _read(path, ome=True, metadata={"axes": "YX", "PhysicalSizeX": size}).pixel_size is None


def test_one_ome_size_is_taken_for_both_sides(path: Path) -> None:
    assert _read(path, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.3}).pixel_size == (0.3, 0.3)


def test_ome_names_of_one_channel_and_of_a_stack(path: Path) -> None:
    image = _read(path, ome=True, metadata={"axes": "YX", "Channel": {"Name": ["DAPI"]}})
    assert image.channels == ("DAPI",)
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, np.zeros((3, 2, 30, 20), np.uint8), photometric="minisblack", ome=True, metadata=metadata)
    assert read_image(path, plane=2).channels == ("DAPI", "GFP")


def test_ome_channels_without_a_name_are_numbered(path: Path) -> None:
    image = _read(path, np.stack([_PLANE] * 2), ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["", "GFP"]}})
    assert image.channels == ("channel 0", "GFP")


def test_colour_in_ome_keeps_the_names_of_its_samples(path: Path) -> None:
    array = np.zeros((30, 20, 3), np.uint8)
    tifffile.imwrite(path, array, photometric="rgb", ome=True, metadata={"axes": "YXS", "Channel": {"Name": ["stain"]}})
    image = read_image(path)
    assert image.rgb
    assert image.channels == ("red", "green", "blue")


def test_damaged_ome_metadata_are_said(path: Path) -> None:
    tifffile.imwrite(path, _PLANE, description='<?xml version="1.0"?><OME><Image></OME>', metadata=None)
    image = read_image(path)
    assert image.shape == (30, 20)
    assert "OME metadata are damaged" in image.resolved


def test_imagej_metadata_that_do_not_fit_are_said(path: Path) -> None:
    description = "ImageJ=1.54\nimages=12\nchannels=12\nunit=um\n"
    tifffile.imwrite(path, _PLANE, description=description, metadata=None)
    image = read_image(path)
    assert image.n_channels == 1
    assert "ImageJ metadata do not fit" in image.resolved
    tifffile.imwrite(path, _PLANE, description=description, metadata=None, compression="zlib")
    with pytest.raises(ImageError, match="11 of 12 pages are not there"):
        read_image(path)


def test_a_large_stack_of_imagej_is_one_page_with_all_planes_behind_it(path: Path) -> None:
    description = "ImageJ=1.54\nimages=12\nslices=12\n"
    tifffile.imwrite(path, _PLANE, description=description, metadata=None)
    start = path.read_bytes()
    planes = [bytes([number]) * _PLANE.nbytes for number in range(1, 12)]
    path.write_bytes(start + b"".join(planes))
    with pytest.raises(ImageError, match="stack of 12 planes"):
        read_image(path)
    assert (read_image(path, plane=5).pixels == 5 * 257).all()
    path.write_bytes(start + b"".join(planes[:6]))
    with pytest.raises(ImageError, match="7 whole planes where ImageJ's metadata announce 12"):
        read_image(path)


def test_an_entity_bomb_in_ome_metadata_does_no_harm(path: Path) -> None:
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "aaaaaaaaaa">{entities}]><OME>&a12;</OME>'
    tifffile.imwrite(path, _PLANE, description=bomb, metadata=None)
    assert "damaged" in read_image(path).resolved


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "nm", "mm", "cm"])
def test_imagej_units(path: Path, unit: str) -> None:
    factor = {"nm": 1e-3, "mm": 1e3, "cm": 1e4}.get(unit, 1)
    image = _read(path, imagej=True, resolution=(4, 2), metadata={"axes": "YX", "unit": unit})
    assert image.pixel_size == pytest.approx((0.5 * factor, 0.25 * factor))
    assert "told by the ImageJ metadata" in image.resolved


@pytest.mark.parametrize("unit", [None, "pixel", "inch"])
def test_imagej_units_that_tell_nothing(path: Path, unit: str | None) -> None:
    image = _read(path, imagej=True, resolution=(72, 72), metadata={"axes": "YX", "unit": unit})
    assert image.pixel_size is None


def test_imagej_may_tell_another_unit_along_y(path: Path) -> None:
    description = "ImageJ=1.54\nunit=nm\nyunit=micron\n"
    options: dict[str, Any] = {"resolution": (4, 2), "resolutionunit": "NONE", "metadata": None}
    assert _read(path, description=description, **options).pixel_size == pytest.approx((0.5, 0.25e-3))


def test_ome_channels_of_several_samples(path: Path) -> None:
    array = np.zeros((2, 30, 20, 3), np.uint8)
    metadata = {"axes": "CYXS", "Channel": {"Name": ["stain", "control"]}}
    tifffile.imwrite(path, array, photometric="rgb", ome=True, metadata=metadata)
    assert read_image(path).channels == ("stain",) * 3 + ("control",) * 3


def test_imagej_labels_name_channels_where_each_has_its_own(path: Path) -> None:
    array = np.zeros((2, 3, 30, 20), np.uint8)
    options: dict[str, Any] = {"imagej": True, "photometric": "minisblack"}
    labels = ["DAPI", "GFP", "RFP", "DAPI", "GFP", "RFP"]
    tifffile.imwrite(path, array, metadata={"axes": "ZCYX", "Labels": labels}, **options)
    assert read_image(path, plane=1).channels == ("DAPI", "GFP", "RFP")
    labels = [f"c:{c}/3 z:{z}/2 - {name}" for z in (1, 2) for c, name in enumerate(["DAPI", "GFP", "RFP"], 1)]
    tifffile.imwrite(path, array, metadata={"axes": "ZCYX", "Labels": labels}, compression="zlib", **options)
    assert read_image(path, plane=0).channels == ("DAPI", "GFP", "RFP")
    tifffile.imwrite(path, array, metadata={"axes": "ZCYX", "Labels": ["a.tif"] * 6}, **options)
    assert read_image(path, plane=0).channels == ("channel 0", "channel 1", "channel 2")


@pytest.mark.parametrize(("unit", "per_unit"), [("CENTIMETER", 20_000), ("INCH", 50_800)])
def test_a_fine_resolution_is_a_pixel_size(path: Path, unit: str, per_unit: float) -> None:
    image = _read(path, resolution=(per_unit, per_unit / 2), resolutionunit=unit, metadata=None)
    assert image.pixel_size == pytest.approx((1.0, 0.5))
    assert "told by the resolution tags" in image.resolved


@pytest.mark.parametrize("dpi", [72, 96, 300, 1200, 2400])
def test_a_printers_resolution_is_none_and_said(path: Path, dpi: float) -> None:
    image = _read(path, resolution=(dpi, dpi), resolutionunit="INCH", metadata=None)
    assert image.pixel_size is None
    assert f"{dpi:.3g} dpi, a screen's or printer's" in image.resolved


def test_a_resolution_of_nothing_is_none(path: Path) -> None:
    image = _read(path, resolution=((0, 1), (0, 1)), resolutionunit="CENTIMETER", metadata=None)
    assert image.pixel_size is None


@pytest.mark.parametrize("micro", ["\u00b5", "\u03bc", "\\u00B5", "u", "U"])
def test_both_signs_for_micro_are_known(micro: str) -> None:
    assert micrometres(f" {micro}m") == 1.0


def test_a_resolution_without_a_unit_is_none(path: Path) -> None:
    assert _read(path, resolution=(20_000, 20_000), resolutionunit="NONE", metadata=None).pixel_size is None
