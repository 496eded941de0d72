"""The CTC loss with its gradient on a CPU (Graves et al. 2006, "Connectionist Temporal Classification").

The forward-backward sums run in the linear domain, in double precision. Each step's probabilities are divided by the
largest one of the row's own letters and the blank (section 4.1 of the paper divides by the sums instead), which keeps
the sums near 1 for nearly every row that one meets. The few rows where they leave the range of a double are done again
with logarithms.
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

FARTHEST = np.float32(80.0)  # logits of a row's letters farther apart than this leave float32's exp
SMALLEST = 1e-290  # what is lost below the range of a double is less than 1e-300 times the sums it would enter
LANES = 16


@njit(**SUMS)
def _largest(values, lanes):
    """Return the largest of [K], of which a NaN may be left out; lanes: memory for LANES numbers."""
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
    """Softmax of logits [K] into out [K].

    Returns:
        The logarithm of the sum of exp(logits).
    """
    largest = _largest(logits, lanes)
    for k in range(logits.size):
        out[k] = exp(logits[k] - largest)
    total = np.float32(0.0)
    for k in range(logits.size):
        total += out[k]
    share = np.float32(1.0) / total
    for k in range(logits.size):
        out[k] *= share
    return np.float64(largest) + np.log(np.float64(total))


@njit(**SUMS)
def _gather(logits, letters, near):
    """near [T, L + 1]: exp(logit - the step's largest) of the blank and each letter.

    NaN where two of a step are too far apart.

    Returns:
        The sum of the largest.
    """
    steps, count = near.shape
    total = 0.0
    for t in range(steps):
        row = near[t]
        row[0] = logits[t, 0]
        for i in range(1, count):
            row[i] = logits[t, letters[i - 1]]
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


# Before each letter and at the end there is a blank. `blank` [T, L + 1] and `letter` [T, L + 2] hold a value of each:
# blank i and, before it, letter i - 1, so that letter[:, 0] and letter[:, L + 1] stand for none. First the value is
# alpha of the paper, then it becomes the share of all alignments that is there at step t. `skips` [L + 1] says where
# letter i may follow letter i - 1 without a blank, 1 or 0. Beta is taken without the probability of its own step.


@njit(**SUMS)
def _shares_linear(logits, letters, skips, near, blank, letter, work):
    """Logarithm of the probability of `letters` [L], but for the denominators of the softmax of logits [T, K].

    blank and letter: the shares, see above. near [T, L + 1] and work [4, L + 2] are memory. NaN where a double does not
    hold the sums, or by a NaN.
    """
    steps, count = near.shape
    scale = _gather(logits, letters, near)
    blank[0, :] = 0.0
    letter[0, :] = 0.0
    blank[0, 0] = near[0, 0]
    if count > 1:
        letter[0, 1] = near[0, 1]
    alphas = 0.0
    for t in range(1, steps):
        old_blank, old_letter, new_blank, new_letter, p = blank[t - 1], letter[t - 1], blank[t], letter[t], near[t]
        at_blank = np.float64(p[0])
        new_letter[0] = new_letter[count] = 0.0
        for i in range(count):
            new_blank[i] = (old_blank[i] + old_letter[i]) * at_blank
        for i in range(1, count):
            new_letter[i] = (old_letter[i] + old_blank[i - 1] + skips[i - 1] * old_letter[i - 1]) * p[i]
        for i in range(count):
            alphas += new_blank[i] + new_letter[i]
    total = blank[steps - 1, count - 1] + letter[steps - 1, count - 1]
    share = 1.0 / total

    work[:] = 0.0
    beta_blank, beta_letter, next_blank, next_letter = work[0], work[1], work[2], work[3]
    beta_blank[count - 1] = 1.0
    if count > 1:
        beta_letter[count - 1] = 1.0
    betas = 0.0
    for t in range(steps - 1, -1, -1):
        now_blank, now_letter, p = blank[t], letter[t], near[t]
        at_blank = np.float64(p[0])
        for i in range(count):
            now_blank[i] *= beta_blank[i] * share
            next_blank[i] = beta_blank[i] * at_blank
        for i in range(1, count):
            now_letter[i] *= beta_letter[i] * share
            next_letter[i] = beta_letter[i] * p[i]
        for i in range(count):
            beta_blank[i] = next_blank[i] + next_letter[i + 1]
            beta_letter[i] = next_letter[i] + next_blank[i] + skips[i] * next_letter[i + 1]
        for i in range(count):
            betas += beta_blank[i] + beta_letter[i]
    if total > SMALLEST * max(1.0, alphas, betas):
        return np.log(total) + scale
    return np.nan


@njit(**EXACT)
def _add_logarithms(a, b):
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@njit(**EXACT)
def _shares_logarithmic(logits, letters, skips, blank, letter):
    """Return the same in logarithms, for rows that the linear domain cannot hold; -inf for a row that is impossible."""
    steps, count = blank.shape
    blank[:] = -np.inf
    letter[:] = -np.inf
    blank[0, 0] = logits[0, 0]
    if count > 1:
        letter[0, 1] = logits[0, letters[0]]
    for t in range(1, steps):
        for i in range(count):
            blank[t, i] = _add_logarithms(blank[t - 1, i], letter[t - 1, i]) + logits[t, 0]
        for i in range(1, count):
            total = _add_logarithms(letter[t - 1, i], blank[t - 1, i - 1])
            if skips[i - 1]:
                total = _add_logarithms(total, letter[t - 1, i - 1])
            letter[t, i] = total + logits[t, letters[i - 1]]
    total = _add_logarithms(blank[steps - 1, count - 1], letter[steps - 1, count - 1])

    beta_blank, beta_letter = np.full(count + 1, -np.inf), np.full(count + 1, -np.inf)
    beta_blank[count - 1] = beta_letter[count - 1] = 0.0
    for t in range(steps - 1, -1, -1):
        for i in range(count):
            blank[t, i] = np.exp(blank[t, i] + beta_blank[i] - total)
            letter[t, i] = np.exp(letter[t, i] + beta_letter[i] - total)
            beta_blank[i] += logits[t, 0]
            if i:
                beta_letter[i] += logits[t, letters[i - 1]]
        for i in range(count):
            stay = _add_logarithms(beta_letter[i], beta_blank[i])
            if skips[i]:
                stay = _add_logarithms(stay, beta_letter[i + 1])
            beta_blank[i] = _add_logarithms(beta_blank[i], beta_letter[i + 1])
            beta_letter[i] = stay
    return total


@njit(**SUMS)
def _losses(logits, labels, steps, lengths, losses, grads):
    """logits [N, T, K], labels [N, L], steps and lengths [N] -> losses [N] and their gradients [N, T, K]."""
    longest = labels.shape[1]
    near_memory = np.empty(logits.shape[1] * (longest + 1), np.float32)
    blank_memory = np.empty(logits.shape[1] * (longest + 1))
    letter_memory = np.empty(logits.shape[1] * (longest + 2))
    work_memory = np.empty(4 * (longest + 2))
    skips = np.zeros(longest + 1)
    lanes = np.empty(LANES, np.float32)
    for n in range(logits.shape[0]):
        letters, last, count = labels[n, : lengths[n]], steps[n], lengths[n] + 1
        repeated = 0
        skips[:] = 0.0
        for i in range(1, lengths[n]):
            skips[i] = 1.0 if letters[i] != letters[i - 1] else 0.0
            repeated += letters[i] == letters[i - 1]
        losses[n] = 0.0
        if last == 0 or lengths[n] + repeated > last:  # it cannot fit: such a row counts nothing
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
        letter = letter_memory[: last * (count + 1)].reshape(last, count + 1)
        work = work_memory[: 4 * (count + 1)].reshape(4, count + 1)
        likelihood = _shares_linear(logits[n], letters, skips, near, blank, letter, work)
        if np.isnan(likelihood):
            likelihood = _shares_logarithmic(logits[n], letters, skips, blank, letter)
        losses[n] = denominator - likelihood
        for t in range(last):
            at_blank = 0.0
            for i in range(count):
                at_blank += blank[t, i]
            grads[n, t, 0] -= np.float32(at_blank)
            for i in range(1, count):
                grads[n, t, letters[i - 1]] -= np.float32(letter[t, i])


class CTCFunction(PyLayer):
    """logits [T, N, K] float32 -> mean over rows of the loss divided by the row's length, a scalar."""

    @staticmethod
    def forward(ctx, logits, labels, steps, lengths):
        rows = logits.transpose([1, 0, 2])
        losses = np.empty(len(labels))
        grads = paddle.empty(rows.shape)
        _losses(view(rows), labels, steps, lengths, losses, writable(grads))
        with np.errstate(divide="ignore", invalid="ignore"):  # a row without letters gives infinity, as Paddle's
            ctx.shares = 1.0 / (lengths * len(lengths))
            loss = (losses * ctx.shares).sum()
        ctx.grads = grads
        return paddle.to_tensor(np.float32(loss))

    @staticmethod
    def backward(ctx, grad):
        shares = paddle.to_tensor((ctx.shares * float(grad)).astype(np.float32))
        return (ctx.grads * shares.reshape([-1, 1, 1])).transpose([1, 0, 2])


def _numbers(values, dtype) -> np.ndarray:
    return np.ascontiguousarray(values.numpy() if isinstance(values, paddle.Tensor) else values, dtype=dtype)


def ctc_loss(logits, labels, input_lengths, label_lengths):
    """Return `paddle.nn.functional.ctc_loss` with blank 0 and the mean over rows of loss / label length, a scalar
    float32.

    Args:
        logits: tensor [T, N, K], before the softmax; a [N, T, K] tensor that was transposed is not copied.
        labels: tensor or array [N, L] of whole numbers 1 .. K - 1, whatever after the row's length.
        input_lengths, label_lengths: tensor or array [N], at most T and L.

    As with Paddle's, a row whose letters do not fit into its steps has loss 0, and one without letters makes the mean
    infinite. Unlike it, probabilities are not held above 1e-38: hopeless rows cost more than 87 a step.

    Raises:
        ValueError: shapes do not fit, or a label or length is out of range.
    """
    if not (paddle.in_dynamic_mode() and logits.place.is_cpu_place() and logits.dtype == paddle.float32):
        return functional.ctc_loss(logits, labels, input_lengths, label_lengths, blank=0)
    letters = _numbers(labels, np.int32)
    steps, lengths = _numbers(input_lengths, np.int64), _numbers(label_lengths, np.int64)
    longest, rows, classes = logits.shape
    if letters.ndim != 2 or len(letters) != rows or steps.shape != (rows,) or lengths.shape != (rows,):
        raise ValueError(
            f"logits {list(logits.shape)} need labels [{rows}, L] and {rows} lengths of each kind, "
            f"got {letters.shape}, {steps.shape}, {lengths.shape}"
        )
    if rows and not (0 <= steps.min() and steps.max() <= longest):
        raise ValueError(f"input lengths must be 0 to {longest}, got {steps.tolist()}")
    if rows and not (0 <= lengths.min() and lengths.max() <= letters.shape[1]):
        raise ValueError(f"label lengths must be 0 to {letters.shape[1]}, got {lengths.tolist()}")
    used = letters[np.arange(letters.shape[1]) < lengths[:, None]]
    if used.size and not (1 <= used.min() and used.max() < classes):
        raise ValueError(f"labels must be 1 to {classes - 1}, got {used.min()} to {used.max()}")
    return CTCFunction.apply(logits, letters, steps, lengths)
