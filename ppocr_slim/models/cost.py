"""Cost of a network: parameters, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear


class Cost(NamedTuple):
    """Cost of one forward pass.

    Attributes:
        parameters: number of trainable parameters.
        flops: multiply-adds of convolutions, linear layers and LSTMs. Paddle's own counter omits the LSTM, which is
            half of a slim recognizer.
        activation_bytes: size of all layers' outputs in float32: the minimum that training keeps for the backward pass.
    """

    parameters: int
    flops: int
    activation_bytes: int


def parameter_count(model: nn.Layer) -> int:
    """Return the number of trainable parameters."""
    return sum(int(p.size) for p in model.parameters() if p.trainable)


def measure_cost(model: nn.Layer, shape: Sequence[int]) -> Cost:
    """Return the cost on an input of `shape` [N, 3, H, W]; the training mode is restored."""
    flops = activations = 0

    def count(path, layer, inputs, result):
        nonlocal flops, activations
        if layer.sublayers() and not isinstance(layer, (nn.LSTM, QuantizedConv2D, QuantizedLinear)):
            return  # its sublayers are counted
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

    Of several outputs only the first is passed. The training mode is restored.
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
        for handle in hooks:
            handle.remove()
        if was_training:
            model.train()
