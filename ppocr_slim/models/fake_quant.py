"""Fake quantization: a float network that simulates the integer arithmetic of its INT8 model, also in training.

Each input of a quantized layer is quantized to an unsigned integer, x = (q - zero_point) * scale with
q = clip(rint(x / scale) + zero_point, 0, 2^bits - 1): ONNX's QuantizeLinear and DequantizeLinear, which round halves
to even. Tensors that are never negative, after a ReLU, have the zero point 0; all others are symmetric around
2^(bits - 1). Zero is always representable, so zero padding is exact. A tensor that is the input of several layers has
one set of quantization parameters.

Weights are quantized to signed integers, symmetric, q from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, with one scale per
output channel. They are the convolution's own weights, without the following batch norm, which remains a layer: folding
it multiplies each channel by a factor. The factor multiplies the scale (a negative sign mirrors the range, which is
symmetric) and leaves the integers unchanged, so the network with folded batch norms computes the same.

Biases that result from folding are integers too, in units of input scale * weight scale, and are rounded to them in
evaluation mode. These units are fine, but a value that is rounded to the other side changes others, layer after layer:
without it two out of five texts differed from those of the INT8 model. A layer's own bias is float in both.

An LSTM's weights are rounded to 7 bits, one scale per matrix row, in evaluation mode; it trains with float weights. The
LSTM of the INT8 file also quantizes its inputs and hidden states, with dynamic ranges: this is not simulated.

The gradient of rounding is that of the identity (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
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
from ppocr_slim.quantization.qparams import (
    FINE_BITS,
    MIN_FOLDED_SCALE,
    MIN_RANGE,
    LayerQuantParams,
    QuantParams,
    activation_limit,
    weight_limit,
)

FAKE_QUANT = "fake_quant"  # name of the transform that inserts the quantizers


def round_ste(x: paddle.Tensor) -> paddle.Tensor:
    """Return x rounded to integers, halves to even, with the straight-through gradient of the identity."""
    return x + (paddle.round(x) - x).detach()


def grad_scale(x: paddle.Tensor, factor: float) -> paddle.Tensor:
    """Return x, with its gradient multiplied by `factor`."""
    return x * factor + (x * (1 - factor)).detach()


class ActivationQuantizer(nn.Layer):
    """Base class of the quantizers of layer inputs: float32 of any shape -> the same shape.

    Args:
        bits: of the unsigned integers.
        zero_point: the integer that represents 0; an initial value where it is learned.

    Attributes:
        top: the largest q - zero_point.
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__()
        self.bits, self._zero_point = bits, zero_point
        self.top = activation_limit(bits, zero_point)

    def zero_point(self) -> int:
        """Return the zero point."""
        return self._zero_point

    def scale(self) -> paddle.Tensor:
        """Return the scale, shape [1]."""
        raise NotImplementedError

    def set_range(self, scale: float, zero_point: int) -> None:
        """Set the quantization parameters, such as those found by calibration."""
        raise NotImplementedError

    def learned(self) -> list[paddle.Tensor]:
        """Return the quantization parameters that are trained."""
        return self.parameters()


