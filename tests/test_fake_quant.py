"""Fake quantization: rounding is ONNX's, gradients are the papers', kernels and rebuilt networks do the same."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import paddle
import pytest
from gradients import run_backward
from paddle import nn

from ppocr_slim.errors import SlimError
from ppocr_slim.models import build_model
from ppocr_slim.models.fake_quant import (
    QUANTIZABLE,
    FixedQuantizer,
    LsqQuantizer,
    LsqWeightQuantizer,
    MovingQuantizer,
    PactQuantizer,
    QuantizedNorm,
    WeightQuantizer,
    fake_quantize,
    quant_params_of,
    quantized_layers,
    round_matrix,
    strip,
)
from ppocr_slim.models.mobilenet_v3 import Add, InvertedResidual
from ppocr_slim.models.state import model_state, name_parameters
from ppocr_slim.slim._paddleslim import wrap_for_quantization
from ppocr_slim.training.kernels.accelerate import accelerated

TINY = {"height": 32, "scale": 0.35, "hidden": 8}
INPUTS = (PactQuantizer, FixedQuantizer, MovingQuantizer, LsqQuantizer)


def assert_close(ours, wanted):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(wanted), rtol=1e-4, atol=1e-5)


def quantize_linear(x, scale, zero_point, bits):
    """ONNX's QuantizeLinear and DequantizeLinear."""
    q = np.clip(np.rint(x / scale) + zero_point, 0, 2**bits - 1)
    return (q - zero_point) * scale


def made(kind, bits, zero_point, scale):
    quantizer = kind(bits, zero_point)
    quantizer.set_range(scale, zero_point)
    quantizer.eval()
    return quantizer


def grid_of(layers):
    """`layers` for `fake_quantize` that give every layer 8 bits."""
    spec = {"bits": 8, "zero_point": 128}
    found = {}
    for path, layer in layers.items():
        found[path] = {"inputs": [spec, spec] if isinstance(layer, Add) else [spec]}
        if not isinstance(layer, Add):
            found[path]["weight_bits"] = 8
        if isinstance(layer, nn.LSTM):
            found[path] = {"inputs": []}
    return found


def plain_layers(model):
    return {path: layer for path, layer in model.named_sublayers() if type(layer) in QUANTIZABLE}


def recognizer(method="pact"):
    paddle.seed(3)
    model = build_model("crnn_mv3_slim", TINY, 12)
    fake_quantize(model, method, grid_of(plain_layers(model)))
    name_parameters(model)
    return model


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [False, True])
def test_inputs_lie_on_onnx_grids(kind, bits, signed):
    """Lost otherwise: the INT8 file would read other texts than the network that was trained and scored."""
    zero_point = 2 ** (bits - 1) if signed else 0
    scale = np.float32(0.25)  # halves are exact, and must go to the even neighbour
    x = (np.arange(-3000, 3000, dtype=np.float32) / 8) * scale
    assert_close(made(kind, bits, zero_point, 0.25)(paddle.to_tensor(x)), quantize_linear(x, scale, zero_point, bits))
    quantizer = made(kind, bits, zero_point, 0.37)
    noise = np.random.default_rng(0).normal(0, 3, 5000).astype(np.float32)
    ours, onnx = quantizer(paddle.to_tensor(noise)).numpy(), quantize_linear(noise, np.float32(0.37), zero_point, bits)
    assert np.mean(np.abs(ours - onnx) > 1e-4) < 1e-3  # a quotient next to a half may fall either way
    assert quantizer.scale().item() == pytest.approx(0.37) and quantizer.zero_point() == zero_point


def test_weights_lie_on_symmetric_grids_by_channel():
    """Lost otherwise: integers that the INT8 file cannot hold, or one scale that small channels vanish in."""
    weight = paddle.randn([6, 4, 3, 3]) * paddle.to_tensor([1e-3, 1, 10, 0, 1, 1.0]).reshape([6, 1, 1, 1])
    for bits in range(2, 9):
        quantizer = WeightQuantizer(bits, 0, 6)
        scale = quantizer.scale(weight).numpy().reshape(6, 1, 1, 1)
        q = quantizer(weight).numpy() / scale
        assert_close(q, np.rint(q))
        assert np.abs(q).max() <= 2 ** (bits - 1) - 1 + 1e-3
        distance = np.abs(quantizer(weight).numpy() - weight.numpy())
        assert np.all(distance <= scale * 0.5001 + 1e-6)


