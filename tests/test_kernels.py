"""The kernels of training on a CPU must compute what Paddle's own layers compute, only faster."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import paddle
import pytest
from gradients import run_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from paddle.nn import functional
from paddle.quantization.imperative.qat import ImperativeQuantAware

from ppocr_slim.config.schema import Optimizer
from ppocr_slim.models import build_model
from ppocr_slim.models.crnn import LineDropout, TimeSteps
from ppocr_slim.models.mobilenet_v3 import ConvNormAct, InvertedResidual, SqueezeExcite
from ppocr_slim.models.state import model_state
from ppocr_slim.training.kernels.accelerate import accelerated
from ppocr_slim.training.kernels.dense import STRIP, DenseFunction
from ppocr_slim.training.kernels.depthwise import DepthwiseFunction, NormAct, geometry
from ppocr_slim.training.kernels.many import Tensors, gather, lerp, scatter
from ppocr_slim.training.kernels.norm import NormFunction
from ppocr_slim.training.kernels.planes import HARD_SWISH, LINEAR, RELU
from ppocr_slim.training.kernels.squeeze import SqueezeExciteFunction
from ppocr_slim.training.kernels.upsample import RepeatFunction
from ppocr_slim.training.optim import AveragedWeights, build_optimizer

ACTIVATIONS = {LINEAR: lambda x: x, RELU: functional.relu, HARD_SWISH: functional.hardswish}
TOLERANCE = 1.5e-5
FEW = 32  # values, of which batch norm's statistics are mostly noise

kernels = st.sampled_from([(3, 3), (5, 5), (7, 7), (1, 11), (1, 3), (5, 1), (3, 7), (1, 9)])
strides = st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 2)])
shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(1, 40))
activations = st.sampled_from(sorted(ACTIVATIONS))
seeds = st.integers(0, 10_000)
examples = settings(max_examples=40, deadline=None, derandomize=True)  # a value at a kink of hard swish must stay rare


def assert_close(ours, paddles, tolerance: float = TOLERANCE) -> None:
    ours, paddles = ours.numpy(), paddles.numpy()
    assert ours.shape == paddles.shape
    # What cancels to nothing is compared with the size of what is summed up, which is about 1.
    assert np.abs(ours - paddles).max() <= tolerance * max(0.1, np.abs(paddles).max())


def random_norm(channels: int) -> nn.BatchNorm2D:
    norm = nn.BatchNorm2D(channels, momentum=0.8, epsilon=1e-3)
    for tensor in (norm.weight, norm.bias, norm._mean):
        tensor.set_value(paddle.randn(tensor.shape) + 0.5)
    return norm


def compare(ours, paddles, layers, *inputs, tolerance: float = TOLERANCE) -> None:
    """Our results against Paddle's in double precision: as exact as Paddle's own in single precision, or nearly."""
    plain, twins = copy.deepcopy(layers), [copy.deepcopy(layer).to(dtype="float64") for layer in layers]
    exact = [tensor.astype("float64") for tensor in inputs]
    results = (
        run_backward(ours(layers), layers, *inputs),
        run_backward(paddles(plain), plain, *inputs),
        run_backward(paddles(twins), twins, *exact),
    )
    for mine, theirs, true in zip(*([tensor.numpy() for tensor in found] for found in results)):
        assert mine.shape == true.shape
        # What cancels to nothing is compared with the size of what is summed up, which is about 1.
        allowed = tolerance * max(0.1, np.abs(true).max()) + 2 * np.abs(theirs - true).max()
        assert np.abs(mine - true).max() <= allowed


@examples
@given(shape=shapes, act=activations, residual=st.booleans(), seed=seeds)
def test_a_norm_with_its_activation_is_paddles(shape, act, residual, seed):
    """Lost otherwise: training on a CPU would follow wrong gradients, and nobody would see why accuracy is poor."""
    if shape[0] * shape[2] * shape[3] < FEW:
        return
    paddle.seed(seed)
    x, more = paddle.randn(shape) * 3 + 2, paddle.randn(shape)

    def ours(layers):
        norm = layers[0]
        return lambda x, r=None: NormFunction.apply(x, norm.weight, norm.bias, norm, act, r)

    def paddles(layers):
        return lambda x, r=None: ACTIVATIONS[act](layers[0](x)) + (0.0 if r is None else r)

    compare(ours, paddles, [random_norm(shape[1])], x, *([more] if residual else []))


@examples
@given(
    kernel=kernels,
    stride=strides,
    shape=shapes,
    padding=st.integers(0, 6),
    acts=st.tuples(activations, activations),
    norms=st.tuples(st.booleans(), st.booleans()),
    seed=seeds,
)
def test_a_depthwise_convolution_between_norms_is_paddles(kernel, stride, shape, padding, acts, norms, seed):
    """Lost otherwise: the same; this is the whole inside of MobileNetV3's block."""
    n, channels, height, width = shape
    padding = tuple(min(padding, side - 1) for side in kernel)
    rows, columns = (side + 2 * pad - k for side, pad, k in zip((height, width), padding, kernel))
    values = n * (rows // stride[0] + 1) * (columns // stride[1] + 1) if min(rows, columns) >= 0 else 0
    if min(values, n * height * width) < FEW:
        return
    paddle.seed(seed)
    x = paddle.randn(shape) * 2 + 1
    convolution = nn.Conv2D(channels, channels, kernel, stride, padding, groups=channels, bias_attr=False)

    def ours(layers):
        conv, *rest = layers
        places = [NormAct(norm, act) if there else None for norm, act, there in zip(rest, acts, norms)]
        affine = [p for place in places if place for p in (place.norm.weight, place.norm.bias)]
        return lambda x: DepthwiseFunction.apply(x, stride, padding, *places, conv.weight, *affine)

    def paddles(layers):
        def forward(x):
            conv, before, after = layers
            x = ACTIVATIONS[acts[0]](before(x)) if norms[0] else x
            x = conv(x)
            return ACTIVATIONS[acts[1]](after(x)) if norms[1] else x

        return forward

    used = [norm for norm, there in zip((random_norm(channels), random_norm(channels)), norms) if there]
    layers = [convolution, *(used.pop(0) if there else nn.Identity() for there in norms)]
    compare(ours, paddles, layers, x)


def test_large_planes_are_worked_on_in_parts():
    """Lost otherwise: a detector's planes do not fit the buffers, and what lies on the seam would be wrong."""
    paddle.seed(3)
    conv, norms = nn.Conv2D(2, 2, 5, 1, 2, groups=2, bias_attr=False), [random_norm(2), random_norm(2)]

    def ours(layers):
        conv, a, b = layers
        both = [a.weight, a.bias, b.weight, b.bias]
        return lambda x: DepthwiseFunction.apply(
            x, (1, 1), (2, 2), NormAct(a, RELU), NormAct(b, RELU), conv.weight, *both
        )

    def paddles(layers):
        conv, a, b = layers
        return lambda x: functional.relu(b(conv(functional.relu(a(x)))))

    for shape in ([5, 2, 60, 100], [3, 2, 96, 130]):
        images = geometry(tuple(shape), (5, 5), (1, 1), (2, 2)).images
        assert images < shape[0] and (images == 1 or shape[0] % images)  # in several parts, the last one a smaller one
        # sums of tens of thousands of values in single precision
        compare(ours, paddles, copy.deepcopy([conv, *norms]), paddle.randn(shape), tolerance=5e-5)


@examples
@given(
    kernel=st.sampled_from([3, 5]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(1, 40)),
    outputs=st.integers(1, 7),
    seed=seeds,
)
def test_a_dense_convolution_is_paddles(kernel, shape, outputs, seed):
    """Lost otherwise: detectors would follow wrong gradients, at the rims of pages or on small maps above all."""
    paddle.seed(seed)
    convolution = nn.Conv2D(shape[1], outputs, kernel, padding=kernel // 2, bias_attr=False)

    def ours(layers):
        return lambda x: DenseFunction.apply(x, layers[0].weight)

    compare(ours, lambda layers: layers[0], [convolution], paddle.randn(shape) * 2 + 1)


@pytest.mark.parametrize(("kernel", "shape"), [(3, [2, 3, 47, 93]), (5, [1, 2, 3, 2500]), (3, [1, 1, 64, 32])])
def test_large_maps_are_convolved_in_strips(kernel, shape):
    """Lost otherwise: what lies on the seam of two strips would be wrong, which the tests' small maps do not have."""
    assert shape[2] * (shape[3] + kernel - 1) > STRIP
    paddle.seed(2)
    convolution = nn.Conv2D(shape[1], 4, kernel, padding=kernel // 2, bias_attr=False)

    def ours(layers):
        return lambda x: DenseFunction.apply(x, layers[0].weight)

    compare(ours, lambda layers: layers[0], [convolution], paddle.randn(shape), tolerance=5e-5)


@examples
@given(shape=shapes, times=st.integers(1, 9), seed=seeds)
def test_repeated_pixels_are_paddles(shape, times, seed):
    """Lost otherwise: a detector's coarse maps would be added to the fine ones in the wrong places."""
    paddle.seed(seed)
    layer = nn.Upsample(scale_factor=times, mode="nearest")
    compare(
        lambda layers: lambda x: RepeatFunction.apply(x, times), lambda layers: layers[0], [layer], paddle.randn(shape)
    )


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_a_dense_convolution_gives_gradients_where_they_are_wanted(frozen):
    """Lost otherwise: a frozen backbone, or the first layer of a network, would end in an error inside Paddle."""
    x, layer = paddle.randn([2, 3, 5, 6]), nn.Conv2D(3, 4, 3, padding=1, bias_attr=False)
    x.stop_gradient, layer.weight.stop_gradient = frozen == "x", frozen == "weight"
    with accelerated(layer) as count:
        layer(x).sum().backward()
    assert count == {"dense convolutions": 1}
    assert (x.grad is None) == (frozen == "x") and (layer.weight.grad is None) == (frozen == "weight")


def test_a_whole_detector_trains_the_same():
    """Lost otherwise: parts that are right, put together wrongly; or a detector that no kernel makes faster."""
    paddle.seed(1)
    plain = build_model("db_mv3_slim", {"backbone": "small", "scale": 0.35, "channels": 16})
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).to(dtype="float64")
    x = paddle.randn([2, 3, 64, 96])
    with accelerated(fast) as count:
        assert count["dense convolutions"] == 6 and count["upsamplings"] == 4  # four levels, two heads
        assert count["inverted residuals"] == len(plain.backbone.blocks)
        ours = run_backward(fast, [fast], x)
    found = [ours, run_backward(plain, [plain], x), run_backward(exact, [exact], x.astype("float64"))]
    for mine, theirs, true in zip(*([t.numpy().ravel() for t in results] for results in found)):
        # Rounding takes single values over the kinks of the activations, in ours and in Paddle's.
        allowed = 3 * np.linalg.norm(theirs - true) + 1e-3 * max(0.1, np.linalg.norm(true))
        assert np.linalg.norm(mine - true) <= allowed


def test_squeeze_and_excitation_is_paddles():
    """Lost otherwise: the teacher would follow wrong gradients."""
    paddle.seed(4)
    layer = SqueezeExcite(12)
    layer.expand.bias.set_value(paddle.linspace(-3, 3, 12))  # some gates are closed, some open

    def ours(layers):
        parts = (layers[0].reduce, layers[0].expand)
        inner = [parameter for part in parts for parameter in (part.weight, part.bias)]
        return lambda x: SqueezeExciteFunction.apply(x, *inner)

    compare(ours, lambda layers: layers[0], [layer], paddle.randn([3, 12, 5, 7]) * 3)


def test_time_steps_are_paddles():
    """Lost otherwise: the columns of a line would reach the LSTM in disorder."""
    layer, results = TimeSteps(), []
    for use in (True, False):
        with accelerated(layer) if use else nullcontext():
            results.append(
                run_backward(layer, [layer], paddle.arange(2 * 19 * 37, dtype="float32").reshape([2, 19, 1, 37]))
            )
    for ours, paddles in zip(*results):
        np.testing.assert_array_equal(ours.numpy(), paddles.numpy())


def test_dropout_draws_the_same_mask():
    """Lost otherwise: a training with the kernels would be another experiment than one without."""
    layer, results = LineDropout(0.4), []
    x = paddle.randn([3, 5, 8])
    for use in (True, False):
        with accelerated(layer) if use else nullcontext():
            paddle.seed(11)
            results.append(run_backward(layer, [layer], x))
    assert results[0][0].numpy().min() < 0 and (results[0][0].numpy() == 0).any()
    for ours, paddles in zip(*results):
        np.testing.assert_array_equal(ours.numpy(), paddles.numpy())


def test_nan_is_not_hidden():
    """Lost otherwise: a training that diverged would go on and on, with a loss that looks like a number."""
    norm = random_norm(1)
    x = paddle.to_tensor(np.array([1, 2, np.nan, 4], np.float32).reshape(1, 1, 2, 2))
    assert np.isnan(NormFunction.apply(x, norm.weight, norm.bias, norm, RELU).numpy()).any()


def test_frozen_parameters_get_no_gradient():
    """Lost otherwise: fine-tuning with frozen layers stops with an error deep inside Paddle."""
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    for parameter in (block.depthwise[0].weight, block.project[1].weight):
        parameter.stop_gradient = True
    with accelerated(block):
        block(paddle.randn([2, 4, 5, 6])).sum().backward()
    assert block.depthwise[0].weight.grad is None
    assert block.expand[0].weight.grad is not None


NETWORKS = {
    "slim": ("crnn_mv3_slim", {"height": 32, "scale": 0.35, "hidden": 8, "dropout": 0.0}),
    "teacher": ("crnn_teacher", {"height": 32, "scale": 0.35, "hidden": 8, "dropout": 0.0}),
    "conv neck": (
        "crnn_mv3_slim",
        {"height": 32, "scale": 0.35, "dropout": 0.0, "neck": {"kind": "conv", "channels": 16, "depth": 2}},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_part_of_a_network_is_as_exact_as_paddles(name):
    """Lost otherwise: a layer that is swapped for the wrong kernel, or not at all."""
    paddle.seed(1)
    model = build_model(*NETWORKS[name], 12)
    x = paddle.randn([4, 3, 32, 96])
    for part in (model.backbone.stem, *model.backbone.blocks, model.collapse):
        fast, exact = copy.deepcopy(part), copy.deepcopy(part).to(dtype="float64")
        paddles, exacts = run_backward(part, [part], x), run_backward(exact, [exact], x.astype("float64"))
        with accelerated(fast) as count:
            assert count["inverted residuals"] == isinstance(part, InvertedResidual)
            ours = run_backward(fast, [fast], x)
        for mine, theirs, true in zip(*([t.numpy() for t in results] for results in (ours, paddles, exacts))):
            allowed = 3 * np.linalg.norm(theirs - true) + 1e-5 * max(0.1, np.linalg.norm(true))
            assert np.linalg.norm(mine - true) <= allowed
        x = paddles[0].detach()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_network_trains_the_same(name):
    """Lost otherwise: parts that are right, put together wrongly."""
    paddle.seed(1)
    plain = build_model(*NETWORKS[name], 12)
    fast = copy.deepcopy(plain)
    x = paddle.randn([4, 3, 32, 96])
    with accelerated(fast, nn.CTCLoss()) as count:
        assert count["inverted residuals"] == len(plain.backbone.blocks)
        assert [count[kind] for kind in ("CTC losses", "time steps")] == [1, 1]
        assert (count["LSTMs"], count["time blocks"]) == ((0, 2) if name == "conv neck" else (1, 0))
        ours = run_backward(fast, [fast], x)
    for mine, theirs in zip(
        *([t.numpy().ravel() for t in results] for results in (ours, run_backward(plain, [plain], x)))
    ):
        # Forty layers deep, rounding takes single values over the kinks of the activations.
        assert np.linalg.norm(mine - theirs) <= 0.05 * max(0.1, np.linalg.norm(theirs))


def test_afterwards_the_model_is_plain_again():
    """Lost otherwise: a copy of a trained model would run the original's weights."""
    model = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    with accelerated(model):
        assert any("forward" in vars(layer) for layer in model.sublayers(include_self=True))
    assert not any("forward" in vars(layer) for layer in model.sublayers(include_self=True))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2D(4, 4, 3, padding=1),  # dense, with a bias
        nn.Conv2D(4, 4, 3, bias_attr=False),  # dense, without the padding that keeps the size
        nn.Conv2D(4, 4, 3, 2, 1, bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=2, dilation=2, bias_attr=False),
        nn.Conv2D(4, 4, (3, 1), padding=1, bias_attr=False),
        nn.Conv2D(4, 4, 2, padding=1, bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=1, padding_mode="reflect", bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=1, data_format="NHWC", bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=1, groups=2, bias_attr=False),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2.0, mode="nearest"),
        nn.Upsample(size=[4, 4], mode="nearest"),
        nn.Upsample(scale_factor=2, mode="nearest", data_format="NHWC"),
        nn.Conv2D(4, 8, 3, padding=1, groups=4, bias_attr=False),  # two outputs a channel
        nn.Conv2D(4, 4, 3, padding=2, dilation=2, groups=4, bias_attr=False),
        nn.Conv2D(4, 4, 3, padding=1, groups=4),  # with a bias
        nn.Conv2D(4, 4, 3, padding=3, groups=4, bias_attr=False),  # output that sees nothing but padding
        nn.Conv2D(4, 4, 1, groups=4, bias_attr=False),
        nn.Sequential(nn.Conv2D(4, 4, 1), nn.BatchNorm2D(4, use_global_stats=True)),
        nn.Sequential(nn.Conv2D(4, 4, 1), nn.BatchNorm2D(4, weight_attr=False)),
        nn.Sequential(nn.Conv2D(4, 4, 1), nn.BatchNorm2D(4), nn.GELU()),
    ],
)
def test_what_no_kernel_can_compute_is_left_alone(layer):
    """Lost otherwise: it would be computed wrongly."""
    with accelerated(layer) as count:
        assert not count


def test_other_precision_takes_paddles_own_kernel():
    """Lost otherwise: an input of another type would be reinterpreted as garbage or crash."""
    layer = ConvNormAct(3, 3, 3, groups=3, activation=nn.ReLU)
    layer.to(dtype="float64")
    with accelerated(layer):
        assert layer(paddle.ones([1, 3, 5, 5], dtype="float64")).dtype == paddle.float64


@pytest.mark.parametrize("groups", [4, 1])
def test_a_wrong_input_is_paddles_error(groups):
    """Lost otherwise: a kernel would read and write beyond the weights, and the process would end somewhere else."""
    layer = nn.Conv2D(4, 4, 3, padding=1, groups=groups, bias_attr=False)
    with accelerated(layer) as count, pytest.raises(ValueError):
        layer(paddle.ones([2, 6, 5, 5]))
    assert sum(count.values()) == 1


def test_what_is_not_contiguous_is_copied_and_keeps_its_gradient():
    """Lost otherwise: everything below a transposed feature map would silently stop learning."""
    paddle.seed(8)
    block, x = InvertedResidual(4, 8, 4, 3, (1, 1), True, nn.ReLU), paddle.randn([3, 5, 6, 4])
    turned = nn.Sequential(block)
    twin = copy.deepcopy(turned)

    def through(network):
        return lambda x: network(x.transpose([0, 3, 1, 2])).transpose([0, 2, 3, 1])

    with accelerated(turned):
        ours = run_backward(through(turned), [turned], x)
    for a, b in zip(ours, run_backward(through(twin), [twin], x)):
        assert_close(a, b, 1e-4)


def test_an_error_leaves_the_model_plain():
    """Lost otherwise: after a failed training, the model in memory would keep the kernels of this one."""
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    with pytest.raises(KeyError), accelerated(block):
        raise KeyError
    assert not any("forward" in vars(layer) for layer in block.sublayers(include_self=True))


def test_a_hook_inside_is_called():
    """Lost otherwise: distillation from features, or any look inside, would silently see nothing."""
    block, seen = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU), []
    block.depthwise[1].register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape))
    with accelerated(block):
        block(paddle.randn([2, 4, 5, 6]))
    assert seen == [[2, 8, 5, 6]]


