"""The CTC loss with its gradient on a CPU (Graves et al. 2006, "Connectionist Temporal Classification").

The forward-backward sums run in the linear domain, in double precision. Each time step's probabilities are divided by
the largest one of the label's own characters and the blank (section 4.1 of the paper divides by the sums instead),
which keeps the sums near 1 for nearly every text line that one meets. The few lines where they leave the range of a
double are computed again with logarithms.

Shapes: N lines, T time steps, K classes with the blank first, L characters of the longest label.
"""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle.autograd import PyLayer
from paddle.nn import functional

from ppocr_slim.training.kernels.exponential import EXACT, exp
from ppocr_slim.training.kernels.memory import view, writable

# Sums may be taken in any order; a NaN must still come out as one.
SUMS = {**EXACT, "fastmath": {"contract", "nsz", "arcp", "reassoc"}}

FARTHEST = np.float32(80.0)  # logits of a label's characters farther apart than this leave float32's exp
SMALLEST = 1e-290  # what is lost below the range of a double is less than 1e-300 times the sums it would enter
LANES = 16


@njit(**SUMS)
def _largest(values, lanes):
    """Return the largest of `values` [K], of which a NaN may be left out; lanes: memory for LANES numbers."""
    whole = values.size // LANES * LANES
    lanes[:] = values[0]
    for start in range(0, whole, LANES):
        part = values[start : start + LANES]
        for i in range(LANES):
            lanes[i] = part[i] if part[i] > lanes[i] else lanes[i]
    largest = lanes[0]
    for i in range(LANES):
        largest = lanes[i] if lanes[i] > largest else largest
    for i in range(whole, values.size):
        largest = values[i] if values[i] > largest else largest
    return largest


@njit(**SUMS)
def _softmax(logits, lanes, out):
    """Write the softmax of logits [K] to out [K]; return the logarithm of the sum of exp(logits)."""
    largest = _largest(logits, lanes)
    for k in range(logits.size):
        out[k] = exp(logits[k] - largest)
    total = np.float32(0.0)
    for k in range(logits.size):
        total += out[k]
    inverse = np.float32(1.0) / total
    for k in range(logits.size):
        out[k] *= inverse
    return np.float64(largest) + np.log(np.float64(total))


@njit(**SUMS)
def _gather(logits, label, near):
    """Write exp(logit - the time step's largest) of the blank and each character to near [T, L + 1].

    Returns:
        The sum of the largest logits; NaN where two of a time step are too far apart.
    """
    steps, count = near.shape
    total = 0.0
    for t in range(steps):
        row = near[t]
        row[0] = logits[t, 0]
        for i in range(1, count):
            row[i] = logits[t, label[i - 1]]
        largest = smallest = row[0]
        for i in range(1, count):
            largest = row[i] if row[i] > largest else largest
            smallest = row[i] if row[i] < smallest else smallest
        if not largest - smallest < FARTHEST:
            return np.nan
        for i in range(count):
            row[i] = exp(row[i] - largest)
        total += largest
    return total


# Before each character and at the end there is a blank. `blank` [T, L + 1] and `character` [T, L + 2] hold a value of
# each: blank i and, before it, character i - 1, so that character[:, 0] and character[:, L + 1] belong to none. First
# the value is alpha of the paper, then it becomes the posterior: the probability that an alignment is there at time
# step t. `skips` [L + 1] is 1 where character i may follow character i - 1 without a blank, else 0. Beta is taken
# without the probability of its own time step.


