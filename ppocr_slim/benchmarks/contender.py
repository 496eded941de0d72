"""A contender of the training benchmark: the real training loop, let through a few steps at a time.

The benchmark (`benchmarks.training_speed`) starts it as a process of its own, or as several by the usual launcher.
Every process connects to the benchmark's socket, says hello, and then does as many steps as each line from there asks
for.
"""

from __future__ import annotations

import ctypes
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.lines import TrainingLines
from ppocr_slim.data.page_labels import read_page_file
from ppocr_slim.data.pages import TrainingPages
from ppocr_slim.evaluation.metrics import Scores
from ppocr_slim.models import MODELS, bind_model
from ppocr_slim.models.cost import parameter_count
from ppocr_slim.models.crnn import CRNN
from ppocr_slim.models.db import DB
from ppocr_slim.models.mobilenet_v3 import InvertedResidual, MobileNetV3
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.specs import DetSpec, RecSpec
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.db_loss import DBLoss
from ppocr_slim.tasks.detection import DetectionTask
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.tasks.task import Task
from ppocr_slim.training.loop import Job, fit
from ppocr_slim.training.processes import Processes

# Augmentations after which a line is as wide as before: every batch of a case has one shape, for all contenders.
KEEP_WIDTH = ("perspective", "distort", "color", "blur", "noise", "erase")
NEVER = 10**9  # steps
SHARED_BATCHES = 4  # that the twin in another framework gets


class Gate:
    """Where the training waits between its turns, and what measures them.

    A turn is asked for as "settle steps": so many steps come first that do not count, in which the processor's caches
    and the memory come back, then those that are timed.

    Attributes:
        open: set while a turn runs; data threads wait for it, so that a waiting contender leaves the cores to others.
    """

    def __init__(self, address: str, trim: bool):
        """`trim`: hand freed memory back after each turn; all contenders of a large network would not fit else."""
        self.open = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._lines = self._socket.makefile("rw", encoding="utf-8")
        self._trim = trim

    def say(self, record: Mapping[str, Any]) -> None:
        """One record to the benchmark."""
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()

    def steps(self) -> Iterator[None]:
        """Comes once for each step that may begin: waits for a turn before its first, reports it after its last."""
        while True:
            asked = self._lines.readline()
            self.open.set()  # also when leaving: the pool of data threads ends with its threads
            if not asked:
                raise SystemExit(0)  # the benchmark has ended
            settle, steps = map(int, asked.split())
            for number in range(settle + steps):
                if number == settle:
                    self._waited, self._images, since = 0.0, 0, time.monotonic()
                yield
            seconds = time.monotonic() - since
            self.open.clear()
            if self._trim:
                ctypes.CDLL(None).malloc_trim(0)
            self.say({"seconds": seconds, "waited": self._waited, "images": self._images})

    def count(self, images: int, waited: float) -> None:
        """A batch came after `waited` seconds."""
        self._images += images
        self._waited += waited


class Paused:
    """Mixed into training data: its threads stand still while the gate is closed."""

    gate: Gate

    def _item(self, index: int, rng: np.random.Generator):
        self.gate.open.wait()
        return super()._item(index, rng)


class PausedLines(Paused, TrainingLines):
    """Text lines for a recognizer."""


class PausedPages(Paused, TrainingPages):
    """Page crops for a detector."""


class GatedBatches:
    """What `fit` takes for its lines: batches of `rows`, each let through by the gate."""

    def __init__(self, rows: Any, gate: Gate):
        self._rows, self._gate, self.digest = rows, gate, rows.digest

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, first: int) -> Iterator[Any]:
        with closing(self._rows.batches(first)) as batches:
            for _ in self._gate.steps():
                asked = time.monotonic()
                batch = next(batches)
                self._gate.count(len(batch.sources), time.monotonic() - asked)
                yield batch


