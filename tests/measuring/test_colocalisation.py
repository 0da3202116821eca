"""Colocalisation: every figure against scikit-image's or plain numpy, in objects and in the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.filters import threshold_otsu
from skimage.measure import manders_coloc_coeff, manders_overlap_coeff, pearson_corr_coeff

from cytomask.errors import ChannelError, ConfigError, LabelError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.colocalisation import FIGURES, colocalisation, costes_thresholds


def expected(a: np.ndarray, b: np.ndarray, limits: tuple[float, float], mask: np.ndarray) -> list[float]:
    a, b = a.astype(float), b.astype(float)
    inside_a, inside_b = a[mask], b[mask]
    product = (inside_a - inside_a.mean()) * (inside_b - inside_b.mean())
    return [
        pearson_corr_coeff(a, b, mask)[0],
        spearmanr(inside_a, inside_b)[0],
        manders_coloc_coeff(a, b > limits[1], mask),
        manders_coloc_coeff(b, a > limits[0], mask),
        manders_overlap_coeff(a, b, mask),
        (product > 0).mean() - 0.5,
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_figures_are_those_of_other_programs(dtype: type) -> None:
    rng = np.random.default_rng(3)
    shared = rng.gamma(2, 20, (40, 50))
    pixels = np.stack([shared + rng.gamma(2, 10, (40, 50)) for _ in range(3)]).clip(0, 255).astype(dtype)
    image = Image.from_array(pixels, axes="CYX", channels=["a", "b 1", "c"])
    crops = [rng.random((12, 15)) < 0.7, np.ones((9, 9), bool), rng.random((20, 20)) < 0.4]
    objects = Instances.from_crops((40, 50), crops, [(2, 3), (8, 10), (19, 28)])
    found = colocalisation(objects, image)
    names = [("a", "b_1", 0, 1), ("a", "c", 0, 2), ("b_1", "c", 1, 2)]
    assert found.pairs == tuple((a, b) for a, b, _, _ in names)
    inside = np.any([objects.full_mask(i) for i in range(3)], axis=0)
    for one, other, a, b in names:
        limits = threshold_otsu(pixels[a]), threshold_otsu(pixels[b])
        assert found.thresholds[f"{one}_{other}"] == pytest.approx(limits)
        for i in range(3):
            row = [found.objects[f"{one}_{other}_{figure}"][i] for figure in FIGURES]
            np.testing.assert_allclose(row, expected(pixels[a], pixels[b], limits, objects.full_mask(i)), rtol=1e-9)
        for label, mask in (("", np.ones((40, 50), bool)), ("in_objects_", inside)):
            whole = [found.image[f"{one}_{other}_{label}{figure}"] for figure in FIGURES]
            np.testing.assert_allclose(whole, expected(pixels[a], pixels[b], limits, mask), rtol=1e-9)


def test_a_constant_channel_correlates_with_nothing() -> None:
    pixels = np.stack([np.full((6, 6), 7), np.arange(36).reshape(6, 6), np.zeros((6, 6))]).astype(np.uint8)
    image = Image.from_array(pixels, axes="CYX", channels=["a", "b", "c"])
    objects = Instances.from_crops((6, 6), [np.ones((3, 3), bool), np.zeros((2, 2), bool)], [(1, 1), (0, 0)])
    row = colocalisation(objects, image, threshold="none").objects
    assert row[["a_b_pearson", "a_b_spearman", "a_c_overlap", "a_c_m2"]].isna().all(axis=None)
    assert row["a_b_m1"][0] == 1
    assert row.iloc[1].isna().all()


def test_costes_separates_signal_from_independent_noise() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(100, 5, (2, 20_000))
    signal = np.zeros(20_000)
    signal[:2000] = rng.uniform(100, 400, 2000)
    low, high = costes_thresholds(a + signal, b + 0.5 * signal)
    above = (a + signal > low) & (b + 0.5 * signal > high)
    assert above[:2000].mean() > 0.99
    below = ~above
    assert np.corrcoef((a + signal)[below], (b + 0.5 * signal)[below])[0, 1] <= 0.02
    assert above[2000:].mean() < 0.2
    assert np.isnan(costes_thresholds(a, 300 - a)).all()
    assert np.isnan(costes_thresholds(np.ones(10), a[:10])).all()


def test_what_cannot_be_measured_is_said() -> None:
    grey = Image.from_array(np.zeros((5, 5), np.uint8))
    two = Image.from_array(np.zeros((2, 5, 5), np.uint8), axes="CYX", channels=["a", "b"])
    with pytest.raises(ChannelError, match="two channels"):
        colocalisation(Instances.empty((5, 5)), grey)
    with pytest.raises(ChannelError, match="two channels"):
        colocalisation(Instances.empty((5, 5)), two, ["b", "b"])
    with pytest.raises(ChannelError):
        colocalisation(Instances.empty((5, 5)), two, ["a", "x"])
    with pytest.raises(LabelError, match="size"):
        colocalisation(Instances.empty((4, 5)), two)
    with pytest.raises(ConfigError, match="threshold"):
        colocalisation(Instances.empty((5, 5)), two, threshold="li")  # type: ignore[arg-type]


def test_a_field_of_tissue(shared_data: Path) -> None:
    image = read_image(shared_data / "codex" / "field.ome.tif")
    labels = read_labels(shared_data / "codex" / "cells_expert2.tif")[:400, :500]
    part = Image.from_array(np.asarray(image.pixels)[:, :400, :500], axes="CYX", channels=list(image.channels))
    objects = Instances.from_labels(labels)
    found = colocalisation(objects, part, ["nucleus", "membrane"])
    a, b = (part.pixels[part.channel_index(name)] for name in ("nucleus", "membrane"))
    limits = found.thresholds["nucleus_membrane"]
    for i in range(0, len(objects), 25):
        row = [found.objects[f"nucleus_membrane_{figure}"][i] for figure in FIGURES]
        np.testing.assert_allclose(row, expected(a, b, limits, objects.full_mask(i)), rtol=1e-9)
