"""Starting a training in several processes, without importing paddle into the one that only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import psutil

LAUNCHED = "PADDLE_TRAINER_ID"  # set by paddle.distributed.launch in every process that it starts


def launched() -> bool:
    """Whether `paddle.distributed.launch` started this process."""
    return LAUNCHED in os.environ


def launch(count: int, command: Sequence[str], log_folder: Path) -> int:
    """Run a Python command line in `count` processes on this machine; gives the exit status.

    What the first process says is shown, what the others say goes into `log_folder`. SIGINT and SIGTERM are passed
    on to the processes, which save and leave together.
    """
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(count)]
    process = subprocess.Popen(
        [*launcher, "--backend", "gloo", "--log_dir", str(log_folder), *command],
        start_new_session=True,  # a terminal's Ctrl-C would make the launcher kill the processes before they saved
    )
    received = 0

    def pass_on(number, frame):
        nonlocal received
        received = number
        for child in psutil.Process(process.pid).children():
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    status = process.wait()
    return 128 + received if received else status
