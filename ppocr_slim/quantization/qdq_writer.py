"""Writer of INT8 ONNX files: integer weights, and Q/DQ pairs where runtimes can fuse them into integer kernels.

What exporters write for a fake-quantized network is neither smaller nor faster: its weights stay float32, and its
Q/DQ pairs stand where no runtime can fuse them. So the file is written here, from the FP32 file and the quantization
parameters:

    x -> Q -> DQ -> Conv (weights int8 -> DQ, bias int32 -> DQ) -> ReLU -> Q -> DQ -> Add -> Q -> ...

ONNX Runtime fuses it into QLinearConv and QLinearAdd, channels last, with no float convolution between; OpenVINO into
its own integer kernels. An LSTM becomes ONNX Runtime's DynamicQuantizeLSTM, three times as fast as the float one;
OpenVINO (2026.4 and later) reads it too, and computes it in float from the quantized weights.

Where integers are no faster (small networks of depthwise convolutions), the weights alone may be: Cast and Mul make
floats of them when a runtime loads the file, which then takes the time of the FP32 one at a third of its size.

Batch norm is folded into its convolution. Its factor f goes into the scale of each output channel's weights, and the
sign of f into the integers, which are those of the weights as the network was trained with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto
from onnx.helper import make_node, make_opsetid

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import replacing
from ppocr_slim.quantization.onnx_graph import (
    MOVES,
    WEIGHTLESS,
    Graph,
    along_first_axis,
    moved_from,
    read_graph,
    weight_axis,
    weights_of,
)
from ppocr_slim.quantization.qparams import (
    FINE_BITS,
    MIN_FOLDED_SCALE,
    LayerQuantParams,
    QuantParams,
    activation_limit,
    weight_limit,
)

WEIGHT_BITS = (SAFE_BITS, 8)
MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators
MIN_SCALE = 1e-8  # of weights that are all zero, for example


def write_int8(
    source: str | Path,
    out: str | Path,
    params: Mapping[str, LayerQuantParams],
    weight_bits: int = SAFE_BITS,
    activations: bool = True,
) -> None:
    """Write the INT8 version of an FP32 ONNX file; metadata, inputs and outputs stay.

    Args:
        source: the FP32 file.
        out: the INT8 file to write, whole or not at all.
        params: layer's path -> quantization parameters, from `models.fake_quant.quant_params_of` or
            `quantization.calibration.calibrate`; all other layers stay in float.
        weight_bits: 7, or 8 for processors with VNNI only; parameters of more bits are made coarser. An LSTM has 7.
        activations: False: the weights alone are integers, and an LSTM stays in float.

    Raises:
        SlimError: `read_graph` cannot read the source, it lacks a layer that `params` names, or `params` is empty.
    """
    if not params:
        raise SlimError(f"there are no quantization parameters for {source}: train a quantize stage, or calibrate")
    if weight_bits not in WEIGHT_BITS:
        raise SlimError(f"weights of {weight_bits} bits cannot be written: choose 7 or 8")
    graph = read_graph(source)
    layers = find_layers(graph, params, str(source))
    writer = _Writer(graph, weight_bits, activations)
    for name, nodes in layers.items():
        for number, node in enumerate(nodes):
            writer.quantize(node, params[name], number == 0)
    with replacing(Path(out)) as new:
        onnx.save(graph.rebuild(), str(new))


def find_layers(graph: Graph, params: Mapping[str, LayerQuantParams], where: str) -> dict[str, list[NodeProto]]:
    """Find the nodes of each layer: several for a stacked LSTM, and where a layer is used repeatedly.

    An addition has no weights that would carry its path. It is found by the name of its output, or as the one that adds
    the output of a convolution of the same block: "blocks.3.add" and "blocks.3.project.0".

    Args:
        graph: the FP32 network.
        params: layer's path -> quantization parameters.
        where: name of the file in messages.

    Returns:
        Layer's path -> its nodes, in the order of `params`.

    Raises:
        SlimError: a layer is missing.
    """
    producers = graph.producers()
    additions = [name for name, layer in params.items() if len(layer.inputs) == 2]
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        path = graph.layer(node)
        if path is None and node.op_type in WEIGHTLESS:
            path = node.output[0]
        if path is None and is_addition(graph, node):
            path = node.output[0]
            blocks = [graph.layer(producers[name]) or "" for name in node.input if name in producers]
            for name in additions:
                if any(block.startswith(name.rpartition(".")[0] + ".") for block in blocks):
                    path = name
        if path is not None:
            found.setdefault(path, []).append(node)
    missing = [name for name in params if name not in found]
    if missing:
        raise SlimError(
            f"{where} has no layer {missing[0]}: the file and the quantization parameters belong to different networks"
        )
    return {name: found[name] for name in params}


def is_addition(graph: Graph, node: NodeProto) -> bool:
    """Return whether a node adds two computed tensors, neither of them constant."""
    return node.op_type == "Add" and not set(node.input) & graph.constants.keys()


def lstm_integers(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize an LSTM's weights with a scale per matrix row.

    Args:
        weights: [directions, rows, columns].

    Returns:
        Integers of the same shape, int8, and scales [directions, rows].
    """
    limit = weight_limit(SAFE_BITS)
    scale = np.maximum(np.abs(weights).max(axis=2), np.float32(MIN_SCALE)) / np.float32(limit)
    return np.rint(weights / scale[..., None]).clip(-limit, limit).astype(np.int8), scale


