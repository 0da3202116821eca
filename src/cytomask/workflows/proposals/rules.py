"""Settings that fit a data set and a machine, each with the reason for it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cytomask.data.channels import says_nucleus
from cytomask.data.check.kinds import many
from cytomask.models.registry import family_class
from cytomask.workflows.proposals.facts import DataFacts

#: From these medians and 10th percentiles of the IoU on, polygons are said to represent the objects.
_FIT, _WORST_FIT = 0.93, 0.85
#: From this share of overlapping objects on, a label image would lose too much.
_OVERLAP = 0.15
_CELL = re.compile(r"membran|cyto|actin|wga|phalloidin|e-?cadherin|pan-?ck", re.IGNORECASE)
#: Memory in bytes that a training step takes for each pixel of a patch, by family and whether the network is small:
#: activations, their gradients, and what else is held meanwhile. Taken high.
_MEMORY = {("star", True): 2400, ("star", False): 7200, ("dense", True): 2400, ("dense", False): 8000,
           ("region", True): 6000, ("region", False): 14000}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What training would have.

    Attributes
    ----------
    gpu
        Its name; None without one.
    memory
        Bytes of the GPU, or of the machine without one.
    processors
        How many there are.
    """

    gpu: str | None
    memory: int
    processors: int

    def words(self) -> str:
        """Say it, as in ``2 processors, 24 GB``.

        Examples
        --------
        >>> Machine(None, 24 * 2**30, 2).words()
        'no GPU, 2 processors, 24 GB'
        """
        return f"{self.gpu or 'no GPU'}, {self.processors} processors, {self.memory / 2**30:.0f} GB"


@dataclass(frozen=True)
class Proposal:
    """A setting by its place in the experiment, its value, and why."""

    place: tuple[str, ...]
    value: Any
    reason: str = ""


def this_machine() -> Machine:
    """Look at this machine."""
    import torch

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Machine(properties.name, int(properties.total_memory), processors)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
    return Machine(None, int(memory), processors)


def propose(facts: DataFacts, machine: Machine, family: str | None = None) -> list[Proposal]:
    """Propose all settings that follow from data and machine.

    Parameters
    ----------
    facts, machine
        What there is.
    family
        The model family, if it is chosen already.

    Returns
    -------
    list of Proposal
        In the order in which they are best read.
    """
    chosen, why = choose_family(facts)
    if family is not None and family != chosen:
        why = f"as you chose; the data would speak for {chosen}: {why}"
    chosen = family or chosen
    found = [*split_proposals(facts), *channel_proposals(facts, chosen == "region"), *_normalisation(facts, chosen)]
    found += _groups(facts)
    patch = patch_size(facts)
    found += [*_model(facts, machine, chosen, why), Proposal(("patches", "size"), patch, _patch_words(facts, patch))]
    if facts.colour > 0.02:
        found.append(Proposal(
            ("augmentation", "intensity", "colour", "probability"), 0.3,
            "stains and cameras differ in hue: colours are varied",
        ))  # fmt: skip
    return found + _training(facts, machine, chosen, patch) + _evaluation(facts)


