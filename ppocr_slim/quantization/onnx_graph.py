"""An ONNX graph prepared for quantization: constants and batch norms folded, layers named by their path."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

from ppocr_slim.errors import SlimError

# Exporters slice and join weights with these operators; on constants their results are constants too.
FOLDED = {"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
# These operators move values and change none.
MOVES = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"}
ACTIVATIONS = {"Clip", "HardSwish", "Relu"}
# These have no weights, and engines compute them in integers where their inputs and outputs are.
UNFOLDED = ".unfolded"  # ending of the weights of a transposed convolution that was made a plain one
WEIGHTLESS = {"Concat", "DepthToSpace", "GlobalAveragePool", "MaxPool", "Resize"}


@dataclass
class Graph:
    """The graph of an ONNX model in a form that is easy to change; `rebuild` turns it back into a model.

    Attributes:
        model: the model that was read.
        nodes: nodes in topological order, without those that only compute constants.
        constants: initializers and all that is computed from them, by name.
        factors: for weights with a folded batch norm, the factors of it, [output channels] float32.
        origins: for a computed constant, the name of the first initializer in it; for weights with a folded batch
            norm, the weights without it.
    """

    model: onnx.ModelProto
    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    factors: dict[str, np.ndarray]
    origins: dict[str, str]

    def producers(self) -> dict[str, NodeProto]:
        """Return the node that computes each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    def consumers(self) -> dict[str, list[NodeProto]]:
        """Return the nodes that read each tensor, in the bodies of loops and conditions too."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in _read_by(node):
                found.setdefault(name, []).append(node)
        return found

    def outputs(self) -> set[str]:
        """Return the names of the model's outputs."""
        return {value.name for value in self.model.graph.output}

    def layer(self, node: NodeProto) -> str | None:
        """Return the path of a layer with constant weights ("backbone.stem.0"); None for another node.

        It is the name of the weights without ".weight"; the layers of a stacked LSTM share one path.
        """
        name = weights_of(node)
        if name is None or name not in self.constants:
            return None
        name = self.original(name)
        path, _, last = name.rpartition(".")
        return path if path and (last == "weight" or node.op_type == "LSTM") else name

    def original(self, name: str) -> str:
        """Return the initializer that a constant was computed from."""
        while name in self.origins:
            name = self.origins[name]
        return name

    def weightless_layers(self, float_layers: Collection[str] = ()) -> list[NodeProto]:
        """Return the additions and other layers without weights whose inputs all come from convolutions.

        Args:
            float_layers: convolutions, and outputs of other layers, that are left in float with what they feed.
        """
        maps: set[str] = set()  # also what activations and these layers make of them
        found = []
        for node in self.nodes:
            read = list(node.input) if node.op_type in ("Add", "Concat", "Mul") else list(node.input[:1])
            if node.op_type == "Conv":
                passes_on = self.layer(node) not in float_layers
            elif node.op_type in {*WEIGHTLESS, "Add"}:
                only_maps = maps.issuperset(read) and node.output[0] not in float_layers
                passes_on = only_maps and (node.op_type != "Resize" or repeats(node))
                found += [node] if passes_on else []
            else:
                passes_on = node.op_type in {*ACTIVATIONS, "Mul"} and not maps.isdisjoint(read)
            if passes_on:
                maps.update(node.output)
        return found

    def sort(self) -> None:
        """Sort the nodes topologically, and drop those that no output depends on."""
        producers = self.producers()
        done: set[int] = set()
        ordered = []
        waiting = [producers[value.name] for value in reversed(self.model.graph.output) if value.name in producers]
        while waiting:
            node = waiting[-1]
            needed = [producers[name] for name in _read_by(node) if name in producers]
            needed = [before for before in needed if id(before) not in done]
            waiting += needed
            if not needed:
                waiting.pop()
                if id(node) not in done:
                    done.add(id(node))
                    ordered.append(node)
        self.nodes = ordered

    def rebuild(self) -> onnx.ModelProto:
        """Return a model of the nodes and constants, without unused ones."""
        self.sort()
        wanted = self.outputs().union(*map(_read_by, self.nodes))
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        inputs = [value for value in graph.input if value.name not in self.constants]
        for field in (graph.node, graph.initializer, graph.value_info, graph.input):
            del field[:]
        graph.node.extend(self.nodes)
        graph.input.extend(inputs)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in wanted
        )
        return model


