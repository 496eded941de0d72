"""INT8 ONNX files: integer weights, and grids around the layers that runtimes turn into integer ones.

What exporters write for a fake-quantized network is neither smaller nor faster: its weights stay float32, and its
Q/DQ pairs stand where no runtime can fuse them. So the file is written here, from the FP32 file and the grids:

    x -> Q -> DQ -> Conv (weights int8 -> DQ, bias int32 -> DQ) -> ReLU -> Q -> DQ -> Add -> Q -> ...

ONNX Runtime makes QLinearConv and QLinearAdd of it, channels last, with no float convolution between; OpenVINO its own
integer kernels. An LSTM becomes ONNX Runtime's DynamicQuantizeLSTM, three times as fast as the float one; OpenVINO
(2026.4 and later) reads it, too, and computes it in float from the rounded weights.

Batch norm is folded into its convolution. Its factor f goes into the scale of each output channel's weights, the sign
of f into the integers: they are those of the weights as the network was trained with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto
from onnx.helper import make_node, make_opsetid

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import replacing
from ppocr_slim.quantization.onnx_graph import MOVES, Graph, along_first_axis, read_graph, weight_axis, weights_of
from ppocr_slim.quantization.qparams import LayerQuantParams, QuantParams

WEIGHT_BITS = (SAFE_BITS, 8)
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
SMALLEST_OF_FOLDED = np.float32(1e-30)  # the same of a channel whose batch norm gives nothing
SMALLEST = 1e-8  # scale; of weights that are all zero, for example


def write_int8(
    source: str | Path, out: str | Path, grids: Mapping[str, LayerQuantParams], weight_bits: int = SAFE_BITS
) -> None:
    """Write the INT8 version of an FP32 ONNX file; metadata, inputs and outputs stay.

    Args:
        source: the FP32 file.
        grids: by layer, from `models.fake_quant.quant_params_of` or `quantization.calibration.calibrate`; other layers
            stay float.
        weight_bits: 7, or 8 for processors with VNNI alone; grids of more bits are made coarser. An LSTM has 7.

    Raises:
        SlimError: `source` is no such file as `read_graph` takes, or has no such layer as `grids` names; no grids.
    """
    if not grids:
        raise SlimError(f"no layer of {source} has grids: train a quantize stage, or calibrate")
    if weight_bits not in WEIGHT_BITS:
        raise SlimError(f"weights of {weight_bits} bits cannot be written: choose 7 or 8")
    graph = read_graph(source)
    layers = find_layers(graph, grids, str(source))
    writer = _Writer(graph, weight_bits)
    for name, nodes in layers.items():
        for number, node in enumerate(nodes):
            writer.quantize(node, grids[name], number == 0)
    with replacing(Path(out)) as new:
        onnx.save(graph.rebuild(), str(new))


def find_layers(graph: Graph, grids: Mapping[str, LayerQuantParams], where: str) -> dict[str, list[NodeProto]]:
    """The nodes of each layer: one, or several of an LSTM with several layers and where a layer is used repeatedly.

    An addition has no weights that would carry its path. It goes by the name of its output, or it is the one that
    adds what a convolution of the same block gives: "blocks.3.add" and "blocks.3.project.0".

    Raises:
        SlimError: `where` has no such layer.
    """
    producers = graph.producers()
    additions = [name for name, layer in grids.items() if len(layer.inputs) == 2]
    found: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        path = graph.layer(node)
        if path is None and is_addition(graph, node):
            path = node.output[0]
            blocks = [graph.layer(producers[name]) or "" for name in node.input if name in producers]
            for name in additions:
                if any(block.startswith(name.rpartition(".")[0] + ".") for block in blocks):
                    path = name
        if path is not None:
            found.setdefault(path, []).append(node)
    missing = [name for name in grids if name not in found]
    if missing:
        raise SlimError(f"{where} has no layer {missing[0]}: file and grids are of different networks")
    return {name: found[name] for name in grids}


def is_addition(graph: Graph, node: NodeProto) -> bool:
    """Whether a node adds two computed tensors, not a constant."""
    return node.op_type == "Add" and not set(node.input) & graph.constants.keys()


def lstm_integers(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An LSTM's weights [directions, rows, columns] as integers int8 and the scale of each row [directions, rows]."""
    limit = 2 ** (SAFE_BITS - 1) - 1
    scale = np.maximum(np.abs(weights).max(axis=2), np.float32(SMALLEST)) / np.float32(limit)
    return np.rint(weights / scale[..., None]).clip(-limit, limit).astype(np.int8), scale


