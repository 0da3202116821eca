"""What a worker of a cluster does: tasks of one piece of work, one at a time, with the models kept loaded."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytomask.errors import ChannelError, ClusterError, ImageError, OutputError
from cytomask.prediction.spool import Spool
from cytomask.progress import Said, listening
from cytomask.workflows.clusters.cluster import see_anew
from cytomask.workflows.predicting.giant_steps import PARTS_NAME, SPOOL_NAME, GiantWork
from cytomask.workflows.predicting.job import ImageTask, Job, JobSettings
from cytomask.workflows.predicting.progress import TILES_LOCK, fingerprint, lock_file
from cytomask.workflows.predicting.record import ImageResult

#: Seconds that a task waits for one of an earlier run, which its worker may still be at, to end.
PATIENCE = 600.0
_turn = threading.Lock()


@dataclass(frozen=True)
class Order:
    """What all tasks of a run have in common.

    Attributes
    ----------
    settings
        With whole paths.
    mark
        A file that is there as long as the run wants its tasks done.
    binding
        Fingerprint of what the models must be; None as long as that is asked.
    """

    settings: JobSettings
    mark: Path
    binding: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a task gives back.

    Attributes
    ----------
    value
        The result.
    said
        What was said meanwhile.
    """

    value: Any
    said: list[Said]


@dataclass(frozen=True)
class Parts:
    """Parts of a step of a giant image's work.

    Attributes
    ----------
    order, image
        The run and the image.
    work
        Tells one run through the image from another.
    step, parts
        Name of the method of :class:`~cytomask.workflows.predicting.giant_steps.GiantWork`, and what it takes.
    """

    order: Order
    image: ImageTask
    work: str
    step: str
    parts: list[Any]


def facts(order: Order) -> Answer:
    """Load the models and tell what is to be known of them."""
    with _my_turn(order) as (job, said):
        return Answer(job.facts(), said)


def segment(task: tuple[Order, ImageTask]) -> Answer:
    """Segment an image: the entry of its record, an error, or None for one that is worked through on disk."""
    order, image = task
    with _my_turn(order) as (job, said):
        outcome = job.outcome(image, giants=False, patience=PATIENCE)
        if isinstance(outcome, ImageResult):
            entry = outcome.to_json(image.number, job.settings.plan.folder)
            return Answer({**entry, "resumed": outcome.resumed}, said)
        return Answer(outcome, said)


def do_parts(task: Parts) -> Answer:
    """Do some parts of a giant image's work, which another process leads; an error of the image is the value."""
    with _my_turn(task.order) as (job, said):
        progress = task.image.progress(job.settings.plan.folder)
        # A new plan deletes the files of another one, at which tasks that were given up may still be.
        lock = lock_file(progress.folder / TILES_LOCK, PATIENCE, shared=task.step != "begin")
        if lock is None:
            raise OutputError("another run is working on the same image", where=progress.folder)
        with lock:
            _check_mark(task.order)
            for folder in (progress.folder, progress.folder / SPOOL_NAME, progress.folder / SPOOL_NAME / PARTS_NAME):
                see_anew(folder)
            try:
                return Answer(list(getattr(_work(job, task), task.step)(task.parts)), said)
            except (ImageError, ChannelError) as error:
                return Answer(error, said)


#: The models that are loaded, the file that marks their run, and the fingerprint of what they lead to.
_opened: list[tuple[Path, Job, str]] = []
#: The giant image that was worked on last.
_latest: dict[str, GiantWork] = {}


def _work(job: Job, task: Parts) -> GiantWork:
    """The image that was worked on last, or another; a new plan is a new work."""
    key = f"{task.work} {task.image.name}"
    spool = Spool(task.image.progress(job.settings.plan.folder).folder / SPOOL_NAME)
    plan = None if task.step == "begin" else spool.plan()
    if plan is not None and key in _latest and _latest[key].tiling == (plan["tile"], plan["batch"]):
        return _latest[key]
    _latest.clear()
    progress = task.image.progress(job.settings.plan.folder)
    image = job.settings.open_image(task.image.path)
    work = GiantWork(job.giant_model(), image, progress, task.image.number, task.image.path.name)
    if task.step != "begin":
        if plan is None:
            raise ClusterError(
                "a worker does not see what others did of an image", where=progress.folder,
                expected="a folder on a shared file system", fix="give such a folder with --out",
            )  # fmt: skip
        work.join()
        work.tiling = plan["tile"], plan["batch"]
        _latest[key] = work
    return work


@contextmanager
def _my_turn(order: Order) -> Iterator[tuple[Job, list[Said]]]:
    """Wait until no other task runs in this process, load the models if they are not, and listen."""
    with _turn, listening() as said:
        _check_mark(order)
        _use_threads()
        job, binding = _open(order)
        if order.binding not in (None, binding):
            found = job.facts().binding
            raise ClusterError(
                "a worker would come to other results than the others",
                where=_name(),
                found=f"cytomask {found['cytomask']}, torch {found['torch']}, {found['device']}, {found['precision']}",
                fix="use workers with the same versions, models and kind of device; or say --device and --precision",
            )
        yield job, said


def _check_mark(order: Order) -> None:
    if not order.mark.is_file():
        raise ClusterError(
            "the run that a task belongs to has ended, or its files are not seen here", where=order.mark,
            expected="a file on a shared file system",
        )  # fmt: skip


def _open(order: Order) -> tuple[Job, str]:
    if not _opened or _opened[0][0] != order.mark:
        _opened.clear()
        _latest.clear()
        settings = replace(order.settings, device=device_of(order.settings.device, _name(), _gpus()))
        job = settings.open()
        _opened.append((order.mark, job, fingerprint(job.facts().binding)))
    return _opened[0][1:]


def device_of(wanted: str, worker: str, gpus: int) -> str:
    """The device of a worker: of several GPUs that it sees, they are taken in turn by the number in its name.

    Examples
    --------
    >>> device_of("auto", "1", 4), device_of("cuda", "node-6", 4), device_of("auto", "1", 1), device_of("cpu", "1", 4)
    ('cuda:1', 'cuda:2', 'auto', 'cpu')
    """
    number = re.search(r"(\d+)$", worker)
    if wanted not in ("auto", "cuda") or gpus < 2 or number is None:
        return wanted
    return f"cuda:{int(number[1]) % gpus}"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _name() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return ""


def _use_threads() -> None:
    """Let the network use as many cores as the worker has threads, as its tasks come one at a time."""
    import numba
    import torch
    from distributed import get_worker

    try:
        threads = get_worker().state.nthreads
    except ValueError:
        return
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
