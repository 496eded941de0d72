"""INT8 files: they compute what the fake-quantized network computes, as integers, and are as small as that allows."""

from __future__ import annotations

import copy
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from drawing import draw_row
from exported import TEXTS, save_lively_checkpoint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from paddle import nn
from PIL import Image

import ppocr_slim.export.bundle as export_module
from ppocr_slim.data.labels import Sample
from ppocr_slim.engines.cpu import SAFE_BITS, cpuinfo, overflows
from ppocr_slim.engines.onnxruntime import OnnxSession
from ppocr_slim.errors import SlimError
from ppocr_slim.export.bundle import export_bundle, requantize_bundle, write_network
from ppocr_slim.models import build_model
from ppocr_slim.models.fake_quant import (
    MovingQuantizer,
    QuantizedAdd,
    fake_quantize,
    input_quantizers,
    layer_at,
    quant_params_of,
    quantized_layers,
    strip,
)
from ppocr_slim.models.mobilenet_v3 import ConvNormAct, InvertedResidual
from ppocr_slim.models.state import model_state, name_parameters
from ppocr_slim.quantization.calibration import activation_params, calibrate
from ppocr_slim.quantization.onnx_graph import read_graph
from ppocr_slim.quantization.post_training import fused_operators, quantize_file
from ppocr_slim.quantization.qdq_writer import lstm_integers, write_int8
from ppocr_slim.quantization.qparams import LayerQuantParams, QuantParams
from ppocr_slim.runtime.bundle import INT8, ONNX, read_bundle, shipped
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.sessions import choose_precision
from ppocr_slim.runtime.specs import DetSpec, RecSpec
from ppocr_slim.tasks.checkpoint import load_model, save_checkpoint
from ppocr_slim.training.starting import read_starting_weights

ROOT = Path(__file__).resolve().parents[1]
FLOAT = TensorProto.FLOAT
TOOL = ROOT / "tools" / "quantize_onnx.py"


def save_model(path, nodes, constants, shape, metadata=None):
    """A network x -> y of `nodes` as an ONNX file."""
    inputs = [make_tensor_value_info("x", FLOAT, shape)]
    outputs = [make_tensor_value_info("y", FLOAT, None)]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = make_model(
        make_graph(nodes, "tiny", inputs, outputs, initializers), opset_imports=[make_opsetid("", 13)], ir_version=7
    )
    onnx.helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


