"""The optimizer, its learning-rate schedule, and averaged weights."""

from __future__ import annotations

import math
from typing import Dict

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.schema import Optimizer


def learning_rate(config: Optimizer, step: int, total: int) -> float:
    """Linear warm-up, then cosine decay to `final_lr_ratio * lr` (Loshchilov and Hutter 2017, arXiv:1608.03983).

    A pure function of the step (0 is the first), so that a resumed run needs no scheduler state.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * cosine)


def model_state(model: nn.Layer) -> Dict[str, paddle.Tensor]:
    """Every parameter and buffer once, by its structured name ("backbone.stem.0.weight").

    `Layer.state_dict` lists the tensors of an LSTM twice, under two names each.
    """
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def assign_state(model: nn.Layer, state: Dict[str, np.ndarray]) -> None:
    """Set every tensor of `model_state` from the array or tensor of its name."""
    for name, tensor in model_state(model).items():
        tensor.set_value(state[name])


def name_parameters(model: nn.Layer) -> None:
    """Give every parameter and buffer its structured name.

    Paddle numbers them in order of creation, so the names in an optimizer's state or an exported program would depend
    on what else was built before.
    """
    for name, tensor in model_state(model).items():
        tensor.name = name


def build_optimizer(model: nn.Layer, config: Optimizer) -> paddle.optimizer.Optimizer:
    """AdamW (arXiv:1711.05101) with clipping by the global norm; weight decay on matrices and kernels alone.

    Biases, batch norms and other vectors are not decayed (He et al. 2019, arXiv:1812.01187). The model's tensors must
    carry their names (`name_parameters`).
    """
    decayed = {name for name, p in model_state(model).items() if sum(n > 1 for n in p.shape) > 1}
    return paddle.optimizer.AdamW(
        learning_rate=config.lr,
        parameters=[p for p in model.parameters() if p.trainable],
        weight_decay=config.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=nn.ClipGradByGlobalNorm(config.clip_norm),
    )


class AveragedWeights:
    """Exponential moving average of everything in a model's state (Polyak and Juditsky 1992).

    The decay grows with the step, (1 + n) / (10 + n) up to `decay`, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Layer, decay: float):
        self._model, self._decay = model, decay
        self.state = {name: tensor.clone().detach() for name, tensor in model_state(model).items()}

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the model's present weights, after optimizer step `step` (0 is the first)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, tensor in model_state(self._model).items():
            self.state[name].lerp_(tensor, 1 - decay)

    def load(self, state: Dict[str, np.ndarray]) -> None:
        """Take the averages from a checkpoint."""
        for name, tensor in self.state.items():
            tensor.set_value(state[name])
