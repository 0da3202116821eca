"""Patches: images and labels stay together, mirror pictures teach nothing wrong, and chance is repeatable."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from cytomask.data.augment import AugmentConfig
from cytomask.data.channels import ChannelExpectation
from cytomask.data.dataset import open_dataset
from cytomask.data.normalise import MinMax, PercentileNormalisation
from cytomask.data.patch_dataset import PatchDataset, group_weights, prepare_training_image
from cytomask.data.patches import PatchSampler, SourceImage, warped_layers
from cytomask.data.sample import Sample, load_sample
from cytomask.errors import ChannelError, DataError
from cytomask.geometry.warp import Warp
from cytomask.image import Image
from cytomask.label_layers import LabelLayers

EVERYTHING = AugmentConfig.model_validate(
    {
        "rotation": {"probability": 0.5},
        "scale": {"probability": 0.8, "diameter": [6, 30]},
        "elastic": {"probability": 0.5},
        "intensity": {"tint": {"probability": 0.5}, "colour": {"probability": 0.5}},
    }
)
GEOMETRY = EVERYTHING.model_copy(update={"intensity": AugmentConfig.none().intensity})


def scene(seed: int = 0, shape: tuple[int, int] = (70, 90), count: int = 25) -> np.ndarray:
    """Discs that do not touch each other, with ids that are not contiguous."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for index in range(count):
        radius = rng.uniform(3, 7)
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        if not labels[(y - cy) ** 2 + (x - cx) ** 2 < (radius + 2) ** 2].any():
            labels[disc] = 3 * index + 5
    return labels


def source(labels: np.ndarray, channels: int = 1) -> SourceImage:
    image = np.repeat((labels > 0).astype(np.float32)[None], channels, axis=0)
    return SourceImage.from_arrays(image, LabelLayers.from_labels(labels))


class TestSourceImage:
    def test_objects_are_measured(self) -> None:
        labels = np.zeros((6, 8), np.int32)
        labels[1:3, 1:3], labels[4, 2:8] = 900_000, 7
        layers = LabelLayers.from_labels(labels, classes={7: 2, 900_000: 1}, class_names=("a", "b"))
        made = SourceImage.from_arrays(np.zeros((1, 6, 8), np.float32), layers)
        assert made.labels.dtype == np.uint16
        assert made.areas.tolist() == [6, 4]
        assert made.centres.tolist() == [[4, 4.5], [1.5, 1.5]]
        assert made.classes.tolist() == [0, 2, 1]
        assert made.diameter == pytest.approx(2 * np.mean(np.sqrt(np.array([4, 6]) / np.pi)))

    def test_crowd_regions_do_not_count_as_sizes(self) -> None:
        labels = np.repeat(np.array([[1, 1, 2, 3]], np.int32), 2, axis=0)
        made = SourceImage.from_arrays(np.zeros((1, 2, 4)), LabelLayers.from_labels(labels, crowd=[1]))
        assert made.diameter == pytest.approx(2 * np.sqrt(2 / np.pi))
        assert made.crowd.tolist() == [False, True, False, False]

    def test_equal_channels_are_kept_once(self) -> None:
        grey = source(scene(), 3)
        assert grey.pixels.shape == (1, 70, 90)
        assert grey.channels == 3

    def test_no_object_and_no_background(self) -> None:
        image = np.zeros((1, 4, 4), np.float32)
        assert SourceImage.from_arrays(image, LabelLayers.from_labels(np.zeros((4, 4), int))).diameter is None
        full = SourceImage.from_arrays(image, LabelLayers.from_labels(np.full((4, 4), 9)))
        assert full.labels.tolist() == [[[1] * 4] * 4]

    def test_sizes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            SourceImage.from_arrays(np.zeros((1, 4, 5)), LabelLayers.from_labels(np.zeros((4, 4), int)))


