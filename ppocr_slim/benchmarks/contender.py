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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.data.lines import Batch, TrainingLines
from ppocr_slim.evaluation.metrics import Scores
from ppocr_slim.models import build_model
from ppocr_slim.models.cost import parameter_count
from ppocr_slim.models.crnn import CRNN
from ppocr_slim.models.db import DB, db_mv3_slim
from ppocr_slim.models.mobilenet_v3 import InvertedResidual, MobileNetV3
from ppocr_slim.models.state import name_parameters
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.training.loop import Job, fit
from ppocr_slim.training.processes import Processes

# Augmentations after which a row is as wide as before: every batch of a case has one shape, for all contenders.
KEEP_WIDTH = ("perspective", "distort", "color", "blur", "noise", "erase")
NEVER = 10**9  # steps
SHARED_BATCHES = 4  # that the twin in another framework gets
THRESHOLD_WEIGHT, BINARY_WEIGHT = 10.0, 1.0  # alpha and beta of DB's loss (arXiv:1911.08947, equation 5)


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


class PausedRows(TrainingLines):
    """Training rows whose threads stand still while the gate is closed."""

    def __init__(self, gate: Gate, **arguments):
        super().__init__(**arguments)
        self._gate = gate

    def _item(self, index: int, rng: np.random.Generator):
        self._gate.open.wait()
        return super()._item(index, rng)


class GatedBatches:
    """What `fit` takes for its rows: batches of `rows`, each let through by the gate."""

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


@dataclass(frozen=True)
class Pages:
    """image [N, 3, S, S] float32; maps [N, 2, S, S] float32: 1 where text is, and the threshold wanted there."""

    image: np.ndarray
    maps: np.ndarray
    sources: tuple[str, ...]


class MadePages:
    """Random pages with random boxes of text, in memory: what a detector is timed on. Endless, as rows are."""

    digest = "made"

    def __init__(self, side: int, batch_size: int, seed: int, rank: int):
        rng = np.random.default_rng([seed, rank])
        self._batches = [self._make(rng, side, batch_size) for _ in range(SHARED_BATCHES)]

    @staticmethod
    def _make(rng: np.random.Generator, side: int, count: int) -> Pages:
        maps = np.zeros((count, 2, side, side), np.float32)
        maps[:, 1] = 0.3
        for page in maps:
            for _ in range(10):
                height, width = rng.integers(side // 32, side // 4, 2)
                top, left = rng.integers(0, side - height), rng.integers(0, side - width)
                page[:, top : top + height, left : left + width] = [[[1.0]], [[0.7]]]
        image = rng.uniform(-1, 1, (count, 3, side, side)).astype(np.float32)
        return Pages(image, maps, ("made",) * count)

    def __len__(self) -> int:
        return len(self._batches)

    def batches(self, first: int) -> Iterator[Pages]:
        while True:
            yield self._batches[first % len(self)]
            first += 1


class DetectionLoss:
    """DB's loss in plain form: cross entropy of probability and binary map, L1 of the threshold map."""

    def __init__(self) -> None:
        self.criterion = nn.BCELoss()

    def outputs(self, model: nn.Layer, batch: Pages) -> dict[str, paddle.Tensor]:
        """{"maps": [N, 3, S, S]}: probability, threshold and binary map."""
        return {"maps": model(paddle.to_tensor(batch.image))}

    def loss(self, outputs: Mapping[str, paddle.Tensor], batch: Pages) -> dict[str, paddle.Tensor]:
        """{"maps": mean over pixels}, float32."""
        probability, threshold, binary = outputs["maps"].split(3, axis=1)
        text, level = paddle.to_tensor(batch.maps).split(2, axis=1)
        loss = self.criterion(probability, text)
        loss += BINARY_WEIGHT * self.criterion(binary, text)
        return {"maps": loss + THRESHOLD_WEIGHT * functional.l1_loss(threshold, level)}


def contend(spec: Mapping[str, Any]) -> None:
    """Train as `spec` (see `benchmarks.training_speed.Contender`) says, until the benchmark ends."""
    processes = Processes()
    config = _config(spec)
    gate = Gate(spec["socket"], spec["trim"])
    paddle.seed(config.run.seed)
    if spec["model"] == "db_mv3_slim":
        model, card, task = db_mv3_slim(**spec["args"]), None, DetectionLoss()  # no card: nothing is saved
        name_parameters(model)
        rows: Any = MadePages(spec["width"], config.train.batch_size, config.run.seed, processes.rank)
    else:
        samples, _ = read_label_file(spec["rows"])
        samples = [s for s in samples if needed_time_steps(s.text) <= time_steps_for_width(spec["width"])]
        charset = Charset.from_texts(sample.text for sample in samples)
        model = build_model(spec["model"], spec["args"], len(charset.classes))
        rec = RecSpec(model.height, charset.classes)
        card, task = ModelCard(spec["model"], spec["args"], rec), RecognitionTask(rec)
        rows = PausedRows(
            gate,
            samples=samples,
            ratios=[1.0] * len(samples),
            charset=charset,
            height=model.height,
            steps=time_steps_for_width,
            batch_size=config.train.batch_size,
            augment=config.train.augment,
            seed=config.run.seed,
            workers=config.train.workers,
            part=(processes.rank, processes.count),
            cache_mb=config.train.cache_mb / processes.count,
            one_writer=[False] * len(samples),
        )
    if spec["shared"]:
        gate.open.set()
        _share(Path(spec["shared"]), model, rows)
        gate.open.clear()
    length = -(-spec["steps"] // len(rows)) * len(rows)
    gate.say({"rank": processes.rank, "parameters": parameter_count(model)})
    job = Job(config.run.output_dir, config, length, model, card, task, GatedBatches(rows, gate), _unscored, processes)
    fit(job)


def _config(spec: Mapping[str, Any]) -> Config:
    """The config file of the case, with the contender's own values."""
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
            for name in ("image", "labels", "lengths") if isinstance(batch, Batch) else ("image", "maps"):
                arrays[f"{name}{number}"] = getattr(batch, name)
    np.savez(folder / "batches.npz", **arrays)


def layer_table(model: nn.Layer) -> dict[str, Any]:
    """The shapes of a network's layers as plain data, from which the same network is built elsewhere."""
    table = {"trunk": _trunk_table(model.backbone)}
    if isinstance(model, CRNN):
        rows = int(model.collapse[0].weight.shape[2])
        hidden, layers = model.encoder.hidden_size, model.encoder.num_layers
        features, classes = int(model.collapse[0].weight.shape[0]), int(model.head.weight.shape[1])
        table.update(features=features, rows=rows, hidden=hidden, layers=layers, classes=classes)
        table["dropout"] = model.dropout.p
    elif isinstance(model, DB):
        table["channels"] = int(model.neck.lateral[0].weight.shape[0])
        table["weights"] = [BINARY_WEIGHT, THRESHOLD_WEIGHT]
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