def test_evaluation_uses_the_running_statistics():
    """Lost otherwise: scores within a training would not be those of the model that is saved."""
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    x = paddle.randn([2, 4, 5, 6])
    block(x)
    block.eval()
    wanted = block(x)
    with accelerated(block):
        assert_close(block(x), wanted)


class Clip(nn.Layer):
    """A learned clip of the activations, as PACT's (arXiv:1805.06085)."""

    def __init__(self):
        super().__init__()
        self.alpha = self.create_parameter([1], default_initializer=nn.initializer.Constant(2.0))

    def forward(self, x):
        return functional.relu(x) - functional.relu(x - self.alpha)


def test_fake_quantization_goes_through_the_kernel():
    """Lost otherwise: quantization-aware training would be slow again, or would follow other gradients."""
    paddle.seed(5)
    x, results = paddle.randn([2, 4, 6, 10]), []
    block = InvertedResidual(4, 8, 4, 3, (1, 1), False, nn.ReLU)
    ImperativeQuantAware(act_preprocess_layer=Clip, weight_quantize_type="channel_wise_abs_max").quantize(block)
    for use in (True, False):
        twin = copy.deepcopy(block)
        if use:
            with accelerated(twin) as count:
                assert count == {"depthwise convolutions": 1}  # the others are wrapped
                results.append(run_backward(twin, [twin], x))
        else:
            results.append(run_backward(twin, [twin], x))
    for ours, paddles in zip(*results):
        assert_close(ours, paddles)


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_fake_quantized_dense_convolution_goes_through_the_kernel(kernel):
    """Lost otherwise: quantization-aware training of a detector would be slow, or would follow other gradients."""
    paddle.seed(5)
    x, results = paddle.randn([2, 4, 6, 10]), []
    block = nn.Sequential(nn.Conv2D(4, 3, kernel, padding=kernel // 2, bias_attr=False))
    ImperativeQuantAware(act_preprocess_layer=Clip, weight_quantize_type="channel_wise_abs_max").quantize(block)
    for use in (True, False):
        twin = copy.deepcopy(block)
        with accelerated(twin) if use else nullcontext() as count:
            assert not use or count == {"dense convolutions": 1}
            results.append(run_backward(twin, [twin], x))
    for ours, paddles in zip(*results):
        assert_close(ours, paddles)


@pytest.mark.parametrize("layer", [nn.Conv2D(2, 2, 3, padding=1, bias_attr=False), nn.Upsample(scale_factor=2)])
def test_dense_convolutions_and_upsamplings_fall_back(layer):
    """Lost otherwise: another precision would be read as garbage; an export would hold a call that nothing can run."""
    reference, seen = copy.deepcopy(layer), []
    x = paddle.randn([1, 2, 4, 5])
    with accelerated(layer) as count:
        assert sum(count.values()) == 1
        exact = copy.deepcopy(reference).to(dtype="float64")(x.astype("float64"))
        if not list(layer.parameters()):
            assert layer(x.astype("float64")).dtype == paddle.float64
        assert_close(layer(x), exact)
        layer.register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape))
        assert seen == [layer(x).shape]
        with pytest.raises(ValueError):
            layer(x[0])
    assert "forward" not in vars(layer)


def test_the_optimizer_in_one_call_is_paddles():
    """Lost otherwise: weights would drift from what the same config gives elsewhere; a resumed run would jump."""
    networks = []
    for fast in (True, False):
        paddle.seed(2)
        model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "hidden": 8}, 12)
        model.head.weight.optimize_attr["learning_rate"] = 7.0  # as a learned clip's
        networks.append((model, build_optimizer(model.parameters(), Optimizer(clip_norm=1.0), fast)))
    rng = np.random.default_rng(0)
    for step in range(6):
        size = 1e-4 if step % 2 else 1.0  # below and above the clip
        for index in range(len(networks[0][0].parameters())):
            gradient = size * rng.standard_normal(networks[0][0].parameters()[index].shape).astype(np.float32)
            for model, _ in networks:
                if not model.parameters()[index].stop_gradient:
                    model.parameters()[index].grad = paddle.to_tensor(gradient)
        for _, optimizer in networks:
            optimizer.set_lr(1e-2 / (step + 1))
            optimizer.step()
            optimizer.clear_grad()
    (fast, ours), (plain, paddles) = networks
    for a, b in zip(fast.parameters(), plain.parameters()):
        assert_close(a, b)
    mine, theirs = ours.state_dict(), paddles.state_dict()
    assert len(mine) == len(theirs) > 0  # the names end in a count of this process's optimizers
    for a, b in zip(mine, theirs):
        assert a.rsplit("_", 1)[0] == b.rsplit("_", 1)[0]
        assert_close(mine[a], theirs[b])


