"""The edits of a run shared out among Ray workers, here or on a cluster: one model replica each. The driver alone writes journals."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from ..errors import EditError
from ..request import EditRequest
from .runs import Editors, OneProcess, Run, attempt

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util import ActorPool
except ImportError:
    raise EditError('--workers needs Ray: pip install "easyedit_rep[ray]"') from None

RETRIES = 3
"""How often a fact is begun again that was lost with its worker."""

STORE = 100 * 2**20
"""Bytes of Ray's shared memory: facts and records pass through it, never weights."""


class Worker:
    """One model replica, in a process of its own. Every call says what it is about, so a worker begun anew needs to be told nothing.

    Args:
        folder: where the driver runs; relative paths in YAMLs are from there.
        threads: PyTorch's; None leaves them to OMP_NUM_THREADS.
        device: where models go; None leaves it to their YAMLs.
    """

    def __init__(self, folder: str, threads: int | None, device: int | None):
        self._folder, self._threads = folder, threads
        self._process = OneProcess(Editors(device))

    def _ready(self) -> OneProcess:
        import torch

        if not os.path.isdir(self._folder):
            raise EditError(f"{self._folder} is not there on a worker's machine: start from a folder that all machines share")
        os.chdir(self._folder)
        if self._threads:
            torch.set_num_threads(self._threads)
        return self._process

    def pid(self) -> int:
        return os.getpid()

    def about(self, run: Run) -> dict:
        return self._ready().about(run)

    def choose(self, run: Run) -> tuple[list[tuple[int, EditRequest]], list[str]]:
        """The facts of `run`, and what there is to tell about them. Statistics are then on disk, for all workers."""
        told: list[str] = []
        process = self._ready()
        chosen = process.choose(run, told.append)
        editor = process.editors(run)
        if editor.hparams.stats_dir is not None:
            editor.unedited.ready()  # statistics are made and saved
        return chosen, told

    def attempt(self, run: Run, index: int, request: EditRequest) -> list[dict]:
        return attempt(run, self._ready().editors(run), index, request)


class RayWorkers:
    """`n` workers, of a Ray begun here or of the cluster at `address`; a context, at whose end they are gone.

    A worker that is lost (killed, out of memory, its machine gone) is begun anew, and its fact with it.

    Args:
        gpus: of each worker, a part of one too; 0: models go where their YAMLs say.

    Raises:
        EditError: no such cluster, or less in it than the workers need.
    """

    def __init__(self, n: int, address: str | None = None, gpus: float = 0):
        self._n, self._address, self._gpus = n, address, gpus
        self._workers: list = []

    def __enter__(self) -> "RayWorkers":
        cores = os.cpu_count() or 1
        # "local", since otherwise a cluster that RAY_ADDRESS names, or that runs on this machine, would be joined.
        here = {"address": "local", "num_cpus": max(self._n, cores), "object_store_memory": STORE}
        options = {"address": self._address} if self._address else here
        try:
            if self._address:
                _knock(self._address)
            ray.init(**options, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError) as error:  # a ConnectionError is an OSError
            raise EditError(f"no Ray cluster at {self._address!r} ({' '.join(str(error).split())[:200]}): see `ray status`") from None
        try:
            self._check()
            threads = None if self._address or "OMP_NUM_THREADS" in os.environ else max(1, cores // self._n)
            actor = ray.remote(Worker).options(num_cpus=1, num_gpus=self._gpus, max_restarts=-1, max_task_retries=RETRIES)
            # Ray shows a worker its own GPUs only, and the first of them is 0, whatever a YAML calls it.
            self._workers = [actor.remote(os.getcwd(), threads, 0 if self._gpus else None) for _ in range(self._n)]
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        ray.shutdown()

    def _check(self) -> None:
        """A worker for which there is no room would be waited for without end."""
        there = ray.cluster_resources()
        for name, each in (("CPU", 1), ("GPU", self._gpus)):
            if there.get(name, 0) < self._n * each:
                raise EditError(f"{self._n} workers need {self._n * each:g} {name}, Ray has {there.get(name, 0):g}: give fewer --workers")
        if self._gpus > 1 and self._gpus != int(self._gpus):
            raise EditError(f"--gpus: {self._gpus:g} is neither a part of a GPU nor a whole number of them")
        places = sum(places_for(node["Resources"].get("GPU", 0), self._gpus) for node in ray.nodes() if node["Alive"])
        if places < self._n:
            raise EditError(f"only {places} workers of {self._gpus:g} GPU each find room, {self._n} are asked for: give fewer --workers")

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return ray.get([worker.pid.remote() for worker in self._workers])

    def about(self, run: Run) -> dict:
        return self._told(run, lambda: ray.get(self._workers[0].about.remote(run)))

    def choose(self, run: Run, tell: Callable[[str], object]) -> list[tuple[int, EditRequest]]:
        chosen, told = self._told(run, lambda: ray.get(self._workers[0].choose.remote(run)))
        for line in told:
            tell(line)
        return chosen

    def attempts(self, run: Run, facts: Sequence[tuple[int, EditRequest]]) -> Iterator[list[dict]]:
        """The records of each fact, as they come."""
        results = ActorPool(self._workers).map_unordered(lambda worker, fact: worker.attempt.remote(run, *fact), facts)
        for _ in facts:
            yield self._told(run, lambda: next(results))

    def _told(self, run: Run, call: Callable):
        """What `call` gives; Ray's errors as ours where they are the user's to mend."""
        try:
            return call()
        except RayTaskError as error:
            if isinstance(error.cause, EditError):
                raise error.cause from None
            raise
        except RayError as error:
            raise EditError(
                f"{run.name}: the worker of one fact was lost {RETRIES + 1} times ({' '.join(str(error).split())[:200]}): "
                "what is finished is kept; give each more memory, or fewer --workers"
            ) from None


def places_for(gpus: float, each: float) -> int:
    """Workers of `each` GPUs that a machine with `gpus` has room for: a worker spans no machines, and a part of a GPU no two GPUs."""
    if not each:
        return sys.maxsize
    return int(gpus) * int(1 / each + 1e-9) if each < 1 else int(gpus // each)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at host:port; Ray itself waits there for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
