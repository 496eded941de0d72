"""What a network costs: parameters, multiply-adds, memory."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear

TYPICAL_ASPECT = 15  # width over height of an address row, on which figures are given


class Cost(NamedTuple):
    """Of one forward pass.

    Attributes:
        parameters: trainable numbers.
        flops: multiply-adds of convolutions, linear layers and LSTMs. Paddle's own counter leaves the LSTM out,
            which is half of a slim recognizer.
        activation_bytes: of all layers' outputs in float32: what training keeps for the backward pass, at least.
    """

    parameters: int
    flops: int
    activation_bytes: int


def parameter_count(model: nn.Layer) -> int:
    """Trainable numbers in a model."""
    return sum(int(p.size) for p in model.parameters() if p.trainable)


def measure_cost(model: nn.Layer, shape: Sequence[int]) -> Cost:
    """Count on an input of `shape` [N, 3, H, W]; the model is left in the mode that it was in."""
    flops = activations = 0

    def count(layer, inputs, output):
        nonlocal flops, activations
        if layer.sublayers() and not isinstance(layer, (nn.LSTM, QuantizedConv2D, QuantizedLinear)):
            return  # its parts are counted
        result = output[0] if isinstance(output, tuple) else output
        activations += int(result.size) * 4
        if isinstance(layer, (nn.Conv2D, QuantizedConv2D)):
            flops += int(result.size) * int(layer.weight.size) // int(layer.weight.shape[0])
        elif isinstance(layer, (nn.Linear, QuantizedLinear)):
            flops += int(result.size) * int(layer.weight.shape[0])
        elif isinstance(layer, nn.LSTM):
            matrices = sum(int(p.size) for p in layer.parameters() if len(p.shape) == 2)
            flops += int(inputs[0].shape[0]) * int(inputs[0].shape[1]) * matrices

    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers(include_self=True)]
    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros(list(shape)))
    finally:
        for hook in hooks:
            hook.remove()
        if was_training:
            model.train()
    return Cost(parameter_count(model), flops, activations)
