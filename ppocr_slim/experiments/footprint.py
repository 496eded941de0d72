"""The footprint of a trained stage: parameters, multiply-adds, bytes and ms of its ONNX file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.engines.session import open_session
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.bundle import save_inference_model
from ppocr_slim.folders import replacing, write_json
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.fake_quant import quant_params_of, strip
from ppocr_slim.quantization.qdq_writer import write_int8
from ppocr_slim.quantization.qparams import LayerQuantParams
from ppocr_slim.runtime.bundle import INT8, ONNX
from ppocr_slim.slim.shared_file import SHARED_FILE
from ppocr_slim.tasks.checkpoint import load_model
from ppocr_slim.training.loop import BEST

FIGURES = "figures.json"
WIDEST = 8  # bits of the integers that engines compute with


def measure(stage: Path, out: Path) -> dict[str, Any]:
    """Return, of a stage's best checkpoint {"parameters", "flops", "input" shape}, and {"file", "bytes", "path"} or
    {"note"}.

    The exported file is kept in `out`, INT8 where the network is quantized for it, and not made a second time.

    Raises:
        SlimError: the checkpoint cannot be read, or `out` not be written.
    """
    try:
        found = json.loads((out / FIGURES).read_text(encoding="utf-8"))
        is_whole = (out / found["file"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        found = _measure(stage / BEST, out)
        write_json(out / FIGURES, found)
    if "file" not in found:
        return found
    found["path"] = str(out / found["file"])
    if (stage / SHARED_FILE).is_file():  # what is shipped; engines read the same weights from the other
        return {**found, "file": SHARED_FILE, "bytes": (stage / SHARED_FILE).stat().st_size}
    return {**found, "bytes": (out / found["file"]).stat().st_size}


def _measure(checkpoint: Path, out: Path) -> dict[str, Any]:
    model, card = load_model(checkpoint)
    cost, grids = measure_cost(model, model.typical_input), quant_params_of(model)
    found = {"parameters": cost.parameters, "flops": cost.flops, "input": list(model.typical_input)}
    few = fewest_bits(grids)
    if few < WIDEST:
        return {**found, "note": f"no engine computes with {few} bits, so there is no file to weigh or time"}
    if grids:
        model = strip(load_model(checkpoint)[0])
    name = INT8 if grids else ONNX
    try:
        with tempfile.TemporaryDirectory() as folder, replacing(out / name) as new:
            save_inference_model(model, card.spec, Path(folder), onnx_too=True)
            if grids:
                write_int8(Path(folder) / ONNX, Path(folder) / INT8, grids)
            new.write_bytes((Path(folder) / name).read_bytes())
    except SlimError as error:
        return {**found, "note": f"it cannot be exported: {error}"}
    return {**found, "file": name}


def fewest_bits(grids: Mapping[str, LayerQuantParams]) -> int:
    """Return the bits of the coarsest grid; `WIDEST` where there is none. Weights of 7 count as 8: INT8 files have
    them.
    """
    of_inputs = [grid.bits for layer in grids.values() for grid in layer.inputs]
    of_weights = [layer.weight.bits for layer in grids.values() if layer.weight]
    return min((*of_inputs, *(bits for bits in of_weights if bits < SAFE_BITS)), default=WIDEST)


def times_of(variants: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Return how long ONNX Runtime takes for each network's typical input, all in turns; compared with the first of
    them.

    Args:
        variants: by name; "path" of the file and "input" shape are used.
    """
    calls = {}
    for name, variant in variants.items():
        try:
            session = open_session(Path(variant["path"]))
        except SlimError as error:
            logger.warning("%s is not timed: %s", name, error)
            continue
        x = np.random.default_rng(0).uniform(-1, 1, variant["input"]).astype(np.float32)
        calls[name] = partial(session, x)
    times = time_in_turns(calls, rounds)
    first = next(iter(times), None)
    return {name: compared(one, times[first]) for name, one in times.items()}
