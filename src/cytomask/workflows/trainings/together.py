"""Processes that train one model together: this one and those that it starts, or those that a launcher has started.

On one machine the process that was asked to train is the main one, whoever asked: the command line, a script, a
notebook. It starts the others (:mod:`cytomask.workflows.trainings.companion`), which read the experiment as it was
resolved and write nothing, and it ends them. Under torchrun or Slurm's srun all processes run already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed

from cytomask import errors
from cytomask.errors import ConfigError, CytomaskError, TrainingError
from cytomask.progress import say, set_quiet
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import ALONE, PATIENCE, Place, check_devices, joined, place_of_launcher
from cytomask.training.fit import Interrupted

#: Where the processes of one machine meet.
HERE = "127.0.0.1"
#: Seconds that a process which has lost another waits to hear why, and that the others have to end by themselves.
_LAST_WORDS, _LEAVE = 10.0, 60.0
#: What a companion says in the store when it is ready to meet.
READY = "ready {}"


@dataclass
class Team:
    """The processes of a training, as one of them sees them.

    Attributes
    ----------
    config
        How many there are, and on what.
    place
        Of this process.
    meeting
        Where they meet, if a launcher has started them.
    """

    config: TrainingConfig
    place: Place = ALONE
    meeting: str | None = None
    _started: list[subprocess.Popen] = field(default_factory=list)
    _papers: Path | None = None
    _store: Any = None

    @contextmanager
    def started(self, folder: Path, begun: bool) -> Iterator[None]:
        """Start the other processes, if no launcher did; end them when the training ends, however it does.

        Parameters
        ----------
        folder
            The run's, with the experiment as it was resolved.
        begun
            Whether the training goes on from its checkpoint.

        Raises
        ------
        CytomaskError
            What another process met, if that is why this one could not go on.
        """
        if self.place.processes == 1 or self.meeting is not None:
            yield
            return
        variables = _on_this_machine()
        os.environ.update(variables)
        self._papers = Path(tempfile.mkdtemp(prefix="cytomask-"))
        try:
            self._store = torch.distributed.TCPStore(HERE, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
            self._started = [self._start(rank, folder, begun) for rank in range(1, self.place.processes)]
            say(f"{self.place.processes} processes train together, on {self.place.processes} devices")
            yield
            self._wait_for_the_others()
        except (CytomaskError, Interrupted):
            raise
        except Exception as error:
            if (failure := self._failure(_LAST_WORDS if is_lost(error) else 0.0)) is not None:
                raise failure from error
            raise
        finally:
            for process in self._started:
                process.kill()
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
            self._started, self._store = [], None
            shutil.rmtree(self._papers, ignore_errors=True)
            for name in variables:
                os.environ.pop(name, None)

    @contextmanager
    def met(self) -> Iterator[Place]:
        """Meet the other processes when all have read their data; yields the place from which they can be told."""
        if self.place.processes == 1:
            yield self.place
            return
        if self.meeting is None:
            waiting = [READY.format(rank) for rank in range(1, self.place.processes)]
            while not self._store.check(waiting):
                if (failure := self._failure(0.0)) is not None:
                    raise failure
                time.sleep(0.05)
        with joined(self.config, self.place, self.meeting or self._store) as place:
            yield place

    def _start(self, rank: int, folder: Path, begun: bool) -> subprocess.Popen:
        assert self._papers is not None
        order = {
            "folder": str(folder), "begun": begun, "rank": rank, "processes": self.place.processes,
            "port": self._store.port, "report": str(self._report(rank)),
        }  # fmt: skip
        with self._said(rank).open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "cytomask.workflows.trainings.companion"],
                stdin=subprocess.PIPE, stdout=said, stderr=said,
                # Ctrl-C is for the main process, which ends the others.
                start_new_session=True,
            )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        return process

    def _report(self, rank: int) -> Path:
        assert self._papers is not None
        return self._papers / f"{rank}.json"

    def _said(self, rank: int) -> Path:
        assert self._papers is not None
        return self._papers / f"{rank}.txt"

    def _failure(self, seconds: float) -> CytomaskError | None:
        """What went wrong in another process; it has some seconds to say so."""
        end = time.monotonic() + seconds
        while True:
            failed = [r for r, p in enumerate(self._started, start=1) if p.poll() not in (None, 0)]
            found = [self._failure_of(rank) for rank in failed]
            # One that only lost the others is not the cause.
            causes = [error for error in found if error is not None]
            if causes:
                return causes[0]
            if time.monotonic() >= end:
                return None
            time.sleep(0.05)

    def _failure_of(self, rank: int) -> CytomaskError | None:
        try:
            told = json.loads(self._report(rank).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            status = self._started[rank - 1].poll()
            words = self._said(rank).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return TrainingError(
                "a process of the training has ended without saying why",
                where=f"process {rank} of {self.place.processes}",
                found=" ".join([f"exit status {status}", *words[-1:]]),
                fix="the machine may have too little memory for so many: give fewer --devices, or a smaller "
                "patches.cache_gb; then go on with --resume",
            )
        if told.pop("lost", False):
            return None
        kind = getattr(errors, told.pop("kind"), TrainingError)
        error: CytomaskError = kind(**told)
        return error

    def _wait_for_the_others(self) -> None:
        end = time.monotonic() + _LEAVE
        for process in self._started:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                return


def team_of(config: TrainingConfig) -> Team:
    """Find out which process of a training this is; all but the main one say nothing from now on.

    Raises
    ------
    ConfigError
        If the processes, the devices and the batch do not fit each other.
    """
    processes = config.devices * config.nodes
    if config.batch_size % processes:
        raise ConfigError(
            "the devices cannot share a batch evenly", where="training.batch_size", found=config.batch_size,
            expected=f"a multiple of {processes}, for {config.devices} devices on {config.nodes} machines",
        )  # fmt: skip
    check_devices(config)
    launched = place_of_launcher(config)
    if launched is not None:
        place, meeting = launched
        if not place.main:
            set_quiet(True)
        return Team(config, place, meeting if place.processes > 1 else None)
    if config.nodes > 1:
        raise ConfigError(
            "a training on several machines is started on each of them", where="training.nodes", found=config.nodes,
            expected="to be started by torchrun, or by Slurm's srun",
            fix=f"torchrun --nnodes {config.nodes} --nproc-per-node {config.devices} --rdzv-backend c10d "
            "--rdzv-endpoint HOST:PORT -m cytomask train …",
        )  # fmt: skip
    return Team(config, Place(0, processes, 0, processes))


def is_lost(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(w in text for w in ("connection closed", "connection reset", "gloo"))


def _on_this_machine() -> dict[str, str]:
    """Variables by which processes of one machine find each other, whatever it is called in its network."""
    device = next((name for name in ("lo", "lo0") if Path("/sys/class/net", name).exists()), None)
    known = device is None or "GLOO_SOCKET_IFNAME" in os.environ
    return {} if known else {"GLOO_SOCKET_IFNAME": str(device)}
