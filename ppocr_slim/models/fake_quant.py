"""Fake quantization: a float network that computes what its integer twin would, and can be trained doing so.

Each input of a quantized layer is rounded to the grid of an unsigned integer, x = (q - zero_point) * scale with
q = clip(rint(x / scale) + zero_point, 0, 2^bits - 1): that is ONNX's QuantizeLinear and DequantizeLinear, with its
rounding of halves to the even integer. What is never negative, behind a ReLU, has the zero point 0; all else is
symmetric around 2^(bits - 1). Zero is on every grid, so padding with zeros costs nothing. A tensor that several layers
read has one grid.

Weights are rounded to signed integers, symmetric, q from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, with one scale an
output channel. They are the convolution's own weights, without the batch norm behind it, which stays a layer: folding
it multiplies each channel by a number. That number multiplies the scale (its sign mirrors the grid, which does not
mind) and leaves the integers as they are, so the network with its batch norms folded computes the same.

Biases that folding makes of a batch norm are integers too, in units of the products' scale, and are rounded so while
the network evaluates: the units are fine, but a number that falls to the other side once moves others, layer after
layer, and in the end two texts out of five would differ from the integer twin's. A layer's own bias is float in both.

An LSTM's weights are rounded to 7 bits, one scale a row, while it evaluates; it trains with its float weights. The INT8
file's LSTM also rounds its inputs and hidden states, on ranges that it takes as it goes: that is not computed here.

Rounding has no gradient; it passes as if it were not there (Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.errors import SlimError
from ppocr_slim.models.mobilenet_v3 import Add
from ppocr_slim.quantization.qparams import MIN_RANGE, LayerQuantParams, QuantParams, activation_limit, weight_limit

FINE_BITS = 7  # weights of fewer make products too coarse for integer biases


def round_ste(x: paddle.Tensor) -> paddle.Tensor:
    """x rounded to integers, halves to the even one; the gradient passes as if it were not."""
    return x + (paddle.round(x) - x).detach()


def grad_scale(x: paddle.Tensor, share: float) -> paddle.Tensor:
    """x; its gradient is multiplied by `share`."""
    return x * share + (x * (1 - share)).detach()


class ActivationQuantizer(nn.Layer):
    """Rounds its input to a grid. x of any shape, float32 -> the same shape.

    Attributes:
        top: the largest q - zero_point.
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__()
        self.bits, self._zero_point = bits, zero_point
        self.top = activation_limit(bits, zero_point)

    def zero_point(self) -> int:
        return self._zero_point

    def scale(self) -> paddle.Tensor:
        """Shape [1]."""
        raise NotImplementedError

    def set_range(self, scale: float, zero_point: int) -> None:
        """Take the grid that calibration found."""
        raise NotImplementedError

    def learned(self) -> list[paddle.Tensor]:
        """The parameters of the grid."""
        return self.parameters()


class ClipQuantizer(ActivationQuantizer):
    """A grid that ends at `clip`, [1]: what lies beyond is clipped.

    y = round(min(max(x, -clip * zero_point / top), clip) / scale) * scale,    scale = clip / top
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.low = -zero_point / self.top  # the lower end, in clips

    def set_range(self, scale, zero_point):
        self.clip.set_value(np.array([scale * self.top], np.float32))

    def bound(self) -> paddle.Tensor:
        return paddle.clip(self.clip, min=MIN_RANGE)

    def scale(self):
        return (self.bound() / self.top).detach()

    def forward(self, x):
        self.observe(x)
        high, scale = self.bound(), self.scale()
        low = high * self.low
        inside = paddle.where(x < low, low.expand_as(x), paddle.where(x >= high, high.expand_as(x), x))  # NaN stays
        return inside + (paddle.round(inside / scale) * scale - inside).detach()

    def observe(self, x) -> None:
        """Look at an input before it is rounded."""


class PactQuantizer(ClipQuantizer):
    """Parameterized clipping activation (Choi et al. 2018, arXiv:1805.06085), at both ends.

    The clip is learned: by the loss, from what it clips, and by its decay. d y / d clip is 1 where x >= clip,
    -zero_point / top where x lies below the grid, else 0.
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.clip = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))


class FixedQuantizer(ClipQuantizer):
    """A clip that stays: an image's values are known to lie in [-1, 1]."""

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.register_buffer("clip", paddle.ones([1]))


class MovingQuantizer(FixedQuantizer):
    """Plain quantization-aware training: the clip is the moving average of the batches' largest numbers."""

    KEPT = 0.99  # of the average, at each batch

    @paddle.no_grad()
    def observe(self, x):
        if self.training:
            largest = x.abs().max() if self._zero_point else x.max()
            self.clip.set_value(self.KEPT * self.clip + (1 - self.KEPT) * largest)


