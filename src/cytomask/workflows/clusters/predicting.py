"""Prediction on a cluster: images one by one, and the tiles of giant ones."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cytomask.errors import ChannelError, ClusterError, CytomaskError, ImageError, OutputError
from cytomask.output import output_folder
from cytomask.progress import repeat, track
from cytomask.workflows.clusters.cluster import Cluster, Killed, see_anew
from cytomask.workflows.clusters.worker import PATIENCE, Answer, Order, Parts, do_parts, facts, segment
from cytomask.workflows.models import SHIPPED, find_model
from cytomask.workflows.predicting.giant import FoundObjects, check_pixels, lead_giant
from cytomask.workflows.predicting.giant_steps import SPOOL_NAME, Hands
from cytomask.workflows.predicting.job import ImageTask, JobSettings, done_before, result_of
from cytomask.workflows.predicting.progress import TILES_LOCK, fingerprint, lock_file, marked
from cytomask.workflows.predicting.record import ImageResult, JobFacts

#: Parts of a giant image's step that one task holds at most: so few that a worker's end costs little.
_MOST_PARTS = 8
#: Tasks per worker into which a step is cut, if it has as many parts.
_TASKS_PER_WORKER = 8
#: Seconds within which what a worker wrote is seen here.
_SEEN_WITHIN = 60.0


class ClusterJob:
    """What is to be done with every image, by the workers of a cluster; this process loads no model.

    Parameters
    ----------
    cluster
        The workers.
    settings
        What is to be done; paths are as this process sees them.
    """

    def __init__(self, cluster: Cluster, settings: JobSettings) -> None:
        self._cluster, self._given = cluster, settings
        self._folder = Path(_whole(output_folder(settings.plan.folder)))
        combine = settings.combine
        if combine is not None:
            combine = replace(combine, models=tuple(_model(model) for model in combine.models))
        self._settings = replace(
            settings, model=_model(settings.model), plan=replace(settings.plan, folder=self._folder), combine=combine
        )
        self._facts: JobFacts | None = None
        cluster.check(self._folder)

    def facts(self) -> JobFacts:
        """What is to be known of the models, as a worker tells it."""
        if self._facts is None:
            with marked(self._folder) as mark:
                ((_, answer),) = self._cluster.do(facts, [Order(self._settings, mark)], "cytomask-load")
            found: JobFacts = _open(answer, "loading the model").value
            if found.ensemble is not None:
                # Places are told as they were given.
                given = (self._given.model, *(self._given.combine.models if self._given.combine else ()))
                models = [{**one, "path": str(find_model(m))} for one, m in zip(found.ensemble["models"], given)]
                found = replace(found, ensemble={**found.ensemble, "models": models})
            self._facts = found
        return self._facts

    def outcomes(
        self, tasks: Sequence[ImageTask], *, anew: bool = False
    ) -> Iterator[tuple[ImageTask, ImageResult | ImageError | ChannelError]]:
        """Segment images, in any order: each with its result, or the error why it is left out."""
        binding, given, missing = fingerprint(self.facts().binding), self._given.plan.folder, []
        with marked(self._folder) as mark:
            order = Order(self._settings, mark, binding)
            for task in tasks:
                progress = task.progress(self._folder)
                if anew and progress.folder.is_dir():
                    with progress.locked(PATIENCE):
                        progress.clear()
                result = done_before(progress, task.path, given)
                if result is not None:
                    yield task, result
                else:
                    missing.append(task)
            originals = {task.number: task for task in missing}
            sent = [(order, replace(task, path=Path(_whole(task.path)))) for task in missing]
            done = self._cluster.do(segment, sent, "cytomask-image")
            giants: list[ImageTask] = []
            for (_, image), answer in track(done, "segmenting images", total=len(missing)):
                task = originals[image.number]
                value = _image_killed(task) if isinstance(answer, Killed) else _open(answer, "").value
                if value is None:
                    giants.append(task)
                elif isinstance(value, Mapping):
                    yield task, _result(value, task, given)
                else:
                    yield task, value
            for task in sorted(giants, key=lambda task: task.number):
                yield task, self._giant(order, task)

    def _giant(self, order: Order, task: ImageTask) -> ImageResult | ImageError | ChannelError:
        """Lead the work on one image's tiles."""
        sent = replace(task, path=Path(_whole(task.path)))
        plan, settings = self._settings.plan_of(task), self._settings
        with task.progress(self._folder).locked(PATIENCE) as progress:
            # Tasks of a run that was killed may still be at it.
            lock = lock_file(progress.folder / TILES_LOCK, PATIENCE)
            if lock is None:
                raise OutputError("another run is working on the same image", where=progress.folder)
            try:
                with lock:
                    image = settings.open_image(task.path)

                def work(outputs: Mapping[str, Path], of_classes: Sequence[Path]) -> FoundObjects:
                    check_pixels(progress, image)
                    return lead_giant(
                        self._hands(order, sent), image, progress, outputs, channels=settings.channels,
                        coco=plan.lines, class_labels=of_classes, style=plan.style,
                    )  # fmt: skip

                result = result_of(plan, task, image, progress, work, on_disk=True)
            except (ImageError, ChannelError) as error:
                if progress.read("prepared") is None:
                    progress.clear()
                return error
        return _result({**result.to_json(task.number, self._folder), "resumed": False}, task, self._given.plan.folder)

    def _hands(self, order: Order, image: ImageTask) -> Hands:
        """Those of the workers."""
        work, spool = secrets.token_hex(8), image.progress(self._folder).folder / SPOOL_NAME

        def hands(step: str, parts: Sequence[Any], saying: str = "") -> Iterator[tuple[Any, Any]]:
            size = len(parts) // (_TASKS_PER_WORKER * max(1, len(self._cluster.workers())))
            size = min(max(1, size), _MOST_PARTS)
            groups = [list(parts[first : first + size]) for first in range(0, len(parts), size)]

            def results() -> Iterator[tuple[Any, Any]]:
                tasks = [Parts(order, image, work, step, group) for group in groups]
                for _, answer in self._cluster.do(do_parts, tasks, f"cytomask-{step}"):
                    value = _open(answer, f"{image.path.name}: {saying}").value
                    if isinstance(value, CytomaskError):
                        raise value
                    yield from value
                see_anew(spool)

            return track(results(), saying, total=len(parts))

        return hands