class _Writer:
    """Puts integers and grids into a graph, layer by layer."""

    def __init__(self, graph: Graph, weight_bits: int):
        self.graph = graph
        self.weight_bits = weight_bits
        self.producers = graph.producers()
        self.consumers = graph.consumers()
        self.outputs = graph.outputs()
        self.on_grids: dict[tuple[str, tuple[float, int, int]], str] = {}

    def quantize(self, node: NodeProto, grids: LayerQuantParams, is_first: bool) -> None:
        """Round what a node reads to `grids`; of a stacked LSTM the first layer alone has an input with a grid."""
        for index, grid in enumerate(grids.inputs if is_first or node.op_type != "LSTM" else ()):
            node.input[index] = self.on_grid(node.input[index], grid)
        if node.op_type == "LSTM":
            self.quantize_lstm(node)
        elif grids.weight is not None:
            bias = self.integer_bias(node, grids)
            # The scale of the products, to whose sums the bias is added, must let it fit into 32 bits.
            least = SMALLEST
            if bias is not None:
                least = np.maximum(np.abs(bias) / (2**30 * np.float32(grids.inputs[0].scale)), SMALLEST_OF_FOLDED)
            scale = self.quantize_weights(node, grids.weight, least)
            if bias is not None:
                scale = scale * np.float32(grids.inputs[0].scale)
                integers = np.rint(bias / scale.astype(np.float64)).astype(np.int32)
                node.input[2] = self.dequantized(f"{node.output[0]}.quantized_bias", integers, scale, 0)

    def integer_bias(self, node: NodeProto, grids: LayerQuantParams) -> np.ndarray | None:
        """The bias of a layer [channels] if it becomes integers: on grids of few bits it would be too coarse."""
        if not grids.integer_bias:
            return None
        bias = self.graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        fine = grids.inputs and grids.inputs[0].bits == 8 and grids.weight.bits >= min(WEIGHT_BITS)
        return bias if bias is not None and bias.ndim == 1 and bias.size > 1 and fine else None

    def on_grid(self, name: str, grid: QuantParams) -> str:
        """The name of a tensor that has the values of `name`, rounded to a grid."""
        producer = self.producers.get(name)
        if producer is not None and producer.op_type in MOVES and self.only_for_one(name, producer.input[0]):
            # Before what only moves numbers, so that it meets the layer that made them.
            producer.input[0] = self.on_grid(producer.input[0], grid)
            return name
        key = (name, (float(grid.scale), grid.zero_point, grid.bits))
        if key not in self.on_grids:
            stem = f"{name}.grid{sum(name == other for other, _ in self.on_grids)}"
            self.on_grids[key] = stem
            scale, zero = f"{stem}.scale", f"{stem}.zero_point"
            self.graph.constants[scale] = np.float32(grid.scale)
            self.graph.constants[zero] = np.uint8(grid.zero_point)
            inside = name
            if grid.bits < 8:  # QuantizeLinear itself stops at 0 and 255 only
                inside, low, high = (f"{stem}.{part}" for part in ("clipped", "low", "high"))
                ends = np.array([-grid.zero_point, 2**grid.bits - 1 - grid.zero_point])
                self.graph.constants[low], self.graph.constants[high] = np.float32(ends * grid.scale)
                self.add("Clip", [name, low, high], inside)
            self.add("QuantizeLinear", [inside, scale, zero], f"{stem}.integers")
            self.add("DequantizeLinear", [f"{stem}.integers", scale, zero], stem)
        return self.on_grids[key]

    def only_for_one(self, *names: str) -> bool:
        return all(len(self.consumers.get(name, [])) == 1 and name not in self.outputs for name in names)

    def quantize_weights(self, node: NodeProto, grid: QuantParams, least: float | np.ndarray) -> np.ndarray:
        """Put integers for a layer's weights; gives their scales [output channels], `least` or more."""
        name = weights_of(node)
        factor = self.graph.factors.get(name, np.float32(1))
        weights = self.graph.constants[self.graph.origins[name] if np.ndim(factor) else name]
        axis = weight_axis(node, weights.ndim)

        def spread(values: np.ndarray) -> np.ndarray:
            values = np.broadcast_to(values, weights.shape[axis])
            return values if axis == weights.ndim - 1 else along_first_axis(values, weights.ndim)

        scale = np.asarray(grid.scale, np.float32)
        limit = 2 ** (grid.bits - 1) - 1
        if grid.bits > self.weight_bits:
            scale = scale * np.float32(limit / (2 ** (self.weight_bits - 1) - 1))
            limit = 2 ** (self.weight_bits - 1) - 1
        integers = np.rint(weights / spread(scale)).clip(-limit, limit) * spread(np.sign(factor))
        folded = scale * np.abs(factor)
        # A channel that its batch norm has all but switched off.
        raised = np.maximum(folded, np.asarray(least, np.float32))
        rounded = np.rint(weights * spread(factor) / spread(raised)).clip(-limit, limit)
        integers = np.where(spread(raised > folded), rounded, integers)
        scale = np.broadcast_to(raised, weights.shape[axis])
        node.input[1] = self.dequantized(f"{name}.quantized", integers.astype(np.int8), scale, axis)
        return scale

    def quantize_lstm(self, node: NodeProto) -> None:
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

    def dequantized(self, stem: str, integers: np.ndarray, scale: np.ndarray, axis: int) -> str:
        """Keep integers and the scales of their channels; gives the name of the real numbers made of them."""
        if stem not in self.producers:
            stored, scales, zeros = f"{stem}.integers", f"{stem}.scale", f"{stem}.zero_point"
            self.graph.constants[stored] = integers
            self.graph.constants[scales] = np.asarray(scale, np.float32)
            self.graph.constants[zeros] = np.zeros(scale.shape, integers.dtype)
            self.add("DequantizeLinear", [stored, scales, zeros], stem, axis=axis)
        return stem

    def add(self, kind: str, inputs: Sequence[str], output: str, **arguments: int) -> None:
        node = make_node(kind, inputs, [output], name=output, **arguments)
        self.graph.nodes.append(node)
        self.producers[output] = node