class LsqQuantizer(ActivationQuantizer):
    """LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576): the scale is learned from rounding and clipping, and the offset.

    The paper's offset is a real number. Here it is rounded to an integer zero point, or zero would not be on the grid,
    and no integer convolution pads with anything else. What is never negative has no offset, as in LSQ (Esser et al.
    2019, arXiv:1902.08153).
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        one = nn.initializer.Constant(1.0)
        self.step = self.create_parameter([1], default_initializer=one)
        if zero_point:
            self.offset = self.create_parameter([1], default_initializer=nn.initializer.Constant(float(zero_point)))
        else:
            self.offset = None

    def zero_point(self):
        return int(paddle.round(self.bound_offset()).item()) if self.offset is not None else 0

    def bound_offset(self) -> paddle.Tensor:
        return paddle.clip(self.offset, 0, 2**self.bits - 1)

    def bound(self) -> paddle.Tensor:
        return paddle.clip(self.step, min=MIN_RANGE)

    def scale(self):
        return self.bound().detach()

    def set_range(self, scale, zero_point):
        self.step.set_value(np.array([scale], np.float32))
        if self.offset is not None:
            self.offset.set_value(np.array([zero_point], np.float32))

    def share(self, x) -> float:
        """What gradients of the grid are multiplied by, so that many activations do not move it farther (LSQ, 2.2)."""
        return 1 / np.sqrt(x.size * (2**self.bits - 1))

    def forward(self, x):
        share = self.share(x)
        step = grad_scale(self.bound(), share)
        offset = 0.0 if self.offset is None else round_ste(grad_scale(self.bound_offset(), share))
        q = paddle.clip(round_ste(x / step) + offset, 0, 2**self.bits - 1)
        return (q - offset) * step


class WeightQuantizer(nn.Layer):
    """Rounds weights, of which `axis` is that of the output channels: a scale for each, from its largest weight.

    `share` [channels] is how much of the largest weight the grid holds, what is larger being clipped: with few bits
    that costs less than a wide grid. Calibration finds it. The gradient passes everywhere.
    """

    def __init__(self, bits: int, axis: int, channels: int):
        super().__init__()
        self.bits, self.axis = bits, axis
        self.top = weight_limit(bits)
        self.register_buffer("share", paddle.ones([channels]))

    def learned(self) -> list[paddle.Tensor]:
        return []

    def scale(self, weight) -> paddle.Tensor:
        """[channels]"""
        others = [i for i in range(weight.ndim) if i != self.axis]
        largest = paddle.amax(weight.detach().abs(), axis=others)
        return paddle.clip(largest * self.share / self.top, min=MIN_RANGE / self.top)

    @paddle.no_grad()
    def set_scale(self, weight, scale: np.ndarray) -> None:
        """Take the scales [channels] that calibration found for `weight`."""
        ones = paddle.ones_like(self.share)
        self.share.set_value(ones)
        self.share.set_value(paddle.clip(paddle.to_tensor(scale) / self.scale(weight), max=1.0))

    def spread(self, scale, weight) -> paddle.Tensor:
        """The scales [channels], one dimension for each of the weight's."""
        return scale.reshape([-1 if i == self.axis else 1 for i in range(weight.ndim)])

    def forward(self, weight):
        scale = self.spread(self.scale(weight), weight)
        q = paddle.clip(paddle.round(weight / scale), -self.top, self.top)
        return weight + (q * scale - weight).detach()


class LsqWeightQuantizer(WeightQuantizer):
    """Weights with learned scales, one an output channel (LSQ, arXiv:1902.08153)."""

    def __init__(self, bits: int, axis: int, channels: int):
        super().__init__(bits, axis, channels)
        del self.share
        self.step = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))

    def learned(self):
        return [self.step]

    def bound(self) -> paddle.Tensor:
        return paddle.clip(self.step, min=MIN_RANGE / self.top)

    def scale(self, weight):
        return self.bound().detach()

    @paddle.no_grad()
    def set_scale(self, weight, scale):
        self.step.set_value(np.asarray(scale, np.float32))

    def forward(self, weight):
        count = weight.size // weight.shape[self.axis]
        step = self.spread(grad_scale(self.bound(), 1 / np.sqrt(count * self.top)), weight).expand_as(weight)
        return round_ste(paddle.clip(weight / step, -self.top, self.top)) * step


