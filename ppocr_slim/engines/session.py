"""The protocol of an engine: open a network file, run it by the names of its inputs and outputs.

Each engine is one module of this room with a class that derives from `Session`. The module imports the engine's library
when a file is opened, so that a program carries only what it uses.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError

ENGINES = {
    "onnxruntime": "ppocr_slim.engines.onnxruntime:OnnxSession",
    "openvino": "ppocr_slim.engines.openvino:OpenVinoSession",
    "paddle": "ppocr_slim.engines.paddle:PaddleSession",
}
"""Engine -> "module:class" of its sessions."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a network.

    Attributes:
        shape: None for a dimension of any size; None altogether where the engine does not say (Paddle).
    """

    name: str
    shape: tuple[int | None, ...] | None = None


class Session(ABC):
    """A network in an engine on the CPU. It computes the samples of a batch as if each were alone.

    Attributes:
        inputs, outputs: in the order of the file.
        metadata: texts that the file carries.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = {}

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Run the network.

        Args:
            inputs: arrays by the names of the inputs.
            outputs: the names of those that are wanted; None: all.

        Returns:
            The outputs by name, in the order asked for.

        Raises:
            SlimError: the network does not run on these inputs.
        """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the first output for `x` as the first input: all that networks with one input need."""
        first = self.outputs[0].name
        return self.run({self.inputs[0].name: x}, (first,))[first]


Run = Callable[[Mapping[str, np.ndarray], Sequence[str] | None], dict[str, np.ndarray]]


def one_by_one(run: Run, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return what `run(inputs, outputs)` returns, of the samples of a batch one after the other."""
    count = len(next(iter(inputs.values())))
    parts = [run({name: x[i : i + 1] for name, x in inputs.items()}, outputs) for i in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def open_session(file: Path, engine: str = "onnxruntime", threads: int | None = None, **options: bool) -> Session:
    """Open a network file.

    Args:
        file: an ONNX file, or for Paddle an `inference.pdmodel` with its `inference.pdiparams` beside it.
        engine: one of `ENGINES`.
        threads: by default as many as there are cores.
        options: the engine's own; see its class.

    Raises:
        SlimError: an unknown engine, one that is not installed, no thread, or a file that it cannot load.
    """
    if engine not in ENGINES:
        raise SlimError(f"the engine {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    if threads is not None and threads < 1:
        raise SlimError(f"{threads} threads cannot run anything; give at least 1, or none for all cores")
    module, _, name = ENGINES[engine].partition(":")
    return getattr(importlib.import_module(module), name)(file, threads or usable_cores(), **options)
