"""The optimizer, its learning-rate schedule, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.schema import Optimizer
from ppocr_slim.models.state import model_state
from ppocr_slim.training.kernels.many import ManyAdamW, Tensors, lerp


def learning_rate(config: Optimizer, step: int, total: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay to `final_lr_ratio * lr`.

    The schedule is that of Loshchilov and Hutter 2017 (arXiv:1608.03983). It is a pure function of the step, so that a
    resumed run needs no scheduler state.

    Args:
        config: section Optimizer.
        step: number of the step, from 0.
        total: number of steps of the stage.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * cosine)


def build_optimizer(
    parameters: Sequence[paddle.Tensor], config: Optimizer, fast: bool = False
) -> paddle.optimizer.Optimizer:
    """Build AdamW (arXiv:1711.05101) with clipping by the global norm.

    Biases, batch norms and other vectors get no weight decay (He et al. 2019, arXiv:1812.01187).

    Args:
        parameters: parameters with unique names (`models.state.name_parameters`).
        config: section Optimizer.
        fast: whether to update all of them in one call of a CPU kernel.
    """
    decayed = {p.name for p in parameters if sum(n > 1 for n in p.shape) > 1}
    adamw = ManyAdamW if fast else paddle.optimizer.AdamW
    return adamw(
        learning_rate=config.lr,
        parameters=list(parameters),
        weight_decay=config.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=nn.ClipGradByGlobalNorm(config.clip_norm),
    )


class AveragedWeights:
    """Exponential moving average of everything in a model's state (Polyak and Juditsky 1992).

    The decay grows with the step, (1 + n) / (10 + n) up to `decay`, so that the initial weights are soon forgotten.

    Args:
        model: the network.
        decay: weight of the average in each update, 0 to 1.
        fast: whether to update all tensors in one call of a CPU kernel.

    Attributes:
        state: averages by name.
    """

    def __init__(self, model: nn.Layer, decay: float, fast: bool = False):
        self._decay = decay
        self._tensors = model_state(model)  # once: listing a network takes longer than averaging its small tensors
        self.state = {name: tensor.clone().detach() for name, tensor in self._tensors.items()}
        self._fast = (Tensors(self.state.values()), Tensors(self._tensors.values())) if fast else None

    @paddle.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after the optimizer's step number `step`, from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        if self._fast:
            lerp(*self._fast, 1 - decay)
            return
        for name, tensor in self._tensors.items():
            self.state[name].lerp_(tensor, 1 - decay)

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Set the averages to those of a checkpoint."""
        for name, tensor in self.state.items():
            tensor.set_value(state[name])