def run(path, x, optimized=True):
    """The output of an ONNX file, as ONNX Runtime fuses it or operator by operator as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def quantized(x, params):
    q = (np.rint(x / params.scale) + params.zero_point).clip(0, 2**params.bits - 1)
    return (q - params.zero_point) * params.scale


def quantized_weights(w, params):
    top = 2 ** (params.bits - 1) - 1
    scale = np.reshape(params.scale, [-1, *[1] * (w.ndim - 1)])
    return np.rint(w / scale).clip(-top, top) * scale


def batch_normed(nodes, constants, generator, channels, source, target):
    """Append a batch norm with some negative factors and one of 0; return (factor, shift)."""
    gamma = generator.uniform(-2, 2, channels)
    gamma[0] = 0
    beta, mean, variance = generator.normal(size=(3, channels))
    variance = np.abs(variance) + 0.1
    for name, value in zip(("gamma", "beta", "mean", "variance"), (gamma, beta, mean, variance)):
        constants[name] = value.astype(np.float32)
    nodes.append(make_node("BatchNormalization", [source, *list(constants)[-4:]], [target], epsilon=1e-5))
    factor = gamma / np.sqrt(variance + 1e-5)
    return factor, beta - mean * factor


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    weight_bits=st.integers(2, 7 if overflows(cpuinfo(), platform.machine()) else 8),
    bits=st.integers(2, 8),
    negative=st.booleans(),
)
def test_a_block_computes_what_its_parameters_say(tmp_path_factory, seed, weight_bits, bits, negative):
    """The INT8 file would read other than the network that was trained to be rounded like it.

    Convolution, batch norm with factors of any sign, ReLU, convolution, addition, against NumPy's integers.
    """
    folder = tmp_path_factory.mktemp("block")
    generator = np.random.default_rng(seed)
    w1, w2 = (generator.normal(size=(4, 4, 1, 1)).astype(np.float32) for _ in range(2))
    constants = {"block.a.weight": w1, "block.b.weight": w2}
    nodes = [make_node("Conv", ["x", "block.a.weight"], ["c"])]
    factor, shift = batch_normed(nodes, constants, generator, 4, "c", "n")
    nodes += [
        make_node("Relu", ["n"], ["r"]),
        make_node("Conv", ["r", "block.b.weight"], ["d"]),
        make_node("Add", ["x", "d"], ["y"]),
    ]
    source = save_model(folder / "fp32.onnx", nodes, constants, [1, 4, 3, 5])
    x = generator.normal(size=(1, 4, 3, 5)).astype(np.float32)

    def weight_params(w):
        return QuantParams(np.abs(w).max(axis=(1, 2, 3)) / np.float32(2 ** (weight_bits - 1) - 1), weight_bits)

    signed = QuantParams(np.float32(4 / 2**bits), bits, 2 ** (bits - 1))
    after_relu = QuantParams(np.float32(3 / 2**bits), bits, 2 ** (bits - 1) if negative else 0)
    params = {
        "block.a": LayerQuantParams((signed,), weight_params(w1)),
        "block.b": LayerQuantParams((after_relu,), weight_params(w2)),
        "block.add": LayerQuantParams((signed, signed)),
    }
    write_int8(source, folder / "int8.onnx", params, 8)

    inside = np.einsum(
        "oi,nihw->nohw", quantized_weights(w1, params["block.a"].weight)[..., 0, 0], quantized(x, signed)
    )
    if bits == 8 and weight_bits >= 7:  # the bias is integers, too
        unit = signed.scale * np.where(factor == 0, 1e-8, np.abs(factor) * params["block.a"].weight.scale)
        unit = np.maximum(unit, np.abs(shift) / 2**30)
        shift = np.rint(shift / unit) * unit
    inside = np.maximum(inside * factor[:, None, None] + shift[:, None, None], 0)
    # A value halfway between two integers may be rounded either way, by the last bit of a float.
    integers = inside / after_relu.scale
    between = np.abs(integers - np.floor(integers) - 0.5).min()
    inside = quantized(inside, after_relu)
    d = np.einsum("oi,nihw->nohw", quantized_weights(w2, params["block.b"].weight)[..., 0, 0], inside)
    integers = d / signed.scale
    between = min(between, np.abs(integers - np.floor(integers) - 0.5).min())
    assume(between > 1e-3)
    wanted = quantized(x, signed) + quantized(d, signed)
    np.testing.assert_allclose(run(folder / "int8.onnx", x, optimized=False), wanted, atol=1e-4)
    if bits == 8 and weight_bits >= 7:  # else ONNX Runtime makes the bias integers by itself
        np.testing.assert_allclose(run(folder / "int8.onnx", x), wanted, atol=1e-4)


def test_weights_are_integers_of_the_bits_asked_for(tmp_path):
    """A processor without VNNI would overflow; a file of float32 weights would be four times as large."""
    generator = np.random.default_rng(0)
    w = generator.normal(size=(8, 3, 3, 3)).astype(np.float32)
    source = save_model(tmp_path / "a.onnx", [make_node("Conv", ["x", "w"], ["y"])], {"w": w}, [1, 3, 9, 9])
    x = generator.uniform(-1, 1, (1, 3, 9, 9)).astype(np.float32)
    params = calibrate(source, [x])
    for bits in (8, 7):
        write_int8(source, tmp_path / "b.onnx", params, bits)
        tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "b.onnx")).graph.initializer}
        integers = tensors["w.quantized.integers"]
        assert integers.dtype == np.int8 and np.abs(integers).max() == 2 ** (bits - 1) - 1
        assert not [name for name, value in tensors.items() if value.dtype == np.float32 and value.size > 8]
        np.testing.assert_allclose(run(tmp_path / "b.onnx", x), run(source, x), atol=0.2)


def test_linear_layers_are_quantized_by_their_output(tmp_path):
    """One scale for all characters of a head would lose the rare ones: MatMul and Gemm keep their channels last."""
    generator = np.random.default_rng(0)
    sizes = np.float32(10) ** np.arange(-3, 3)
    w = (generator.normal(size=(16, 6)) * sizes).astype(np.float32)
    bias = (generator.normal(size=6) * sizes).astype(np.float32)
    x = generator.normal(size=(5, 16)).astype(np.float32)
    layers = {
        "MatMul": ([make_node("MatMul", ["x", "w"], ["m"]), make_node("Add", ["m", "b"], ["y"])], w),
        "Gemm": ([make_node("Gemm", ["x", "w", "b"], ["y"])], w),
        "Gemm transposed": ([make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], w.T.copy()),
    }
    for name, (nodes, weights) in layers.items():
        source = save_model(tmp_path / "a.onnx", nodes, {"w": weights, "b": bias}, [None, 16])
        write_int8(source, tmp_path / "b.onnx", calibrate(source, [x]))
        error = np.abs(run(tmp_path / "b.onnx", x) - run(source, x)).max(axis=0) / sizes
        assert error.max() < 0.3, name
        assert "MatMul" not in fused_operators(tmp_path / "b.onnx")


def test_an_lstm_is_rounded_row_by_row(tmp_path):
    """Half of a recognizer's weights would stay float32, or one large weight would take the others' precision."""
    generator = np.random.default_rng(0)
    w = generator.normal(size=(2, 32, 6)).astype(np.float32) * 10.0 ** generator.uniform(-1, 0.5, (2, 32, 1))
    r = generator.normal(size=(2, 32, 8)).astype(np.float32) * 0.3
    b = generator.normal(size=(2, 64)).astype(np.float32)
    constants = {"enc.weight_ih": w.astype(np.float32), "enc.weight_hh": r, "enc.bias": b}
    nodes = [make_node("LSTM", ["x", *constants], ["y"], hidden_size=8, direction="bidirectional")]
    source = save_model(tmp_path / "fp32.onnx", nodes, constants, [None, 1, 6])
    write_int8(source, tmp_path / "int8.onnx", {"enc": LayerQuantParams(())})
    written = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer}
    for name in ("enc.weight_ih", "enc.weight_hh"):
        integers, scale = lstm_integers(constants[name])
        assert np.abs(integers).max() == 63
        np.testing.assert_array_equal(written[f"{name}.quantized"], integers.transpose(0, 2, 1))
        constants[name] = integers * scale[..., None]
    rounded = save_model(tmp_path / "rounded.onnx", nodes, constants, [None, 1, 6])
    x = generator.normal(size=(20, 1, 6)).astype(np.float32)
    ours, wanted = run(tmp_path / "int8.onnx", x), run(rounded, x)
    assert np.abs(ours - wanted).max() < 0.05  # ONNX Runtime rounds what the LSTM reads, too
    assert fused_operators(tmp_path / "int8.onnx") == {"DynamicQuantizeLSTM": 1}


def test_an_activation_range_fits_the_values():
    """Rare large values would leave few integers for all others; half of them would be unused behind a ReLU."""
    generator = np.random.default_rng(0)
    positive = np.abs(generator.normal(size=10_000)).astype(np.float32)
    params = activation_params(positive)
    assert params.zero_point == 0
    assert abs(params.scale * 255 / positive.max() - 1) < 0.2
    few = activation_params(generator.laplace(size=10_000).astype(np.float32), bits=4)
    assert few.scale * 7 < 5  # the largest is about 9
    assert activation_params(-positive).zero_point == 128
    assert activation_params(np.zeros(5, np.float32)).scale > 0


def test_what_cannot_be_quantized_is_said(tmp_path):
    """A wrong file or pattern would be a stack trace, or a file that is INT8 by name only."""
    w = np.ones((2, 3, 1, 1), np.float32)
    conv = save_model(tmp_path / "conv.onnx", [make_node("Conv", ["x", "w"], ["y"])], {"w": w}, [1, 3, None, None])
    relu = save_model(tmp_path / "relu.onnx", [make_node("Relu", ["x"], ["y"])], {}, [1, 3, 4, 4])
    x = np.ones((1, 3, 4, 4), np.float32)
    with pytest.raises(SlimError, match="no convolution"):
        calibrate(relu, [x])
    with pytest.raises(SlimError, match="no convolution"):
        calibrate(conv, [x], ["w"])
    with pytest.raises(SlimError, match="called 'stem.*there are w"):
        calibrate(conv, [x], ["stem*"])
    with pytest.raises(SlimError, match="at least one image"):
        calibrate(conv, [])
    with pytest.raises(SlimError, match=r"shape \[1, 2, 4, 4\]"):
        calibrate(conv, [x[:, :2]])
    params = calibrate(conv, [x])
    with pytest.raises(SlimError, match="no layer head"):
        write_int8(conv, tmp_path / "out.onnx", {"head": params["w"]})
    with pytest.raises(SlimError, match="no quantization parameters"):
        write_int8(conv, tmp_path / "out.onnx", {})
    with pytest.raises(SlimError, match="6 bits"):
        write_int8(conv, tmp_path / "out.onnx", params, 6)
    with pytest.raises(SlimError, match="cannot read"):
        write_int8(tmp_path / "none.onnx", tmp_path / "out.onnx", params)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(SlimError, match="is not an ONNX file"):
        write_int8(tmp_path / "text.onnx", tmp_path / "out.onnx", params)
    write_int8(conv, tmp_path / "int8.onnx", params)
    with pytest.raises(SlimError, match="quantized already"):
        calibrate(tmp_path / "int8.onnx", [x])
    old = onnx.load(str(conv))
    old.opset_import[0].version = 11
    onnx.save(old, str(tmp_path / "old.onnx"))
    with pytest.raises(SlimError, match="opset 11"):
        calibrate(tmp_path / "old.onnx", [x])
    with pytest.raises(SlimError, match="at least one image"):
        quantize_file(conv, tmp_path / "out.onnx", [])
    Image.fromarray(draw_row("a")).save(tmp_path / "a.png")
    with pytest.raises(SlimError, match="--height"):
        quantize_file(conv, tmp_path / "out.onnx", [tmp_path / "a.png"])
    with pytest.raises(SlimError, match="itself"):
        quantize_file(conv, conv, [tmp_path / "a.png"], 4)
    assert not (tmp_path / "out.onnx").exists()


def test_a_block_left_in_float_is_all_that_is_in_it(tmp_path):
    """A pattern would name other layers here than it does in the config of a training."""
    w = np.ones((3, 3, 1, 1), np.float32)
    names = ["blocks.1.0", "blocks.1.1", "blocks.10.0"]
    tensors = ["x", "a", "b", "y"]
    nodes = [make_node("Conv", [tensors[i], f"{name}.weight"], [tensors[i + 1]]) for i, name in enumerate(names)]
    path = save_model(tmp_path / "a.onnx", nodes, {f"{name}.weight": w for name in names}, [1, 3, None, None])
    assert list(calibrate(path, [np.ones((1, 3, 4, 4), np.float32)], ["blocks.1"])) == ["blocks.10.0"]


DETECTOR = {"channels": 16, "scale": 0.35, "backbone": "small"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The folder of a small detector's FP32 file, and a page for it."""
    paddle.seed(6)
    model = build_model("db_mv3_slim", DETECTOR)
    page = paddle.randn([1, 3, 64, 96])
    for _ in range(10):
        model(page)
    folder = tmp_path_factory.mktemp("detector")
    write_network(model, DetSpec(), folder, onnx_too=True)
    return folder, page.numpy()


