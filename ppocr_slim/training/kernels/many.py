"""Operations on many small tensors in one call: a network has hundreds, and a call costs more than their sums."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import paddle
from numba import njit
from paddle.static import default_main_program

from ppocr_slim.training.kernels.memory import addresses, contiguous, floats, writable
from ppocr_slim.training.kernels.planes import KERNEL


class Tensors:
    """Tensors for one kernel call (see `kernels_can_work_on`): their sizes are read once, their addresses each time."""

    def __init__(self, tensors: Sequence[paddle.Tensor]):
        """Read the tensors' sizes."""
        self._tensors = list(tensors)
        self.sizes = np.array([prod(tensor.shape) for tensor in self._tensors], np.int64)

    @property
    def addresses(self) -> np.ndarray:
        """Present addresses of the values, [count] int64."""
        return _address_array(self._tensors)


def _address_array(tensors: Sequence[paddle.Tensor]) -> np.ndarray:
    return np.array(addresses(tensors), np.int64)


def kernels_can_work_on(tensors: Sequence[paddle.Tensor]) -> bool:
    """Return whether all tensors are contiguous float32 ones on a CPU."""
    return all(t.place.is_cpu_place() and t.dtype == paddle.float32 and t.is_contiguous() for t in tensors)


@njit(**KERNEL)
def _lerp(targets, sources, sizes, weight):
    for k in range(sizes.size):
        target, source = floats(targets[k], sizes[k]), floats(sources[k], sizes[k])
        for i in range(target.size):
            target[i] += weight * (source[i] - target[i])


def lerp(targets: Tensors, sources: Tensors, weight: float) -> None:
    """Add `weight` times the difference from its source to each target, in place."""
    _lerp(targets.addresses, sources.addresses, targets.sizes, np.float32(weight))


@njit(**KERNEL)
def _gather(addresses, sizes, flat):
    at = 0
    for k in range(sizes.size):
        source = floats(addresses[k], sizes[k])
        for i in range(source.size):
            flat[at + i] = source[i]
        at += source.size


@njit(**KERNEL)
def _scatter(flat, addresses, sizes, factor):
    at = 0
    for k in range(sizes.size):
        target = floats(addresses[k], sizes[k])
        for i in range(target.size):
            target[i] = flat[at + i] * factor
        at += target.size


def gather(tensors: Tensors) -> paddle.Tensor:
    """Return all values one after another, [total] float32."""
    flat = paddle.empty([int(tensors.sizes.sum())])
    _gather(tensors.addresses, tensors.sizes, writable(flat))
    return flat


def scatter(flat: paddle.Tensor, tensors: Tensors, factor: float) -> None:
    """Set the tensors to the values of `flat`, in the order of `gather`, times `factor`."""
    _scatter(writable(flat), tensors.addresses, tensors.sizes, np.float32(factor))


@njit(**KERNEL)
def _adamw(parameters, gradients, firsts, seconds, powers, sizes, decay, lr, betas, epsilon, clip_norm):
    """Take a step of arXiv:1711.05101 with P parameters, in place.

    lr and decay [P]; powers [2, P]: addresses of a parameter's beta1^t and beta2^t.
    """
    total = 0.0
    for k in range(sizes.size):
        part = np.float32(0.0)
        gradient = floats(gradients[k], sizes[k])
        for i in range(gradient.size):
            part += gradient[i] * gradient[i]
        total += part
    norm = np.sqrt(total)
    clip = np.float32(clip_norm / norm if norm > clip_norm else norm / norm if norm else 1.0)  # NaN stays NaN
    one = np.float32(1.0)
    for k in range(sizes.size):
        power1, power2 = floats(powers[0, k], 1), floats(powers[1, k], 1)
        correction = np.sqrt(one - power2[0])
        rate, small = lr[k] * correction / (one - power1[0]), epsilon * correction
        keep = one - decay[k]
        parameter, gradient = floats(parameters[k], sizes[k]), floats(gradients[k], sizes[k])
        first, second = floats(firsts[k], sizes[k]), floats(seconds[k], sizes[k])
        for i in range(parameter.size):
            g = gradient[i] * clip
            m = betas[0] * first[i] + (one - betas[0]) * g
            v = betas[1] * second[i] + (one - betas[1]) * g * g
            first[i], second[i] = m, v
            parameter[i] = keep * parameter[i] - rate * m / (np.sqrt(v) + small)
        power1[0] *= betas[0]
        power2[0] *= betas[1]


class ManyAdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW with clipping by the global norm, all parameters in one call; its state is Paddle's own."""

    _names: Sequence[str] = ()

    def _apply_optimize(self, loss, startup_program, params_grads, param_group_idx=0):
        parameters, gradients = zip(*params_grads)
        names = [parameter.name for parameter in parameters]
        if names != self._names:
            self._create_accumulators(default_main_program().global_block(), parameters)
            self._names, self._walk = names, Tensors(parameters)
            self._moments = [[self._get_accumulator(kind, p) for p in parameters] for kind in ("moment1", "moment2")]
            self._powers = [
                [self._get_accumulator(f"{beta}_pow_acc", p) for p in parameters] for beta in ("beta1", "beta2")
            ]
            decay = [self._weight_decay * self._apply_decay_param_fun(name) for name in names]
            self._decay = np.array(decay, np.float32)
            self._rates = np.array([p.optimize_attr["learning_rate"] for p in parameters], np.float32)
        gradients = [contiguous(gradient) for gradient in gradients]
        lr = np.float32(self.get_lr())
        _adamw(
            self._walk.addresses,
            _address_array(gradients),
            _address_array(self._moments[0]),
            _address_array(self._moments[1]),
            np.stack([_address_array(powers) for powers in self._powers]),
            self._walk.sizes,
            self._decay * self._rates * lr,
            self._rates * lr,
            (np.float32(self._beta1), np.float32(self._beta2)),
            np.float32(self._epsilon),
            self._grad_clip.clip_norm,
        )