def test_a_narrower_range_clips_weights():
    """Lost otherwise: the scales that calibration found would not be those that the network uses."""
    weight = paddle.randn([3, 50])
    wanted = np.array([0.1, 0.2, 0.15], np.float32)
    for kind in (WeightQuantizer, LsqWeightQuantizer):
        quantizer = kind(4, 0, 3)
        quantizer.set_scale(weight, wanted)
        assert_close(quantizer.scale(weight), wanted)
        assert_close(quantizer(weight), np.clip(np.rint(weight.numpy() / wanted[:, None]), -7, 7) * wanted[:, None])


def test_the_clip_learns_from_what_it_clips():
    """PACT by hand (arXiv:1805.06085): a clip that got no gradient, or a wrong one, would stay where it started."""
    quantizer = made(PactQuantizer, 8, 128, 1.5 / 127)
    x = paddle.to_tensor([-3.0, -1.0, 0.0, 1.0, 2.0], stop_gradient=False)
    quantizer(x).sum().backward()
    assert_close(x.grad, [0, 1, 1, 1, 0])
    assert quantizer.clip.grad.item() == pytest.approx(1 - 128 / 127)  # one above, one below
    unsigned = made(PactQuantizer, 4, 0, 1.5 / 15)
    unsigned(paddle.to_tensor([0.0, 0.5, 2.0, 3.0])).sum().backward()
    assert unsigned.clip.grad.item() == pytest.approx(2)


def test_lsq_follows_the_paper():
    """The gradient of the step by hand (arXiv:1902.08153, equation 3), and of the offset (arXiv:2004.09576)."""
    x = np.array([-9, -1.3, 0.2, 0.9, 50], np.float32)
    quantizer = made(LsqQuantizer, 4, 5, 0.5)
    given = paddle.to_tensor(x, stop_gradient=False)
    quantizer(given).sum().backward()
    v = x / 0.5
    inside = (np.rint(v) >= -5) & (np.rint(v) <= 10)
    by_step = np.where(inside, np.rint(v) - v, np.clip(np.rint(v), -5, 10))
    share = 1 / np.sqrt(5 * 15)
    assert_close(given.grad, inside.astype(np.float32))
    assert quantizer.step.grad.item() == pytest.approx(by_step.sum() * share, rel=1e-4)
    assert quantizer.offset.grad.item() == pytest.approx(-0.5 * (~inside).sum() * share, rel=1e-4)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("bits,zero_point", [(8, 128), (8, 0), (4, 8), (2, 0), (3, 4)])
def test_the_kernel_rounds_as_the_layer_does(kind, bits, zero_point):
    """Lost otherwise: fast training would follow other gradients than the ones that are documented."""
    paddle.seed(bits)
    x = paddle.randn([2, 5, 7, 301])
    x[0, 0, 0, :4] = paddle.to_tensor([0.0, 1e9, -1e9, 0.3])
    quantizer = made(kind, bits, zero_point, 0.9 / 2**bits)
    quantizer.train()
    results = []
    for use in (True, False):
        twin = copy.deepcopy(quantizer)
        if use:
            with accelerated(twin) as count:
                assert count == {"input quantizers": 1}
                results.append(run_backward(twin, [twin], x))
        else:
            results.append(run_backward(twin, [twin], x))
    for ours, plain in zip(*results):
        scale = max(1.0, float(np.abs(np.asarray(plain)).max()))
        assert_close(np.asarray(ours) / scale, np.asarray(plain) / scale)