class _Writer:
    """Inserts integer weights and Q/DQ pairs into a graph, layer by layer."""

    def __init__(self, graph: Graph, weight_bits: int, computes_integers: bool):
        self.graph = graph
        self.weight_bits = weight_bits
        self.computes_integers = computes_integers
        self.producers = graph.producers()
        self.consumers = graph.consumers()
        self.outputs = graph.outputs()
        self.activations: dict[tuple[str, tuple[float, int, int]], str] = {}

    def quantize(self, node: NodeProto, params: LayerQuantParams, is_first: bool) -> None:
        """Quantize a layer's inputs and weights; of a stacked LSTM only the first layer's input is quantized."""
        has_inputs = self.computes_integers and (is_first or node.op_type != "LSTM")
        for index, activation in enumerate(params.inputs if has_inputs else ()):
            node.input[index] = self.quantize_activation(node.input[index], activation)
        if node.op_type == "LSTM":
            if self.computes_integers:
                self.quantize_lstm(node)
        elif params.weight is not None:
            bias = self.integer_bias(node, params)
            # The bias is added to sums of products: their scale must let it fit into 32 bits.
            least = MIN_SCALE
            if bias is not None:
                least = np.maximum(np.abs(bias) / (2**30 * np.float32(params.inputs[0].scale)), MIN_FOLDED_SCALE)
            scale = self.quantize_weights(node, params.weight, least)
            if bias is not None:
                scale = scale * np.float32(params.inputs[0].scale)
                integers = np.rint(bias / scale.astype(np.float64)).astype(np.int32)
                node.input[2] = self.dequantize(f"{node.output[0]}.quantized_bias", integers, scale, 0)

    def integer_bias(self, node: NodeProto, params: LayerQuantParams) -> np.ndarray | None:
        """Return the bias of a layer [channels] if it is quantized: scales of few bits would be too coarse for it."""
        if not params.integer_bias or not self.computes_integers:
            return None
        bias = self.graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        fine = params.inputs and params.inputs[0].bits == 8 and params.weight.bits >= FINE_BITS
        return bias if bias is not None and bias.ndim == 1 and bias.size > 1 and fine else None

    def quantize_activation(self, name: str, params: QuantParams) -> str:
        """Insert a Q/DQ pair behind a tensor, once for the same parameters, and return the new tensor's name."""
        producer = self.producers.get(name)
        if (
            producer is not None
            and producer.op_type in MOVES
            and self.only_for_one(name, producer.input[0])
            and not self.is_attention(name)
        ):
            # Before operators that only move values, next to the layer that computed them.
            producer.input[0] = self.quantize_activation(producer.input[0], params)
            return name
        key = (name, (float(params.scale), params.zero_point, params.bits))
        if key not in self.activations:
            stem = f"{name}.grid{sum(name == other for other, _ in self.activations)}"
            self.activations[key] = stem
            scale, zero = f"{stem}.scale", f"{stem}.zero_point"
            self.graph.constants[scale] = np.float32(params.scale)
            self.graph.constants[zero] = np.uint8(params.zero_point)
            clipped = self.clip(name, stem, params) if params.bits < 8 else name
            self.add("QuantizeLinear", [clipped, scale, zero], f"{stem}.integers")
            self.add("DequantizeLinear", [f"{stem}.integers", scale, zero], stem)
        return self.activations[key]

    def is_attention(self, name: str) -> bool:
        """Return whether a tensor holds, moved, a product of two computed matrices: it stays in float up to here."""
        producer = self.producers.get(moved_from(self.producers, name))
        return producer is not None and producer.op_type == "MatMul" and self.graph.layer(producer) is None

    def clip(self, name: str, stem: str, params: QuantParams) -> str:
        """Clip a tensor to the range of few bits: QuantizeLinear itself clips at 0 and 255 only."""
        clipped, low, high = (f"{stem}.{part}" for part in ("clipped", "low", "high"))
        ends = np.array([-params.zero_point, activation_limit(params.bits, params.zero_point)])
        self.graph.constants[low], self.graph.constants[high] = np.float32(ends * params.scale)
        self.add("Clip", [name, low, high], clipped)
        return clipped

    def only_for_one(self, *names: str) -> bool:
        """Return whether each tensor is read by a single node and is no output of the model."""
        return all(len(self.consumers.get(name, [])) == 1 and name not in self.outputs for name in names)

    def quantize_weights(self, node: NodeProto, params: QuantParams, least: float | np.ndarray) -> np.ndarray:
        """Replace a layer's weights by integers and return their scales [output channels], `least` or more."""
        name = weights_of(node)
        factor = self.graph.factors.get(name, np.float32(1))
        weights = self.graph.constants[self.graph.origins[name] if np.ndim(factor) else name]
        axis = weight_axis(node, weights.ndim)

        def along_channels(values: np.ndarray) -> np.ndarray:
            values = np.broadcast_to(values, weights.shape[axis])
            return values if axis == weights.ndim - 1 else along_first_axis(values, weights.ndim)

        scale = np.asarray(params.scale, np.float32)
        limit = weight_limit(params.bits)
        if params.bits > self.weight_bits:
            scale = scale * np.float32(limit / weight_limit(self.weight_bits))
            limit = weight_limit(self.weight_bits)
        integers = np.rint(weights / along_channels(scale)).clip(-limit, limit) * along_channels(np.sign(factor))
        folded = scale * np.abs(factor)
        # Larger scales for channels that their batch norm has all but switched off.
        raised = np.maximum(folded, np.asarray(least, np.float32))
        coarser = np.rint(weights * along_channels(factor) / along_channels(raised)).clip(-limit, limit)
        integers = np.where(along_channels(raised > folded), coarser, integers)
        scale = np.broadcast_to(raised, weights.shape[axis])
        node.input[1] = self.dequantize(f"{name}.quantized", integers.astype(np.int8), scale, axis)
        return scale

    def quantize_lstm(self, node: NodeProto) -> None:
        """Turn an LSTM into a DynamicQuantizeLSTM."""
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        for index in (1, 2):
            stem = f"{inputs[index]}.quantized"
            integers, scale = lstm_integers(self.graph.constants[inputs[index]])
            self.graph.constants[stem] = np.ascontiguousarray(integers.transpose(0, 2, 1))
            self.graph.constants[f"{stem}.scale"] = scale
            self.graph.constants[f"{stem}.zero_point"] = np.zeros(scale.shape, np.int8)
            inputs[index] = stem
        node.input[:] = [*inputs, *(f"{inputs[i]}.{part}" for i in (1, 2) for part in ("scale", "zero_point"))]
        node.op_type, node.domain = "DynamicQuantizeLSTM", MICROSOFT
        if all(opset.domain != MICROSOFT for opset in self.graph.model.opset_import):
            self.graph.model.opset_import.append(make_opsetid(MICROSOFT, 1))

    def dequantize(self, stem: str, integers: np.ndarray, scale: np.ndarray, axis: int) -> str:
        """Store integers and the scales of their channels, and return the name of the dequantized tensor."""
        if stem in self.producers:
            return stem
        stored, scales, zeros = f"{stem}.integers", f"{stem}.scale", f"{stem}.zero_point"
        self.graph.constants[stored] = integers
        if self.computes_integers:
            self.graph.constants[scales] = np.asarray(scale, np.float32)
            self.graph.constants[zeros] = np.zeros(scale.shape, integers.dtype)
            self.add("DequantizeLinear", [stored, scales, zeros], stem, axis=axis)
        else:  # ONNX Runtime would run a DequantizeLinear each time; these two it folds into a constant
            shape = [-1 if dimension == axis else 1 for dimension in range(integers.ndim)]
            self.graph.constants[scales] = np.asarray(scale, np.float32).reshape(shape)
            self.add("Cast", [stored], f"{stem}.floats", to=TensorProto.FLOAT)
            self.add("Mul", [f"{stem}.floats", scales], stem)
        return stem

    def add(self, kind: str, inputs: Sequence[str], output: str, **arguments: int) -> None:
        """Add a node to the graph, named by its output."""
        node = make_node(kind, inputs, [output], name=output, **arguments)
        self.graph.nodes.append(node)
        self.producers[output] = node
