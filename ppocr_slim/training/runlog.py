"""What a run says while it goes: a progress bar, JSON lines, and TensorBoard curves."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Dict

from tensorboardX import SummaryWriter
from tqdm import tqdm

LOG_FILE = "log.jsonl"
CURVES_FOLDER = "curves"

logger = logging.getLogger("ppocr_slim")


def show_log() -> None:
    """Let a command line show what a run says, on stderr, whatever the libraries do to the root logger."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class RunLog:
    """The log of one training stage in `folder`: log.jsonl, and curves/ for `tensorboard --logdir`.

    Resuming at `step` drops the lines after it: those steps are run again, and must not stand there twice.
    """

    def __init__(self, folder: Path, step: int, total: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG_FILE
        kept = []
        if path.exists() and step > 0:
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except (ValueError, KeyError):
                    continue  # the line that a kill cut short
        path.write_text("".join(kept), encoding="utf-8")
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._curves = SummaryWriter(str(folder / CURVES_FOLDER), purge_step=step if step else None)
        self._bar = tqdm(total=total, initial=step, unit="step", dynamic_ncols=True, mininterval=1)
        self._since, self._images, self._waited = time.monotonic(), 0, 0.0

    def tick(self, images: int, waited: float) -> None:
        """One step is done, over so many images, `waited` seconds of it for data."""
        self._images += images
        self._waited += waited
        self._bar.update()

    def train(self, step: int, epoch: int, losses: Dict[str, float], rate: float) -> None:
        """Write the figures of the steps since the last call."""
        elapsed = max(1e-9, time.monotonic() - self._since)
        speed, waiting = self._images / elapsed, self._waited / elapsed
        self._since, self._images, self._waited = time.monotonic(), 0, 0.0
        self._bar.set_postfix_str(f"epoch {epoch} loss {losses['loss']:.3f} {speed:.1f} images/s")
        self._write(
            {
                "step": step,
                "epoch": epoch,
                **losses,
                "lr": rate,
                "images_per_s": speed,
                "waiting_share": waiting,
            }
        )

    def evaluation(self, step: int, scores: Dict[str, float]) -> None:
        """Write the scores of an evaluation; its time does not count as training's."""
        tqdm.write("  ".join([f"step {step}"] + [f"{name} {value:.4f}" for name, value in scores.items()]))
        self._write({"step": step, **{f"eval/{name}": value for name, value in scores.items()}})
        self._since, self._images, self._waited = time.monotonic(), 0, 0.0

    def _write(self, record: Dict[str, Any]) -> None:
        self._file.write(json.dumps({key: _short(value) for key, value in record.items()}) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in ("step", "epoch"):
                self._curves.add_scalar(name if "/" in name else f"train/{name}", value, record["step"])

    def close(self) -> None:
        """Flush and close everything."""
        self._bar.close()
        self._curves.close()
        self._file.close()


class SilentLog:
    """The log of a process that is not the first one: the first speaks for all."""

    def tick(self, images: int, waited: float) -> None: ...

    def train(self, step: int, epoch: int, losses: Dict[str, float], rate: float) -> None: ...

    def evaluation(self, step: int, scores: Dict[str, float]) -> None: ...

    def close(self) -> None: ...


def _short(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value