def choose_family(facts: DataFacts) -> tuple[str, str]:
    """Choose a model family by the objects' overlap and shape; return its name and the reason."""
    median, worst = facts.star_fit.get(32, (0.0, 0.0))
    fit = f"polygons of 32 rays have an IoU of {median:.2f} with the objects (median; a tenth is below {worst:.2f})"
    if facts.overlapping > _OVERLAP:
        return "region", (
            f"{_share(facts.overlapping)} of the objects share more than a tenth of their pixels with others, "
            "such as organelles in cells: region networks give each object a mask of its own"
        )
    if median >= _FIT and worst >= _WORST_FIT:
        return "star", f"{fit}, and {_share(facts.touching)} touch another: star networks part them well"
    return "dense", (
        f"{fit}: too branched for star; nothing overlaps, so every pixel belongs to one object, and dense networks "
        "draw any shape"
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.01 or value == 0 else "less than 1 %"


def split_proposals(facts: DataFacts) -> list[Proposal]:
    """Say which splits are used, and what is done where one is missing."""
    counts = facts.counts
    listed = ", ".join(f"{name} {n}" for name, n in counts.items())
    train = "train" if counts.get("train") else next((name for name, n in counts.items() if n), "train")
    found = [Proposal(("data", "train"), train, f"images of each split: {listed} ({facts.dataset.how_split})")]
    rest = [name for name, n in counts.items() if n and name != train]
    validation = next((name for name in rest if name in ("val", "valid", "validation")), None)
    if validation is None:
        validation = next((name for name in rest if name != "test"), "val" if "val" in counts else train)
        said = (
            "no image is left for validation: training is validated on its own images, which flatters; annotate more"
            if validation == train
            else f"there is no split val: {validation} takes its place"
            if validation != "val"
            else "no image was drawn for validation: the last weights are kept, thresholds stay as they are"
        )
    else:
        said = "keeps the best weights, and tunes thresholds"
    found.append(Proposal(("data", "validation"), validation, said))
    if "test" in rest:
        return [*found, Proposal(("data", "test"), "test", "is seen in the evaluation only")]
    if not counts.get(validation) or validation == train:
        said = "only training images are left: their figures tell that training worked, not how well it does on others"
        return [*found, Proposal(("data", "test"), train, said)]
    said = (
        f"there is no test split: {validation} is scored again, on which weights and thresholds were chosen, so its "
        "figures flatter. Keep some images apart for figures that you publish"
    )
    return [*found, Proposal(("data", "test"), validation, said)]


def channel_proposals(facts: DataFacts, pretrained: bool = False) -> list[Proposal]:
    """Say which channels the network gets; three where it begins with the weights of one for colour pictures."""
    low, high = facts.n_channels
    if high == 1 and pretrained:
        return [Proposal(
            ("data", "channels"), {"mode": "rgb"},
            f"all images have one channel ({_depth(facts)}), which is shown in all three that the first weights expect",
        )]  # fmt: skip
    if high == 1:
        return [Proposal(("data", "channels"), {"mode": "gray"}, f"all images have one channel ({_depth(facts)})")]
    if high == 3 and (low == 1 or facts.channels == ("red", "green", "blue")):
        if facts.colour == 0 and not pretrained:
            return [Proposal(("data", "channels"), {"mode": "gray"}, "colour files, but every picture is grey")]
        said = f"{_share(facts.colour)} of the images are coloured ({_depth(facts)}); grey ones are shown in all three"
        return [Proposal(("data", "channels"), {"mode": "rgb"}, said)]
    names = facts.channels
    wanted = [name for name in names if says_nucleus(name)][:1] + [name for name in names if _CELL.search(name)][:2]
    wanted = list(dict.fromkeys(wanted)) or list(names[:3])
    return [Proposal(
        ("data", "channels"), {"mode": "select", "names": wanted},
        f"of the channels {', '.join(names)} these show nuclei and cells, by their names; others are named alike",
    )]  # fmt: skip


def _depth(facts: DataFacts) -> str:
    low, high = facts.values
    return f"{', '.join(facts.dtypes)}, values {low:g} to {high:g}"


def _normalisation(facts: DataFacts, family: str) -> list[Proposal]:
    if family == "region" and facts.n_channels[1] in (1, 3):
        return [Proposal(
            ("data", "normalisation"),
            {"method": "mean_std", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
            "the first weights are of ImageNet's pictures, whose means and spreads these are"
            + ("" if set(facts.dtypes) == {"uint8"} else "; those of more bits are stretched by percentiles first"),
        )]  # fmt: skip
    return [Proposal(
        ("data", "normalisation"), {"method": "percentile", "low": 1.0, "high": 99.8},
        "percentiles of each image become 0 and 1: exposure, bit depth and a few bright specks make no difference",
    )]  # fmt: skip


def _groups(facts: DataFacts) -> list[Proposal]:
    for column, counts in facts.groups.items():
        if max(counts.values()) >= 3 * min(counts.values()):
            listed = ", ".join(f"{name} {n}" for name, n in counts.items())
            said = f"{column} is uneven ({listed}): rare groups are drawn more often"
            return [Proposal(("data", "balance"), column, said)]
    return []


def _model(facts: DataFacts, machine: Machine, family: str, why: str) -> list[Proposal]:
    small = machine.gpu is None
    found = [Proposal(("model", "family"), family, why)]
    counted = ", ".join(f"{name} {n}" for name, n in facts.class_counts.items())
    rare = [name for name, n in facts.class_counts.items() if n < 20]
    said = f"objects in {many(facts.n_looked, 'image')}: {counted}"
    if rare and len(facts.classes) > 1:
        said += f". Of {', '.join(rare)} there are too few to learn from: annotate more, or do not trust these figures"
    found.append(Proposal(("model", "classes"), list(facts.classes), said))
    settings, reasons = family_class(family).propose_from_data(facts.sizes)
    large = facts.sizes["diameter_p95"]
    for (name, value), reason in zip(settings.items(), reasons):
        if family == "star" and name == "backbone" and small and large <= 110:
            value = {"kind": "residual"}
            reason = f"a light network, for want of a GPU; it sees objects of {large:.0f} px whole"
        if family == "region" and name == "backbone":
            # The first weights are of a ResNet with this stem.
            value = {"kind": "resnet", "depth": 18 if small else 50, **({"width": 64} if small else {}), **value,
                     "norm": "frozen_batch"}  # fmt: skip
            reason = f"ResNet-{18 if small else 50}, whose weights training begins with; {reason}"
        found.append(Proposal(("model", name), value, reason))
    if family == "star" and facts.sizes["diameter_p95"] > 3 * facts.sizes["diameter_p5"]:
        found.append(Proposal(
            ("model", "loss"), {"distance": "relative", "distance_weight": 2.0},
            f"diameters from {facts.sizes['diameter_p5']:.0f} to {large:.0f} px: small and large objects weigh alike",
        ))  # fmt: skip
    if family == "region" and small:
        found += [
            Proposal(("model", "pyramid"), {"width": 128, "norm": "group"}, "half the usual width, for want of a GPU"),
            Proposal(("model", "box"), {"linear_width": 512}, "likewise"),
            Proposal(("model", "mask"), {"convolutions": 2, "width": 128}, "likewise"),
            Proposal(("model", "rpn"), {"train_before": 1000, "train_after": 500}, "likewise"),
            Proposal(("model", "sampling"), {"batch": 128}, "likewise"),
        ]
    if family == "dense":
        found += _dense(facts, small)
    if family == "region" or (family == "dense" and not small):
        name = {"region": "imagenet/resnet18" if small else "imagenet/resnet50", "dense": "imagenet/resnet34"}[family]
        found.append(Proposal(
            ("initial",), name, "fetched once, and kept; without a connection set it to null"
            + (" and model.backbone.norm to group" if family == "region" else ""),
        ))  # fmt: skip
    return found


def _dense(facts: DataFacts, small: bool) -> list[Proposal]:
    network = {"kind": "resnet_unet", "depth": 18, "width": 24} if small else {"kind": "resnet_unet", "depth": 34}
    found = [
        Proposal(
            ("model", "network"), network, "a small U-Net, for want of a GPU" if small else "a U-Net on a ResNet-34"
        ),
        Proposal(
            ("model", "output"), "distance",
            f"{_share(facts.touching)} of the objects touch another: the distance to the edge parts them",
        ),
    ]  # fmt: skip
    weights = "balanced" if facts.covered < 0.1 else None
    loss: dict[str, Any] = {"terms": {"cross_entropy": 1.0, "dice": 0.5}, "distance_weight": 2.0}
    if weights:
        loss["class_weights"] = weights
    said = f"objects cover {_share(facts.covered)} of the pixels: " + (
        "background and objects are weighed so that both count" if weights else "no class weights are needed"
    )
    return [*found, Proposal(("model", "loss"), loss, said)]


def patch_size(facts: DataFacts) -> int:
    """A side that holds large objects twice, in steps of 64, and no more than the images have."""
    wanted = min(max(64 * math.ceil(2 * facts.sizes["diameter_p95"] / 64), 128), 512)
    # Smaller images are padded, so that patches larger than the most usual image are waste.
    room = 32 * math.ceil(facts.shapes[1] / 32)
    return max(64, min(max(wanted, 256), room))


def _patch_words(facts: DataFacts, size: int) -> str:
    large = facts.sizes["diameter_p95"]
    small, _, most = facts.shapes
    sides = f"{small}" if small == most else f"{small} to {most}"
    said = f"large objects are {large:.0f} px across, images {sides} px a side"
    if size >= 2 * large:
        return f"{said}: objects lie whole in most patches"
    return f"{said}: most patches cut the largest objects; a rescale step in the data set's file makes them smaller"


def batch_sizes(family: str, machine: Machine, size: int) -> tuple[int, int]:
    """Batch size and accumulation: eight patches a step, in as many parts as the memory demands.

    Examples
    --------
    >>> batch_sizes("star", Machine(None, 24 * 2**30, 2), 256), batch_sizes("region", Machine("T4", 15 * 2**30, 4), 512)
    ((8, 1), (2, 4))
    """
    wanted = 4 if family == "region" and machine.gpu is None else 8
    fits = 0.5 * machine.memory / (_MEMORY[family, machine.gpu is None] * size**2)
    batch = 1
    while 2 * batch <= min(wanted, fits):
        batch *= 2
    return batch, wanted // batch


def _training(facts: DataFacts, machine: Machine, family: str, size: int) -> list[Proposal]:
    batch, accumulate = batch_sizes(family, machine, size)
    need = _MEMORY[family, machine.gpu is None] * size**2 * batch / 2**30
    n = len(facts.train)
    # An epoch shows about each part of each image once.
    parts = n * max(1.0, facts.shapes[1] ** 2 / size**2)
    steps = int(min(max(10 * round(parts / (batch * accumulate) / 10), 20), 200))
    rate = {"star": 1e-3, "dense": 1e-3, "region": 5e-4}[family]
    if machine.gpu is not None and family != "region":
        rate = 3e-4
    found = [
        Proposal(("training", "batch_size"), batch, f"takes about {need:.1f} GB; there is: {machine.words()}"),
    ]
    if accumulate > 1:
        said = f"a step still sees {batch * accumulate} patches"
        found.append(Proposal(("training", "accumulate"), accumulate, said))
    return [
        *found,
        Proposal(("training", "steps_per_epoch"), steps, f"{many(n, 'training image')}: each part about once an epoch"),
        Proposal(("training", "epochs"), 100 if machine.gpu else 40, ""),
        Proposal(
            ("training", "optimiser"), {"name": "adamw", "learning_rate": rate, "gradient_clip": 5.0},
            "`cytomask lr-find` looks for a better learning rate",
        ),
        Proposal(("training", "validate_every"), 5, "validation segments whole images, which takes time"),
        Proposal(("training", "workers"), max(1, min(machine.processors - 1, 8)), f"{machine.processors} processors"),
        Proposal(("training", "seed"), 1, "the same seed on the same machine gives the same weights"),
    ]  # fmt: skip


def _evaluation(facts: DataFacts) -> list[Proposal]:
    columns = list(facts.groups)
    if not columns:
        return []
    return [Proposal(("evaluation", "group_by"), columns[:2], "figures by group, besides those of all images")]


def find(proposals: Sequence[Proposal], *place: str) -> Proposal | None:
    """The proposal for a place."""
    return next((one for one in proposals if one.place == place), None)