class TestSampler:
    @pytest.mark.parametrize("augment", [AugmentConfig.none(), EVERYTHING])
    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_the_generator_decides_all(self, augment: AugmentConfig, channels: int) -> None:
        image = np.random.default_rng(0).random((channels, 70, 90), dtype=np.float32)
        layers = LabelLayers.from_labels(scene())
        sampler = PatchSampler(32, 0.5, augment)
        for seed in range(6):
            (a, one), (b, two) = (sampler.sample(image, layers, np.random.default_rng(seed)) for _ in range(2))
            assert a.shape == (channels, 32, 32)
            assert a.dtype == np.float32
            assert np.array_equal(a, b)
            assert np.array_equal(one.layers, two.layers)
            assert one.classes == two.classes
            assert one.crowd == two.crowd

    @given(st.integers(0, 2**20))
    @settings(max_examples=60, deadline=None)
    def test_labels_lie_on_their_objects(self, seed: int) -> None:
        labels = scene(seed % 7)
        sampler = PatchSampler(48, 0.9, GEOMETRY)
        image, layers = sampler.draw(source(labels), np.random.default_rng(seed))
        ids = np.unique(layers.layers)
        assert ids[ids > 0].tolist() == list(range(1, len(layers.classes) + 1))
        assert layers.crowd <= set(layers.classes)
        # Bright is object and dark is background, but for blurred edges and specks.
        assert (layers.layers[0][image[0] < 0.1] == 0).mean() > 0.98
        assert (layers.layers[0][image[0] > 0.9] > 0).mean() > 0.98

    def test_without_augmentation_patches_are_windows(self) -> None:
        labels = scene()
        image = np.random.default_rng(0).random((2, 70, 90), dtype=np.float32)
        patch, layers = PatchSampler(32).sample(image, LabelLayers.from_labels(labels), np.random.default_rng(3))
        windows = np.lib.stride_tricks.sliding_window_view(image, (32, 32), (1, 2))[0]
        places = np.argwhere((windows == patch[0]).all(axis=(2, 3)))
        assert len(places) == 1
        y, x = places[0]
        assert np.array_equal(layers.layers[0] > 0, labels[y : y + 32, x : x + 32] > 0)

    def test_foreground_is_preferred(self) -> None:
        labels = np.zeros((400, 400), np.int32)
        labels[10:20, 380:390] = 1
        rare = source(labels)

        def hits(foreground: float) -> float:
            sampler = PatchSampler(32, foreground)
            return float(np.mean([sampler.draw(rare, np.random.default_rng(s))[1].n_objects for s in range(100)]))

        assert hits(1.0) == 1
        assert hits(0.5) == pytest.approx(0.5, abs=0.15)
        assert hits(0.0) < 0.1

    def test_an_image_smaller_than_the_patch_is_mirrored(self) -> None:
        labels = np.zeros((10, 12), np.int32)
        labels[3:6, 3:7] = 4
        image, layers = PatchSampler(40).draw(source(labels), np.random.default_rng(0))
        assert np.array_equal(layers.layers[0] > 0, image[0] > 0.5)
        # Each mirror picture's object is one of its own, of at most the original's size.
        areas = np.bincount(layers.layers.ravel())[1:]
        assert len(areas) >= 9
        assert areas.max() == 12
        assert not layers.crowd

    def test_what_grows_together_with_its_mirror_picture_is_left_out(self) -> None:
        labels = np.zeros((10, 12), np.int32)
        labels[0:3, 4:7], labels[5:8, 5:8], labels[4:6, 10:12] = 1, 2, 3
        made = source(labels)
        layers = warped_layers(made, Warp((20, 12), np.array([[1.0, 0, -10], [0, 1, 0]])), 1)
        # Only the seam above the image is seen: the object at the right border is an object still.
        joint = layers.layers[0, 8:12, 5]
        assert len(set(joint.tolist())) == 1
        assert layers.crowd == {int(joint[0])}
        assert layers.n_objects == 5
        below = warped_layers(made, Warp((20, 12), np.array([[1.0, 0, 0], [0, 1, 0]])), 1)
        assert not below.crowd
        assert below.n_objects == 6

    def test_classes_and_crowd_follow_their_objects(self) -> None:
        labels = np.zeros((20, 20), np.int32)
        labels[2:5, 2:5], labels[8:12, 8:12], labels[14:18, 14:18] = 30, 10, 20
        truth = LabelLayers.from_labels(labels, {10: 2, 20: 1, 30: 3}, crowd=[20], class_names=("a", "b", "c"))
        made = SourceImage.from_arrays(np.zeros((1, 20, 20)), truth)
        layers = warped_layers(made, Warp((14, 14), np.array([[-1.0, 0, 19], [0, 1, 6]])), 1)
        assert layers.layers[0, 3, 9] == layers.layers[0].max() == 2
        assert layers.classes == {1: 2, 2: 1}
        assert layers.crowd == {2}
        assert layers.class_names == ("a", "b", "c")

    def test_overlapping_objects_keep_their_layers(self) -> None:
        stack = np.zeros((2, 16, 16), np.int32)
        stack[0, 2:8, 2:8], stack[1, 5:10, 5:10] = 1, 2
        made = SourceImage.from_arrays(np.zeros((1, 16, 16)), LabelLayers(layers=stack, classes={1: 1, 2: 1}))
        both = warped_layers(made, Warp((10, 10), np.eye(2, 3)), 1)
        assert both.layers.shape == (2, 10, 10)
        corner = warped_layers(made, Warp((4, 4), np.eye(2, 3)), 1)
        assert corner.layers.shape == (1, 4, 4)
        nothing = warped_layers(made, Warp((4, 4), np.array([[1.0, 0, 12], [0, 1, 0]])), 1)
        assert nothing.layers.shape == (1, 4, 4)
        assert nothing.classes == {}

    def test_specks_are_dropped(self) -> None:
        labels = np.zeros((16, 16), np.int32)
        labels[4:8, 4:8], labels[0, 0] = 1, 1
        layers = warped_layers(source(labels), Warp((16, 16), np.eye(2, 3)), 4)
        assert layers.layers[0, 0, 0] == 0
        assert (layers.layers > 0).sum() == 16

    def test_an_empty_image(self) -> None:
        empty = source(np.zeros((40, 40), np.int32))
        for seed in range(5):
            image, layers = PatchSampler(24, 0.9, EVERYTHING).draw(empty, np.random.default_rng(seed))
            assert image.shape == (1, 24, 24)
            assert layers.n_objects == 0