@pytest.mark.parametrize("fast", [True, False])
def test_a_nan_stays_one(fast):
    """Lost otherwise: a training that diverges would go on, clipped, as if nothing had happened."""
    quantizer = made(PactQuantizer, 8, 0, 0.1)
    with accelerated(quantizer) if fast else nullcontext():
        assert np.isnan(quantizer(paddle.to_tensor([1.0, float("nan")])).numpy()).tolist() == [False, True]


def test_a_moving_range_follows_the_data_in_training_alone():
    """Lost otherwise: evaluating would change the network."""
    quantizer = made(MovingQuantizer, 8, 0, 1 / 255)
    quantizer(paddle.to_tensor([11.0]))
    assert quantizer.clip.item() == pytest.approx(1)
    quantizer.train()
    quantizer(paddle.to_tensor([11.0, -30.0]))
    assert quantizer.clip.item() == pytest.approx(1.1)


@pytest.mark.parametrize("method", ["pact", "max", "lsq"])
def test_training_a_block_is_the_same_through_kernels(method):
    """Lost otherwise: quantization-aware training would be slow, or another experiment on other machines."""
    paddle.seed(5)
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    fake_quantize(block, method, grid_of(plain_layers(block)))
    x, results = paddle.randn([2, 4, 6, 10]), []
    for use in (True, False):
        twin = copy.deepcopy(block)
        if use:
            with accelerated(twin) as count:
                assert count["batch norms"] == 3 and count["depthwise convolutions"] == 1
                assert count["input quantizers"] == 5
                results.append(run_backward(twin, [twin], x))
        else:
            results.append(run_backward(twin, [twin], x))
    for ours, plain in zip(*results):
        assert_close(ours, plain)


def test_paddleslim_wraps_what_is_rebuilt_without_it():
    """Lost otherwise: a checkpoint would not load, or would be another network than the one that was trained."""
    rebuilt = recognizer()
    paddle.seed(3)
    wrapped = build_model("crnn_mv3_slim", TINY, 12)
    layers = grid_of(plain_layers(wrapped))
    names = list(model_state(wrapped))
    wrap_for_quantization(wrapped, [path for path, settings in layers.items() if "weight_bits" in settings])
    fake_quantize(wrapped, "pact", layers)
    assert [(path, type(layer)) for path, layer in wrapped.named_sublayers()] == [
        (path, type(layer)) for path, layer in rebuilt.named_sublayers()
    ]
    a, b = model_state(wrapped), model_state(rebuilt)
    assert list(a) == list(b) and set(names) < set(a)
    for name in a:
        assert_close(a[name], b[name])


def test_stripping_gives_the_float_network_back():
    """Lost otherwise: an export would miss weights, or still hold what only training needs."""
    paddle.seed(3)
    plain = build_model("crnn_mv3_slim", TINY, 12)
    stripped = strip(recognizer())
    assert [(path, type(layer)) for path, layer in plain.named_sublayers()] == [
        (path, type(layer)) for path, layer in stripped.named_sublayers()
    ]
    assert quant_params_of(stripped) == {} and list(model_state(plain)) == list(model_state(stripped))
    x = paddle.randn([1, 3, 32, 64])
    plain.eval(), stripped.eval()
    assert_close(plain(x), stripped(x))


def test_the_lstm_evaluates_with_rounded_weights_and_keeps_its_own():
    """Lost otherwise: scores would be of float weights, or each evaluation would spoil those that training needs."""
    model = recognizer()
    before = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    twin = strip(copy.deepcopy(model)).encoder
    for tensor in twin.parameters():
        if tensor.ndim == 2:
            tensor.set_value(round_matrix(tensor.numpy()))
    x = paddle.randn([2, 5, twin.input_size])
    model.eval()
    assert_close(model.encoder(x)[0], twin(x)[0])
    with accelerated(model):
        assert_close(model.encoder(x)[0], twin(x)[0])
    for name, tensor in model_state(model).items():
        assert np.array_equal(tensor.numpy(), before[name]), name


