"""The protocol of an engine: open a network file, run it by the names of its inputs and outputs.

Each engine is one module of this package with a class that derives from `Session`. The module imports the engine's
library when a file is opened, so that a program loads only what it uses.
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
        name: as in the file.
        shape: None for a dimension of any size; None altogether where the engine does not report it (Paddle).
    """

    name: str
    shape: tuple[int | None, ...] | None = None


class Session(ABC):
    """A network in an engine on the CPU, which computes each sample of a batch as if it were alone.

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
            outputs: the names of the outputs to return; None: all.

        Returns:
            The outputs by name, in the order asked for.

        Raises:
            SlimError: the network does not run on these inputs.
        """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the first output for `x` as the first input, for networks with one of each."""
        first = self.outputs[0].name
        return self.run({self.inputs[0].name: x}, (first,))[first]

    def output_names(self, outputs: Sequence[str] | None) -> list[str]:
        """Return the names in `outputs`, or those of all outputs for None."""
        return [output.name for output in self.outputs] if outputs is None else list(outputs)


Run = Callable[[Mapping[str, np.ndarray], Sequence[str] | None], dict[str, np.ndarray]]


def one_by_one(run: Run, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Call `run(inputs, outputs)` for each sample of a batch by itself.

    Returns:
        The outputs by name, with the samples joined again.
    """
    count = len(next(iter(inputs.values())))
    parts = [run({name: x[i : i + 1] for name, x in inputs.items()}, outputs) for i in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_engine(name: str) -> None:
    """Raise SlimError unless `name` is one of `ENGINES`."""
    if name not in ENGINES:
        raise SlimError(f"the engine {name!r} is not known; choose one of {', '.join(ENGINES)}")


def one_line(error: Exception) -> str:
    """Return the message of an engine's exception, which may have several lines, on one line."""
    return " ".join(str(error).split())


def open_session(file: Path, engine: str = "onnxruntime", threads: int | None = None, **options: bool) -> Session:
    """Open a network file.

    Args:
        file: an ONNX file, or for Paddle an `inference.pdmodel` with its `inference.pdiparams` beside it.
        engine: one of `ENGINES`.
        threads: by default as many as there are cores.
        options: the engine's own; see its class.

    Raises:
        SlimError: an unknown engine or one that is not installed, fewer than 1 thread, or a file that the engine cannot
            load.
    """
    check_engine(engine)
    if threads is not None and threads < 1:
        raise SlimError(f"{threads} threads cannot run a network; give at least 1, or none for all cores")
    module, _, name = ENGINES[engine].partition(":")
    return getattr(importlib.import_module(module), name)(file, threads or usable_cores(), **options)