def samples(count: int, group: Callable[[int], str] = lambda _: "all") -> list[Sample]:
    return [Sample(str(i), Path(f"{i}.png"), Path(f"{i}.tif"), {"kind": group(i)}) for i in range(count)]


def load(sample: Sample) -> tuple[np.ndarray, LabelLayers]:
    labels = scene(int(sample.name), (60, 60), 12)
    noise = np.random.default_rng(int(sample.name)).random((1, 60, 60), dtype=np.float32)
    return noise + (labels > 0), LabelLayers.from_labels(labels)


def targets(layers: LabelLayers) -> dict[str, np.ndarray]:
    return {"inside": (layers.layers[0] > 0).astype(np.float32)}


def patches(count: int = 5, **options: object) -> PatchDataset:
    settings_: dict = {"load": load, "targets": targets, "length": 24, "seed": 3}
    settings_["sampler"] = PatchSampler(32, augment=EVERYTHING)
    return PatchDataset(samples(count), **{**settings_, **options})


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class TestPatchDataset:
    def test_items(self) -> None:
        item = patches()[0]
        assert item["image"].shape == (1, 32, 32)
        assert item["image"].dtype == torch.float32
        assert item["inside"].shape == (32, 32)
        with pytest.raises(IndexError):
            patches()[24]

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_the_number_of_workers_does_not_matter(self) -> None:
        dataset = patches()
        dataset.set_epoch(2)
        batches = [list(DataLoader(dataset, batch_size=4, num_workers=n)) for n in (0, 1, 2)]
        assert len(batches[0]) == 6
        for others in batches[1:]:
            assert all(same(a, b) for a, b in zip(batches[0], others, strict=True))

    def test_seed_epoch_and_index_decide(self) -> None:
        dataset, again = patches(), patches(preload=False)
        again.set_epoch(1)
        dataset.set_epoch(1)
        # In another order, and from another cache.
        ones = [dataset[i] for i in range(6)]
        twos = [again[i] for i in reversed(range(6))][::-1]
        assert all(same(a, b) for a, b in zip(ones, twos))
        assert not any(same(a, b) for a, b in itertools.combinations(ones, 2))
        again.set_epoch(2)
        assert not same(again[0], ones[0])
        assert not same(patches(seed=4)[0], patches()[0])

    def test_no_two_patches_of_one_image_are_drawn_alike(self) -> None:
        dataset = patches(1, length=6)
        items = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            items += [dataset[i] for i in range(6)]
        assert not any(same(a, b) for a, b in itertools.combinations(items, 2))

    def test_a_small_cache_changes_nothing_but_reads_more(self, capsys: pytest.CaptureFixture[str]) -> None:
        reads: Counter[str] = Counter()

        def counted(sample: Sample) -> tuple[np.ndarray, LabelLayers]:
            reads[sample.name] += 1
            return load(sample)

        whole = patches(load=counted)
        ones = [whole[i] for i in range(10)]
        assert set(reads.values()) == {1}
        size = next(iter(whole._cache.values())).nbytes
        assert size == 60 * 60 * 4
        small = patches(load=counted, cache_bytes=2 * size)
        assert "2 of 5 training images fit" in capsys.readouterr().err
        assert all(same(a, small[i]) for i, a in enumerate(ones))
        assert small._cached_bytes == 2 * size
        assert max(reads.values()) > 2
        none = patches(load=counted, cache_bytes=0)
        assert same(none[0], ones[0])

    def test_a_pickled_data_set_leaves_its_images_behind(self) -> None:
        dataset = patches()
        copy = pickle.loads(pickle.dumps(dataset))
        assert not copy._cache
        assert same(copy[3], dataset[3])

    def test_every_image_comes_about_as_often(self) -> None:
        dataset = patches(7, length=70, preload=False)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            counts = Counter(dataset.chosen(i) for i in range(70))
            assert len(counts) == 7
            assert max(counts.values()) - min(counts.values()) <= 3

    def test_rare_groups_are_drawn_more_often(self) -> None:
        kinds = samples(20, lambda i: "rare" if i == 13 else "usual")
        dataset = PatchDataset(
            kinds, load=load, targets=targets, sampler=PatchSampler(32), length=2000, balance="kind", preload=False
        )
        counts = Counter(dataset.chosen(i) for i in range(2000))
        # One to the root of 19.
        assert counts[13] / 2000 == pytest.approx(1 / (1 + 19**0.5), abs=0.01)
        assert set(counts) == set(range(20))

    def test_trouble_is_told(self) -> None:
        with pytest.raises(DataError, match="no column 'modality'"):
            patches(balance="modality")
        with pytest.raises(DataError, match="no images"):
            patches(0)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_group_weights(groups: list[str]) -> None:
    weights = group_weights(groups)
    assert weights.sum() == pytest.approx(1)
    shares = {g: weights[[i for i, other in enumerate(groups) if other == g]].sum() for g in set(groups)}
    roots = {g: groups.count(g) ** 0.5 for g in set(groups)}
    for g in shares:
        assert shares[g] == pytest.approx(roots[g] / sum(roots.values()))