class ClipQuantizer(ActivationQuantizer):
    """A quantizer whose range ends at `clip`, [1].

    y = round(min(max(x, -clip * zero_point / top), clip) / scale) * scale,    scale = clip / top
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.low = -zero_point / self.top  # the lower end of the range, relative to the clip

    def set_range(self, scale, zero_point):
        self.clip.set_value(np.array([scale * self.top], np.float32))

    def bound(self) -> paddle.Tensor:
        """Return the clip, kept positive."""
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
        """Update statistics from an input, before it is quantized."""


class PactQuantizer(ClipQuantizer):
    """PACT, parameterized clipping activation (Choi et al. 2018, arXiv:1805.06085), with clipping at both ends.

    The clip is learned from the gradient of the clipped values and by weight decay. d y / d clip is 1 where x >= clip,
    -zero_point / top where x is below the range, else 0.
    """

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.clip = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))


class FixedQuantizer(ClipQuantizer):
    """A quantizer with a fixed clip, for images: the largest absolute value of a pixel."""

    def __init__(self, bits: int, zero_point: int):
        super().__init__(bits, zero_point)
        self.register_buffer("clip", paddle.ones([1]))

    def set_clip(self, largest: float) -> None:
        """Set the clip."""
        self.clip.set_value(np.full(1, largest, np.float32))


class MovingQuantizer(FixedQuantizer):
    """Plain quantization-aware training: the clip is the moving average of the maximum of each batch."""

    MOMENTUM = 0.99

    @paddle.no_grad()
    def observe(self, x):
        if self.training:
            largest = x.abs().max() if self._zero_point else x.max()
            self.clip.set_value(self.MOMENTUM * self.clip + (1 - self.MOMENTUM) * largest)


class LsqQuantizer(ActivationQuantizer):
    """LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576): scale and offset are learned.

    The paper's offset is a real number. Here it is rounded to an integer zero point: otherwise zero, with which integer
    convolutions pad, would not be representable. Inputs that are never negative have no offset, as in LSQ (Esser et al.
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
        """Return the offset, kept within the integer range."""
        return paddle.clip(self.offset, 0, 2**self.bits - 1)

    def bound(self) -> paddle.Tensor:
        """Return the scale, kept positive."""
        return paddle.clip(self.step, min=MIN_RANGE)

    def scale(self):
        return self.bound().detach()

    def set_range(self, scale, zero_point):
        self.step.set_value(np.array([scale], np.float32))
        if self.offset is not None:
            self.offset.set_value(np.array([zero_point], np.float32))

    def gradient_factor(self, x) -> float:
        """Return the gradient scale for scale and offset, which balances updates for the size of x (LSQ, 2.2)."""
        return 1 / np.sqrt(x.size * (2**self.bits - 1))

    def forward(self, x):
        factor = self.gradient_factor(x)
        step = grad_scale(self.bound(), factor)
        offset = 0.0 if self.offset is None else round_ste(grad_scale(self.bound_offset(), factor))
        q = paddle.clip(round_ste(x / step) + offset, 0, 2**self.bits - 1)
        return (q - offset) * step


class WeightQuantizer(nn.Layer):
    """Quantizer of weights, with one scale per output channel from the channel's largest weight.

    The buffer `share` [channels] is the fraction of the largest weight at which weights are clipped: with few bits
    clipping costs less than coarse rounding. It is set by calibration. The gradient is that of the identity, also where
    weights are clipped.

    Args:
        bits: of the signed integers.
        axis: of the output channels.
        channels: number of output channels.

    Attributes:
        top: the largest q.
    """

    def __init__(self, bits: int, axis: int, channels: int):
        super().__init__()
        self.bits, self.axis = bits, axis
        self.top = weight_limit(bits)
        self.register_buffer("share", paddle.ones([channels]))

    def learned(self) -> list[paddle.Tensor]:
        """Return the quantization parameters that are trained."""
        return []

    def scale(self, weight) -> paddle.Tensor:
        """Return the scales [channels] of `weight`."""
        others = [i for i in range(weight.ndim) if i != self.axis]
        largest = paddle.amax(weight.detach().abs(), axis=others)
        return paddle.clip(largest * self.share / self.top, min=MIN_RANGE / self.top)

    @paddle.no_grad()
    def set_scale(self, weight, scale: np.ndarray) -> None:
        """Set the scales [channels] for `weight`, such as those found by calibration."""
        ones = paddle.ones_like(self.share)
        self.share.set_value(ones)
        self.share.set_value(paddle.clip(paddle.to_tensor(scale) / self.scale(weight), max=1.0))

    def _broadcast(self, scale, weight) -> paddle.Tensor:
        """Return scales [channels] in a shape that broadcasts with `weight`."""
        return scale.reshape([-1 if i == self.axis else 1 for i in range(weight.ndim)])

    def forward(self, weight):
        scale = self._broadcast(self.scale(weight), weight)
        q = paddle.clip(paddle.round(weight / scale), -self.top, self.top)
        return weight + (q * scale - weight).detach()


class LsqWeightQuantizer(WeightQuantizer):
    """Quantizer of weights with learned scales, one per output channel (LSQ, arXiv:1902.08153)."""

    def __init__(self, bits: int, axis: int, channels: int):
        super().__init__(bits, axis, channels)
        del self.share
        self.step = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))

    def learned(self):
        return [self.step]

    def bound(self) -> paddle.Tensor:
        """Return the scales, kept positive."""
        return paddle.clip(self.step, min=MIN_RANGE / self.top)

    def scale(self, weight):
        return self.bound().detach()

    @paddle.no_grad()
    def set_scale(self, weight, scale):
        self.step.set_value(np.asarray(scale, np.float32))

    def forward(self, weight):
        count = weight.size // weight.shape[self.axis]
        step = self._broadcast(grad_scale(self.bound(), 1 / np.sqrt(count * self.top)), weight).expand_as(weight)
        return round_ste(paddle.clip(weight / step, -self.top, self.top)) * step