class QuantizedAdd(Add):
    """The sum of two tensors, each rounded to its grid."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.LayerList([nn.Identity(), nn.Identity()])

    def forward(self, x, y):
        return super().forward(self.inputs[0](x), self.inputs[1](y))


class QuantizedNorm(nn.BatchNorm2D):
    """A batch norm behind a quantized convolution, whose bias is rounded while it evaluates: to the products' scale.

    Made of a BatchNorm2D by changing its class and giving it `convolutions`, a list with the one before it (which
    keeps it from being a sublayer). Grids of few bits leave the bias alone: it would be too coarse.
    """

    convolutions: list[QuantizedConv2D]

    def forward(self, x):
        (convolution,) = self.convolutions
        inputs, weights = convolution._fake_quant_input, convolution._fake_quant_weight
        known = isinstance(inputs, ActivationQuantizer) and isinstance(weights, WeightQuantizer)
        if self.training or not known or inputs.bits < 8 or weights.bits < FINE_BITS or convolution.bias is not None:
            return super().forward(x)
        # The file's arithmetic to the last digit: double precision for the folding, single for scales and bias.
        tensors = (self.weight, self.bias, self._mean, self._variance)
        gamma, beta, mean, variance = (tensor.numpy().astype(np.float64) for tensor in tensors)
        exact = gamma / np.sqrt(variance + np.float32(self._epsilon))
        factor, bias = exact.astype(np.float32), (beta - mean * exact).astype(np.float32)
        scale = weights.scale(convolution.weight).numpy() * np.abs(factor) * inputs.scale().numpy()
        scale = np.maximum(scale, np.float32(1e-30)).astype(np.float64)
        bias = (np.rint(bias / scale) * scale).astype(np.float32)
        shape = [1, -1, 1, 1]
        return x * paddle.to_tensor(factor).reshape(shape) + paddle.to_tensor(bias).reshape(shape)


class QuantizedLSTM(nn.LSTM):
    """An LSTM that computes with rounded weights while it evaluates. Made of an LSTM by changing its class."""

    def forward(self, *inputs, **named):
        if self.training:
            return super().forward(*inputs, **named)
        with self.rounded():
            return super().forward(*inputs, **named)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """The weights are rounded within: biases, vectors, are not."""
        kept = {p: p.numpy().copy() for p in self.parameters() if len(p.shape) == 2}
        try:
            for tensor, value in kept.items():
                tensor.set_value(round_matrix(value))
            yield
        finally:
            for tensor, value in kept.items():
                tensor.set_value(value)


def round_matrix(weight: np.ndarray) -> np.ndarray:
    """A matrix [rows, columns] on symmetric grids of `SAFE_BITS`, one a row, that its largest weight ends."""
    top = np.float32(weight_limit(SAFE_BITS))
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.float32(MIN_RANGE)) / top
    return np.rint(weight / scale) * scale


ACTIVATIONS = {"pact": PactQuantizer, "max": MovingQuantizer, "lsq": LsqQuantizer}
WEIGHTS = {"pact": WeightQuantizer, "max": WeightQuantizer, "lsq": LsqWeightQuantizer}
WRAPPERS = {nn.Conv2D: (QuantizedConv2D, 0), nn.Linear: (QuantizedLinear, 1)}  # and the axis of output channels
QUANTIZABLE = (nn.Conv2D, nn.Linear, Add, nn.LSTM)  # what can be quantized


def fake_quantize(model: nn.Layer, method: str, layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Let layers compute on grids, in place; their weights keep their names. Grids start anywhere: set them.

    Args:
        method: "pact", "lsq", or "max" (ranges follow the data).
        layers: path -> {"inputs": ..., "weight_bits": ...}. Of each input {"bits", "zero_point"}, with "fixed": true
            where its range is [-1, 1], or {"same_as": [path, number]} where it is that input of a layer that stands
            before in the mapping. Additions have two inputs and no weight_bits; LSTMs neither.

    Raises:
        SlimError: a path that leads to no layer of a kind that can be quantized.
    """
    for path, grids in layers.items():
        parent, name, layer = _locate(model, path)
        inputs = [_input(model, method, given) for given in grids.get("inputs", [])]
        if type(layer) is nn.LSTM:
            layer.__class__ = QuantizedLSTM
            continue
        if type(layer) is Add:
            layer = QuantizedAdd()
        for kind, (wrapper, _) in WRAPPERS.items():
            if type(layer) is kind:
                layer = wrapper(layer, weight_quant_layer=nn.Identity, act_quant_layer=nn.Identity)
        axis = next((axis for wrapper, axis in WRAPPERS.values() if type(layer) is wrapper), None)
        setattr(parent, name, layer)
        if axis is not None:
            (layer._fake_quant_input,) = inputs
            layer._fake_quant_weight = WEIGHTS[method](grids["weight_bits"], axis, layer.weight.shape[axis])
            norm = _norm_behind(parent, name)
            if norm is not None:
                norm.__class__, norm.convolutions = QuantizedNorm, [layer]
        elif type(layer) is QuantizedAdd:
            layer.inputs[0], layer.inputs[1] = inputs
        else:
            raise SlimError(f"{path} is a {type(layer).__name__}: it cannot be quantized")
    model.train() if model.training else model.eval()  # the new layers, too