@njit(**SUMS)
def _posteriors_linear(logits, label, skips, near, blank, character, work):
    """Write the posteriors to `blank` and `character`, see above, in the linear domain.

    near [T, L + 1] and work [4, L + 2] are memory for intermediate results.

    Returns:
        The logarithm of the probability of `label` [L], but for the denominators of the softmax of logits [T, K]; NaN
        where a double does not hold the sums, or by a NaN.
    """
    steps, count = near.shape
    scale = _gather(logits, label, near)
    blank[0, :] = 0.0
    character[0, :] = 0.0
    blank[0, 0] = near[0, 0]
    if count > 1:
        character[0, 1] = near[0, 1]
    alphas = 0.0
    for t in range(1, steps):
        old_blank, old_character, new_blank, new_character, p = (
            blank[t - 1],
            character[t - 1],
            blank[t],
            character[t],
            near[t],
        )
        at_blank = np.float64(p[0])
        new_character[0] = new_character[count] = 0.0
        for i in range(count):
            new_blank[i] = (old_blank[i] + old_character[i]) * at_blank
        for i in range(1, count):
            new_character[i] = (old_character[i] + old_blank[i - 1] + skips[i - 1] * old_character[i - 1]) * p[i]
        for i in range(count):
            alphas += new_blank[i] + new_character[i]
    total = blank[steps - 1, count - 1] + character[steps - 1, count - 1]
    inverse = 1.0 / total

    work[:] = 0.0
    beta_blank, beta_character, next_blank, next_character = work[0], work[1], work[2], work[3]
    beta_blank[count - 1] = 1.0
    if count > 1:
        beta_character[count - 1] = 1.0
    betas = 0.0
    for t in range(steps - 1, -1, -1):
        now_blank, now_character, p = blank[t], character[t], near[t]
        at_blank = np.float64(p[0])
        for i in range(count):
            now_blank[i] *= beta_blank[i] * inverse
            next_blank[i] = beta_blank[i] * at_blank
        for i in range(1, count):
            now_character[i] *= beta_character[i] * inverse
            next_character[i] = beta_character[i] * p[i]
        for i in range(count):
            beta_blank[i] = next_blank[i] + next_character[i + 1]
            beta_character[i] = next_character[i] + next_blank[i] + skips[i] * next_character[i + 1]
        for i in range(count):
            betas += beta_blank[i] + beta_character[i]
    if total > SMALLEST * max(1.0, alphas, betas):
        return np.log(total) + scale
    return np.nan


@njit(**EXACT)
def _add_logarithms(a, b):
    """Return log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@njit(**EXACT)
def _posteriors_logarithmic(logits, label, skips, blank, character):
    """Do the same in logarithms, for lines that the linear domain cannot hold; return -inf for an impossible label."""
    steps, count = blank.shape
    blank[:] = -np.inf
    character[:] = -np.inf
    blank[0, 0] = logits[0, 0]
    if count > 1:
        character[0, 1] = logits[0, label[0]]
    for t in range(1, steps):
        for i in range(count):
            blank[t, i] = _add_logarithms(blank[t - 1, i], character[t - 1, i]) + logits[t, 0]
        for i in range(1, count):
            total = _add_logarithms(character[t - 1, i], blank[t - 1, i - 1])
            if skips[i - 1]:
                total = _add_logarithms(total, character[t - 1, i - 1])
            character[t, i] = total + logits[t, label[i - 1]]
    total = _add_logarithms(blank[steps - 1, count - 1], character[steps - 1, count - 1])

    beta_blank, beta_character = np.full(count + 1, -np.inf), np.full(count + 1, -np.inf)
    beta_blank[count - 1] = beta_character[count - 1] = 0.0
    for t in range(steps - 1, -1, -1):
        for i in range(count):
            blank[t, i] = np.exp(blank[t, i] + beta_blank[i] - total)
            character[t, i] = np.exp(character[t, i] + beta_character[i] - total)
            beta_blank[i] += logits[t, 0]
            if i:
                beta_character[i] += logits[t, label[i - 1]]
        for i in range(count):
            stay = _add_logarithms(beta_character[i], beta_blank[i])
            if skips[i]:
                stay = _add_logarithms(stay, beta_character[i + 1])
            beta_blank[i] = _add_logarithms(beta_blank[i], beta_character[i + 1])
            beta_character[i] = stay
    return total


@njit(**SUMS)
def _losses(logits, labels, steps, lengths, losses, grads):
    """Write the losses [N] and their gradients [N, T, K] of logits [N, T, K], labels [N, L], steps and lengths [N]."""
    longest = labels.shape[1]
    near_memory = np.empty(logits.shape[1] * (longest + 1), np.float32)
    blank_memory = np.empty(logits.shape[1] * (longest + 1))
    character_memory = np.empty(logits.shape[1] * (longest + 2))
    work_memory = np.empty(4 * (longest + 2))
    skips = np.zeros(longest + 1)
    lanes = np.empty(LANES, np.float32)
    for n in range(logits.shape[0]):
        label, last, count = labels[n, : lengths[n]], steps[n], lengths[n] + 1
        repeated = 0
        skips[:] = 0.0
        for i in range(1, lengths[n]):
            skips[i] = 1.0 if label[i] != label[i - 1] else 0.0
            repeated += label[i] == label[i - 1]
        losses[n] = 0.0
        if last == 0 or lengths[n] + repeated > last:  # it cannot fit: such a line counts nothing
            grads[n] = 0.0
            continue
        grads[n, last:] = 0.0
        denominator = 0.0
        for t in range(last):
            denominator += _softmax(logits[n, t], lanes, grads[n, t])
        if np.isnan(denominator):
            losses[n] = np.nan
            continue
        near = near_memory[: last * count].reshape(last, count)
        blank = blank_memory[: last * count].reshape(last, count)
        character = character_memory[: last * (count + 1)].reshape(last, count + 1)
        work = work_memory[: 4 * (count + 1)].reshape(4, count + 1)
        likelihood = _posteriors_linear(logits[n], label, skips, near, blank, character, work)
        if np.isnan(likelihood):
            likelihood = _posteriors_logarithmic(logits[n], label, skips, blank, character)
        losses[n] = denominator - likelihood
        for t in range(last):
            at_blank = 0.0
            for i in range(count):
                at_blank += blank[t, i]
            grads[n, t, 0] -= np.float32(at_blank)
            for i in range(1, count):
                grads[n, t, label[i - 1]] -= np.float32(character[t, i])


class CTCFunction(PyLayer):
    """logits [T, N, K] float32 -> mean over lines of the loss divided by the label's length, a scalar."""

    @staticmethod
    def forward(ctx, logits, labels, steps, lengths):
        logits = logits.transpose([1, 0, 2])
        losses = np.empty(len(labels))
        grads = paddle.empty(logits.shape)
        _losses(view(logits), labels, steps, lengths, losses, writable(grads))
        with np.errstate(divide="ignore", invalid="ignore"):  # an empty label gives infinity, as Paddle's
            ctx.weights = 1.0 / (lengths * len(lengths))
            loss = (losses * ctx.weights).sum()
        ctx.grads = grads
        return paddle.to_tensor(np.float32(loss))

    @staticmethod
    def backward(ctx, grad):
        weights = paddle.to_tensor((ctx.weights * float(grad)).astype(np.float32))
        return (ctx.grads * weights.reshape([-1, 1, 1])).transpose([1, 0, 2])


