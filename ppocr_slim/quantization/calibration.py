"""Calibration: quantization parameters for any ONNX file, from the activations of its layers on sample inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import NodeProto

from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.engines.onnxruntime import OnnxSession
from ppocr_slim.errors import SlimError
from ppocr_slim.layer_names import named
from ppocr_slim.quantization.onnx_graph import MOVES, UNFOLDED, Graph, moved_from, read_graph, weight_axis, weights_of
from ppocr_slim.quantization.qdq_writer import MIN_SCALE, find_layers
from ppocr_slim.quantization.qparams import LayerQuantParams, QuantParams, best_scale

ACTIVATION_BITS = 8
# What these give has the quantization parameters of what they read, and stays the same integers.
SAME_VALUES = {*MOVES, "DepthToSpace", "MaxPool", "Resize"}
SAMPLES = 4_000  # values of each tensor, per input, that its quantization parameters are chosen by
CLIP_RATIOS = np.linspace(1.0, 0.3, 36).astype(np.float32)  # of the largest value: candidates for the end of the range


def calibrate(
    source: str | Path,
    inputs: Sequence[np.ndarray],
    float_layers: Sequence[str] = (),
    trained: Mapping[str, LayerQuantParams] = MappingProxyType({}),
) -> dict[str, LayerQuantParams]:
    """Calibrate the convolutions, matrix products and LSTMs of an FP32 ONNX file, and the layers between them.

    The range of an activation is the one with the least squared error on the inputs; that of weights ends at the
    largest weight of each output channel.

    Args:
        source: the ONNX file; its first input takes `inputs`.
        inputs: arrays [1, 3, H, W] float32, or whatever the network takes.
        float_layers: patterns of layers to leave in float, see `layer_names`.
        trained: layer's path -> parameters from a training. Of the other layers, those are calibrated that no training
            quantizes: layers without weights, transposed convolutions. What both read has the trained parameters.

    Returns:
        Layer's path -> its quantization parameters.

    Raises:
        SlimError: there are no inputs, or the network does not run on them; there is nothing to quantize; a pattern
            matches nothing.
    """
    graph = read_graph(source)
    layers = _weighted(graph)
    weightless = [node.output[0] for node in graph.weightless_layers()]
    left = named([*layers, *weightless], float_layers, f"float_layers of {source}")
    known = find_layers(graph, trained, str(source))
    if known:
        left |= {name for name, nodes in layers.items() if name not in known and not _is_unfolded(nodes[0])}
    layers = {name: nodes for name, nodes in layers.items() if name not in left}
    if not layers:
        raise SlimError(f"{source} has no convolution, matrix product or LSTM to quantize")
    layers.update({node.output[0]: [node] for node in graph.weightless_layers(left)})
    have_parameters = {node.output[0] for nodes in known.values() for node in nodes}
    layers = {name: nodes for name, nodes in layers.items() if nodes[0].output[0] not in have_parameters}
    if not inputs:
        raise SlimError("calibration needs at least one image")
    given = {
        tensor: params
        for name, nodes in known.items()
        for params, place in zip(trained[name].inputs, _sources(graph, nodes))
        for tensor in place
    }
    read = {name: _sources(graph, nodes) for name, nodes in layers.items()}
    needed = {tensor for places in read.values() for place in places for tensor in place} - given.keys()
    values = _collect(graph, sorted(needed), inputs) if needed else {}

    def params_of(place: Sequence[str]) -> QuantParams:
        same = next((given[tensor] for tensor in place if tensor in given), None)
        return same or activation_params(np.concatenate([values[tensor] for tensor in place]))

    calibrated = {
        name: LayerQuantParams(tuple(params_of(place) for place in read[name]), _weight_params(graph, nodes[0]))
        for name, nodes in layers.items()
    }
    return {**trained, **calibrated}


def activation_params(values: np.ndarray, bits: int = ACTIVATION_BITS) -> QuantParams:
    """Return the parameters with the least squared error on the values, symmetric around 0 if any is negative.

    Args:
        values: of the activation, any number.
        bits: of the integers.
    """
    top = 2**bits - 1
    zero_point = 2 ** (bits - 1) if values.min() < 0 else 0
    largest = max(float(values.max()) / (top - zero_point), -float(values.min()) / max(zero_point, 1))
    scale = best_scale(values, largest, -zero_point, top - zero_point, CLIP_RATIOS)
    return QuantParams(np.float32(scale), bits, zero_point)


def _weighted(graph: Graph) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        name = graph.layer(node)
        if name is not None:
            found.setdefault(name, []).append(node)
    return found


def _is_unfolded(node: NodeProto) -> bool:
    return len(node.input) > 1 and node.input[1].endswith(UNFOLDED)


def _sources(graph: Graph, nodes: Sequence[NodeProto]) -> list[list[str]]:
    """Return the tensors at each quantized input of a layer, each where its values were computed."""
    producers = graph.producers()
    return [[moved_from(producers, tensor, SAME_VALUES) for tensor in place] for place in _quantized_inputs(nodes)]


def _quantized_inputs(nodes: Sequence[NodeProto]) -> list[list[str]]:
    """Return the tensors at each quantized input of a layer: several where the layer is used repeatedly."""
    if nodes[0].op_type == "LSTM":  # in a stack, the layers after the first read floats
        return [[nodes[0].input[0]]]
    count = len(nodes[0].input) if nodes[0].op_type in ("Add", "Concat") else 1
    return [[node.input[index] for node in nodes] for index in range(count)]


def _weight_params(graph: Graph, node: NodeProto) -> QuantParams | None:
    name = weights_of(node)
    if name is None or node.op_type == "LSTM":
        return None
    weights = graph.constants[graph.origins[name] if name in graph.factors else name]
    axis = weight_axis(node, weights.ndim)
    largest = np.abs(weights).max(axis=tuple(other for other in range(weights.ndim) if other != axis))
    return QuantParams(np.maximum(largest, MIN_SCALE).astype(np.float32) / np.float32(127), 8)


def _collect(graph: Graph, tensors: Sequence[str], inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return values of each tensor [V] float32, by running the network.

    For each input they are some drawn at random, the smallest and the largest.
    """
    model = graph.rebuild()
    first = model.graph.input[0].name
    computed = [name for name in tensors if name != first]
    for name in computed:
        if name not in graph.outputs():
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = OnnxSession(model.SerializeToString(), usable_cores())
    generator = np.random.default_rng(0)
    collected: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for x in inputs:
        values = session.run({first: x}, computed)
        for name in tensors:
            flat = values.get(name, x).ravel()
            drawn = flat[generator.integers(0, flat.size, min(SAMPLES, flat.size))]
            collected[name].append(np.append(drawn, [flat.min(), flat.max()]))
    return {name: np.concatenate(parts) for name, parts in collected.items()}