def test_transposed_convolutions_become_plain_ones_that_compute_the_same(detector):
    """Lost otherwise: no engine has transposed convolutions in integers, and a detector's head would stay in float."""
    folder, page = detector
    graph = read_graph(folder / ONNX)
    kinds = [node.op_type for node in graph.nodes]
    assert "ConvTranspose" not in kinds and kinds.count("DepthToSpace") == 2
    onnx.save(graph.rebuild(), str(folder / "unfolded.onnx"))
    found, expected = (run(folder / name, page, True) for name in ("unfolded.onnx", ONNX))
    assert np.abs(found - expected).max() < 1e-5


def test_a_detector_is_integers_from_its_first_layer_to_its_last(detector):
    """Lost otherwise: maps go to float and back between layers, and INT8 takes longer than FP32."""
    folder, page = detector
    write_int8(folder / ONNX, folder / INT8, calibrate(folder / ONNX, [page]))
    operators = fused_operators(folder / INT8)
    assert not operators.keys() & {"Conv", "FusedConv", "ConvTranspose", "Concat", "Relu"}, operators
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 1
    assert np.abs(run(folder / INT8, page, True) - run(folder / ONNX, page, True)).mean() < 0.02


def test_between_trained_layers_the_others_are_calibrated(detector):
    """Lost otherwise: a detector trained with PACT would go to float and back wherever maps are enlarged or joined."""
    folder, page = detector
    everything = calibrate(folder / ONNX, [page])
    transposed = {"probability.1", "probability.4"}  # which PACT and LSQ+ do not quantize
    weighted = {name: params for name, params in everything.items() if params.weight and name not in transposed}
    assert transposed < everything.keys()
    trained = {
        name: replace(params, inputs=(replace(params.inputs[0], scale=params.inputs[0].scale * np.float32(1.25)),))
        for name, params in weighted.items()
    }
    mixed = calibrate(folder / ONNX, [page], trained=trained)
    assert mixed.keys() == everything.keys() and all(mixed[name] == trained[name] for name in trained)
    write_int8(folder / ONNX, folder / INT8, mixed)
    operators = fused_operators(folder / INT8)
    assert not operators.keys() & {"Conv", "FusedConv", "ConvTranspose", "Concat", "Relu"}, operators
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 1  # what both read has one range
    assert np.abs(run(folder / INT8, page, True) - run(folder / ONNX, page, True)).mean() < 0.03


