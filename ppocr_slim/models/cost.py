"""What a network costs: parameters, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear


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

    def count(path, layer, inputs, result):
        nonlocal flops, activations
        if layer.sublayers() and not isinstance(layer, (nn.LSTM, QuantizedConv2D, QuantizedLinear)):
            return  # its parts are counted
        activations += int(result.size) * 4
        if isinstance(layer, (nn.Conv2D, QuantizedConv2D)):
            flops += int(result.size) * int(layer.weight.size) // int(layer.weight.shape[0])
        elif isinstance(layer, nn.Conv2DTranspose):
            flops += int(inputs[0].size) * int(layer.weight.size) // int(layer.weight.shape[0])
        elif isinstance(layer, (nn.Linear, QuantizedLinear)):
            flops += int(result.size) * int(layer.weight.shape[0])
        elif isinstance(layer, nn.LSTM):
            matrices = sum(int(p.size) for p in layer.parameters() if len(p.shape) == 2)
            flops += int(inputs[0].shape[0]) * int(inputs[0].shape[1]) * matrices

    watch(model, shape, count)
    return Cost(parameter_count(model), flops, activations)


def watch(
    model: nn.Layer,
    shape: Sequence[int],
    see: Callable[[str, nn.Layer, tuple[paddle.Tensor, ...], paddle.Tensor], None],
) -> None:
    """Call `see(path, layer, inputs, output)` for each layer that runs when the model evaluates zeros of `shape`.

    Of several outputs it gets the first. The model is left in the mode that it was in.
    """

    def hook(path: str) -> Callable:
        return lambda layer, inputs, output: see(
            path, layer, inputs, output[0] if isinstance(output, tuple) else output
        )

    layers = model.named_sublayers(include_self=True)
    hooks = [layer.register_forward_post_hook(hook(path)) for path, layer in layers]
    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros(list(shape)))
    finally:
        for each in hooks:
            each.remove()
        if was_training:
            model.train()
