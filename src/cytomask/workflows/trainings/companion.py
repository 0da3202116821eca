"""A process that trains beside the main one, which started it: ``python -m cytomask.workflows.trainings.companion``.

The first line that it reads says what to do. When nothing more can be read, the main process is gone, and this one goes
too. It writes nothing but a report of what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from cytomask.errors import CytomaskError
from cytomask.progress import set_quiet


def main() -> int:
    """Train as the first line of standard input says, and return the exit status."""
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_the_main_process, daemon=True).start()
    set_quiet(True)
    try:
        _train(order)
    except CytomaskError as error:
        told = {name: _plain(getattr(error, name)) for name in ("what", "where", "found", "expected", "fix")}
        _report(order, {"kind": type(error).__name__, **told})
        return 2
    except BaseException as error:
        from cytomask.workflows.trainings.together import is_lost

        traceback.print_exc()
        last = "".join(traceback.format_exception_only(error)).strip()
        told = {"what": "a process of the training met an error", "where": _place_of(error), "found": last}
        _report(order, {"kind": "TrainingError", "lost": is_lost(error), **told})
        return 1
    return 0


def _train(order: dict[str, Any]) -> None:
    from torch.distributed import TCPStore

    from cytomask.evaluation.pixel_summary import pixel_summary
    from cytomask.evaluation.score import instance_score
    from cytomask.training.distributed import PATIENCE, Place, joined
    from cytomask.training.fit import fit
    from cytomask.workflows.experiment import read_experiment
    from cytomask.workflows.train import EXPERIMENT_NAME
    from cytomask.workflows.trainings.preparation import prepare
    from cytomask.workflows.trainings.together import HERE, READY

    folder = Path(order["folder"])
    rank, processes = order["rank"], order["processes"]
    place = Place(rank, processes, rank, processes)
    prepared = prepare(read_experiment(folder / EXPERIMENT_NAME), complete=False, first_weights=not order["begun"])
    held_out, images, segmenter = prepared.held_out(place), prepared.images(), prepared.segmenter
    store = TCPStore(HERE, order["port"], is_master=False, timeout=PATIENCE)
    store.set(READY.format(rank), "")
    with joined(prepared.experiment.training, place, store) as place:
        fit(
            segmenter, images, held_out, prepared.experiment.training, instance_score, segmenter.postprocess_class(),
            folder, figures=partial(pixel_summary, classes=segmenter.config.classes), resume=order["begun"],
            place=place,
        )  # fmt: skip


def _leave_with_the_main_process() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _report(order: dict[str, Any], told: dict[str, Any]) -> None:
    path = Path(order["report"])
    path.with_suffix(".part").write_text(json.dumps(told), encoding="utf-8")
    path.with_suffix(".part").replace(path)


def _place_of(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join(f"{Path(frame.filename).name}, line {frame.lineno}" for frame in last)


def _plain(value: object) -> str | None:
    return None if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
