"""The footprint of a trained network: parameters, multiply-adds, bytes and latency of its ONNX file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.engines.session import open_session
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.directions import evaluate_directions
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.evaluation.pages import evaluate_pages
from ppocr_slim.export.bundle import save_inference_model
from ppocr_slim.export.weights import load_network
from ppocr_slim.folders import BEST, replacing, write_json
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.fake_quant import quant_params_of, strip
from ppocr_slim.quantization.qdq_writer import write_int8
from ppocr_slim.quantization.qparams import LayerQuantParams
from ppocr_slim.runtime.bundle import INT8, ONNX, read_bundle
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.slim.shared_file import SHARED_FILE
from ppocr_slim.tasks.networks import NETWORKS

RESULTS = "figures.json"
EVALUATE: dict[str, Callable] = {"rec": evaluate, "det": evaluate_pages, "cls": evaluate_directions}
ENGINE_BITS = 8  # of the integers that engines compute with


def measure_stage(stage: Path, out: Path) -> dict[str, Any]:
    """Measure a stage's best checkpoint, see `measure`; the file is the one to ship where weights are shared.

    Args:
        stage: folder of the stage.
        out: folder for the exported file; an earlier export in it is used again.
    """
    found = measure(stage / BEST, out)
    if "file" in found and (stage / SHARED_FILE).is_file():  # engines read the same weights from the ONNX file
        return {**found, "file": SHARED_FILE, "bytes": (stage / SHARED_FILE).stat().st_size}
    return found


def measure_int8(source: Path, bundle: Path) -> dict[str, Any]:
    """Return the footprint of a bundle's INT8 file, with the keys of `measure`.

    Args:
        source: folder of the checkpoint or bundle that it was made from.
        bundle: folder of the bundle.

    Raises:
        SlimError: the network or the bundle cannot be read, or the bundle has no INT8 file.
    """
    path = read_bundle(bundle).file(INT8)
    return {**_cost(load_network(source)[0]), "file": path.name, "path": str(path), "bytes": path.stat().st_size}


def measure(source: Path, out: Path) -> dict[str, Any]:
    """Export a network, INT8 if it is quantized for it, and return its footprint.

    Args:
        source: folder of a checkpoint or of a bundle.
        out: folder for the exported file; an earlier export in it is used again.

    Returns:
        {"parameters", "flops", "input" shape}, with {"file", "bytes", "path"}, or with {"note"} where it cannot be
        exported.

    Raises:
        SlimError: the network cannot be read, or `out` cannot be written.
    """
    try:
        found = json.loads((out / RESULTS).read_text(encoding="utf-8"))
        is_complete = (out / found["file"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        is_complete = False
    if not is_complete:
        found = _export(source, out)
        write_json(out / RESULTS, found)
    if "file" not in found:
        return found
    path = out / found["file"]
    return {**found, "path": str(path), "bytes": path.stat().st_size}


def _cost(model: nn.Layer) -> dict[str, Any]:
    cost = measure_cost(model, model.typical_input)
    return {"parameters": cost.parameters, "flops": cost.flops, "input": list(model.typical_input)}


def _export(source: Path, out: Path) -> dict[str, Any]:
    model, card = load_network(source)
    found, params = _cost(model), quant_params_of(model)
    bits = fewest_bits(params)
    if bits < ENGINE_BITS:
        return {**found, "note": f"no engine computes with {bits} bits, so there is no file to measure"}
    if params:
        model = strip(load_network(source)[0])
    name = INT8 if params else ONNX
    try:
        with tempfile.TemporaryDirectory() as folder, replacing(out / name) as new:
            save_inference_model(model, card.spec, Path(folder), onnx_too=True)
            if params:
                write_int8(Path(folder) / ONNX, Path(folder) / INT8, params)
            new.write_bytes((Path(folder) / name).read_bytes())
    except SlimError as error:
        return {**found, "note": f"it cannot be exported: {error}"}
    return {**found, "file": name}


def fewest_bits(params: Mapping[str, LayerQuantParams]) -> int:
    """Return the smallest bit width of a network, `ENGINE_BITS` if it is not quantized.

    Weights of 7 bits count as 8: INT8 files have them.
    """
    of_inputs = [one.bits for layer in params.values() for one in layer.inputs]
    of_weights = [layer.weight.bits for layer in params.values() if layer.weight]
    return min((*of_inputs, *(bits for bits in of_weights if bits < SAFE_BITS)), default=ENGINE_BITS)


def score_file(file: Path, spec: Spec, samples: Sequence[Any], metric: str) -> float:
    """Return a metric of an ONNX file in ONNX Runtime.

    Args:
        file: the ONNX file.
        spec: the network's.
        samples: labelled samples of its task.
        metric: of the task.
    """
    session = open_session(file, by_sample=file.name == INT8)  # as `runtime.sessions.open_bundle_session` does
    network = NETWORKS[spec.task](session, spec)
    return float(getattr(EVALUATE[spec.task](network, samples).scores, metric))


def time_variants(variants: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Measure the latency of networks in ONNX Runtime for their typical inputs, in turns.

    Args:
        variants: name -> footprint, of which "path" and "input" are used.
        rounds: timing rounds.

    Returns:
        name -> latency, compared with the first of them.
    """
    calls = {}
    for name, variant in variants.items():
        try:
            session = open_session(Path(variant["path"]))
        except SlimError as error:
            logger.warning("%s: not timed: %s", name, error)
            continue
        x = np.random.default_rng(0).uniform(-1, 1, variant["input"]).astype(np.float32)
        calls[name] = partial(session, x)
    times = time_in_turns(calls, rounds)
    first = next(iter(times), None)
    return {name: compared(some, times[first]) for name, some in times.items()}
