"""Compare the pairs of an evaluation one by one, in whatever process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cytomask.evaluation.agreement import Agreement
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.metrics import ScoredPair, score_pair
from cytomask.evaluation.pairs import image_size
from cytomask.progress import track
from cytomask.workflows.evaluating.inputs import Inputs, Odd, check_sizes, find_inputs, told_name

#: What the prediction is called beside the annotators.
PREDICTION = "prediction"


@dataclass(frozen=True)
class Sources:
    """Where the two sides of an evaluation lie, and which images are meant, in plain values.

    Attributes
    ----------
    predictions, truth, split, annotators, max_images
        As for :func:`~cytomask.workflows.evaluating.inputs.find_inputs`.
    """

    predictions: Path
    truth: Path
    split: str | None = None
    annotators: tuple[Path, ...] = ()
    max_images: int | None = None

    @classmethod
    def whole(
        cls,
        predictions: str | Path,
        truth: str | Path,
        split: str | None,
        annotators: Sequence[str | Path],
        max_images: int | None,
    ) -> Self:
        """With whole paths, as other processes need them."""
        # Links stay, as other machines may not see where they lead.
        places = [Path(os.path.abspath(place)) for place in (predictions, truth, *annotators)]  # noqa: PTH100
        return cls(places[0], places[1], split, tuple(places[2:]), max_images)

    def open(self) -> Inputs:
        """Find the images again."""
        return find_inputs(self.predictions, self.truth, self.split, self.annotators, self.max_images)


@dataclass(frozen=True)
class Compared:
    """What comparing one image gives.

    Attributes
    ----------
    scored
        What was counted.
    odd
        What is odd about its label images.
    agreement
        The annotators with one another and with the prediction, on this image; None without annotators.
    """

    scored: ScoredPair
    odd: Odd
    agreement: Agreement | None


@dataclass(frozen=True)
class Comparison:
    """How images are compared.

    Attributes
    ----------
    inputs
        The pairs.
    thresholds, tolerance, coco
        As for :func:`~cytomask.evaluation.metrics.score_pair`.
    names
        What the truth and the annotators are called; empty without annotators.
    """

    inputs: Inputs
    thresholds: tuple[float, ...]
    tolerance: float
    coco: CocoSettings
    names: tuple[str, ...] = ()

    def here(self) -> Iterator[tuple[Pair, Compared]]:
        """Compare all images in this process, one after the other."""
        for index in track(range(len(self.inputs.pairs)), "evaluating"):
            yield self.compare(index)

    def compare(self, index: int) -> tuple[Pair, Compared]:
        """Read a pair and compare it.

        Raises
        ------
        LabelError
            If a file is no label image, or sizes differ; the files are named.
        """
        pair, odd = self.inputs.read_one(index)
        agreement = self._annotators(index, pair) if self.names else None
        scored = score_pair(pair, len(self.inputs.class_names), self.thresholds, self.tolerance, self.coco)
        return pair, Compared(scored, odd, agreement)

    def _annotators(self, index: int, pair: Pair) -> Agreement:
        """Compare the annotators of an image, of which prediction and truth have been read."""
        agreement = Agreement(PREDICTION, self.names, self.tolerance)
        name, reference = self.names[0], self.inputs.pairs[index][2]
        sides = {PREDICTION: pair.prediction, name: pair.truth}
        crowds = {name: pair.crowd}
        for annotator, entries in zip(self.names[1:], self.inputs.annotators.values()):
            if pair.name in entries:
                entry = entries[pair.name]
                read = entry.read()
                check_sizes(
                    (f"annotator {told_name(entry, pair.name)}", entry.place, image_size(read.objects)),
                    (f"truth {told_name(reference, pair.name)}", reference.place, image_size(pair.truth)),
                )
                sides[annotator], crowds[annotator] = read.objects, read.crowd
        agreement.add(pair.name, sides, crowds)
        return agreement


def name_of(truth: str | Path, others: Iterable[str]) -> str:
    """What the truth is called beside the annotators."""
    name = Path(truth).stem
    return name if name not in {*others, PREDICTION} else str(truth)