def _open(answer: Answer | Killed, doing: str) -> Answer:
    """Say what was said elsewhere."""
    if isinstance(answer, Killed):
        raise ClusterError(
            "every worker came to its end over the same part of the work",
            where=doing,
            fix="look at the workers' logs; if memory ran out, use a smaller --tile, or fewer workers per machine. "
            "The same command goes on where this stopped",
        )
    repeat(answer.said)
    return answer


def _result(entry: Mapping[str, Any], task: ImageTask, folder: Path) -> ImageResult:
    result = ImageResult.from_json(entry, task.path, folder)
    until = time.monotonic() + _SEEN_WITHIN
    while result is None and time.monotonic() < until:
        see_anew(folder)
        result = ImageResult.from_json(entry, task.path, folder)
        time.sleep(0.5 if result is None else 0)
    if result is None:
        raise OutputError(
            "the results that a worker has written are not seen here", where=folder, found=task.name,
            expected="a folder on a shared file system", fix="give such a folder with --out",
        )  # fmt: skip
    return replace(result, resumed=bool(entry["resumed"]))


def _image_killed(task: ImageTask) -> ImageError:
    return ImageError(
        "every worker that was at the image came to its end",
        where=task.path,
        fix="look at the workers' logs; if memory ran out, use --on-disk or a smaller --tile for this image",
    )


def _model(model: str | Path) -> str | Path:
    """A model as other processes find it: by its whole path, or by the name of one that is shipped."""
    found = find_model(model)
    return found.name if found.parent == SHIPPED else Path(_whole(found))


def _whole(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - links stay, as other machines may not see where they lead
