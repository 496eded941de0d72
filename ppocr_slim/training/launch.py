"""Launcher of a training in several processes; it does not import Paddle into the process that only waits."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import IO

import psutil

from ppocr_slim.config.schema import Config
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import LAST, STATES
from ppocr_slim.progress import TERMINAL, on_terminal

LAUNCHED = "PADDLE_TRAINER_ID"  # set by paddle.distributed.launch in every process that it starts
COMMAND = "PPOCR_SLIM_COMMAND"  # set by `launch`: process id of the command that started the processes
FIRST_LOG = "workerlog.0"  # the launcher's file for the output of the first process
GPU_PACKAGE = "paddlepaddle-gpu"
MIN_SHARE = 8  # samples that a process's batch norms take their statistics from, at least
PR_SET_PDEATHSIG = 1  # an option of Linux's prctl


def process_count(config: Config) -> int:
    """Return the number of processes that a config trains in on this machine.

    Unless the config says it, as many as the run began with; else one a core, as many as can share a batch equally and
    have at least `MIN_SHARE` samples each. A GPU has one: Paddle with GPUs is another package.
    """
    batch = config.train.batch_size
    if config.run.processes:
        return config.run.processes
    if not config.training_stages or any(distributions(name=GPU_PACKAGE)):
        return 1
    most = max(1, min(usable_cores(), batch // MIN_SHARE))
    begun = _begun_with(config.run.output_dir)
    return begun or max(count for count in range(1, most + 1) if batch % count == 0)


def _begun_with(folder: Path) -> int | None:
    """Return in how many processes the run in a folder was trained last; None: there is none, or it does not say."""
    states = sorted(folder.glob(f"*/{LAST}/{STATES}"), key=lambda path: path.stat().st_mtime)
    try:
        return json.loads(states[-1].read_text(encoding="utf-8")).get("processes") if states else None
    except (OSError, ValueError, AttributeError):
        return None  # the training itself says what is wrong with it


def launched() -> bool:
    """Return whether `paddle.distributed.launch` started this process."""
    return LAUNCHED in os.environ


def end_with_parent() -> None:
    """Arrange for SIGTERM when the parent dies, even by SIGKILL, so that no trainer is left behind.

    Raises:
        SlimError: the command that started the processes has ended already.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    command = os.environ.get(COMMAND)
    if command and not psutil.pid_exists(int(command)):  # it died before the line above could take effect
        raise SlimError("the command that started this process has ended, so this process stops too")


def run_command(arguments: Sequence[str]) -> int:
    """Run a Python command line to its end and return its exit status.

    A Ctrl-C reaches it as well: it saves and ends, and its status is returned. It ends with this process.

    Args:
        arguments: of the Python interpreter.
    """
    process = subprocess.Popen([sys.executable, *arguments], preexec_fn=end_with_parent)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def launch(count: int, command: Sequence[str], log_folder: Path) -> int:
    """Run a Python command line in several processes on this machine.

    The output of the first process is shown; that of the others and of the launcher goes to the log folder. SIGINT and
    SIGTERM are passed on to the processes, which save and exit together.

    Args:
        count: number of processes.
        command: arguments of the Python interpreter.
        log_folder: folder of the processes' logs.

    Returns:
        The exit status: 0, or 128 + signal.

    Raises:
        SlimError: a process failed, after which the launcher has stopped the others; or the logs cannot be written.
    """
    try:
        log_folder.mkdir(parents=True, exist_ok=True)
        launcher_log = open(log_folder / "launcher.log", "ab")
    except OSError as error:
        raise SlimError(f"cannot write into {log_folder}: {error.strerror}") from error
    shown = log_folder / FIRST_LOG
    offset = shown.stat().st_size if shown.exists() else 0  # the output of an earlier run is not shown again
    with launcher_log:
        process = _start(count, command, log_folder, launcher_log)
    received = []
    before = {
        s: signal.signal(s, lambda number, frame: received.append(number)) for s in (signal.SIGINT, signal.SIGTERM)
    }
    status, passed_on = None, 0
    try:
        while status is None:
            try:
                status = process.wait(timeout=0.3)
            except subprocess.TimeoutExpired:
                # A signal that came before the processes existed waits for them.
                passed_on += passed_on < len(received) and _pass_on(process.pid, received[passed_on])
            offset = _show(shown, offset)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status and not received:
        raise SlimError(
            f"one of the {count} processes failed and all were stopped; what was saved is kept. Its message is above "
            f"or in {log_folder}/workerlog.*"
        )
    return 128 + received[0] if received else status


def _start(count: int, command: Sequence[str], log_folder: Path, launcher_log: IO[bytes]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(count), "--backend", "gloo"]
        + ["--log_dir", str(log_folder), *command],
        stdout=launcher_log,
        stderr=subprocess.STDOUT,
        env={**os.environ, COMMAND: str(os.getpid()), TERMINAL: str(int(on_terminal()))},
        start_new_session=True,  # a terminal's Ctrl-C would make the launcher kill the processes before they save
        preexec_fn=end_with_parent,
    )


def _pass_on(launcher: int, number: int) -> bool:
    """Send a signal to the launcher's processes and return whether there are any."""
    try:
        children = psutil.Process(launcher).children()
        for child in children:
            child.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return bool(children)


def _show(path: Path, offset: int) -> int:
    """Copy a file from `offset` on to stderr and return the new offset."""
    if not path.exists():
        return offset
    with open(path, "rb") as file:
        file.seek(offset)
        added = file.read()
    sys.stderr.write(added.decode("utf-8", "replace"))
    sys.stderr.flush()
    return offset + len(added)
