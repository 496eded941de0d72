"""Post-training quantization: grids for any ONNX file, from what its layers see on sample inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto

from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.engines.onnxruntime import OnnxSession
from ppocr_slim.errors import SlimError
from ppocr_slim.layer_names import named
from ppocr_slim.quantization.onnx_graph import Graph, read_graph, weight_axis, weights_of
from ppocr_slim.quantization.qdq_writer import SMALLEST, is_addition
from ppocr_slim.quantization.qparams import LayerQuantParams, QuantParams, best_scale

ACTIVATION_BITS = 8
KEPT = 4_000  # values of each tensor in each input that its grid is chosen on
SHARES = np.linspace(1.0, 0.3, 36).astype(np.float32)  # of the largest value: where a grid may end


def calibrate(
    source: str | Path, inputs: Sequence[np.ndarray], float_layers: Sequence[str] = ()
) -> dict[str, LayerQuantParams]:
    """Grids for the convolutions, matrix products and LSTMs of an FP32 ONNX file and the additions behind them.

    An activation's grid is the one with the least squared error on what was seen; that of weights ends at the largest
    of each output channel.

    Args:
        source: the file; its first input takes `inputs`.
        inputs: arrays float32, such as [1, 3, H, W].
        float_layers: layers that are left alone, as `layer_names` finds them.

    Raises:
        SlimError: no inputs, or the network does not run on one; nothing to quantize; a pattern that matches nothing.
    """
    graph = read_graph(source)
    layers = _quantizable(graph)
    left = named(list(layers), float_layers, f"float_layers of {source}")
    names = [name for name in layers if name not in left]
    if not names:
        raise SlimError(f"{source} has no convolution, matrix product or LSTM to quantize")
    if not inputs:
        raise SlimError("calibration needs at least one image")
    tensors = {name: _inputs_with_grids(layers[name]) for name in names}
    seen = _observe(graph, sorted({t for places in tensors.values() for place in places for t in place}), inputs)
    return {
        name: LayerQuantParams(
            tuple(activation_params(np.concatenate([seen[tensor] for tensor in place])) for place in tensors[name]),
            _weight_grid(graph, layers[name][0]),
        )
        for name in names
    }


def activation_params(values: np.ndarray, bits: int = ACTIVATION_BITS) -> QuantParams:
    """The grid with the least squared error on `values`; symmetric around its middle where any is negative."""
    top = 2**bits - 1
    zero_point = 2 ** (bits - 1) if values.min() < 0 else 0
    largest = max(float(values.max()) / (top - zero_point), -float(values.min()) / max(zero_point, 1))
    scale = best_scale(values, largest, -zero_point, top - zero_point, SHARES)
    return QuantParams(np.float32(scale), bits, zero_point)


def _quantizable(graph: Graph) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    convolved = set()
    for node in graph.nodes:
        name = graph.layer(node)
        if name is None and is_addition(graph, node) and set(node.input) & convolved:
            name = node.output[0]
        if name is not None:
            found.setdefault(name, []).append(node)
            if node.op_type == "Conv":
                convolved.update(node.output)
    return found


def _inputs_with_grids(nodes: Sequence[NodeProto]) -> list[list[str]]:
    """For each input of a layer that has a grid, the tensors there: more than one where a layer is used repeatedly."""
    if nodes[0].op_type == "LSTM":  # of a stacked one the layers after the first read floats
        return [[nodes[0].input[0]]]
    return [[node.input[index] for node in nodes] for index in range(2 if nodes[0].op_type == "Add" else 1)]


def _weight_grid(graph: Graph, node: NodeProto) -> QuantParams | None:
    name = weights_of(node)
    if name is None or node.op_type == "LSTM":
        return None
    weights = graph.constants[graph.origins[name] if name in graph.factors else name]
    axis = weight_axis(node, weights.ndim)
    largest = np.abs(weights).max(axis=tuple(other for other in range(weights.ndim) if other != axis))
    return QuantParams(np.maximum(largest, SMALLEST).astype(np.float32) / np.float32(127), 8)


def _observe(graph: Graph, tensors: Sequence[str], inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Values of each tensor [many] float32: some drawn at random, and the smallest and largest, of each input."""
    model = graph.rebuild()
    first = model.graph.input[0].name
    computed = [name for name in tensors if name != first]
    for name in computed:
        if name not in graph.outputs():
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = OnnxSession(model.SerializeToString(), usable_cores())
    generator = np.random.default_rng(0)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for x in inputs:
        values = session.run({first: x}, computed)
        for name in tensors:
            flat = values.get(name, x).ravel()
            drawn = flat[generator.integers(0, flat.size, min(KEPT, flat.size))]
            seen[name].append(np.append(drawn, [flat.min(), flat.max()]))
    return {name: np.concatenate(parts) for name, parts in seen.items()}