def _locate(model: nn.Layer, path: str) -> tuple[nn.Layer, str, nn.Layer]:
    """(the layer that holds it, its name there, the layer)."""
    *above, name = path.split(".")
    parent = model
    for part in above:
        parent = getattr(parent, part)
    return parent, name, getattr(parent, name)


def layer_at(model: nn.Layer, path: str) -> nn.Layer:
    return _locate(model, path)[2]


def _norm_behind(parent: nn.Layer, name: str) -> nn.BatchNorm2D | None:
    """The batch norm that follows a layer in a Sequential."""
    layers = list(parent.named_children()) if isinstance(parent, nn.Sequential) else []
    for (before, _), (_, layer) in zip(layers, layers[1:]):
        if before == name and type(layer) in (nn.BatchNorm2D, QuantizedNorm):
            return layer
    return None


def _input(model: nn.Layer, method: str, given: Mapping[str, Any]) -> ActivationQuantizer:
    if "same_as" in given:
        path, number = given["same_as"]
        return input_quantizers(layer_at(model, path))[number]
    kind = FixedQuantizer if given.get("fixed") else ACTIVATIONS[method]
    return kind(given["bits"], given["zero_point"])


def input_quantizers(layer: nn.Layer) -> list[nn.Layer]:
    """Of each input of a quantized layer."""
    if isinstance(layer, (QuantizedConv2D, QuantizedLinear)):
        return [layer._fake_quant_input]
    return list(layer.inputs) if isinstance(layer, QuantizedAdd) else []


def quantized_layers(model: nn.Layer) -> dict[str, nn.Layer]:
    """The layers that `fake_quantize` made, by path."""
    kinds = (QuantizedConv2D, QuantizedLinear, QuantizedAdd, QuantizedLSTM)
    return {path: layer for path, layer in model.named_sublayers() if isinstance(layer, kinds)}


def quant_params_of(model: nn.Layer) -> dict[str, LayerQuantParams]:
    """Return the quantization parameters of a fake-quantized network's layers, by path; none of a float network."""
    return {path: _quant_params(layer) for path, layer in quantized_layers(model).items()}


def _quant_params(layer: nn.Layer) -> LayerQuantParams:
    inputs = tuple(
        QuantParams(quantizer.scale().numpy().reshape([]), quantizer.bits, quantizer.zero_point())
        for quantizer in input_quantizers(layer)
    )
    if not isinstance(layer, (QuantizedConv2D, QuantizedLinear)):
        return LayerQuantParams(inputs)
    quantizer = layer._fake_quant_weight
    weight = QuantParams(quantizer.scale(layer.weight).numpy(), quantizer.bits)
    return LayerQuantParams(inputs, weight, layer.bias is None)


def strip(model: nn.Layer) -> nn.Layer:
    """Put plain float layers, with the same weights, where quantized ones are; gives the model, changed in place."""
    for path, layer in quantized_layers(model).items():
        parent, name, _ = _locate(model, path)
        if isinstance(layer, QuantizedLSTM):
            layer.__class__ = nn.LSTM
            continue
        plain = _plain(layer)
        plain.training = layer.training
        setattr(parent, name, plain)
    for layer in model.sublayers():
        if isinstance(layer, QuantizedNorm):
            layer.__class__ = nn.BatchNorm2D
            del layer.convolutions
    return model


def _plain(layer: nn.Layer) -> nn.Layer:
    if isinstance(layer, QuantizedAdd):
        return Add()
    bias = None if layer.bias is not None else False
    if isinstance(layer, QuantizedLinear):
        plain = nn.Linear(*layer.weight.shape, bias_attr=bias)
    else:
        outputs, inputs, *kernel = layer.weight.shape
        places = {"stride": layer._stride, "padding": layer._padding, "dilation": layer._dilation}
        plain = nn.Conv2D(
            inputs * layer._groups,
            outputs,
            kernel,
            groups=layer._groups,
            padding_mode=layer._padding_mode,
            data_format=layer._data_format,
            bias_attr=bias,
            **places,
        )
    plain.weight = layer.weight
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain
