"""Acceleration of a model's training on a CPU: layers compute through this project's kernels.

Only the forwards of one model object are swapped, so export, pruning and quantization of any other copy see the usual
layers. A kernel serves a call only where it computes just what the layer would: float32 on a CPU, outside of a static
graph, and with no hooks on the layers that it replaces; else the layer's own forward runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D

from ppocr_slim.models.crnn import LineDropout, TimeSteps
from ppocr_slim.models.fake_quant import (
    ClipQuantizer,
    LsqQuantizer,
    QuantizedLSTM,
    QuantizedNorm,
    WeightQuantizer,
)
from ppocr_slim.models.mobilenet_v3 import Add, InvertedResidual, SqueezeExcite
from ppocr_slim.models.necks import TimeBlock
from ppocr_slim.quantization.qparams import MIN_RANGE
from ppocr_slim.training.kernels.ctc import ctc_loss
from ppocr_slim.training.kernels.dense import DenseFunction
from ppocr_slim.training.kernels.depthwise import DepthwiseFunction, NormAct
from ppocr_slim.training.kernels.fake_quant import ClipFunction, LsqFunction, WeightFunction
from ppocr_slim.training.kernels.lstm import fast_lstm, suits_lstm
from ppocr_slim.training.kernels.mkl import SGEMM
from ppocr_slim.training.kernels.norm import NormFunction
from ppocr_slim.training.kernels.planes import HARD_SWISH, LINEAR, RELU
from ppocr_slim.training.kernels.squeeze import SqueezeExciteFunction
from ppocr_slim.training.kernels.time_steps import MaskFunction, TimeStepsFunction
from ppocr_slim.training.kernels.upsample import RepeatFunction

ACTIVATIONS = {nn.ReLU: RELU, nn.Hardswish: HARD_SWISH}


@contextmanager
def accelerated(*models: nn.Layer) -> Iterator[Counter]:
    """Swap the forwards of the layers that a kernel can replace, for the time of a `with` statement.

    Afterwards the models are as before: a deep copy of a layer with a swapped forward would run the original's weights.

    Args:
        models: networks and losses.

    Yields:
        The number of replaced layers by their kind.
    """
    count: Counter = Counter()
    swapped = []
    try:
        for layer in (layer for model in models for layer in model.sublayers(include_self=True)):
            for kind, suits, build in ACCELERATORS:
                if "forward" not in vars(layer) and suits(layer):
                    _swap(layer, build(layer))
                    swapped.append(layer)
                    count[kind] += 1
        yield count
    finally:
        for layer in swapped:
            del layer.forward


def _swap(layer: nn.Layer, fast: Callable) -> None:
    """Let `fast` serve the calls of `layer` that it can; it replaces the layers inside, too."""
    own, inside = layer.forward, layer.sublayers()
    norms = [part for part in inside if isinstance(part, nn.BatchNorm2D)]  # the kernels take the batch's statistics

    def forward(*inputs, **named):
        can = inputs and paddle.in_dynamic_mode() and _on_cpu(inputs[0])
        can = can and not any(part._forward_pre_hooks or part._forward_post_hooks for part in inside)
        can = can and all(norm.training for norm in norms)
        return fast(*inputs, **named) if can else own(*inputs, **named)

    layer.forward = forward


def _on_cpu(x: paddle.Tensor) -> bool:
    return x.place.is_cpu_place() and x.dtype == paddle.float32


def _suits_depthwise(layer: nn.Layer) -> bool:
    if type(layer) not in (nn.Conv2D, QuantizedConv2D) or layer._groups == 1:
        return False
    channels, per_group, height, width = layer.weight.shape
    return (
        layer._groups == channels
        and per_group == 1
        and height * width > 1
        and layer.bias is None
        and list(layer._dilation) == [1, 1]
        and layer._padding_mode == "zeros"
        and layer._data_format == "NCHW"
        and (padding := _padding(layer)) is not None
        and padding[0] < height
        and padding[1] < width
        and layer.weight.dtype == paddle.float32
    )


def _padding(layer: nn.Layer) -> tuple[int, int] | None:
    """Return the padding of the rows and of the columns, None where it is not the same at both ends."""
    sides = [layer._padding] * 2 if isinstance(layer._padding, int) else layer._padding
    return tuple(sides) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None


def _build_depthwise(layer: nn.Layer) -> Callable:
    padding = _padding(layer)

    def convolve(x, weight):
        smallest = [side - 2 * around for side, around in zip(layer.weight.shape[2:], padding)]
        fits = x.ndim == 4 and x.shape[1] == weight.shape[0] and x.shape[0]
        if not fits or any(side < least for side, least in zip(x.shape[2:], smallest)):
            return type(layer).forward(layer, x)  # it reports what is wrong
        return DepthwiseFunction.apply(x, tuple(layer._stride), padding, None, None, weight)

    return _build_convolution(layer, convolve)


def _build_convolution(layer: nn.Layer, convolve: Callable) -> Callable:
    """Return `convolve(x, weight)` as a function of x alone, both fake-quantized where the layer does it."""
    if type(layer) is nn.Conv2D:
        return lambda x: convolve(x, layer.weight)

    def quantized(x):  # the order of QuantizedConv2D.forward
        if layer._act_preprocess is not None:
            x = layer._act_preprocess(x)
        x, weight = layer._fake_quant_input(x), layer.weight
        if layer._weight_preprocess is not None:
            weight = layer._weight_preprocess(weight)
        return convolve(x, layer._fake_quant_weight(weight))

    return quantized


def _suits_dense(layer: nn.Layer) -> bool:
    if type(layer) not in (nn.Conv2D, QuantizedConv2D) or layer._groups != 1:
        return False
    height, width = layer.weight.shape[2:]
    return (
        height == width
        and height % 2 == 1
        and height > 1  # a 1x1 convolution is one product already
        and layer.bias is None
        and list(layer._stride) == [1, 1]
        and list(layer._dilation) == [1, 1]
        and layer._padding_mode == "zeros"
        and layer._data_format == "NCHW"
        and layer._padding == height // 2
        and layer.weight.dtype == paddle.float32
        and SGEMM != 0
    )


def _build_dense(layer: nn.Layer) -> Callable:
    def convolve(x, weight):
        if x.ndim != 4 or x.shape[1] != weight.shape[1] or not x.size:
            return type(layer).forward(layer, x)  # it reports what is wrong
        return DenseFunction.apply(x, weight)

    return _build_convolution(layer, convolve)


def _suits_upsampling(layer: nn.Layer) -> bool:
    return (
        type(layer) is nn.Upsample
        and layer.mode == "nearest"
        and isinstance(layer.scale_factor, int)
        and layer.scale_factor >= 1
        and layer.size is None
        and layer.data_format in (None, "NCHW")  # None: by the number of axes, which is checked below
    )


def _build_upsampling(layer: nn.Upsample) -> Callable:
    def repeat(x):
        if x.ndim != 4 or not x.size:
            return nn.Upsample.forward(layer, x)  # it reports what is wrong
        return RepeatFunction.apply(x, layer.scale_factor)

    return repeat


def _suits_norm(layer: nn.Layer) -> bool:
    """Return whether `layer` is a convolution, a batch norm and at most one of ACTIVATIONS."""
    if not isinstance(layer, nn.Sequential) or len(layer) not in (2, 3):
        return False
    convolution, norm, act = layer[0], layer[1], [type(part) for part in layer][2:]
    return (
        type(convolution) in (nn.Conv2D, QuantizedConv2D)
        and type(norm) in (nn.BatchNorm2D, QuantizedNorm)
        and norm._num_features == convolution.weight.shape[0]
        and norm.weight is not None
        and norm.bias is not None
        and norm.weight.dtype == paddle.float32
        and norm._data_format == "NCHW"
        and not norm._use_global_stats
        and all(kind in ACTIVATIONS for kind in act)
    )


def _norm_act(layer: nn.Sequential) -> NormAct:
    return NormAct(layer[1], ACTIVATIONS[type(layer[2])] if len(layer) == 3 else LINEAR)


def _build_norm(layer: nn.Sequential) -> Callable:
    norm, act = _norm_act(layer)
    return lambda x, addend=None: NormFunction.apply(layer[0](x), norm.weight, norm.bias, norm, act, addend)


def _suits_block(layer: nn.Layer) -> bool:
    return isinstance(layer, InvertedResidual) and _has_plain_parts(layer)


def _has_plain_parts(block: InvertedResidual | TimeBlock) -> bool:
    return (
        all(_suits_norm(part) for part in (block.expand, block.depthwise, block.project))
        and type(block.depthwise[0]) is nn.Conv2D
        and type(block.add) in (type(None), Add)
        and _suits_depthwise(block.depthwise[0])
    )


def _build_block(layer: InvertedResidual) -> Callable:
    before, after, convolution = _norm_act(layer.expand), _norm_act(layer.depthwise), layer.depthwise[0]
    project, padding = _build_norm(layer.project), _padding(convolution)

    def fast(x):
        parameters = [convolution.weight]
        for norm in (before.norm, after.norm):
            parameters += [norm.weight, norm.bias]
        y = layer.expand[0](x)
        y = DepthwiseFunction.apply(y, tuple(convolution._stride), padding, before, after, *parameters)
        if layer.se is not None:
            y = layer.se(y)
        return project(y, None if layer.add is None else x)

    return fast


def _suits_time_block(layer: nn.Layer) -> bool:
    return isinstance(layer, TimeBlock) and _has_plain_parts(layer)


def _build_time_block(layer: TimeBlock) -> Callable:
    convolution, after = layer.depthwise[0], _norm_act(layer.depthwise)
    project, padding = _build_norm(layer.project), _padding(convolution)

    def fast(x):
        parameters = [convolution.weight, after.norm.weight, after.norm.bias]
        y = DepthwiseFunction.apply(x, tuple(convolution._stride), padding, None, after, *parameters)
        return project(layer.expand(y), x)

    return fast


def _suits_clip(layer: nn.Layer) -> bool:
    return isinstance(layer, ClipQuantizer)


def _build_clip(layer: ClipQuantizer) -> Callable:
    def quantize(x):
        layer.observe(x)
        return ClipFunction.apply(x, layer.bound(), layer.low, layer.top)

    return quantize


def _suits_lsq(layer: nn.Layer) -> bool:
    return type(layer) is LsqQuantizer


def _build_lsq(layer: LsqQuantizer) -> Callable:
    def quantize(x):
        offset = None if layer.offset is None else layer.bound_offset()
        return LsqFunction.apply(x, layer.bound(), offset, 2**layer.bits - 1, layer.gradient_factor(x))

    return quantize


def _suits_weights(layer: nn.Layer) -> bool:
    return type(layer) is WeightQuantizer and layer.axis == 0


def _build_weights(layer: WeightQuantizer) -> Callable:
    return lambda weight: WeightFunction.apply(weight, layer.share, layer.top, MIN_RANGE / layer.top)


def _suits_squeeze(layer: nn.Layer) -> bool:
    return isinstance(layer, SqueezeExcite) and {type(layer.reduce), type(layer.expand)} == {nn.Conv2D}


def _build_squeeze(layer: SqueezeExcite) -> Callable:
    inner = [parameter for part in (layer.reduce, layer.expand) for parameter in (part.weight, part.bias)]
    return lambda x: SqueezeExciteFunction.apply(x, *inner)


def _suits_time_steps(layer: nn.Layer) -> bool:
    return isinstance(layer, TimeSteps)


def _build_time_steps(layer: TimeSteps) -> Callable:
    return TimeStepsFunction.apply


def _suits_dropout(layer: nn.Layer) -> bool:
    return isinstance(layer, LineDropout) and layer.p > 0


def _build_dropout(layer: LineDropout) -> Callable:
    return lambda x: MaskFunction.apply(x, layer.mask(x)) if layer.training else x


def _build_lstm(layer: nn.LSTM) -> Callable:
    def fast(*inputs, **named):
        rounded = isinstance(layer, QuantizedLSTM) and not layer.training
        with layer.rounded() if rounded else nullcontext():
            return fast_lstm(layer, *inputs, **named)

    return fast


def _suits_ctc(layer: nn.Layer) -> bool:
    return type(layer) is nn.CTCLoss and layer.blank == 0 and layer.reduction == "mean"


def _build_ctc(layer: nn.CTCLoss) -> Callable:
    def loss(*inputs, **named):
        plain = len(inputs) == 4 and not named
        return ctc_loss(*inputs) if plain else nn.CTCLoss.forward(layer, *inputs, **named)

    return loss


# (kind, whether it suits a layer, builder of the layer's fast forward); the first one that suits is taken
ACCELERATORS = (
    ("depthwise convolutions", _suits_depthwise, _build_depthwise),
    ("dense convolutions", _suits_dense, _build_dense),
    ("upsamplings", _suits_upsampling, _build_upsampling),
    ("batch norms", _suits_norm, _build_norm),
    ("time steps", _suits_time_steps, _build_time_steps),
    ("dropouts", _suits_dropout, _build_dropout),
    ("LSTMs", suits_lstm, _build_lstm),
    ("CTC losses", _suits_ctc, _build_ctc),
    ("squeeze-and-excitations", _suits_squeeze, _build_squeeze),
    ("inverted residuals", _suits_block, _build_block),
    ("time blocks", _suits_time_block, _build_time_block),
    ("input quantizers", _suits_clip, _build_clip),
    ("input quantizers", _suits_lsq, _build_lsq),
    ("weight quantizers", _suits_weights, _build_weights),
)
