"""A network's parameters and buffers by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import nn


def model_state(model: nn.Layer) -> dict[str, paddle.Tensor]:
    """Every parameter and buffer once, by its structured name ("backbone.stem.0.weight").

    `Layer.state_dict` lists the tensors of an LSTM twice, under two names each.
    """
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def assign_state(model: nn.Layer, state: dict[str, np.ndarray]) -> None:
    """Set every tensor of `model_state` from the array or tensor of its name."""
    for name, tensor in model_state(model).items():
        tensor.set_value(state[name])


def name_parameters(model: nn.Layer, prefix: str = "") -> None:
    """Give every parameter and buffer its structured name, behind `prefix` and a dot where one is given.

    Paddle numbers them in order of creation, so the names in an optimizer's state or an exported program would depend
    on what else was built before.
    """
    for name, tensor in model_state(model).items():
        tensor.name = f"{prefix}.{name}" if prefix else name


def training_only(model: nn.Layer) -> tuple[str, ...]:
    """How the names of those weights begin that a network uses in training alone: no bundle has them."""
    return tuple(getattr(model, "training_only", ()))


def with_training_only(model: nn.Layer, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A bundle's weights, and the network's own for what bundles lack."""
    own = {name: tensor.numpy() for name, tensor in model_state(model).items() if name.startswith(training_only(model))}
    return {**own, **state}
