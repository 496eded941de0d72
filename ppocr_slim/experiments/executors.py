"""Executors of runs: processes on this machine, or a Ray cluster. Whoever schedules sees three methods."""

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
from ppocr_slim.reports.provenance import ROOT

LOCAL = "local"  # for Ray: a cluster that is this machine alone
STOPPED = 128 + signal.SIGINT


class Executor(ABC):
    """Runs command lines, at most `jobs` of them at a time.

    Attributes:
        jobs: how many it has room for.
    """

    jobs: int

    @abstractmethod
    def submit(self, command: Sequence[str], log: Path) -> Any:
        """Start a command whose words go into `log`.

        Returns:
            What `poll` and `stop` take.
        """

    @abstractmethod
    def poll(self, handle: Any) -> int | None:
        """Return the exit status of what was submitted; None while it runs. It never waits."""

    @abstractmethod
    def stop(self, handle: Any) -> None:
        """Ask it to save and end; `poll` says when it has."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the executor holds, where it holds more than its processes."""


class LocalPool(Executor):
    """Processes on this machine. Of several, each has its own share of the cores, so that they do not fight."""

    def __init__(self, jobs: int = 1):
        self.jobs = jobs
        self._shares = shares_of(sorted(os.sched_getaffinity(0)), jobs)
        self._taken: list[Popen | None] = [None] * jobs

    def submit(self, command: Sequence[str], log: Path) -> Popen:
        """.

        Raises:
            SlimError: all places are taken, or the log cannot be written.
        """
        free = [place for place, process in enumerate(self._taken) if process is None or process.poll() is not None]
        if not free:
            raise SlimError(f"{self.jobs} runs are going on already: wait for one of them")
        process = start_process(command, log, self._shares[free[0]])
        self._taken[free[0]] = process
        return process

    def poll(self, handle: Popen) -> int | None:
        return handle.poll()

    def stop(self, handle: Popen) -> None:
        if handle.poll() is None:
            handle.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Nothing: whoever submitted has waited for its processes."""


def shares_of(cores: Sequence[int], jobs: int) -> list[Collection[int]]:
    """Return the cores of each of `jobs` processes: all for one, equal parts for several, one each where there are too
    few.
    """
    if jobs == 1:
        return [()]  # as it is
    size = max(1, len(cores) // jobs)
    starts = [(size * job) % len(cores) for job in range(jobs)]
    return [tuple(cores[start : start + size]) for start in starts]


class _Held:
    """A run that Ray has: the actor that started its process, and the answer that is being waited for."""

    def __init__(self, actor: Any, answer: Any, log: Path):
        self.actor, self.answer, self.log = actor, answer, log
        self.is_started = False
        self.status: int | None = None


class RayExecutor(Executor):
    """Runs over a Ray cluster whose machines see this project, its data and its output under the same paths.

    Args:
        address: "auto", "HOST:PORT", or `LOCAL`.
        jobs: how many runs share the cluster's cores; None: one for each machine.

    Raises:
        SlimError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str = LOCAL, jobs: int | None = None):
        try:
            import ray
        except ImportError as error:
            raise SlimError("--ray needs Ray: pip install ray, into this environment") from error
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
        except Exception as error:  # Ray has errors of many kinds for a cluster that is not there
            raise SlimError(f"Ray does not start with {address}: {' '.join(str(error).split())[:300]}") from error
        machines = [count for count in cores if count]
        if not machines:
            ray.shutdown()
            raise SlimError(f"the Ray cluster at {address} has no machine with cores: let one join it first")
        self.jobs = jobs or len(machines)
        # no more than the smallest machine has, or the larger ones would get all runs
        self._cores = max(1, min(min(machines), sum(machines) // self.jobs))
        self._runner = ray.remote(max_restarts=0)(_Runner)
        message = "Ray: %d machines with %d cores, %d runs at a time, %d cores each; all must share one file system"
        logger.info(message, len(machines), sum(machines), self.jobs, self._cores)

    def submit(self, command: Sequence[str], log: Path) -> _Held:
        actor = self._runner.options(num_cpus=self._cores, scheduling_strategy="SPREAD").remote()
        answer = actor.start.remote(list(command), str(log.resolve()), os.getcwd())
        return _Held(actor, answer, log)

    def poll(self, handle: _Held) -> int | None:
        if handle.status is None and self._ray.wait([handle.answer], timeout=0)[0]:
            try:
                handle.status = self._ray.get(handle.answer)
                handle.is_started = True
            except Exception as error:  # the machine, or the process that watched it, is gone
                with open(handle.log, "a", encoding="utf-8") as log:
                    log.write(f"\nerror: Ray lost the run: {' '.join(str(error).split())[:300]}\n")
                handle.status = 1
            if handle.status is None:
                handle.answer = handle.actor.poll.remote()
            else:
                self._ray.kill(handle.actor)
        return handle.status

    def stop(self, handle: _Held) -> None:
        if handle.status is not None:
            return
        if handle.is_started:
            handle.actor.stop.remote()
        else:  # it waits for a machine, and nothing is lost
            self._ray.kill(handle.actor)
            handle.status = STOPPED

    def close(self) -> None:
        self._ray.shutdown()


class _Runner:
    """Starts and watches one process on the machine where Ray puts it; it ends with this."""

    def start(self, command: Sequence[str], log: str, folder: str) -> None:
        os.chdir(folder)
        self._process = start_process(command, Path(log))

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


def open_executor(jobs: int | None, ray: str | None) -> Executor:
    """Return the pool on this machine; or, with an address, a Ray cluster's.

    Raises:
        SlimError: they do.
    """
    if jobs is not None and jobs < 1:
        raise SlimError(f"{jobs} runs at a time get nothing done: --jobs is 1 or more")
    return RayExecutor(ray, jobs) if ray else LocalPool(jobs or 1)