def test_averaged_weights_in_one_call_are_the_same():
    """Lost otherwise: the weights that ship would not be the average that the config asks for."""
    model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "hidden": 8}, 12)
    averages = [AveragedWeights(model, 0.9, fast) for fast in (True, False)]
    for tensor in model_state(model).values():
        tensor.set_value(tensor + paddle.randn(tensor.shape))
    for average in averages:
        average.update(100)
    for name, tensor in averages[1].state.items():
        assert_close(averages[0].state[name], tensor)


def test_many_tensors_travel_as_one():
    """Lost otherwise: processes would average their gradients with another layer's."""
    tensors = [paddle.randn(shape) for shape in ([3], [2, 5], [1], [4, 3, 2])]
    before, walk = [tensor.numpy().copy() for tensor in tensors], Tensors(tensors)
    flat = gather(walk)
    np.testing.assert_array_equal(flat.numpy(), np.concatenate([array.ravel() for array in before]))
    scatter(flat, walk, 0.5)
    for tensor, array in zip(tensors, before):
        np.testing.assert_array_equal(tensor.numpy(), array / 2)
    target = [paddle.zeros_like(tensor) for tensor in tensors]
    lerp(Tensors(target), walk, 0.25)
    np.testing.assert_allclose(target[1].numpy(), before[1] / 8, rtol=1e-6)
