"""The parameters and buffers of a network by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import nn


def model_state(model: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return every parameter and buffer once, by its structured name ("backbone.stem.0.weight").

    `Layer.state_dict` lists the tensors of an LSTM twice, under two names each.
    """
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def assign_state(model: nn.Layer, state: dict[str, np.ndarray]) -> None:
    """Set every tensor of `model_state` to the array or tensor of the same name."""
    for name, tensor in model_state(model).items():
        tensor.set_value(state[name])


def name_parameters(model: nn.Layer, prefix: str = "") -> None:
    """Name every parameter and buffer by its structured name, after `prefix` and a dot where there is a prefix.

    Paddle numbers them in order of creation, so the names in an optimizer's state or an exported program would depend
    on what else was built before.
    """
    for name, tensor in model_state(model).items():
        tensor.name = f"{prefix}.{name}" if prefix else name


def training_only(model: nn.Layer) -> tuple[str, ...]:
    """Return the prefixes of the weights that a network uses only in training; bundles do not have them."""
    return tuple(getattr(model, "training_only", ()))


def with_training_only(model: nn.Layer, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of a bundle, with the network's own for those that bundles do not have."""
    own = {name: tensor.numpy() for name, tensor in model_state(model).items() if name.startswith(training_only(model))}
    return {**own, **state}