def test_a_tensor_that_two_layers_read_has_one_grid():
    """Lost otherwise: the INT8 file would hold each shortcut twice, and its chain would be cut there."""
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    layers = grid_of(plain_layers(block))
    layers["add"] = {"inputs": [{"same_as": ["expand.0", 0]}, {"bits": 8, "zero_point": 128}]}
    fake_quantize(block, "pact", layers)
    assert block.add.inputs[0] is block.expand[0]._fake_quant_input
    assert sum("clip" in name for name in model_state(block)) == 4
    block.expand[0]._fake_quant_input.clip.set_value(np.array([3.0], np.float32))
    params = quant_params_of(block)
    assert params["add"].inputs[0] == params["expand.0"].inputs[0]


def test_folding_the_batch_norm_leaves_the_integers_alone():
    """Lost otherwise: the INT8 file, which has no batch norms, would compute another convolution."""
    paddle.seed(1)
    convolution, norm = nn.Conv2D(3, 5, 3, bias_attr=False), nn.BatchNorm2D(5)
    norm.weight.set_value(np.array([1, -2, 0.5, -0.1, 3], np.float32))
    norm._mean.set_value(paddle.randn([5])), norm._variance.set_value(paddle.rand([5]) + 0.5)
    net = nn.Sequential(convolution, norm)
    fake_quantize(net, "pact", {"0": {"inputs": [{"bits": 8, "zero_point": 128, "fixed": True}], "weight_bits": 8}})
    net.eval()
    x = paddle.rand([2, 3, 6, 7]) * 2 - 1
    params = quant_params_of(net)["0"]
    factor = (norm.weight / (norm._variance + norm._epsilon).sqrt()).numpy()
    folded = net[0].weight.numpy() * factor.reshape(5, 1, 1, 1)
    scale = (params.weight.scale * np.abs(factor)).reshape(5, 1, 1, 1)
    weight = np.clip(np.rint(folded / scale), -127, 127) * scale
    given = quantize_linear(x.numpy(), params.inputs[0].scale, params.inputs[0].zero_point, 8)
    bias = norm.bias.numpy() - norm._mean.numpy() * factor
    wanted = nn.functional.conv2d(paddle.to_tensor(given), paddle.to_tensor(weight), paddle.to_tensor(bias))
    np.testing.assert_allclose(net(x), wanted, atol=2e-4)  # the bias is an integer, too


def test_what_cannot_be_quantized_is_an_error():
    """Lost otherwise: a damaged card would give a network that is silently float."""
    model = build_model("crnn_mv3_slim", TINY, 12)
    with pytest.raises(SlimError, match="steps is a TimeSteps"):
        fake_quantize(model, "pact", {"steps": {"inputs": []}})


def test_copies_are_independent():
    """Lost otherwise: a stripped or exported copy would change the network that still trains."""
    model = recognizer()
    strip(copy.deepcopy(model))
    assert len(quantized_layers(model)) > 20


def test_biases_are_rounded_as_the_integer_twin_does():
    """Lost otherwise: a unit of a bias here and there, which layer after layer made two texts of five another."""
    paddle.seed(2)
    net = nn.Sequential(nn.Conv2D(3, 5, 3, bias_attr=False), nn.BatchNorm2D(5))
    net[1].weight.set_value(np.array([1, -2, 0.5, -0.4, 3], np.float32)), net[1].bias.set_value(paddle.randn([5]))
    net[1]._mean.set_value(paddle.randn([5])), net[1]._variance.set_value(paddle.rand([5]) + 0.5)
    layers = {"0": {"inputs": [{"bits": 8, "zero_point": 128, "fixed": True}], "weight_bits": 8}}
    fake_quantize(net, "pact", layers)
    net.eval()
    params = quant_params_of(net)["0"]
    factor = (net[1].weight / (net[1]._variance + net[1]._epsilon).sqrt()).numpy()
    unit = params.inputs[0].scale * params.weight.scale * np.abs(factor)
    sums = net(paddle.rand([1, 3, 8, 8]) * 2 - 1).numpy() / unit.reshape(1, 5, 1, 1)
    assert np.abs(sums - np.rint(sums)).max() < 0.05
    net.train()
    plain = strip(copy.deepcopy(net))
    assert type(plain[1]) is nn.BatchNorm2D and type(net[1]) is QuantizedNorm