def repeats(node: NodeProto) -> bool:
    """Return whether a Resize repeats values, and computes none between them."""
    return attributes(node).get("mode", b"nearest") == b"nearest"


def moved_from(producers: Mapping[str, NodeProto], tensor: str, operators: Collection[str] = MOVES) -> str:
    """Return the tensor whose values a tensor has, moved by `operators`; a Resize counts where it repeats them."""
    node = producers.get(tensor)
    while node is not None and node.op_type in operators and (node.op_type != "Resize" or repeats(node)):
        tensor = node.input[0]
        node = producers.get(tensor)
    return tensor


def weights_of(node: NodeProto) -> str | None:
    """Return the name of a layer's weights; None for a node without weights."""
    return node.input[1] if node.op_type in ("Conv", "Gemm", "MatMul", "LSTM") and len(node.input) > 1 else None


def weight_axis(node: NodeProto, rank: int) -> int:
    """Return the axis of the output channels in a layer's weights of `rank` dimensions."""
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes(node).get("transB")):
        return rank - 1
    return 0


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file, fold its constants and batch norms, and drop the zero initial states of its LSTMs.

    Args:
        path: an FP32 file.

    Raises:
        SlimError: there is no such file, or it is not ONNX, quantized already, or older than opset 13.
    """
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError, whose module differs from version to version
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SlimError(f"{path} is not an ONNX file ({reason}): export it again") from error
    version = max((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), default=0)
    if version < 13:
        raise SlimError(f"{path} has opset {version}: INT8 needs 13 or later; export it again")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise SlimError(f"{path} is quantized already: use the FP32 file")
    graph = Graph(model, [], {}, {}, {})
    _fold_constants(graph)
    _drop_zero_states(graph)
    graph.sort()
    _fold_batch_norms(graph)
    _unfold_transposed(graph)
    return graph


def _fold_constants(graph: Graph) -> None:
    graph.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    for node in graph.model.graph.node:
        names = [name for name in node.input if name]
        values = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Constant" and "value" in values:
            graph.constants[node.output[0]] = numpy_helper.to_array(values["value"].t)
        elif node.op_type in FOLDED and names and all(name in graph.constants for name in names):
            feeds = {name: graph.constants[name] for name in names}
            graph.constants[node.output[0]] = np.asarray(_evaluate(graph.model, node, feeds))
            graph.origins[node.output[0]] = graph.origins.get(names[0], names[0])
        else:
            graph.nodes.append(node)


def _evaluate(model: onnx.ModelProto, node: NodeProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    def value(name: str, array: np.ndarray | None = None) -> onnx.ValueInfoProto:
        kind = onnx.TensorProto.UNDEFINED if array is None else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, kind, None)

    inputs = [value(name, array) for name, array in feeds.items()]
    single = onnx.helper.make_graph([node], "constant", inputs, [value(node.output[0])])
    evaluator = ReferenceEvaluator(onnx.helper.make_model(single, opset_imports=model.opset_import))
    return evaluator.run(None, dict(feeds))[0]


def _drop_zero_states(graph: Graph) -> None:
    """Drop the initial states of LSTMs that are zeros, which is the default: exporters compute them with many nodes."""
    producers = graph.producers()

    def is_zero(name: str) -> bool:
        node = producers.get(moved_from(producers, name, {"Slice", *MOVES}))
        if node is None or node.op_type != "ConstantOfShape":
            return False
        value = attributes(node).get("value")
        return value is None or not numpy_helper.to_array(value).any()

    for node in graph.nodes:
        if node.op_type == "LSTM":
            for index in (5, 6):
                if index < len(node.input) and node.input[index] and is_zero(node.input[index]):
                    node.input[index] = ""


def _fold_batch_norms(graph: Graph) -> None:
    """Fold batch norms into the convolutions before them: w * f and (b - mean) * f + beta, f = gamma / std."""
    producers, consumers, outputs = graph.producers(), graph.consumers(), graph.outputs()
    folded: set[str] = set()
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = producers.get(norm.input[0])
        if (
            conv is None
            or conv.op_type not in ("Conv", "ConvTranspose")
            or (conv.op_type == "ConvTranspose" and attributes(conv).get("group", 1) != 1)
            or len(consumers[norm.input[0]]) > 1
            or norm.input[0] in outputs
            or not {*conv.input[1:], *norm.input[1:]} <= graph.constants.keys()
        ):
            continue
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
        bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros_like(mean)
        bias_name = norm.output[0] + ".bias"
        graph.constants[bias_name] = ((bias - mean) * factor + beta).astype(np.float32)
        weights = graph.constants[conv.input[1]]
        weights_name = norm.output[0] + ".weight"
        along_outputs = along_first_axis(factor, weights.ndim - (conv.op_type == "ConvTranspose"))
        graph.constants[weights_name] = (weights * along_outputs).astype(np.float32)
        graph.origins[weights_name] = conv.input[1]
        if conv.op_type == "Conv":
            graph.factors[weights_name] = factor.astype(np.float32)
        conv.input[:] = [conv.input[0], weights_name, bias_name]
        conv.output[0] = norm.output[0]
        folded.add(norm.output[0])
    graph.nodes = [node for node in graph.nodes if node.op_type != "BatchNormalization" or node.output[0] not in folded]


def _unfold_transposed(graph: Graph) -> None:
    """Replace transposed convolutions whose stride is their kernel by 1x1 convolutions, which engines have in integers.

    Each pixel makes a block of its own, so it is a convolution to as many channels as the block has pixels, and a
    DepthToSpace that lays them out. A ReLU behind it moves between the two.
    """
    consumers, outputs = graph.consumers(), graph.outputs()
    nodes = []
    moved: set[int] = set()
    for node in graph.nodes:
        if id(node) in moved:
            continue
        is_constant = graph.constants.keys() >= {name for name in node.input[1:] if name}
        weights = graph.constants.get(node.input[1]) if node.op_type == "ConvTranspose" and is_constant else None
        if weights is None or not _is_block(attributes(node), weights.shape[2:]):
            nodes.append(node)
            continue
        inputs, side = weights.shape[0], weights.shape[2]
        name, bias = node.input[1] + UNFOLDED, [name for name in node.input[2:] if name]
        # [in, out, row, column] -> [out, row, column, in]: DepthToSpace's order CRD
        graph.constants[name] = np.ascontiguousarray(weights.transpose(1, 2, 3, 0)).reshape(-1, inputs, 1, 1)
        graph.origins[name] = node.input[1]
        last, stem = node.output[0], node.output[0] + ".pixels"
        if bias:
            graph.constants[stem + ".bias"] = np.repeat(graph.constants[bias[0]], side * side)
            bias = [stem + ".bias"]
        nodes.append(make_node("Conv", [node.input[0], name, *bias], [stem], name=stem))
        after = consumers.get(last, [])
        if len(after) == 1 and after[0].op_type == "Relu" and last not in outputs:
            moved.add(id(after[0]))
            last = after[0].output[0]
            nodes.append(make_node("Relu", [stem], [stem + ".relu"], name=stem + ".relu"))
            stem += ".relu"
        nodes.append(make_node("DepthToSpace", [stem], [last], name=last, blocksize=side, mode="CRD"))
    graph.nodes = nodes


def _is_block(settings: Mapping[str, Any], kernel: tuple[int, ...]) -> bool:
    return (
        len(kernel) == 2
        and kernel[0] == kernel[1]
        and list(settings.get("strides", [1, 1])) == list(kernel)
        and not any(settings.get("pads", []))
        and not any(settings.get("output_padding", []))
        and set(settings.get("dilations", [1])) == {1}
        and settings.get("group", 1) == 1
        and settings.get("auto_pad", b"NOTSET") == b"NOTSET"
        and "output_shape" not in settings
    )


def along_first_axis(values: np.ndarray, rank: int) -> np.ndarray:
    """Reshape [C] to [C, 1, 1, ...] with `rank` dimensions."""
    return values.reshape(-1, *[1] * (rank - 1))


def _read_by(node: NodeProto) -> Iterator[str]:
    """Yield the tensors that a node reads, in the bodies of loops and conditions too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for child in inner.node:
                yield from _read_by(child)
            yield from (value.name for value in inner.output)
