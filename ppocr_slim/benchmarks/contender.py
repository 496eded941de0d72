"""A contender of the training benchmark: the real training loop, run a few steps at a time.

The benchmark (`benchmarks.training_speed`) starts it as a process of its own, or as several by the usual launcher.
Each process connects to the benchmark's socket, sends a hello record, and then trains for the number of steps that each
line from the socket requests.
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
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.metrics import Scores
from ppocr_slim.models import MODELS, bind_model
from ppocr_slim.models.cost import parameter_count
from ppocr_slim.models.crnn import CRNN
from ppocr_slim.models.db import DB
from ppocr_slim.models.mobilenet_v3 import InvertedResidual, MobileNetV3
from ppocr_slim.models.reparam import branched_layers
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.specs import DetSpec, RecSpec
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.db_loss import DBLoss
from ppocr_slim.tasks.detection import DetectionTask
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.tasks.task import Task
from ppocr_slim.training.loop import Job, fit
from ppocr_slim.training.processes import Processes

# Augmentations that keep the width of a text line: all batches of a case have one shape, for all contenders.
KEEP_WIDTH = ("perspective", "distort", "color", "blur", "noise", "erase")
NEVER = 10**9  # steps
SHARED_BATCHES = 4  # batches that are written for the PyTorch contender


class Gate:
    """The connection to the benchmark, which holds the training between its turns and times each turn.

    A turn is requested as "SETTLE STEPS": SETTLE steps are not timed, so that the processor's caches and the memory
    recover; then STEPS are.

    Args:
        address: path of the benchmark's socket.
        trim: return freed memory to the system after each turn; the contenders of a large network would not fit
            otherwise.

    Attributes:
        open: set while a turn runs; data threads wait for it, so that a waiting contender leaves the cores to others.
    """

    def __init__(self, address: str, trim: bool):
        self.open = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._lines = self._socket.makefile("rw", encoding="utf-8")
        self._trim = trim

    def send(self, record: Mapping[str, Any]) -> None:
        """Send a record to the benchmark."""
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()

    def steps(self) -> Iterator[None]:
        """Yield once per training step: wait for a turn before its first step, report it after its last."""
        while True:
            request = self._lines.readline()
            self.open.set()  # also at the end: the pool of data threads waits for its threads
            if not request:
                raise SystemExit(0)  # the benchmark has ended
            settle, steps = map(int, request.split())
            for number in range(settle + steps):
                if number == settle:
                    self._waited, self._images, since = 0.0, 0, time.monotonic()
                yield
            seconds = time.monotonic() - since
            self.open.clear()
            if self._trim:
                ctypes.CDLL(None).malloc_trim(0)
            self.send({"seconds": seconds, "waited": self._waited, "images": self._images})

    def count(self, images: int, waited: float) -> None:
        """Add a batch of `images` to the turn, for which the training waited `waited` seconds."""
        self._images += images
        self._waited += waited


class GatedItems:
    """Mixin of training data: data threads wait while the gate is closed."""

    gate: Gate

    def _item(self, index: int, rng: np.random.Generator):
        self.gate.open.wait()
        return super()._item(index, rng)


class GatedLines(GatedItems, TrainingLines):
    """Training lines of a recognizer."""


class GatedPages(GatedItems, TrainingPages):
    """Training pages of a detector."""


class GatedBatches:
    """Training data for `fit` whose batches pass the gate one by one."""

    def __init__(self, data: Any, gate: Gate):
        self._data, self._gate, self.digest = data, gate, data.digest

    def __len__(self) -> int:
        return len(self._data)

    def batches(self, first: int) -> Iterator[Any]:
        with closing(self._data.batches(first)) as batches:
            for _ in self._gate.steps():
                since = time.monotonic()
                batch = next(batches)
                self._gate.count(len(batch.sources), time.monotonic() - since)
                yield batch


def contend(spec: Mapping[str, Any]) -> None:
    """Train until the benchmark ends.

    Args:
        spec: see `benchmarks.training_speed.Contender`.
    """
    processes = Processes()
    config = _config(spec)
    gate = Gate(spec["socket"], spec["trim"])
    paddle.seed(config.run.seed)
    model, card, task, data = _build_training(spec, config, processes)
    data.gate = gate
    if spec["shared"]:
        gate.open.set()
        _write_shared(Path(spec["shared"]), model, data)
        gate.open.clear()
    length = -(-spec["steps"] // len(data)) * len(data)
    gate.send({"rank": processes.rank, "parameters": parameter_count(model)})
    job = Job(config.run.output_dir, config, length, model, card, task, GatedBatches(data, gate), _evaluate, processes)
    fit(job)


def _build_training(
    spec: Mapping[str, Any], config: Config, processes: Processes
) -> tuple[nn.Layer, ModelCard, Task, GatedLines | GatedPages]:
    """Return the network, its card, its task, and its data in batches of one shape."""
    loader = LoaderSettings.from_config(config, (processes.rank, processes.count))
    arguments = bind_model(spec["model"], spec["args"]).arguments
    if MODELS[spec["model"]].task == "det":
        pages, _ = read_page_file(Path(spec["data"]))
        task = DetectionTask(DetSpec())
        card = ModelCard(spec["model"], spec["args"], task.spec)
        checked = [CheckedSample(page) for page in pages]
        return card.build("the case"), card, task, GatedPages(checked, task.spec, spec["width"], loader)
    samples, _ = read_label_file(Path(spec["data"]))
    samples = [s for s in samples if needed_time_steps(s.text) <= time_steps_for_width(spec["width"])]
    charset = Charset.from_texts(sample.text for sample in samples)
    height = arguments["height"]
    task = RecognitionTask(RecSpec(height, charset.classes))
    card = ModelCard(spec["model"], spec["args"], task.spec)
    checked = [CheckedSample(sample, one_writer=False) for sample in samples]
    return card.build("the case"), card, task, GatedLines(checked, charset, height, time_steps_for_width, loader)


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


def _evaluate(model: nn.Layer) -> Scores:
    raise AssertionError("a benchmark ends before its training does, so that nothing is evaluated")


def _write_shared(folder: Path, model: nn.Layer, data: Any) -> None:
    """Write the network's layers (network.json) and the first batches (batches.npz) for `benchmarks.torch_twin`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(json.dumps(layer_table(model)), encoding="utf-8")
    arrays = {}
    with closing(data.batches(0)) as batches:
        for number in range(SHARED_BATCHES):
            batch = next(batches)
            for name in (field.name for field in fields(batch) if field.name != "sources"):
                arrays[f"{name}{number}"] = getattr(batch, name)
    np.savez(folder / "batches.npz", **arrays)


