"""Executors of runs: processes on this machine, or a Ray cluster, behind one interface."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from ppocr_slim.errors import SlimError, logger
from ppocr_slim.experiments.runs import start_process
from ppocr_slim.folders import ROOT

LOCAL = "local"  # address of a Ray cluster of this machine alone
STOPPED = 128 + signal.SIGINT


class Executor(ABC):
    """Base of executors of command lines.

    Attributes:
        jobs: maximum number of parallel commands.
    """

    jobs: int

    @abstractmethod
    def submit(self, command: Sequence[str], log: Path) -> Any:
        """Start a command.

        Args:
            command: the command line.
            log: file to which its output is appended.

        Returns:
            A handle for `poll` and `stop`.
        """

    @abstractmethod
    def poll(self, handle: Any) -> int | None:
        """Return the exit status of a command, None while it runs; never wait."""

    @abstractmethod
    def stop(self, handle: Any) -> None:
        """Ask a command to save and end; `poll` returns its status when it has."""

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the executor."""


class LocalPool(Executor):
    """Processes on this machine; several processes get separate cores, so that they do not compete for them."""

    def __init__(self, jobs: int = 1):
        self.jobs = jobs
        self._cores = partition_cores(sorted(os.sched_getaffinity(0)), jobs)
        self._slots: list[Popen | None] = [None] * jobs

    def submit(self, command: Sequence[str], log: Path) -> Popen:
        """Start a command; see `Executor.submit`.

        Raises:
            SlimError: `jobs` commands are running already, or the log cannot be written.
        """
        free = [slot for slot, process in enumerate(self._slots) if process is None or process.poll() is not None]
        if not free:
            raise SlimError(f"{self.jobs} runs are active already: wait for one of them")
        process = start_process(command, log, self._cores[free[0]])
        self._slots[free[0]] = process
        return process

    def poll(self, handle: Popen) -> int | None:
        return handle.poll()

    def stop(self, handle: Popen) -> None:
        if handle.poll() is None:
            handle.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Do nothing: the caller of `submit` has waited for its processes."""


def partition_cores(cores: Sequence[int], jobs: int) -> list[Collection[int]]:
    """Divide cores among processes.

    Args:
        cores: numbers of the cores.
        jobs: number of processes.

    Returns:
        The cores of each process: () for a single process, which may use all; equal parts for several; one core each if
        there are fewer cores than processes.
    """
    if jobs == 1:
        return [()]
    size = max(1, len(cores) // jobs)
    starts = [(size * job) % len(cores) for job in range(jobs)]
    return [tuple(cores[start : start + size]) for start in starts]


class _RayHandle:
    """The handle of a command on a Ray cluster: the actor that started its process, and its pending answer."""

    def __init__(self, actor: Any, answer: Any, log: Path):
        self.actor, self.answer, self.log = actor, answer, log
        self.is_started = False
        self.status: int | None = None


class RayExecutor(Executor):
    """A Ray cluster whose machines have this project, its data and its output under the same paths.

    Args:
        address: "auto", "HOST:PORT", or `LOCAL`.
        jobs: number of parallel commands, which share the cluster's cores; None: one per machine.

    Raises:
        SlimError: ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str = LOCAL, jobs: int | None = None):
        try:
            import ray
        except ImportError as error:
            raise SlimError("--ray needs Ray, which is not installed: pip install ray") from error
        self._ray = ray
        options = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False} if address == LOCAL else {}
        try:
            ray.init(
                address=address,
                logging_level="error",
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                **options,
            )
            cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        except Exception as error:  # Ray raises errors of many types for a cluster that does not exist
            raise SlimError(
                f"cannot connect to the Ray cluster {address}: {' '.join(str(error).split())[:300]}"
            ) from error
        machines = [count for count in cores if count]
        if not machines:
            ray.shutdown()
            raise SlimError(f"the Ray cluster {address} has no machine with cores: add one to it")
        self.jobs = jobs or len(machines)
        # at most the cores of the smallest machine, or only the larger ones would get runs
        self._cores = max(1, min(min(machines), sum(machines) // self.jobs))
        self._runner = ray.remote(max_restarts=0)(_Runner)
        message = "Ray: %d machines with %d cores, %d parallel runs, %d cores each; all must share one file system"
        logger.info(message, len(machines), sum(machines), self.jobs, self._cores)

    def submit(self, command: Sequence[str], log: Path) -> _RayHandle:
        actor = self._runner.options(num_cpus=self._cores, scheduling_strategy="SPREAD").remote()
        answer = actor.start.remote(list(command), str(log.resolve()), os.getcwd())
        return _RayHandle(actor, answer, log)

    def poll(self, handle: _RayHandle) -> int | None:
        if handle.status is None and self._ray.wait([handle.answer], timeout=0)[0]:
            try:
                handle.status = self._ray.get(handle.answer)
                handle.is_started = True
            except Exception as error:  # the machine or the actor is gone
                with open(handle.log, "a", encoding="utf-8") as log:
                    log.write(f"\nerror: Ray lost the run: {' '.join(str(error).split())[:300]}\n")
                handle.status = 1
            if handle.status is None:
                handle.answer = handle.actor.poll.remote()
            else:
                self._ray.kill(handle.actor)
        return handle.status

    def stop(self, handle: _RayHandle) -> None:
        if handle.status is not None:
            return
        if handle.is_started:
            handle.actor.stop.remote()
        else:  # it waits for a machine, so that there is nothing to save
            self._ray.kill(handle.actor)
            handle.status = STOPPED

    def close(self) -> None:
        self._ray.shutdown()


class _Runner:
    """The Ray actor of a command: starts its process on a machine of the cluster; the process ends with the actor."""

    def start(self, command: Sequence[str], log: str, folder: str) -> None:
        os.chdir(folder)
        self._process = start_process(command, Path(log))

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


def open_executor(jobs: int | None, ray: str | None) -> Executor:
    """Return the executor of the command line's options.

    Args:
        jobs: number of parallel runs; None: the executor's default.
        ray: address of a Ray cluster; None: processes on this machine.

    Raises:
        SlimError: `jobs` is less than 1, or see `RayExecutor`.
    """
    if jobs is not None and jobs < 1:
        raise SlimError(f"--jobs is {jobs}; it must be at least 1")
    return RayExecutor(ray, jobs) if ray else LocalPool(jobs or 1)
