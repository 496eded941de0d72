"""The log of a training stage: a progress bar, JSON lines, and curves for TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from ppocr_slim.errors import SlimError, logger
from ppocr_slim.progress import progress_bar

LOG_FILE = "log.jsonl"
CURVES_FOLDER = "curves"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the records of a training stage.

    Args:
        folder: of the stage.

    Raises:
        SlimError: there is no log, or it is damaged.
    """
    try:
        return [json.loads(line) for line in (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise SlimError(f"cannot read the log of {folder} ({error})") from error


def training_progress(records: Iterable[Mapping[str, Any]], batch: int) -> dict[str, Any]:
    """Return {"steps", "images_seen", "training_minutes"} of a stage.

    Args:
        records: its log.
        batch: samples of a full step, for logs without counts of images.

    Raises:
        SlimError: the log has no training step.
    """
    step, images, seconds = 0, 0, 0.0
    for record in records:
        if "loss" in record:
            seen = record.get("images", images + (record["step"] - step) * batch)
            seconds += (seen - images) / record["images_per_s"]
            step, images = record["step"], seen
    if not step:
        raise SlimError(f"the log {LOG_FILE} has no training step")
    return {"steps": step, "images_seen": images, "training_minutes": round(seconds / 60, 1)}


class RunLog:
    """Writer of log.jsonl, and of curves/ for `tensorboard --logdir`.

    Resuming drops the lines after the step where it continues: those steps are run again and must not be logged twice.

    Args:
        folder: of the stage.
        step: number of steps done before.
        images: number of samples trained on before.
        total: number of steps of the stage.

    Raises:
        OSError: the disk is full; the methods raise it, too.
    """

    def __init__(self, folder: Path, step: int, images: int, total: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_FILE
        kept = _lines_up_to(path, step)
        new = path.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        os.replace(new, path)
        self._images = images
        self._file = open(path, "a", encoding="utf-8")
        # Written by this thread: SummaryWriter's own thread dies of a full disk, and the training would wait for it.
        (folder / CURVES_FOLDER).mkdir(exist_ok=True)
        self._curves = EventsWriter(str(folder / CURVES_FOLDER / "events"))
        self._curves.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        self._bar = progress_bar(total=total, initial=step, unit="step", mininterval=1)
        self._start_interval()

    def _start_interval(self) -> None:
        self._since, self._waited, self._steps = time.monotonic(), 0.0, 0
        self._images_before, self._sums = self._images, Counter()

    def tick(self, images: int, waited: float, losses: dict[str, float]) -> None:
        """Count a step.

        Args:
            images: number of samples trained on so far.
            waited: seconds of the step spent waiting for data.
            losses: losses of the step by name.
        """
        self._images = images
        self._waited += waited
        self._steps += 1
        for name, value in losses.items():
            self._sums[name] += value
        self._bar.update()

    def train(self, step: int, epoch: int, rate: float) -> None:
        """Write a record of the steps since the last call, with mean losses.

        Args:
            step: number of steps done.
            epoch: number of the epoch, from 0.
            rate: learning rate.
        """
        elapsed = max(1e-9, time.monotonic() - self._since)
        losses = {name: total / self._steps for name, total in self._sums.items()}
        speed = (self._images - self._images_before) / elapsed
        self._bar.set_postfix_str(f"epoch {epoch} loss {losses['loss']:.3f} {speed:.1f} images/s")
        record = {"step": step, "epoch": epoch, **losses, "lr": rate, "images": self._images}
        self._write({**record, "images_per_s": speed, "waiting_share": self._waited / elapsed})
        self._start_interval()

    def evaluation(self, step: int, scores: dict[str, float], seconds: float) -> None:
        """Write the scores of an evaluation.

        Args:
            step: number of steps done.
            scores: metrics by name.
            seconds: duration of the evaluation, which does not count as training.
        """
        tqdm.write("  ".join([f"step {step}"] + [f"{name} {value:.4f}" for name, value in scores.items()]))
        self._write({"step": step, "images": self._images, **{f"eval/{k}": v for k, v in scores.items()}})
        self._since += seconds

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps({key: _short(value) for key, value in record.items()}) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in ("step", "epoch", "images"):
                scalar = summary.scalar(name if "/" in name else f"train/{name}", value)
                self._curves.write_event(Event(step=record["step"], wall_time=time.time(), summary=scalar))
        self._curves.flush()

    def close(self) -> None:
        """Close the files; if the disk is full, warn instead of raising, since that error is already being raised."""
        self._bar.close()
        for file in (self._file, self._curves):
            try:
                file.close()
            except OSError as error:
                logger.warning("the end of the log could not be written: %s", error.strerror)


def _lines_up_to(path: Path, step: int) -> list:
    """Return the log's lines of steps up to `step`, without one that a kill cut short."""
    if step == 0 or not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    return kept


class SilentLog:
    """The log of all processes but the first: it writes nothing."""

    def tick(self, images: int, waited: float, losses: dict[str, float]) -> None:
        """Do nothing."""

    def train(self, step: int, epoch: int, rate: float) -> None:
        """Do nothing."""

    def evaluation(self, step: int, scores: dict[str, float], seconds: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _short(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value
