"""The widths of a network's layers, in which a pruned network differs from a newly built one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from paddle import nn

Widths = dict[str, list[int]]
"""Path of a layer in the network -> its widths, see `RESIZERS`."""


def _conv2d(layer: nn.Conv2D, inputs: int, outputs: int) -> nn.Conv2D:
    if layer._groups not in (1, layer._in_channels) or (layer._groups > 1 and inputs != outputs):
        raise ValueError("grouped convolutions must be depthwise")
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
        raise ValueError("grouped transposed convolutions are not supported")
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
    """Functions for a type of layer that has widths.

    Attributes:
        widths: (shapes of its tensors by name, layer) -> widths.
        build: (layer, *widths) -> a new layer like the given one, with those widths.
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
    """Return the widths of every layer that has any.

    Args:
        shapes: shapes of tensors, by their structured names, to use in place of the network's own.
    """
    found = {}
    for path, layer in model.named_sublayers():
        if type(layer) in RESIZERS:
            own = {name: list(tensor.shape) for name, tensor in layer.state_dict().items()}
            own.update({name: list(shapes[f"{path}.{name}"]) for name in own if f"{path}.{name}" in shapes})
            found[path] = [int(width) for width in RESIZERS[type(layer)].widths(own, layer)]
    return found


def resize(model: nn.Layer, layers: Mapping[str, Sequence[int]]) -> None:
    """Replace layers by new ones of the given widths, in place; the transform "widths".

    The new weights are initial ones and have no structured names yet.

    Args:
        layers: path of a layer -> its widths.

    Raises:
        ValueError: there is no such layer, or it cannot have these widths.
    """
    places = dict(model.named_sublayers())
    for path, widths in layers.items():
        layer = places.get(path)
        if type(layer) not in RESIZERS:
            raise ValueError(f"{path} is not a layer of this network that has widths")
        if not widths or not all(type(width) is int and width >= 1 for width in widths):
            raise ValueError(f"{path} cannot have widths {widths!r}")
        new = RESIZERS[type(layer)].build(layer, *widths)
        new.training = layer.training
        parent, _, name = path.rpartition(".")
        setattr(places[parent] if parent else model, name, new)
