"""Many processes, here or on other machines, that do parts of one piece of work: a Dask cluster.

What is sent is small: settings, and where files lie. Images, models and results are read and written by each process by
itself, so **all of them must see the same folders under the same paths**.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cytomask._version import __version__
from cytomask.errors import ClusterError, ConfigError
from cytomask.progress import say

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

#: Tasks of each worker that are under way: one that runs, and one that waits, so that no worker idles.
IN_FLIGHT = 2
#: So often a process may die over a task before the task is tried alone; then it is given up.
DEATHS = 1
#: Seconds between two looks at whether there are workers.
_LOOK = 1.0
#: Seconds to wait for workers, at first and when all of them are gone.
PATIENCE = 60.0
_GO_ON = "the same command goes on where this stopped"


class Killed(Exception):
    """Every process that worked on a task came to its end."""


class Cluster:
    """A connection to the scheduler and the workers of a Dask cluster; made by :func:`open_cluster`.

    Parameters
    ----------
    client
        The connection.
    close
        What is to be closed afterwards.
    patience
        Seconds to wait for workers.
    """

    def __init__(self, client: Client, close: Sequence[Any] = (), patience: float = PATIENCE) -> None:
        self.client, self._close, self.patience = client, tuple(close), patience

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for thing in (self.client, *self._close):
            with suppress(OSError, TimeoutError):
                thing.close()

    def workers(self) -> dict[str, int]:
        """Address of each worker that is there now, and its threads.

        Raises
        ------
        ClusterError
            If the scheduler does not answer.
        """
        try:
            return dict(self.client.nthreads())
        except Exception as error:
            raise _lost(error) from error

    def wait_for_workers(self) -> None:
        """Wait for the first worker.

        Raises
        ------
        ClusterError
            If there is none in time.
        """
        until, told = time.monotonic() + self.patience, False
        while not self.workers():
            if time.monotonic() > until:
                raise ClusterError(
                    "the cluster has no workers",
                    where=self._address(),
                    found=f"none within {self.patience:.0f} seconds",
                    fix=f"start some: dask worker {self._address()}; look at what those say that you have started",
                )
            if not told:
                say("waiting for the first worker")
                told = True
            time.sleep(min(_LOOK, self.patience / 4))

    def check(self, folder: Path | None) -> None:
        """Make sure that all workers have the same versions, and see and may write the folder of the results, if any.

        Raises
        ------
        ClusterError
            If one does not.
        """
        self.wait_for_workers()
        self._check_versions()
        if folder is None:
            return
        token = secrets.token_hex(8)
        probe = folder / f".cytomask-probe-{token}"
        probe.write_text(token, encoding="utf-8")

        def look(path: str, expected: str) -> str | None:
            """Sent by value: other machines may have no such function."""
            import pathlib
            import time
            import uuid

            problem = "it does not see the files in it"
            for _ in range(20):  # what is new takes seconds to be seen on some shared file systems
                try:
                    text = pathlib.Path(path).read_text(encoding="utf-8")
                    if text == expected:
                        mine = pathlib.Path(f"{path}-{uuid.uuid4().hex}")
                        mine.write_text("", encoding="utf-8")
                        mine.unlink()
                        return None
                    problem = "it sees other files in it"
                except OSError as error:
                    missing = isinstance(error, FileNotFoundError)
                    problem = "it does not see the files in it" if missing else f"{type(error).__name__}: {error}"
                time.sleep(0.25)
            return problem

        try:
            answers = self._ask(look, str(probe), token)
        finally:
            probe.unlink(missing_ok=True)
        bad = {address: answer for address, answer in answers.items() if answer is not None}
        if bad:
            address, answer = next(iter(bad.items()))
            raise ClusterError(
                "a worker cannot use the folder of the results",
                where=folder,
                found=f"{address}: {answer}" + (f" (and {len(bad) - 1} more workers)" if len(bad) > 1 else ""),
                expected="a folder on a shared file system, under the same path on all machines",
                fix="give such a folder with --out; images and models must lie on one, too",
            )

    def _check_versions(self) -> None:
        try:
            versions: Any = self.client.get_versions()
        except Exception as error:
            raise _lost(error) from error
        python = {address: worker["host"]["python"] for address, worker in versions["workers"].items()}
        ours = ".".join(str(part) for part in sys.version_info[:2])

        def version() -> str | None:
            """Sent by value: a worker may have another cytomask, or none."""
            try:
                from cytomask._version import __version__ as found
            except ImportError:
                return None
            return str(found)

        theirs = {a: f"Python {v}" for a, v in python.items() if ".".join(v.split(".")[:2]) != ours}
        if not theirs:
            found = self._ask(version)
            theirs = {a: f"cytomask {v}" if v else "no cytomask" for a, v in found.items() if v != __version__}
        if theirs:
            raise ClusterError(
                "a worker has other versions than this process",
                where=next(iter(theirs)),
                found=next(iter(theirs.values())),
                expected=f"cytomask {__version__} under Python {ours}",
                fix="install the same versions on all machines, and start the workers anew",
            )

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Have all workers run a function at once."""
        try:
            return dict(self.client.run(function, *arguments, on_error="raise"))
        except Exception as error:
            raise _lost(error) from error

    def do(self, function: Callable[[T], R], tasks: Sequence[T], name: str) -> Iterator[tuple[T, R | Killed]]:
        """Have the workers do tasks; gives each with its result when it is done, in any order.

        Only a few tasks are under way at any time. One whose process dies is done by another. When that happens again,
        the task waits until all others are done and is tried alone, since it may have been another's fault.

        Parameters
        ----------
        function
            Takes a task and gives its result; a function of a module.
        tasks
            Small things that can be pickled.
        name
            What Dask's dashboard calls the tasks.

        Raises
        ------
        ClusterError
            If the scheduler or all workers are gone.
        Exception
            What the function raised.
        """
        from distributed import wait

        waiting, suspects = deque(range(len(tasks))), deque[int]()
        under_way: dict[Future, int] = {}
        alone: int | None = None
        looked, n_workers, lonely = -1e9, 1, time.monotonic()
        try:
            while waiting or suspects or under_way:
                now = time.monotonic()
                if now - looked >= _LOOK:
                    n_workers, looked = len(self.workers()), now
                    lonely = now if n_workers else lonely
                    if now - lonely > self.patience:
                        raise ClusterError(
                            "all workers are gone",
                            where=self._address(),
                            found=f"none for {self.patience:.0f} seconds",
                            fix=f"start workers, and give the command again: {_GO_ON}",
                        )
                while waiting and len(under_way) < IN_FLIGHT * max(1, n_workers):
                    number = waiting.popleft()
                    under_way[self._submit(function, tasks[number], name)] = number
                if not under_way:
                    alone = suspects.popleft()
                    under_way[self._submit(function, tasks[alone], name)] = alone
                with self.client.as_current(), suppress(TimeoutError):
                    wait(list(under_way), timeout=_LOOK, return_when="FIRST_COMPLETED")
                for future in [future for future in under_way if future.done()]:
                    number = under_way.pop(future)
                    result = _result(future)
                    if not isinstance(result, Killed) or alone is not None:
                        yield tasks[number], result
                    else:
                        suspects.append(number)
        finally:
            if under_way:
                with suppress(Exception):  # the scheduler may be what is gone
                    self.client.cancel(list(under_way), force=True)

    def _submit(self, function: Callable[[T], R], task: T, name: str) -> Future:
        from distributed.protocol.pickle import dumps

        # As bytes: the scheduler looks into what it hands out, and would import all that is in it.
        order = dumps((function, task))
        return self.client.submit(_do, order, key=f"{name}-{secrets.token_hex(8)}", pure=False)

    def _address(self) -> str:
        scheduler = self.client.scheduler
        return str(scheduler.address) if scheduler is not None else "the scheduler"


