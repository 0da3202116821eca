"""Evaluation on a cluster: pairs are compared by workers, and summed up here in their order."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from cytomask.errors import ClusterError
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.pairs import Objects
from cytomask.progress import listening, track
from cytomask.workflows.clusters.cluster import Cluster, Killed
from cytomask.workflows.evaluating.inputs import Inputs
from cytomask.workflows.evaluating.pairs import Compared, Comparison, Sources
from cytomask.workflows.predicting.progress import fingerprint

#: Images of one task at most, and tasks per worker if there are as many images.
_MOST_IMAGES, _TASKS_PER_WORKER = 16, 8


@dataclass(frozen=True)
class Task:
    """Some images that are to be compared.

    Attributes
    ----------
    run
        Tells one evaluation from another, since when files may have changed.
    sources
        Where they lie.
    thresholds, tolerance, coco, names
        As of :class:`~cytomask.workflows.evaluating.pairs.Comparison`.
    pairs
        Fingerprint of the names of all pairs.
    images
        Which of them.
    """

    run: str
    sources: Sources
    thresholds: tuple[float, ...]
    tolerance: float
    coco: CocoSettings
    names: tuple[str, ...]
    pairs: str
    images: tuple[int, ...]


@dataclass
class _LazyPair:
    """A pair whose objects are read only when they are looked at."""

    inputs: Inputs
    index: int
    name: str
    image: Path | None

    @cached_property
    def _pair(self) -> Pair:
        return self.inputs.read_one(self.index)[0]

    @property
    def truth(self) -> Objects:
        return self._pair.truth

    @property
    def prediction(self) -> Objects:
        return self._pair.prediction


def compare_on_cluster(
    cluster: Cluster, comparison: Comparison, sources: Sources, folder: Path | None
) -> Iterator[tuple[Pair, Compared]]:
    """Compare all images on the workers of a cluster; they are given in their order.

    Parameters
    ----------
    cluster
        The workers.
    comparison
        How; with the pairs as this process sees them.
    sources
        Where the workers find the pairs.
    folder
        Folder of the results, which only this process writes; None for none.

    Raises
    ------
    ClusterError
        If a worker finds other pairs, or comes to its end over the same images again and again.
    """
    cluster.check(folder)
    count, run = len(comparison.inputs.pairs), secrets.token_hex(8)
    size = min(max(1, count // (_TASKS_PER_WORKER * max(1, len(cluster.workers())))), _MOST_IMAGES)
    tasks = [
        Task(
            run, sources, comparison.thresholds, comparison.tolerance, comparison.coco, comparison.names,
            _names(comparison.inputs), tuple(range(first, min(first + size, count))),
        )
        for first in range(0, count, size)
    ]  # fmt: skip
    found: dict[int, Compared] = {}

    def done() -> Iterator[int]:
        for task, result in cluster.do(compare, tasks, "cytomask-evaluate"):
            if isinstance(result, Killed):
                names = [comparison.inputs.pairs[index][0] for index in task.images]
                raise ClusterError(
                    "every worker came to its end over the same images", where=", ".join(names),
                    fix="look at the workers' logs; if memory ran out, use fewer workers per machine",
                )  # fmt: skip
            found.update(result)
            yield from result

    for _ in track(done(), "evaluating", total=count):
        pass
    for index, (name, _, true) in enumerate(comparison.inputs.pairs):
        pair = _LazyPair(comparison.inputs, index, name, true.find_image())
        yield cast(Pair, pair), found.pop(index)


def compare(task: Task) -> dict[int, Compared]:
    """Compare the images of a task; this is what a worker does."""
    with _turn, listening():
        if not _opened or _opened[0][0] != task.run:
            _opened.clear()
            _opened.append((task.run, task.sources.open()))
        inputs = _opened[0][1]
        if _names(inputs) != task.pairs:
            _opened.clear()
            raise ClusterError(
                "a worker finds other images to compare", where=task.sources.predictions,
                expected="the same files on all machines", fix="put predictions and truth on a shared file system",
            )  # fmt: skip
        comparison = Comparison(inputs, task.thresholds, task.tolerance, task.coco, task.names)
        return {index: comparison.compare(index)[1] for index in task.images}


#: The pairs that were compared last.
_opened: list[tuple[str, Inputs]] = []
_turn = threading.Lock()


def _names(inputs: Inputs) -> str:
    return fingerprint({"names": [name for name, _, _ in inputs.pairs], "classes": list(inputs.class_names)})
