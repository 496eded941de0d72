"""Groups of prunable channels, the FPGM criterion, and the removal of channels from a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from paddle import nn

from ppocr_slim.errors import SlimError
from ppocr_slim.models.crnn import CRNN
from ppocr_slim.models.db import DB, LEVELS
from ppocr_slim.models.direction import DirectionClassifier
from ppocr_slim.models.fake_quant import quantized_layers
from ppocr_slim.models.necks import ConvNeck
from ppocr_slim.models.state import model_state, name_parameters
from ppocr_slim.models.widths import RESIZERS, Widths, resize, widths_of
from ppocr_slim.slim._paddleslim import Cut, FilterPruner

DIRECTIONS = ("", "_reverse")  # suffixes of the weights of Paddle's bidirectional LSTM
COLLAPSE, ENCODER, HEAD = "collapse.0", "encoder", "head"
NECK_INPUT = "encoder.reduce.0"  # first of the coupled layers of a convolutional neck, whose outputs the head reads
LAST = "last.0"  # a direction classifier's last convolution, whose outputs its head reads


class Group(NamedTuple):
    """Coupled channels, which can only be removed together.

    They belong to layers whose outputs are added, multiplied or convolved channel by channel.

    Attributes:
        name: path of the layer whose filters are compared.
        layers: paths of all layers that lose outputs, `name` among them.
        size: number of channels.
        cut: returns the cut that removes a number of channels, chosen by the geometric median.
    """

    name: str
    layers: tuple[str, ...]
    size: int
    cut: Callable[[int], Cut]


class _Convolutions(nn.Layer):
    """The part of a CRNN that PaddleSlim can trace, under the network's own names: [N, 3, H, W] -> [N, C, 1, T]."""

    def __init__(self, model: CRNN):
        super().__init__()
        self.backbone, self.collapse = model.backbone, model.collapse
        self.encoder = model.encoder if isinstance(model.encoder, ConvNeck) else None

    def forward(self, image):
        x = self.collapse(self.backbone(image))
        return x if self.encoder is None else self.encoder.blocks(self.encoder.reduce(x))


class _BothMaps(nn.Layer):
    """A detector with both of its heads, whatever mode it is in: [N, 3, H, W] -> [N, 1, H, W]."""

    def __init__(self, model: DB):
        super().__init__()
        self.backbone, self.neck = model.backbone, model.neck
        self.probability, self.threshold = model.probability, model.threshold

    def forward(self, image):
        features = self.neck(self.backbone.maps(image)[-LEVELS:])
        return self.probability(features) + self.threshold(features)


class _Features(nn.Layer):
    """A direction classifier before its head, whose inputs stay: [N, 3, H, W] -> [N, C, H/32, W/8]."""

    def __init__(self, model: DirectionClassifier):
        super().__init__()
        self.backbone, self.last = model.backbone, model.last

    def forward(self, image):
        return self.last(self.backbone(image))


# Network -> the part of it that PaddleSlim can trace, with the network's own names; and the sides of the traced input
_TRACED: dict[type, tuple[Callable[[nn.Layer], nn.Layer], Callable[[nn.Layer], list[int]]]] = {
    CRNN: (_Convolutions, lambda model: [model.height, 4 * model.height]),
    DB: (_BothMaps, lambda model: [64, 64]),
    DirectionClassifier: (_Features, lambda model: [model.height, model.width]),
}


def find_groups(model: nn.Layer) -> list[Group]:
    """Return a network's groups in the order of its layers: convolutions, and the hidden units of an LSTM.

    Args:
        model: a CRNN, DB or DirectionClassifier, which may be pruned already.

    Raises:
        SlimError: it is another network, or a quantized one.
    """
    if type(model) not in _TRACED:
        known = ", ".join(kind.__name__ for kind in _TRACED)
        raise SlimError(f"fpgm: {type(model).__name__} cannot be pruned; {known} can")
    unknown = [path for path, layer in model.named_sublayers() if _has_unknown_weights(model, path, layer)]
    if quantized_layers(model) or unknown:
        which = [*quantized_layers(model), *unknown][0]
        raise SlimError(f"fpgm: {which} cannot be resized: prune a network before it is quantized")
    name_parameters(model)  # PaddleSlim and the cuts know tensors by their names
    traced, sides = _TRACED[type(model)]
    pruner = FilterPruner(_with_folded_scales(traced(model)), [1, 3, *sides(model)])
    groups = [_filters(model, pruner, weight) for weight in pruner.groups]
    groups = [group for group in groups if not _is_read_elsewhere(model, group)]
    if isinstance(model, CRNN) and isinstance(model.encoder, nn.LSTM):
        cut = lru_cache(None)(partial(_cut_hidden, model))
        groups.append(Group(ENCODER, (ENCODER,), model.encoder.hidden_size, cut))
    return groups


def _is_read_elsewhere(model: nn.Layer, group: Group) -> bool:
    """Return whether layers that PaddleSlim does not see, and no cut changes, read the outputs of a group."""
    attends = isinstance(getattr(model, ENCODER, None), ConvNeck) and model.encoder.attention is not None
    return LAST in group.layers or (attends and NECK_INPUT in group.layers)


def _with_folded_scales(model: nn.Layer) -> nn.Layer:
    """Return a copy in which every convolution is multiplied by the scale of the batch norm that follows it.

    The magnitude of a stored filter is arbitrary, since batch norm makes up for it. Compared without these scales, the
    shipped recognizer lost clearly more: a loss of 1.88 instead of 1.48 without fine-tuning, convolutions alone pruned
    until 70% of the FLOPs were left.
    """
    model = copy.deepcopy(model)
    for layer in model.sublayers():
        parts = list(layer) if isinstance(layer, nn.Sequential) else []
        for convolution, norm in zip(parts, parts[1:]):
            if isinstance(convolution, nn.Conv2D) and isinstance(norm, nn.BatchNorm2D) and norm.weight is not None:
                scale = norm.weight / (norm._variance + norm._epsilon).sqrt()
                convolution.weight.set_value((convolution.weight * scale.reshape([-1, 1, 1, 1])).detach())
    name_parameters(model)
    return model