def test_weights_alone_may_be_integers(tmp_path):
    """Lost otherwise: a small network's INT8 file would take twice as long as its FP32 one."""
    source, out = shipped("cls") / ONNX, tmp_path / INT8
    images = np.random.default_rng(0).uniform(-1, 1, (4, 3, 48, 192)).astype(np.float32)
    write_int8(source, out, calibrate(source, [images]), activations=False)
    assert out.stat().st_size < 0.4 * source.stat().st_size
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    # What runs is what runs of the FP32 file: the floats are made once, when the file is loaded
    assert not {"Cast", "Mul"} & set(fused_operators(out)) - set(fused_operators(source))
    before, after = (OnnxSession(file, 1)(images) for file in (source, out))
    assert 0 < np.abs(before - after).max() < 0.1


def test_what_a_float_layer_computes_is_not_quantized_behind_it(detector):
    """Lost otherwise: a layer left in float for its accuracy would be rounded where it is enlarged or joined."""
    folder, page = detector
    params = calibrate(folder / ONNX, [page], ["neck"])
    assert not any(name.startswith(("neck", "nearest", "Concat")) for name in params)
    graph = read_graph(folder / ONNX)
    joined = [node.output[0] for node in graph.weightless_layers() if "nearest" in str(node.input)]
    assert joined and params.keys().isdisjoint(joined)
    assert "Add.1" in params and "Add.1" not in calibrate(folder / ONNX, [page], ["Add.1"])
    assert "probability.0.0" in params and "backbone.stem.0" in params


