"""Runs of derived configs: each in a process and a folder of its own, and what is done is not done again."""

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
from ppocr_slim.config.schema import Config, TrainStage
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import write_json
from ppocr_slim.reports.provenance import PROGRAM, commit
from ppocr_slim.training.launch import end_with_parent

RUN_CONFIG, RUN_LOG, DONE = "run.yml", "run.log", "done.json"
WEIGHTS = ("*.pdparams", "*.pdiparams", "*.onnx")
LAST_WORDS = 3  # lines of a log, where it names no error


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Attributes:
        done: it has finished, now or earlier.
        reason: why it is not done.
        commit: what it was made from, where it is done.
    """

    done: bool
    reason: str = ""
    commit: str = ""


def derive(config: Config, folder: Path, **sections: Mapping[str, Any] | list[Any]) -> Config:
    """Return `config` with `folder` as its output_dir and other `sections`: mappings are merged, a list replaces.

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
    """Return what tells the weights that a run starts and learns from from others, by their path; "" where there are
    none.
    """
    steps = [step for stage in config.recipe if isinstance(stage, TrainStage) for step in stage.techniques]
    sources = {config.run.pretrained, *(step.distill.teacher for step in steps if step.distill)}
    return {str(source): _digest(source) for source in sources if source}


def _digest(source: Path) -> str:
    files = [source] if source.is_file() else sorted(file for kind in WEIGHTS for file in source.glob(kind))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16] if files else ""


def read_outcome(config: Config) -> Outcome:
    """Return whether a run of this very config, from the weights that are there now, has finished; runs nothing."""
    folder = config.run.output_dir
    try:
        record = json.loads((folder / DONE).read_text(encoding="utf-8"))
        if load_config(folder / RUN_CONFIG) != config:
            return Outcome(False, f"{folder} holds a run of another config")
        before = record.get("origins", {})
        for source, digest in origins_of(config).items():
            if digest and before.get(source, digest) != digest:
                return Outcome(False, f"{folder} holds a run from other weights than {source} now has: remove it")
        return Outcome(True, commit=str(record["commit"]))
    except FileNotFoundError:
        return Outcome(False, f"{folder} holds no finished run")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SlimError) as error:
        return Outcome(False, f"{folder}: {error}")


@dataclass(frozen=True)
class Begun:
    """A run that is ready to be started, by whoever starts processes.

    Attributes:
        command: it trains, or goes on where it was stopped.
        log: where what it says belongs.
        said_before: bytes of the log that are there already.
        origins: of the weights that it begins with.
        commit: of the code that it begins with.
    """

    config: Config
    command: Sequence[str]
    log: Path
    said_before: int
    origins: Mapping[str, str]
    commit: str


def begin(config: Config) -> Begun:
    """Prepare a config's output_dir for a run of its recipe by the command train.

    Raises:
        SlimError: it cannot be written.
    """
    folder, origins = config.run.output_dir, origins_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        dump_config(config, folder / RUN_CONFIG)
        log = folder / RUN_LOG
        said_before = log.stat().st_size if log.exists() else 0
    except OSError as error:
        raise SlimError(f"cannot write into {folder}: {error.strerror}") from error
    command = [sys.executable, str(PROGRAM), "train", "-c", str((folder / RUN_CONFIG).resolve())]
    return Begun(config, command, log, said_before, origins, commit())


def start_process(command: Sequence[str], log: Path, cores: Collection[int] = ()) -> subprocess.Popen:
    """Start a command whose words go into `log`, on these cores alone if any are given.

    SIGINT makes a training save and end; so does the end of this process.

    Raises:
        SlimError: the log cannot be written.
    """

    def prepare() -> None:
        end_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):  # whoever started us (Ray does) may have blocked or ignored them
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
                # A terminal's Ctrl-C would reach it beside ours, and a second signal does not save.
                start_new_session=True,
                preexec_fn=prepare,
            )
    except OSError as error:
        raise SlimError(f"cannot write {log}: {error.strerror}") from error


def finish(begun: Begun, status: int) -> Outcome:
    """Return what came of a run that ended with this status; it is marked as done if it is."""
    if status:
        return Outcome(False, _reason(begun.log, begun.said_before, status))
    write_json(begun.config.run.output_dir / DONE, {"commit": begun.commit, "origins": begun.origins})
    return read_outcome(begun.config)


def run_config(config: Config, title: str) -> Outcome:
    """Run a config's recipe by the command train in its output_dir, unless it is done; a run that was killed continues.

    What it says goes into run.log there. SIGINT (Ctrl-C) and the end of this process reach it as signals on which it
    saves. A run that fails is an `Outcome` with the reason, no exception.

    Raises:
        SlimError: the folder cannot be written.
        KeyboardInterrupt: after the run has saved.
    """
    outcome = read_outcome(config)
    if outcome.done:
        logger.info("%s: done already", title)
        return outcome
    begun = begin(config)
    logger.info("%s: running, see %s", title, begun.log)
    process = start_process(begun.command, begun.log)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    outcome = finish(begun, status)
    if not outcome.done:
        logger.warning("%s: failed: %s", title, outcome.reason)
    return outcome


def _reason(log: Path, offset: int, status: int) -> str:
    """Return why a run failed, in its own words: its first error, else its last lines."""
    words = log.read_bytes()[offset:].decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    errors = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    return errors[0] if errors else f"it ended with status {status}: {' / '.join(lines[-LAST_WORDS:]) or 'no word'}"
