"""Training runs of derived configs, each in a process and a folder of its own; finished runs are not repeated."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import PROGRAM, write_json
from ppocr_slim.reports.provenance import commit
from ppocr_slim.training.launch import end_with_parent

RUN_CONFIG, RUN_LOG, DONE = "run.yml", "run.log", "done.json"
WEIGHTS = ("*.pdparams", "*.pdiparams", "*.onnx")
LOG_TAIL = 3  # lines of a log without an error, in a message


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        done: the run has finished, now or earlier.
        reason: why it has not.
        commit: commit of the code that it was trained by, if it has finished.
    """

    done: bool
    reason: str = ""
    commit: str = ""


def derive(config: Config, folder: Path, **sections: Mapping[str, Any] | list[Any]) -> Config:
    """Return a config with changes.

    Args:
        config: the config.
        folder: its new output_dir.
        sections: changed sections by name: a mapping is merged into the section, a list replaces it.

    Raises:
        SlimError: a value is not allowed.
    """
    raw: dict[str, Any] = config.model_dump(mode="json", by_alias=True)
    for name, changes in {"Global": {}, **sections}.items():
        raw[name] = {**raw[name], **changes} if isinstance(changes, Mapping) else changes
    raw["Global"]["output_dir"] = str(folder)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise SlimError(f"the config of {folder} cannot be derived: {where}: {wrong['msg']}") from error


def origins_of(config: Config) -> dict[str, str]:
    """Return the digests of the pretrained weights and teachers of a run, by their path; "" for missing ones."""
    sources = {config.run.pretrained, *config.teachers}
    return {str(source): _digest(source) for source in sources if source}


def _digest(source: Path) -> str:
    files = [source] if source.is_file() else sorted(file for kind in WEIGHTS for file in source.glob(kind))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16] if files else ""


def read_outcome(config: Config) -> Outcome:
    """Return the outcome that output_dir records of a run of this very config from the weights that are there now."""
    folder = config.run.output_dir
    try:
        record = json.loads((folder / DONE).read_text(encoding="utf-8"))
        if load_config(folder / RUN_CONFIG).with_shared_batch() != config.with_shared_batch():
            return Outcome(False, f"{folder} holds a run of another config")
        before = record.get("origins", {})
        for source, digest in origins_of(config).items():
            if digest and before.get(source, digest) != digest:
                return Outcome(False, f"{folder} holds a run from other weights than those of {source} now: remove it")
        return Outcome(True, commit=str(record["commit"]))
    except FileNotFoundError:
        return Outcome(False, f"{folder} holds no finished run")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SlimError) as error:
        return Outcome(False, f"{folder}: {error}")


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to start.

    Attributes:
        config: its config.
        command: the command that trains, or resumes an interrupted training.
        log: file for its output.
        log_offset: bytes that the log has already.
        origins: digests of the weights that it begins with, see `origins_of`.
        commit: commit of the code that it begins with.
    """

    config: Config
    command: Sequence[str]
    log: Path
    log_offset: int
    origins: Mapping[str, str]
    commit: str


def prepare_run(config: Config) -> PreparedRun:
    """Prepare a config's output_dir for a run of its recipe by the command train.

    Raises:
        SlimError: the folder cannot be written.
    """
    folder, origins = config.run.output_dir, origins_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        dump_config(config, folder / RUN_CONFIG)
        log = folder / RUN_LOG
        log_offset = log.stat().st_size if log.exists() else 0
    except OSError as error:
        raise SlimError(f"cannot write into {folder}: {error.strerror}") from error
    command = [sys.executable, str(PROGRAM), "train", "-c", str((folder / RUN_CONFIG).resolve())]
    return PreparedRun(config, command, log, log_offset, origins, commit())


def start_process(command: Sequence[str], log: Path, cores: Collection[int] = ()) -> subprocess.Popen:
    """Start a command. SIGINT lets a training save and end; so does the end of this process.

    Args:
        command: the command line.
        log: file to which its output is appended.
        cores: the only cores that it may use; none: all.

    Raises:
        SlimError: the log cannot be written.
    """

    def prepare() -> None:
        end_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):  # the parent process (Ray's) may have blocked or ignored them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        if cores:
            os.sched_setaffinity(0, cores)

    try:
        with open(log, "ab") as file:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal would reach it besides our signal, and a second signal ends it without saving.
                start_new_session=True,
                preexec_fn=prepare,
            )
    except OSError as error:
        raise SlimError(f"cannot write {log}: {error.strerror}") from error


def finish_run(prepared: PreparedRun, status: int) -> Outcome:
    """Return the outcome of a run that ended with this exit status, and mark it as done if it succeeded."""
    if status:
        return Outcome(False, _failure(prepared.log, prepared.log_offset, status))
    write_json(prepared.config.run.output_dir / DONE, {"commit": prepared.commit, "origins": prepared.origins})
    return read_outcome(prepared.config)


def run_config(config: Config, title: str) -> Outcome:
    """Run a config's recipe in its output_dir unless it is done; an interrupted run resumes.

    Its output goes into run.log there. It saves on SIGINT (Ctrl-C) and at the end of this process.

    Args:
        config: the config.
        title: title for messages.

    Returns:
        The outcome; a failed run is an outcome with the reason, not an exception.

    Raises:
        SlimError: the folder cannot be written.
        KeyboardInterrupt: after the run has saved.
    """
    outcome = read_outcome(config)
    if outcome.done:
        logger.info("%s: already done", title)
        return outcome
    prepared = prepare_run(config)
    logger.info("%s: running, see %s", title, prepared.log)
    process = start_process(prepared.command, prepared.log)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    outcome = finish_run(prepared, status)
    if not outcome.done:
        logger.warning("%s: failed: %s", title, outcome.reason)
    return outcome


def _failure(log: Path, offset: int, status: int) -> str:
    """Return the first error in the log of a failed run, else its last lines."""
    output = log.read_bytes()[offset:].decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    return errors[0] if errors else f"it ended with status {status}: {' / '.join(lines[-LOG_TAIL:]) or 'no output'}"
