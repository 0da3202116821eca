"""Processes that train together, one for each device: where each stands, and how they meet and tell each other."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from cytomask.errors import ConfigError
from cytomask.models.devices import choose_device
from cytomask.training.config import TrainingConfig

T = TypeVar("T")

#: Nobody waits longer for another process: it would mean that one has come to a halt.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together.

    Attributes
    ----------
    rank, processes
        Its number, from 0, and how many there are. Number 0, the main process, is the one that writes.
    local_rank, per_node
        The same among those of its machine.
    group
        For objects, which travel from memory to memory; None: the group of all.

    Examples
    --------
    >>> Place(rank=1, processes=2, local_rank=1, per_node=2).share([10, 11, 12])
    [11]
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    per_node: int = 1
    group: Any = None

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        return self.processes // self.per_node

    def share(self, items: Sequence[T]) -> list[T]:
        """Choose what this process does of what all have to do: one item at least, even if another has it too."""
        return list(items[self.rank :: self.processes]) or list(items[:1])

    def gathered(self, value: T) -> list[T] | None:
        """What each process gives, by rank, in the main process; None in the others."""
        if self.processes == 1:
            return [value]
        values: list[Any] | None = [None] * self.processes if self.main else None
        torch.distributed.gather_object(value, values, dst=0, group=self.group)
        return values

    def told(self, value: T | None) -> T:
        """What the main process gives, in each."""
        if self.processes == 1:
            return value  # type: ignore[return-value]
        values: list[Any] = [value]
        torch.distributed.broadcast_object_list(values, src=0, group=self.group)
        return values[0]


#: The only process of a training.
ALONE = Place()


def place_of_launcher(config: TrainingConfig) -> tuple[Place, str] | None:
    """The place that torchrun or Slurm's srun gave this process, and where all meet; None if neither started it.

    Raises
    ------
    ConfigError
        If so many processes were started as the experiment does not ask for.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        place = Place(*(int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
        meeting, launcher = "env://", "torchrun"
    elif int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        nodes = int(env.get("SLURM_STEP_NUM_NODES", env.get("SLURM_NNODES", 1)))
        tasks = int(env["SLURM_STEP_NUM_TASKS"])
        place = Place(int(env["SLURM_PROCID"]), tasks, int(env["SLURM_LOCALID"]), tasks // nodes)
        # The first machine, and a port that each job has for itself.
        first = SLURMEnvironment.resolve_root_node_address(env.get("SLURM_STEP_NODELIST", env["SLURM_NODELIST"]))
        port = env.get("MASTER_PORT") or 15000 + int(env.get("SLURM_JOB_ID", "0")[-4:])
        meeting, launcher = f"tcp://{env.get('MASTER_ADDR') or first}:{port}", "srun"
    else:
        return None
    if (place.processes, place.per_node) != (config.devices * config.nodes, config.devices):
        raise ConfigError(
            f"{launcher} started another number of processes than the experiment asks for",
            where="training.devices, training.nodes",
            found=f"{place.processes} processes, {place.per_node} on each machine",
            expected=f"{config.devices} devices on each of {config.nodes} machines: one process for each",
            fix=f"give --devices {place.per_node} --nodes {place.nodes}, or start as many processes",
        )
    return place, meeting


def check_devices(config: TrainingConfig) -> None:
    """Check that this machine has as many devices as are to train together.

    Raises
    ------
    ConfigError
        If it has not, or one of them is named by its number.
    """
    device = choose_device(config.device)
    if config.devices == 1 or device.type != "cuda":
        return
    if device.index is not None:
        raise ConfigError(
            "one device is named, but several are to train together",
            where="training.device", found=f"{config.device}, and devices {config.devices}",
            fix="set training.device=cuda; choose among them by the variable CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    if torch.cuda.device_count() < config.devices:
        raise ConfigError(
            "this machine has not so many devices", where="training.devices", found=config.devices,
            expected=f"{torch.cuda.device_count()} at most", fix="give fewer --devices, or more --nodes",
        )  # fmt: skip


def device_of(config: TrainingConfig, place: Place) -> torch.device:
    """The device on which a process trains."""
    device = choose_device(config.device)
    if device.type == "cuda" and place.processes > 1:
        return torch.device("cuda", place.local_rank)
    return device


@contextmanager
def joined(config: TrainingConfig, place: Place, meeting: str | torch.distributed.Store) -> Iterator[Place]:
    """Meet the other processes, and part from them at the end.

    Parameters
    ----------
    config
        Its device decides how they talk: by NCCL between GPUs, else by Gloo.
    place
        Of this process.
    meeting
        An address as ``torch.distributed.init_process_group`` takes it, or the store in which they meet.

    Yields
    ------
    Place
        That of this process, from which it can tell the others something.
    """
    device = device_of(config, place)
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, min(threads, _cores() // place.per_node)))
    how: dict[str, Any] = {"init_method": meeting} if isinstance(meeting, str) else {"store": meeting}
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        rank=place.rank, world_size=place.processes, timeout=PATIENCE, **how,
    )  # fmt: skip
    try:
        group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE) if device.type == "cuda" else None
        yield replace(place, group=group)
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def workers_of_process(config: TrainingConfig, place: Place) -> int:
    """How many workers prepare a process's patches, of those that its machine shall have.

    Examples
    --------
    >>> workers_of_process(TrainingConfig(workers=3, devices=2), Place(processes=2, per_node=2))
    2
    """
    return math.ceil(config.workers / place.per_node)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StartedProcesses(ClusterEnvironment):
    """Tells Lightning that the processes run and have met already."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Not asked for: they have met."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Not asked for: they have met."""
        return 0

    @staticmethod
    def detect() -> bool:
        """It is given, never found."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.place.processes

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        """Number of the process."""
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """Number of the process on its machine."""
        return self.place.local_rank

    def node_rank(self) -> int:
        """Number of the machine."""
        return self.place.rank // self.place.per_node