def _do(order: bytes) -> Any:
    """What a worker does with a task."""
    from distributed.protocol.pickle import loads

    function, task = loads(order)
    return function(task)


def see_anew(folder: Path) -> None:
    """Look at a folder anew, into which others have written.

    Network file systems remember for up to a minute that a file was not there; a change of one's own makes them ask.
    """
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".cytomask-"):
        pass


def _result(future: Future) -> Any:
    """The result of a task that has ended; raises what it raised."""
    from distributed.scheduler import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise _lost("the scheduler has given up the tasks of this process")
    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            return Killed()
        raise error
    return future.result()


def _lost(error: object) -> ClusterError:
    told = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
    return ClusterError(
        "the connection to the cluster is lost",
        found=told,
        fix=f"look whether scheduler and workers run, and give the command again: {_GO_ON}",
    )


@contextmanager
def open_cluster(
    scheduler: str | None = None, workers: int | None = None, *, patience: float = PATIENCE
) -> Iterator[Cluster | None]:
    """Connect to a scheduler, or start workers on this machine, for as long as the block lasts.

    Parameters
    ----------
    scheduler
        Its address, such as ``tcp://10.0.0.1:8786``, or the file that ``dask scheduler --scheduler-file`` wrote.
    workers
        So many processes on this machine. Where it has several GPUs, each takes one in turn.
    patience
        Seconds to wait for the scheduler and for workers.

    Yields
    ------
    Cluster or None
        None if neither is asked for: this process does all by itself.

    Raises
    ------
    ClusterError
        If there is no scheduler, or it has no workers.
    ConfigError
        If both are asked for, or Dask is not installed.

    Examples
    --------
    >>> with open_cluster() as cluster:
    ...     print(cluster)
    None
    """
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise ConfigError(
            "a cluster is either there or started here", where="--scheduler, --workers", found="both",
            fix="leave one of them out",
        )  # fmt: skip
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            "Dask is not installed", where="--scheduler" if scheduler is not None else "--workers", found=error,
            fix='install it here and on all workers: pip install "cytomask[cluster]"',
        ) from error  # fmt: skip
    opened: AbstractContextManager[Cluster] = (
        nullcontext(_connect(distributed, scheduler, patience))
        if scheduler is not None
        else _started(distributed, workers or 0)
    )
    with opened as cluster, cluster:
        cluster.patience = patience
        cluster.wait_for_workers()
        say(f"{len(cluster.workers())} workers at {cluster._address()}")
        yield cluster