def contend(spec: Mapping[str, Any]) -> None:
    """Train as `spec` (see `benchmarks.training_speed.Contender`) says, until the benchmark ends."""
    processes = Processes()
    config = _config(spec)
    gate = Gate(spec["socket"], spec["trim"])
    paddle.seed(config.run.seed)
    model, card, task, data = _task(spec, config, processes)
    data.gate = gate
    if spec["shared"]:
        gate.open.set()
        _share(Path(spec["shared"]), model, data)
        gate.open.clear()
    length = -(-spec["steps"] // len(data)) * len(data)
    gate.say({"rank": processes.rank, "parameters": parameter_count(model)})
    job = Job(config.run.output_dir, config, length, model, card, task, GatedBatches(data, gate), _unscored, processes)
    fit(job)


def _task(
    spec: Mapping[str, Any], config: Config, processes: Processes
) -> tuple[nn.Layer, ModelCard, Task, PausedLines | PausedPages]:
    """Return what is trained: the network, its card, its task, and its data in batches of one shape."""
    loader = LoaderSettings.from_config(config, (processes.rank, processes.count))
    if MODELS[spec["model"]].task == "det":
        pages, _ = read_page_file(Path(spec["data"]))
        task = DetectionTask(DetSpec())
        card = ModelCard(spec["model"], spec["args"], task.spec)
        checked = [CheckedSample(page) for page in pages]
        return card.build("the case"), card, task, PausedPages(checked, task.spec, spec["width"], loader)
    samples, _ = read_label_file(Path(spec["data"]))
    samples = [s for s in samples if needed_time_steps(s.text) <= time_steps_for_width(spec["width"])]
    charset = Charset.from_texts(sample.text for sample in samples)
    height = bind_model(spec["model"], spec["args"]).arguments["height"]
    task = RecognitionTask(RecSpec(height, charset.classes))
    card = ModelCard(spec["model"], spec["args"], task.spec)
    checked = [CheckedSample(sample, one_writer=False) for sample in samples]
    return card.build("the case"), card, task, PausedLines(checked, charset, height, time_steps_for_width, loader)


def _config(spec: Mapping[str, Any]) -> Config:
    """Return the config file of the case, with the contender's own values."""
    config = load_config(spec["config"])
    run = {
        "output_dir": Path(spec["folder"]) / "run",
        "processes": spec["processes"],
        "fast_cpu": spec["fast"],
        "log_every_steps": spec["log_every_steps"],
        "eval_every_steps": NEVER,
        "save_every_steps": NEVER,
    }
    augment = [a for a in config.train.augment if a.name in KEEP_WIDTH]
    return config.model_copy(
        update={
            "run": config.run.model_copy(update=run),
            "train": config.train.model_copy(update={"batch_size": spec["batch"], "augment": augment}),
        }
    )


def _unscored(model: nn.Layer) -> Scores:
    raise AssertionError("a benchmark ends before its last step")


def _share(folder: Path, model: nn.Layer, rows: Any) -> None:
    """Write the network's layers (network.json) and the first batches (batches.npz) for `benchmarks.torch_twin`."""
    (folder / "network.json").write_text(json.dumps(layer_table(model)), encoding="utf-8")
    arrays = {}
    with closing(rows.batches(0)) as batches:
        for number in range(SHARED_BATCHES):
            batch = next(batches)
            for name in (field.name for field in fields(batch) if field.name != "sources"):
                arrays[f"{name}{number}"] = getattr(batch, name)
    np.savez(folder / "batches.npz", **arrays)


def layer_table(model: nn.Layer) -> dict[str, Any]:
    """Return the shapes of a network's layers as plain data, from which the same network is built elsewhere."""
    table = {"trunk": _trunk_table(model.backbone)}
    if isinstance(model, CRNN):
        rows = int(model.collapse[0].weight.shape[2])
        hidden, layers = model.encoder.hidden_size, model.encoder.num_layers
        features, classes = int(model.collapse[0].weight.shape[0]), int(model.head.weight.shape[1])
        table.update(features=features, rows=rows, hidden=hidden, layers=layers, classes=classes)
        table["dropout"] = model.dropout.p
    elif isinstance(model, DB):
        table["channels"] = int(model.neck.lateral[0].weight.shape[0])
        loss = DBLoss()
        table["loss"] = {"alpha": loss.alpha, "beta": loss.beta, "negatives": loss.negatives}
    return table


def _trunk_table(trunk: MobileNetV3) -> dict[str, Any]:
    def convolution(layers: nn.Sequential) -> dict[str, Any]:
        outputs, _, kernel, _ = (int(n) for n in layers[0].weight.shape)
        activation = type(layers[2]).__name__ if len(layers) > 2 else None
        stride = [int(n) for n in layers[0]._stride]
        return {"outputs": outputs, "kernel": kernel, "stride": stride, "activation": activation}

    def block(layer: InvertedResidual) -> dict[str, Any]:
        squeezed = int(layer.se.reduce.weight.shape[0]) if layer.se is not None else 0
        parts: list[nn.Sequential] = [layer.expand, layer.depthwise, layer.project]
        return {"parts": [convolution(part) for part in parts], "squeezed": squeezed, "shortcut": layer.add is not None}

    return {"stem": convolution(trunk.stem), "blocks": [block(layer) for layer in trunk.blocks]}