def _to_array(values, dtype) -> np.ndarray:
    return np.ascontiguousarray(values.numpy() if isinstance(values, paddle.Tensor) else values, dtype=dtype)


def ctc_loss(logits, labels, input_lengths, label_lengths):
    """Return the CTC loss as `paddle.nn.functional.ctc_loss` does with blank 0 and reduction "mean".

    As with Paddle's, a line whose label does not fit into its time steps has loss 0, and an empty label makes the mean
    infinite. Unlike it, probabilities are not held above 1e-38: hopeless lines cost more than 87 a time step.

    Args:
        logits: tensor [T, N, K], before the softmax; a [N, T, K] tensor that was transposed is not copied.
        labels: tensor or array [N, L] of integers 1 .. K - 1, anything after the label's length.
        input_lengths: tensor or array [N], at most T.
        label_lengths: tensor or array [N], at most L.

    Returns:
        The mean over lines of loss / label length, a float32 scalar.

    Raises:
        ValueError: shapes do not fit, or a label or length is out of range.
    """
    if not (paddle.in_dynamic_mode() and logits.place.is_cpu_place() and logits.dtype == paddle.float32):
        return functional.ctc_loss(logits, labels, input_lengths, label_lengths, blank=0)
    labels = _to_array(labels, np.int32)
    steps, lengths = _to_array(input_lengths, np.int64), _to_array(label_lengths, np.int64)
    longest, lines, classes = logits.shape
    if labels.ndim != 2 or len(labels) != lines or steps.shape != (lines,) or lengths.shape != (lines,):
        raise ValueError(
            f"logits {list(logits.shape)} need labels [{lines}, L] and {lines} lengths of each kind, "
            f"got {labels.shape}, {steps.shape}, {lengths.shape}"
        )
    if lines and not (0 <= steps.min() and steps.max() <= longest):
        raise ValueError(f"input lengths must be 0 to {longest}, got {steps.tolist()}")
    if lines and not (0 <= lengths.min() and lengths.max() <= labels.shape[1]):
        raise ValueError(f"label lengths must be 0 to {labels.shape[1]}, got {lengths.tolist()}")
    used = labels[np.arange(labels.shape[1]) < lengths[:, None]]
    if used.size and not (1 <= used.min() and used.max() < classes):
        raise ValueError(f"labels must be 1 to {classes - 1}, got {used.min()} to {used.max()}")
    return CTCFunction.apply(logits, labels, steps, lengths)