def _connect(distributed: Any, scheduler: str, patience: float) -> Cluster:
    file = Path(scheduler)
    where: dict[str, Any] = {"scheduler_file": scheduler} if file.is_file() else {"address": scheduler}
    try:
        return Cluster(distributed.Client(**where, timeout=patience, set_as_default=False))
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ClusterError(
            "there is no Dask scheduler",
            where=scheduler,
            found=str(error) or type(error).__name__,
            expected="an address such as tcp://10.0.0.1:8786, or the file that it wrote with --scheduler-file",
            fix="start one with `dask scheduler` and give the address that it tells",
        ) from error


@contextmanager
def _started(distributed: Any, workers: int) -> Iterator[Cluster]:
    import dask

    if workers < 1:
        raise ConfigError("there must be a worker", where="--workers", found=workers, expected="1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        # One that has died is started anew, however long that takes; Dask would give it up after 15 seconds.
        "distributed.deploy.lost-worker-timeout": "1 day",
    }
    with dask.config.set(settings):
        local = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, cores // workers),
            processes=True,
            # A free port, for this machine only: the usual one may be taken.
            dashboard_address="127.0.0.1:0",
            # An image may need all memory that there is; what is too much, the system says.
            memory_limit=0,
            silence_logs="CRITICAL",
        )
        client = distributed.Client(local, set_as_default=False)
        client.register_plugin(_deaf(distributed))
        yield Cluster(client, [local])


def _deaf(distributed: Any) -> Any:
    """A plugin for workers of this machine: Ctrl-C is for the process that leads, which ends them."""

    class Deaf(distributed.WorkerPlugin):
        name = "deaf"

        def setup(self, worker: Any) -> None:  # noqa: ARG002
            import signal
            from contextlib import suppress

            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()