def layer_table(model: nn.Layer) -> dict[str, Any]:
    """Return the shapes of a network's layers as plain data, to build the same network in another framework."""
    table = {"trunk": _trunk_table(model.backbone)}
    if isinstance(model, CRNN):
        features, _, rows, _ = (int(n) for n in model.collapse[0].weight.shape)
        table.update(features=features, rows=rows, neck=_neck_table(model.encoder))
        table.update(classes=int(model.head.weight.shape[1]), dropout=model.dropout.p)
    elif isinstance(model, DB):
        table["channels"] = int(model.neck.lateral[0].weight.shape[0])
        loss = DBLoss()
        table["loss"] = {"alpha": loss.alpha, "beta": loss.beta, "negatives": loss.negatives}
    return table


def _convolution_table(layers: nn.Sequential) -> dict[str, Any]:
    outputs, _, *kernel = (int(n) for n in layers[0].weight.shape)
    activation = type(layers[2]).__name__ if len(layers) > 2 else None
    stride = [int(n) for n in layers[0]._stride]
    return {"outputs": outputs, "kernel": kernel, "stride": stride, "activation": activation}


def _neck_table(neck: nn.Layer) -> dict[str, Any]:
    if isinstance(neck, nn.LSTM):
        return {"hidden": neck.hidden_size, "layers": neck.num_layers}
    if neck.attention is not None or branched_layers(neck):
        raise SlimError("the training benchmark has no PyTorch twin of attention and branches: take a plain neck")
    blocks = [
        [_convolution_table(part) for part in (block.depthwise, block.expand, block.project)] for block in neck.blocks
    ]
    return {"reduce": _convolution_table(neck.reduce), "blocks": blocks}


def _trunk_table(trunk: MobileNetV3) -> dict[str, Any]:
    def block(layer: InvertedResidual) -> dict[str, Any]:
        squeezed = int(layer.se.reduce.weight.shape[0]) if layer.se is not None else 0
        parts: list[nn.Sequential] = [layer.expand, layer.depthwise, layer.project]
        return {
            "parts": [_convolution_table(part) for part in parts],
            "squeezed": squeezed,
            "shortcut": layer.add is not None,
        }

    return {"stem": _convolution_table(trunk.stem), "blocks": [block(layer) for layer in trunk.blocks]}