class QuantizedAdd(Add):
    """Sum of two tensors, each with its own quantizer."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.LayerList([nn.Identity(), nn.Identity()])

    def forward(self, x, y):
        return super().forward(self.inputs[0](x), self.inputs[1](y))


class QuantizedNorm(nn.BatchNorm2D):
    """Batch norm after a quantized convolution, whose folded bias is rounded in evaluation mode.

    An instance is a BatchNorm2D whose class was changed. `convolutions` is a list with the convolution before it (in a
    list it does not become a sublayer). With few bits the bias is not rounded: its units would be too coarse.
    """

    convolutions: list[QuantizedConv2D]

    def forward(self, x):
        (convolution,) = self.convolutions
        inputs, weights = convolution._fake_quant_input, convolution._fake_quant_weight
        is_quantized = isinstance(inputs, ActivationQuantizer) and isinstance(weights, WeightQuantizer)
        if (
            self.training
            or not is_quantized
            or inputs.bits < 8
            or weights.bits < FINE_BITS
            or convolution.bias is not None
        ):
            return super().forward(x)
        # Exactly as the INT8 file: double precision for folding, single for scales and bias.
        tensors = (self.weight, self.bias, self._mean, self._variance)
        gamma, beta, mean, variance = (tensor.numpy().astype(np.float64) for tensor in tensors)
        exact = gamma / np.sqrt(variance + np.float32(self._epsilon))
        factor, bias = exact.astype(np.float32), (beta - mean * exact).astype(np.float32)
        scale = weights.scale(convolution.weight).numpy() * np.abs(factor) * inputs.scale().numpy()
        scale = np.maximum(scale, MIN_FOLDED_SCALE).astype(np.float64)
        bias = (np.rint(bias / scale) * scale).astype(np.float32)
        shape = [1, -1, 1, 1]
        return x * paddle.to_tensor(factor).reshape(shape) + paddle.to_tensor(bias).reshape(shape)


class QuantizedLSTM(nn.LSTM):
    """LSTM with quantized weights in evaluation mode; an LSTM whose class was changed."""

    def forward(self, *args, **kwargs):
        if self.training:
            return super().forward(*args, **kwargs)
        with self.rounded():
            return super().forward(*args, **kwargs)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Round the weight matrices, but not the biases, within a `with` block."""
        saved = {p: p.numpy().copy() for p in self.parameters() if len(p.shape) == 2}
        try:
            for tensor, value in saved.items():
                tensor.set_value(round_matrix(value))
            yield
        finally:
            for tensor, value in saved.items():
                tensor.set_value(value)


def round_matrix(weight: np.ndarray) -> np.ndarray:
    """Return a matrix [rows, columns] quantized to `SAFE_BITS`, symmetric, with one scale per row."""
    top = np.float32(weight_limit(SAFE_BITS))
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), np.float32(MIN_RANGE)) / top
    return np.rint(weight / scale) * scale


ACTIVATIONS = {"pact": PactQuantizer, "max": MovingQuantizer, "lsq": LsqQuantizer}
WEIGHTS = {"pact": WeightQuantizer, "max": WeightQuantizer, "lsq": LsqWeightQuantizer}
WRAPPERS = {nn.Conv2D: (QuantizedConv2D, 0), nn.Linear: (QuantizedLinear, 1)}  # and the axis of output channels
QUANTIZABLE = (nn.Conv2D, nn.Linear, Add, nn.LSTM)  # types of layers that can be quantized


