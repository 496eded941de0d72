"""Small trainings for tests: a config, a command, batches that are always the same, and what to compare."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import yaml

from ppocr_slim.data.lines import Batch

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ["Hà Nội", "Đà Nẵng", "Quận 1", "Thôn 7", "Ấp Mỹ", "Tp Huế", "Số 15/2", "Cần Thơ"]
TINY = {"height": 32, "scale": 0.35, "hidden": 32, "layers": 1, "dropout": 0.1}


def config_dict(folder: Path, **sections) -> dict:
    """A small complete config whose data lie in `folder`."""
    raw = {
        "Global": {
            "output_dir": str(folder / "run"),
            "seed": 3,
            "processes": 1,
            "eval_every_steps": 1000,
            "save_every_steps": 3,
        },
        "Architecture": {"name": "crnn_mv3_slim", "args": TINY},
        "Optimizer": {"lr": 0.003, "warmup_steps": 5, "ema_decay": 0.9},
        "Train": {
            "label_files": [{"path": str(folder / "train.txt")}],
            "batch_size": 4,
            "augment": [{"name": "color", "p": 0.5}, {"name": "squeeze", "p": 0.5}],
        },
        "Eval": {"label_files": [{"path": str(folder / "val.txt")}]},
        "Recipe": [{"stage": "train", "epochs": 20}],
    }
    for section, changes in sections.items():
        raw[section] = {**raw[section], **changes} if isinstance(changes, dict) else changes
    return raw


def train_command(folder: Path, raw: dict) -> list:
    path = folder / f"{Path(raw['Global']['output_dir']).name}.yml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(path)]


def run(command: list) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Wait until `path` exists; the process must live that long."""
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def assert_same(a, b) -> None:
    if isinstance(b, dict):
        assert a.keys() == b.keys()
        for key in b:
            assert_same(a[key], b[key])
    else:
        assert np.array_equal(np.asarray(a), np.asarray(b))


class Poisoned:
    """A task whose loss turns NaN at a given step."""

    def __init__(self, at: int):
        self.at, self.calls, self.criterion = at, 0, paddle.nn.MSELoss()

    def outputs(self, model, batch):
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs, batch):
        self.calls += 1
        value = self.criterion(outputs["logits"], paddle.zeros_like(outputs["logits"]))
        return {"squares": value * float("nan") if self.calls > self.at else value}


class FixedBatches:
    """Two identical batches an epoch."""

    def __init__(self, digest: str = "the data"):
        self.digest = digest

    def __len__(self):
        return 2

    def batches(self, first):
        while True:
            image = np.zeros((2, 3, 32, 64), np.float32)
            yield Batch(image, np.ones((2, 3), np.int32), np.full(2, 3), ("train.txt:1", "train.txt:2"))