class TestPrepareTrainingImage:
    def test_steps_channels_and_normalisation_are_applied(self) -> None:
        pixels = np.arange(2 * 8 * 10, dtype=np.uint16).reshape(2, 8, 10)
        image = Image.from_array(pixels, axes="CYX", channels=["membrane", "DAPI"])
        layers = LabelLayers.from_labels(np.pad(np.ones((4, 4), int), [(2, 2), (3, 3)]))
        made, moved = prepare_training_image(
            image, layers, channels=ChannelExpectation(mode="rgb"), normalisation=MinMax(),
            steps=[{"rescale": {"factor": 2.0}}],
        )  # fmt: skip
        assert made.shape == (3, 16, 20)
        assert made.dtype == np.float32
        assert (made.min(), made.max()) == (0, 1)
        assert moved.layers.shape == (1, 16, 20)
        assert (moved.layers > 0).sum() == 64

    def test_channels_that_do_not_fit(self) -> None:
        image = Image.from_array(np.zeros((2, 4, 4)), axes="CYX")
        with pytest.raises(ChannelError):
            prepare_training_image(
                image, LabelLayers.from_labels(np.zeros((4, 4), int)),
                channels=ChannelExpectation(mode="gray"), normalisation=MinMax(),
            )  # fmt: skip


def test_real_micrographs(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "nuclei")
    chosen = [s for s in dataset.split("train") if s.group["modality"] != "brightfield"][:40:8]

    def read(sample: Sample) -> tuple[np.ndarray, LabelLayers]:
        return prepare_training_image(
            *load_sample(sample), channels=ChannelExpectation(mode="rgb"), normalisation=PercentileNormalisation()
        )

    drawn = PatchDataset(
        chosen, load=read, targets=targets, sampler=PatchSampler(128, augment=GEOMETRY), length=20, balance="modality"
    )
    contrasts = []
    for index in range(20):
        item = drawn[index]
        assert item["image"].shape == (3, 128, 128)
        assert torch.isfinite(item["image"]).all()
        inside = item["inside"] > 0
        if inside.any() and not inside.all():
            picture = item["image"].mean(dim=0)
            contrasts.append(float((picture[inside].mean() - picture[~inside].mean()).abs() / picture.std()))
    # Objects differ from what is around them: labels are where the image says they are.
    assert np.median(contrasts) > 0.8
