"""Summaries and comparisons: by image and group, the image being what counts as one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cytomask.measuring.summaries import compare_groups, measurements, summarise, summarise_groups


def table(seed: int = 0, groups: int = 2, images: int = 4, shift: float = 0.0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    parts, of = [], {}
    for g in range(groups):
        for k in range(images):
            n = int(rng.integers(5, 40))
            of[f"{g}{k}"] = f"group {g}"
            parts.append(pd.DataFrame({
                "image": f"{g}{k}", "id": np.arange(n), "class": rng.choice(["a", "b"], n),
                "area_px": rng.gamma(3, 10, n) + shift * g, "touching": rng.integers(0, 4, n),
                "nearest_a_id": 1, "box_y0": 2, "touches_border": True,
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True), pd.Series(of)


def test_numbers_are_those_of_numpy() -> None:
    objects, _ = table()
    objects.loc[::7, "area_px"] = np.nan
    assert measurements(objects) == ["area_px", "touching"]
    found = summarise(objects).set_index(["image", "class", "measurement"])
    for (image, kind), part in objects.groupby(["image", "class"]):
        values = part["area_px"].dropna().to_numpy()
        row = found.loc[(image, kind, "area_px")]
        assert row["n"] == len(values)
        sd = values.std(ddof=1) if len(values) > 1 else np.nan
        true = [values.mean(), np.median(values), sd, sd / len(values) ** 0.5, values.min(), *np.quantile(
            values, [0.05, 0.25, 0.75, 0.95]), values.max()]  # fmt: skip
        np.testing.assert_allclose(row.iloc[1:].astype(float), true)


def test_a_group_is_of_images_not_of_objects() -> None:
    objects, of = table(1)
    per_image = summarise(objects)
    row = summarise_groups(per_image, of).set_index(["group", "class", "measurement"]).loc[("group 0", "a", "area_px")]
    own = objects[(objects["class"] == "a") & objects["image"].str.startswith("0")]
    means = own.groupby("image")["area_px"].mean()
    assert row["n_images"] == 4
    assert row["n_objects"] == len(own)
    np.testing.assert_allclose([row["mean"], row["sd"]], [means.mean(), means.std()])


def test_tests_compare_means_of_images() -> None:
    objects, of = table(2, images=6, shift=15)
    per_image = summarise(objects)
    found = compare_groups(per_image, of).set_index(["class", "measurement"])
    means = objects[objects["class"] == "a"].groupby("image")["area_px"].mean()
    true = stats.mannwhitneyu(means[means.index.str[0] == "0"], means[means.index.str[0] == "1"])
    row = found.loc[("a", "area_px")]
    assert row["p"] == true.pvalue
    assert row["effect"] == 2 * true.statistic / 36 - 1
    assert row["n_images"] == "group 0 6, group 1 6"
    assert (found["p_holm"] >= found["p"]).all()
    smallest = found["p"].min()
    assert found["p_holm"].min() == pytest.approx(min(1, 4 * smallest))


def test_three_groups() -> None:
    objects, of = table(3, groups=3)
    found = compare_groups(summarise(objects), of)
    values = summarise(objects).query("measurement == 'touching' and `class` == 'b'")
    true = stats.kruskal(*(part["mean"] for _, part in values.groupby(values["image"].map(of))))
    row = found[(found["measurement"] == "touching") & (found["class"] == "b")].iloc[0]
    assert (row["test"], row["p"]) == ("Kruskal–Wallis H", true.pvalue)
    assert row["effect"] == true.statistic / 11


def test_two_images_a_group_are_too_few() -> None:
    objects, of = table(4, images=2)
    assert len(compare_groups(summarise(objects), of)) == 0


def test_thousands_of_objects_do_not_make_a_difference_clear() -> None:
    """Images differ at random; objects as the unit would find a difference that is none."""
    rng = np.random.default_rng(5)
    parts, of = [], {}
    for k in range(8):
        of[str(k)] = "x" if k % 2 else "y"
        parts.append(pd.DataFrame({"image": str(k), "class": "a", "area_px": rng.normal(rng.normal(100, 10), 5, 1000)}))
    objects = pd.concat(parts)
    assert compare_groups(summarise(objects), pd.Series(of))["p"].iloc[0] > 0.05
    group = objects["image"].map(of)
    assert stats.mannwhitneyu(objects["area_px"][group == "x"], objects["area_px"][group == "y"]).pvalue < 1e-6


def test_no_objects() -> None:
    objects, of = table()
    empty = summarise(objects[:0])
    assert len(empty) == len(summarise_groups(empty, of)) == len(compare_groups(empty, of)) == 0