def quantization_of(model):
    """Arguments for `fake_quantize`: all convolutions, additions and the head, the block's input quantized once."""
    positive, signed = {"bits": 8, "zero_point": 0}, {"bits": 8, "zero_point": 128}
    layers = {"backbone.stem.0": {"inputs": [{**signed, "fixed": True}], "weight_bits": 8}}
    after_relu = True
    for number, block in enumerate(model.backbone.blocks):
        assert isinstance(block, InvertedResidual)
        path = f"backbone.blocks.{number}"
        layers[f"{path}.expand.0"] = {"inputs": [positive if after_relu else signed], "weight_bits": 8}
        for part in ("depthwise", "project"):
            layers[f"{path}.{part}.0"] = {"inputs": [positive], "weight_bits": 8}
        if block.add is not None:
            layers[f"{path}.add"] = {"inputs": [{"same_as": [f"{path}.expand.0", 0]}, signed]}
        after_relu = False
    layers["collapse.0"] = {"inputs": [signed], "weight_bits": 8}
    layers["encoder"] = {}
    layers["head"] = {"inputs": [signed], "weight_bits": 8}
    return {"method": "max", "layers": layers}


def inputs_of(height=32, texts=TEXTS):
    lines = [resize_to_height(draw_row(text), height) for text in texts]
    return [to_batch([line], padded_width(line.shape[1])) for line in lines]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A float checkpoint, a fake-quantized one of the same weights, bundles of both, and labelled text lines."""
    folder = tmp_path_factory.mktemp("int8")
    save_lively_checkpoint(folder / "float")
    model, card = load_model(folder / "float")
    arguments = quantization_of(model)
    fake_quantize(model, **arguments)
    name_parameters(model)
    model.eval()
    for layer in model.sublayers():
        if isinstance(layer, MovingQuantizer):
            layer.train()
    with paddle.no_grad():
        for _ in range(20):  # the moving ranges find their places
            for x in inputs_of():
                model(paddle.to_tensor(x))
    card.transforms.append({"name": "fake_quant", **arguments})
    weights = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    save_checkpoint(folder / "trained", card, weights, {"step": 0}, {"step": 0, "best": None, "best_step": 0})
    for text in TEXTS:
        Image.fromarray(draw_row(text)).save(folder / f"{TEXTS.index(text)}.png")
    formats = ("paddle", "onnx", "onnx_int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "TIMED_ROUNDS", 1)
        export_bundle(folder / "trained", folder / "bundle", formats, 5, samples_of(folder))
        export_bundle(folder / "float", folder / "plain", formats, 5, samples_of(folder), samples_of(folder))
    return folder


@pytest.fixture(autouse=True)
def timed_briefly(monkeypatch):
    monkeypatch.setattr(export_module, "TIMED_ROUNDS", 1)


def samples_of(folder):
    return [Sample(folder / f"{number}.png", text, "a") for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("method, zero_point", [("pact", 128), ("lsq", 101)])
def test_the_file_of_a_trained_network_computes_what_was_trained(tmp_path, method, zero_point, se):
    """The training would be for nothing if the exported integers were others.

    A value halfway between two integers may be rounded either way, and shifts what the layers after it see.
    """
    paddle.seed(4)
    block = InvertedResidual(16, 32, 16, 3, (1, 1), se, nn.ReLU)
    net = nn.Sequential(("stem", ConvNormAct(3, 16, 3, 2, activation=nn.ReLU)), ("block", block))
    for layer in net.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(paddle.uniform(layer.weight.shape, min=-2, max=2))
            layer.bias.set_value(paddle.randn(layer.bias.shape))
        if isinstance(layer, nn.Conv2D) and layer.bias is not None:
            layer.bias.set_value(paddle.randn(layer.bias.shape))
    image = paddle.to_tensor(inputs_of(texts=TEXTS[2:3])[0])
    for _ in range(20):
        net(image)
    net.eval()
    in_float = net(image).numpy()
    signed, positive = {"bits": 8, "zero_point": zero_point}, {"bits": 8, "zero_point": 0}
    layers = {"stem.0": {"inputs": [signed], "weight_bits": SAFE_BITS}}
    for part in ("expand.0", "depthwise.0", *(["se.reduce", "se.expand"] if se else []), "project.0"):
        layers[f"block.{part}"] = {"inputs": [positive], "weight_bits": SAFE_BITS}
    layers["block.add"] = {"inputs": [{"same_as": ["block.expand.0", 0]}, signed]}
    fake_quantize(net, method, layers)

    def fit(quantizer, inputs):
        low, high = float(inputs[0].min()), float(inputs[0].max())
        zero = quantizer.zero_point()
        quantizer.set_range(max(high / (255 - zero), -low / max(zero, 1)), zero)

    hooks = []
    for layer in quantized_layers(net).values():
        hooks += [quantizer.register_forward_pre_hook(fit) for quantizer in input_quantizers(layer)]
        if not isinstance(layer, QuantizedAdd):
            weight = layer.weight
            layer._fake_quant_weight.set_scale(weight, np.abs(weight.numpy()).max(axis=(1, 2, 3)) / 63)
    net(image)
    for hook in hooks:
        hook.remove()
    trained, params = net(image).numpy(), quant_params_of(net)
    assert {one.zero_point for layer in params.values() for one in layer.inputs} == {0, zero_point}

    plain = strip(copy.deepcopy(net))
    name_parameters(plain)
    write_network(plain, RecSpec(32, ("", " ")), tmp_path, onnx_too=True)
    write_int8(tmp_path / ONNX, tmp_path / INT8, params)
    unit = max(one.scale for one in params["block.add"].inputs)
    for optimized in (False, True):
        error = np.abs(run(tmp_path / INT8, image.numpy(), optimized) - trained) / unit
        assert (error < 0.01).mean() > 0.99 and (error < 1.01).mean() > 0.999
    assert (np.abs(in_float - trained) / unit < 0.01).mean() < 0.1

    # A layer's own bias is float in both; what a batch norm adds is an integer in both.
    graph = onnx.load(str(tmp_path / INT8)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    biases = [node.input[2] for node in graph.node if node.op_type == "Conv"]
    own = [constants[name] for name in biases if name in constants]
    assert len(biases) == 4 + 2 * se and len(own) == 2 * se
    for layer, bias in zip([block.se.reduce, block.se.expand] if se else [], own):
        np.testing.assert_array_equal(bias.ravel(), layer.bias.numpy())


def test_onnx_runtime_finds_an_unbroken_chain_of_integers(place):
    """Q/DQ pairs in the wrong places make INT8 slower than FP32, which users of other exports complain about."""
    trained, after = (fused_operators(place / folder / INT8) for folder in ("bundle", "plain"))
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(str(place / "plain" / ONNX)).graph.node)
    additions = sum(name.endswith(".add") for name in quantized_layers(load_model(place / "trained")[0]))
    assert after["QLinearConv"] == convolutions
    assert "Conv" not in after and "FusedConv" not in after and "MatMul" not in after
    assert after["QLinearAdd"] == trained["QLinearAdd"] == additions
    assert after["DynamicQuantizeLSTM"] == 2
    # The last convolution outputs floats where the input of the LSTM is not quantized.
    assert trained["QLinearConv"] >= convolutions - 1


def test_a_bundle_has_an_int8_file_that_is_small_and_says_how_it_reads(place):
    """A slim file that is not slim, or whose loss nobody knows, would ship."""
    for folder in ("bundle", "plain"):
        bundle = read_bundle(place / folder)
        assert bundle.sizes[INT8] < 0.5 * bundle.sizes[ONNX]
        measured = bundle.parity["int8"]["onnxruntime"]
        assert 0 <= measured["texts_equal"] <= 1 and measured["cer"] >= 0
        assert set(measured["time"]) == {"ms", "base_ms", "ratio"}
        assert bundle.precision["onnxruntime"] == ("int8" if measured["time"]["ratio"] <= 1 else "fp32")
        properties = {p.key: p.value for p in onnx.load(str(place / folder / INT8)).metadata_props}
        assert properties["character"] == "\n".join(bundle.spec.characters)


def test_the_float_part_of_a_quantized_bundle_is_a_plain_network(place):
    """A training that starts from the bundle would look for clips that no Paddle file has."""
    start = read_starting_weights(place / "bundle")
    assert start.card.transforms == []
    plain = read_starting_weights(place / "plain")
    assert start.state.keys() == plain.state.keys()


def test_an_int8_line_is_read_alike_in_any_batch(place):
    """The LSTM's range of a whole batch would let a line's text depend on its neighbours."""
    recognizer = Recognizer.from_bundle(place / "plain", precision="int8", threads=1)
    images = [draw_row(text) for text in TEXTS]
    alone = [recognizer.read([image])[0] for image in images]
    assert recognizer.read(images, batch_size=8) == alone
    assert len({line.text for line in alone}) > 1
    x = np.concatenate([resized[:, :, :, :64] for resized in inputs_of()])
    np.testing.assert_array_equal(recognizer.session(x)[2:3], recognizer.session(x[2:3]))


def test_the_faster_precision_is_taken_unless_another_is_asked_for(place, tmp_path):
    """INT8 would run where it was measured to be slower, or never."""
    bundle = read_bundle(place / "plain")
    for faster in ("int8", "fp32"):
        bundle.precision["onnxruntime"] = faster
        assert choose_precision(bundle, "onnxruntime") == faster
        assert choose_precision(bundle, "onnxruntime", "fp32") == "fp32"
        assert choose_precision(bundle, "onnxruntime", "int8") == "int8"
        assert choose_precision(bundle, "paddle") == "fp32"
    with pytest.raises(SlimError, match="auto, fp32, int8"):
        choose_precision(bundle, "onnxruntime", "int4")
    with pytest.raises(SlimError, match="Paddle Inference"):
        choose_precision(bundle, "paddle", "int8")
    export_bundle(place / "float", tmp_path / "b", ["onnx_int8"], 5, samples_of(place), samples_of(place))
    alone = read_bundle(tmp_path / "b")
    assert set(alone.sizes) == {INT8}
    assert choose_precision(alone, "onnxruntime") == "int8"
    assert len(Recognizer.from_bundle(tmp_path / "b").read([draw_row("Hà")])) == 1
    with pytest.raises(SlimError, match="has no model.onnx"):
        Recognizer.from_bundle(tmp_path / "b", precision="fp32")
    export_bundle(place / "float", tmp_path / "c", ["onnx"], 5, samples_of(place))
    with pytest.raises(SlimError, match="has no model.int8.onnx"):
        Recognizer.from_bundle(tmp_path / "c", precision="int8")


def test_a_slower_int8_is_recorded_and_a_worse_one_refused(place, tmp_path, monkeypatch, caplog):
    """A file that is slower or reads worse than FP32 would ship unseen."""
    samples = samples_of(place)
    arguments = (place / "float", tmp_path / "b", ["onnx", "onnx_int8"], 5, samples, samples)
    monkeypatch.setattr(
        export_module, "time_in_turns", lambda calls, rounds: {k: [1 + (k[1] == "int8")] for k in calls}
    )
    report = export_bundle(*arguments)
    assert set(report.precision.values()) == {"fp32"}
    assert any("INT8 takes 2.00 times as long" in message for message in caplog.messages)
    assert "INT8 in onnxruntime: cer" in str(report)
    shutil.rmtree(tmp_path / "b")

    readings = Recognizer.from_bundle(place / "plain", precision="fp32").read([draw_row(text) for text in TEXTS])
    right = [Sample(sample.path, line.text, "a") for sample, line in zip(samples, readings)]
    broken = {"backbone.stem.0": LayerQuantParams((QuantParams(np.float32(9), 8, 128),), QuantParams(np.float32(9), 8))}
    monkeypatch.setattr(export_module, "calibrate", lambda source, inputs, trained: broken)
    with pytest.raises(SlimError, match="INT8 reads with a cer of .* in onnxruntime, 0.0000 before"):
        export_bundle(place / "float", tmp_path / "b", ["onnx_int8"], 5, right, samples)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("bits", [7, 8])
def test_a_file_coarser_than_what_was_trained_says_so(place, tmp_path, bits, caplog):
    """Who trains with PACT at 8 bits would ship weights that were rounded a second time, and not know."""
    export_bundle(place / "trained", tmp_path / "b", ["onnx_int8"], 5, samples_of(place), int8_weight_bits=bits)
    said = [message for message in caplog.messages if "weight_bits" in message]
    assert len(said) == (bits == 7) and all("8 bits" in message and "has 7" in message for message in said)


@pytest.mark.parametrize("task", ["det", "cls", "rec"])
def test_what_ships_does_not_overflow_without_vnni(task):
    """An i9-10900K or an older AMD would read nonsense: sums of two products of 8 bits do not fit into 16.

    That happened: with weights of 8 bits the recognizer had a character error rate of 2.4 there, by default.
    """
    bundle = read_bundle(shipped(task))
    assert bundle.int8_weight_bits == SAFE_BITS
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(bundle.file(INT8))).graph.initializer]
    assert max(np.abs(weights.astype(int)).max() for weights in tensors if weights.dtype == np.int8) == 63


@pytest.mark.parametrize("overflowing", [True, False])
def test_weights_that_overflow_are_not_taken_unasked(place, overflowing, monkeypatch, caplog):
    """A bundle made for VNNI would read nonsense on a processor without it, and nobody would be told."""
    monkeypatch.setattr("ppocr_slim.runtime.sessions.overflows", lambda *_: overflowing)
    wide = replace(read_bundle(place / "plain"), int8_weight_bits=8, precision={"onnxruntime": "int8"})
    assert choose_precision(wide, "onnxruntime") == ("fp32" if overflowing else "int8")
    assert choose_precision(wide, "onnxruntime", "int8") == "int8"
    assert sum("overflow" in message for message in caplog.messages) == 2 * overflowing
    caplog.clear()
    assert choose_precision(replace(wide, int8_weight_bits=7), "onnxruntime") == "int8" and not caplog.messages


def test_the_int8_file_of_a_bundle_is_made_anew(place, tmp_path):
    """Who has a bundle for other processors, and no checkpoint of it any more, could not run INT8 on his own."""
    samples = samples_of(place)
    for bits in (7, 8):
        requantize_bundle(place / "plain", tmp_path / "new", 5, samples, samples, bits)
        bundle = read_bundle(tmp_path / "new")
        assert bundle.int8_weight_bits == bits
        tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(bundle.file(INT8))).graph.initializer]
        integers = [np.abs(weights.astype(int)).max() for weights in tensors if weights.dtype == np.int8]
        assert max(integers) == 2 ** (bits - 1) - 1
        old = read_bundle(place / "plain")
        assert bundle.file(ONNX).read_bytes() == old.file(ONNX).read_bytes()
        assert (bundle.spec, bundle.architecture) == (old.spec, old.architecture)
        assert set(bundle.parity["int8"]) == set(old.parity["int8"])
    for name in ("x", "x.new", "x.old"):  # what is written, moved or removed on the way
        shutil.copytree(tmp_path / "new", tmp_path / name)
        with pytest.raises(SlimError, match="would be lost"):
            requantize_bundle(tmp_path / name, tmp_path / "x", 5, samples, samples)
        shutil.rmtree(tmp_path / name)
    shutil.copytree(tmp_path / "new", tmp_path / "read")
    (tmp_path / "read" / "language.bin").write_bytes(b"")
    with pytest.raises(SlimError, match="'language.bin', which is no part"):  # it would be gone
        requantize_bundle(tmp_path / "new", tmp_path / "read", 5, samples, samples)
    with pytest.raises(SlimError, match="some to calibrate on"):
        requantize_bundle(place / "plain", tmp_path / "new", 5, samples, [])
    with pytest.raises(SlimError, match="over the budget"):
        requantize_bundle(place / "plain", tmp_path / "new", 0.01, samples, samples)
    assert read_bundle(tmp_path / "new").int8_weight_bits == 8


def test_int8_of_a_float_checkpoint_needs_images(place, tmp_path):
    """Ranges taken from nothing would make a file that reads nothing."""
    with pytest.raises(SlimError, match="needs images to calibrate on"):
        export_bundle(place / "float", tmp_path / "b", ["onnx_int8"], 5, samples_of(place))


def test_the_tool_quantizes_a_file_and_says_what_came_out(place, tmp_path):
    """INT8 after training would need a script of one's own."""
    command = [sys.executable, str(TOOL), str(place / "plain" / ONNX), "--out", str(tmp_path / "int8.onnx")]
    command += ["--images", str(place), "--rows", "4", "--weight-bits", "7", "--float-layers", "backbone.stem*"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 float convolutions" in done.stdout and "QLinearConv" in done.stdout
    x = inputs_of()[0]
    classes = OnnxSession(tmp_path / "int8.onnx", 1)(x).shape[-1]
    assert classes == len(read_bundle(place / "plain").spec.classes)
    done = subprocess.run([*command, "--float-layers", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "called 'nothing'" in done.stderr


def test_quantization_parameters_of_a_network_name_its_layers(place):
    """File and network would disagree on what a layer is called."""
    model, _ = load_model(place / "trained")
    params = quant_params_of(model)
    assert {"backbone.stem.0", "encoder", "head"} <= set(params)
    for name in params:
        assert layer_at(model, name) is not None