def _has_unknown_weights(model: nn.Layer, path: str, layer: nn.Layer) -> bool:
    own = layer.parameters(include_sublayers=False)
    return bool(own) and type(layer) not in RESIZERS and not path.startswith(f"{ENCODER}.")


def _filters(model: nn.Layer, pruner: FilterPruner, weight: str) -> Group:
    def cut(number: int) -> Cut:
        gone = pruner.cut(weight, number)
        # PaddleSlim does not look into an LSTM, nor at the head.
        if name == COLLAPSE and isinstance(model.encoder, nn.LSTM):
            gone.update({f"{ENCODER}.weight_ih_l0{way}": {1: gone[weight][0]} for way in DIRECTIONS})
        if NECK_INPUT in layers:
            gone[f"{HEAD}.weight"] = {0: gone[weight][0]}
        return gone

    name = weight.rpartition(".")[0]
    layers = tuple(filters.rpartition(".")[0] for filters in pruner.groups[weight])
    return Group(name, layers, int(model_state(model)[weight].shape[0]), lru_cache(None)(cut))


def median_distances(filters: np.ndarray) -> np.ndarray:
    """Return the sum of each filter's Euclidean distances to all others: the least is nearest the geometric median.

    Args:
        filters: [n, ...].

    Returns:
        [n] float64.
    """
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    return np.array([np.sqrt(((flat - one) ** 2).sum(axis=1)).sum() for one in flat])


def _cut_hidden(model: CRNN, number: int) -> Cut:
    """Return the cut that removes `number` hidden units of each layer and direction of the LSTM.

    Paddle's LSTM has one size for all of them. A unit's filter is all the weights of its four gates.
    """
    state, size = model_state(model), model.encoder.hidden_size
    gone: Cut = {}
    below: list[np.ndarray] = []  # outputs of the layer below that stay
    for layer in range(model.encoder.num_layers):
        kept = []
        for way in DIRECTIONS:
            matrices = [f"{ENCODER}.weight_{part}_l{layer}{way}" for part in ("ih", "hh")]
            biases = [f"{ENCODER}.bias_{part}_l{layer}{way}" for part in ("ih", "hh")]
            gates = [state[name].numpy().reshape(4, size, -1) for name in matrices]
            gates.append(sum(state[name].numpy() for name in biases).reshape(4, size, 1))
            distances = median_distances(np.concatenate(gates, axis=2).transpose(1, 0, 2))
            keep = np.ones(size, bool)
            keep[np.argsort(distances, kind="stable")[:number]] = False
            for name in matrices + biases:
                gone[name] = {0: np.tile(keep, 4)}
            gone[matrices[1]][1] = keep
            if below:
                gone[matrices[0]][1] = np.concatenate(below)
            kept.append(keep)
        below = kept
    gone[f"{HEAD}.weight"] = {0: np.concatenate(below)}
    return gone


def merge_cuts(cuts: Iterable[Cut]) -> Cut:
    """Merge several cuts into one."""
    whole: Cut = {}
    for cut in cuts:
        for name, axes in cut.items():
            own = whole.setdefault(name, {})
            for axis, keep in axes.items():
                own[axis] = own[axis] & keep if axis in own else keep
    return whole


def apply_mask(model: nn.Layer, cut: Cut) -> dict[str, np.ndarray]:
    """Set to zero, in place, what the cut would remove.

    The network then computes what the pruned one would: batch norms without scale and offset, and LSTM units without
    weights, output zeros.

    Args:
        model: the network.
        cut: slices of its tensors.

    Returns:
        Tensor's name -> its values before, of all tensors that the cut changes.
    """
    before = {}
    for name, tensor in model_state(model).items():
        if name in cut:
            before[name] = tensor.numpy()
            value = before[name].copy()
            for axis, keep in cut[name].items():
                np.moveaxis(value, axis, 0)[~keep] = 0
            tensor.set_value(value)
    return before


def widths_after(model: nn.Layer, cut: Cut) -> Widths:
    """Return the widths, after the cut, of the layers that it changes."""
    shapes = {name: list(tensor.shape) for name, tensor in model_state(model).items() if name in cut}
    for name, shape in shapes.items():
        for axis, keep in cut[name].items():
            shape[axis] = int(keep.sum())
    before = widths_of(model)
    return {path: widths for path, widths in widths_of(model, shapes).items() if widths != before[path]}


def remove(model: nn.Layer, cut: Cut) -> Widths:
    """Remove channels from a network in place.

    Args:
        model: the network.
        cut: slices of its tensors.

    Returns:
        The widths of the layers that changed, for the transform "widths".

    Raises:
        SlimError: the tensors of a layer would not fit each other.
    """
    state: Mapping[str, np.ndarray] = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    left = {name: _kept(value, cut.get(name, {})) for name, value in state.items()}
    widths = widths_after(model, cut)
    resize(model, widths)
    for name, tensor in model_state(model).items():
        if list(tensor.shape) != list(left[name].shape):
            raise SlimError(
                f"fpgm: {name} would have the shape {list(left[name].shape)} where {tensor.shape} is needed"
            )
        tensor.set_value(left[name])
    name_parameters(model)
    return widths


def _kept(value: np.ndarray, axes: Mapping[int, np.ndarray]) -> np.ndarray:
    for axis, keep in axes.items():
        value = np.compress(keep, value, axis=axis)
    return value
