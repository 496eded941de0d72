"""The provenance of results: command, commit, machine and versions."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from ppocr_slim.engines.cpu import cpuinfo, usable_cores
from ppocr_slim.folders import ROOT


def shown_command() -> str:
    """Return the command line as a user would type it, for reports."""
    program, *arguments = sys.argv
    if Path(program).name in ("ppocr-slim", "__main__.py"):
        return shlex.join(["ppocr-slim", *arguments])
    return shlex.join(["python", program, *arguments])


def commit() -> str:
    """Return the commit of the working tree, with "+" where tracked files differ from it; "unknown" outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    """Return the processor, the number of usable cores, and the memory in GB."""
    names = (line.partition(":")[2].strip() for line in cpuinfo().splitlines() if line.startswith("model name"))
    processor = next(names, platform.processor() or "unknown")
    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"processor": processor, "cores": usable_cores(), "memory_gb": memory}


def provenance(command: str, packages: Sequence[str]) -> dict[str, Any]:
    """Return {"command", "date", "commit", "machine", "versions"} of results.

    Args:
        command: the command line.
        packages: names of the packages whose versions are recorded.
    """
    return {
        "command": command,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(packages),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages, by name."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