def fake_quantize(model: nn.Layer, method: str, layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Insert quantizers into layers, in place; the transform "fake_quant".

    Weights keep their names. The quantization parameters are not initialized: set them.

    Args:
        method: "pact", "lsq", or "max" (ranges follow the data).
        layers: path -> {"inputs": ..., "weight_bits": ...}. "inputs" has {"bits", "zero_point"} for each input, with
            "fixed": true where it is the picture, or {"same_as": [path, number]} where it is the same tensor as that
            input of an earlier layer in the mapping. Additions have two inputs and no weight_bits; LSTMs neither.

    Raises:
        SlimError: the layer at a path cannot be quantized.
    """
    for path, settings in layers.items():
        parent, name, layer = locate(model, path)
        inputs = [_input_quantizer(model, method, spec) for spec in settings.get("inputs", [])]
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
            layer._fake_quant_weight = WEIGHTS[method](settings["weight_bits"], axis, layer.weight.shape[axis])
            norm = _following_norm(parent, name)
            if norm is not None:
                norm.__class__, norm.convolutions = QuantizedNorm, [layer]
        elif type(layer) is QuantizedAdd:
            layer.inputs[0], layer.inputs[1] = inputs
        else:
            raise SlimError(f"{path} is a {type(layer).__name__}: it cannot be quantized")
    model.train() if model.training else model.eval()  # the new layers, too


def locate(model: nn.Layer, path: str) -> tuple[nn.Layer, str, nn.Layer]:
    """Return (parent layer, name in the parent, layer)."""
    *above, name = path.split(".")
    parent = model
    for part in above:
        parent = getattr(parent, part)
    return parent, name, getattr(parent, name)


def layer_at(model: nn.Layer, path: str) -> nn.Layer:
    """Return the layer at a path such as "backbone.stem.0"."""
    return locate(model, path)[2]


def _following_norm(parent: nn.Layer, name: str) -> nn.BatchNorm2D | None:
    """Return the batch norm that follows a layer in a Sequential."""
    layers = list(parent.named_children()) if isinstance(parent, nn.Sequential) else []
    for (before, _), (_, layer) in zip(layers, layers[1:]):
        if before == name and type(layer) in (nn.BatchNorm2D, QuantizedNorm):
            return layer
    return None


def _input_quantizer(model: nn.Layer, method: str, spec: Mapping[str, Any]) -> ActivationQuantizer:
    """Build the quantizer of an input, or return the one that it shares; see `fake_quantize`."""
    if "same_as" in spec:
        path, number = spec["same_as"]
        return input_quantizers(layer_at(model, path))[number]
    kind = FixedQuantizer if spec.get("fixed") else ACTIVATIONS[method]
    return kind(spec["bits"], spec["zero_point"])


def input_quantizers(layer: nn.Layer) -> list[nn.Layer]:
    """Return the quantizer of each input of a quantized layer."""
    if isinstance(layer, (QuantizedConv2D, QuantizedLinear)):
        return [layer._fake_quant_input]
    return list(layer.inputs) if isinstance(layer, QuantizedAdd) else []


def quantized_layers(model: nn.Layer) -> dict[str, nn.Layer]:
    """Return the layers that `fake_quantize` changed, by path."""
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
    """Replace quantized layers by float layers with the same weights, in place.

    Returns:
        The model.
    """
    for path, layer in quantized_layers(model).items():
        parent, name, _ = locate(model, path)
        if isinstance(layer, QuantizedLSTM):
            layer.__class__ = nn.LSTM
            continue
        float_layer = _float_layer(layer)
        float_layer.training = layer.training
        setattr(parent, name, float_layer)
    for layer in model.sublayers():
        if isinstance(layer, QuantizedNorm):
            layer.__class__ = nn.BatchNorm2D
            del layer.convolutions
    return model


def _float_layer(layer: nn.Layer) -> nn.Layer:
    """Return a float layer with the weights of a quantized one."""
    if isinstance(layer, QuantizedAdd):
        return Add()
    bias = None if layer.bias is not None else False
    if isinstance(layer, QuantizedLinear):
        float_layer = nn.Linear(*layer.weight.shape, bias_attr=bias)
    else:
        outputs, inputs, *kernel = layer.weight.shape
        geometry = {"stride": layer._stride, "padding": layer._padding, "dilation": layer._dilation}
        float_layer = nn.Conv2D(
            inputs * layer._groups,
            outputs,
            kernel,
            groups=layer._groups,
            padding_mode=layer._padding_mode,
            data_format=layer._data_format,
            bias_attr=bias,
            **geometry,
        )
    float_layer.weight = layer.weight
    if layer.bias is not None:
        float_layer.bias = layer.bias
    return float_layer
