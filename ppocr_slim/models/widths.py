"""The widths of a network's layers: how a pruned one differs from what its builder makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from paddle import nn

Widths = dict[str, list[int]]
"""Path of a layer in the network -> what `RESIZERS` says of its kind."""


def _conv2d(layer: nn.Conv2D, inputs: int, outputs: int) -> nn.Conv2D:
    if layer._groups not in (1, layer._in_channels) or (layer._groups > 1 and inputs != outputs):
        raise ValueError("a convolution with groups is depthwise here")
    return nn.Conv2D(
        inputs,
        outputs,
        layer._kernel_size,
        layer._stride,
        layer._padding,
        layer._dilation,
        groups=1 if layer._groups == 1 else outputs,
        padding_mode=layer._padding_mode,
        bias_attr=None if layer.bias is not None else False,
        data_format=layer._data_format,
    )


def _conv2d_transpose(layer: nn.Conv2DTranspose, inputs: int, outputs: int) -> nn.Conv2DTranspose:
    if layer._groups != 1:
        raise ValueError("a transposed convolution has no groups here")
    return nn.Conv2DTranspose(
        inputs,
        outputs,
        layer._kernel_size,
        layer._stride,
        layer._padding,
        dilation=layer._dilation,
        bias_attr=None if layer.bias is not None else False,
        data_format=layer._data_format,
    )


def _batch_norm(layer: nn.BatchNorm2D, channels: int) -> nn.BatchNorm2D:
    return nn.BatchNorm2D(
        channels,
        layer._momentum,
        layer._epsilon,
        weight_attr=None if layer.weight is not None else False,
        bias_attr=None if layer.bias is not None else False,
        data_format=layer._data_format,
        use_global_stats=layer._use_global_stats,
    )


def _linear(layer: nn.Linear, inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias_attr=None if layer.bias is not None else False)


def _lstm(layer: nn.LSTM, inputs: int, hidden: int) -> nn.LSTM:
    direction = "bidirect" if layer.num_directions == 2 else "forward"
    return nn.LSTM(inputs, hidden, layer.num_layers, direction, layer.time_major, layer.dropout)


class Resizer(NamedTuple):
    """A kind of layer that has widths.

    Attributes:
        widths: of a layer whose tensors, by their names in it, have these shapes.
        build: a fresh layer like the given one, with those widths.
    """

    widths: Callable[[Mapping[str, Sequence[int]], Any], list[int]]
    build: Callable[..., nn.Layer]


def _conv2d_widths(shapes: Mapping[str, Sequence[int]], layer: nn.Conv2D) -> list[int]:
    outputs, inputs = shapes["weight"][:2]
    return [outputs if layer._groups > 1 else inputs, outputs]


RESIZERS: dict[type, Resizer] = {
    nn.Conv2D: Resizer(_conv2d_widths, _conv2d),  # inputs, outputs
    nn.Conv2DTranspose: Resizer(lambda shapes, layer: list(shapes["weight"][:2]), _conv2d_transpose),  # inputs, outputs
    nn.BatchNorm2D: Resizer(lambda shapes, layer: [shapes["_mean"][0]], _batch_norm),  # channels
    nn.Linear: Resizer(lambda shapes, layer: list(shapes["weight"]), _linear),  # inputs, outputs
    nn.LSTM: Resizer(  # inputs, hidden units of each layer and direction
        lambda shapes, layer: [shapes["weight_ih_l0"][1], shapes["weight_hh_l0"][1]], _lstm
    ),
}


def widths_of(model: nn.Layer, shapes: Mapping[str, Sequence[int]] = ()) -> Widths:
    """The widths of every layer that has any; those that it would have where `shapes` names tensors' others."""
    found = {}
    for path, layer in model.named_sublayers():
        if type(layer) in RESIZERS:
            own = {name: list(tensor.shape) for name, tensor in layer.state_dict().items()}
            own.update({name: list(shapes[f"{path}.{name}"]) for name in own if f"{path}.{name}" in shapes})
            found[path] = [int(width) for width in RESIZERS[type(layer)].widths(own, layer)]
    return found


def resize(model: nn.Layer, layers: Mapping[str, Sequence[int]]) -> None:
    """Put fresh layers of the given widths in the places of the network's own; the transform "widths".

    Their weights are initial ones, their parameters have no structured names yet.

    Raises ValueError for a layer that is not there, or that has no such widths.
    """
    places = dict(model.named_sublayers())
    for path, widths in layers.items():
        layer = places.get(path)
        if type(layer) not in RESIZERS:
            raise ValueError(f"{path} is no layer of this network that has widths")
        if not widths or not all(type(width) is int and width >= 1 for width in widths):
            raise ValueError(f"{path} cannot have widths {widths!r}")
        fresh = RESIZERS[type(layer)].build(layer, *widths)
        fresh.training = layer.training
        parent, _, name = path.rpartition(".")
        setattr(places[parent] if parent else model, name, fresh)
