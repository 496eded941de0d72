"""Knowledge distillation losses: pure functions, each with its formula and source.

A teacher's outputs are arrays, through which no gradient flows; a student's are tensors. Every divergence is
tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) (Hinton et al. 2015, arXiv:1503.02531), a mean over what is
compared, so that repeating a batch changes nothing. A constant added to all classes of a time step changes nothing
either: log-probabilities serve as logits.

CTC networks put each character on one or two time steps and the blank on all others (Graves et al. 2006), and two
networks need not choose the same time steps. A plain mean over the time steps therefore teaches the blank above all,
and demands characters where the student does not see them: the functions here differ in how they deal with that.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle.nn import functional

NONE = -1e4  # a logit whose probability is 0; finite, since 0 times infinity is NaN


def divergences(student: paddle.Tensor, teacher: paddle.Tensor, temperature: float = 1.0) -> paddle.Tensor:
    """Return tau^2 KL(teacher || student).

    Args:
        student: logits [..., K].
        teacher: logits [..., K].
        temperature: tau.

    Returns:
        Divergences [...].
    """
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    with paddle.no_grad():
        probabilities = functional.softmax(teacher, axis=-1)
        entropy = _cross_entropy(teacher, probabilities)
    # The fused operation: the parts of a KL divergence one by one take five times as long on a CPU.
    return (_cross_entropy(student, probabilities) - entropy) * temperature**2


def _cross_entropy(logits: paddle.Tensor, probabilities: paddle.Tensor) -> paddle.Tensor:
    return functional.cross_entropy(logits, probabilities, soft_label=True, reduction="none").squeeze(-1)


def frame_kl_div(student: paddle.Tensor, teacher: np.ndarray, temperature: float = 1.0) -> paddle.Tensor:
    """Return the mean divergence of the time steps at and beside the teacher's characters.

    The weight of a time step is the largest probability of "no blank" that the teacher has there or one step away.
    Blanks beside characters are kept because they tell where a character ends; all others are left out (blank selection
    of Hilmes et al. 2025, arXiv:2506.01503, with soft weights). The student is guided to the teacher's timing (Kurata
    and Audhkhasi 2019, arXiv:1904.08311), which a student that already has a timing of its own resists.

    Args:
        student: logits [N, T, K].
        teacher: logits [N, T, K].
        temperature: tau of the divergence.
    """
    no_blank = 1 - np.exp(log_softmax(teacher)[:, :, 0])
    padded = np.pad(no_blank, ((0, 0), (1, 1)))
    weights = np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), no_blank)
    weights /= max(weights.sum(), np.finfo(np.float32).tiny)
    return (divergences(student, paddle.to_tensor(teacher), temperature) * paddle.to_tensor(weights)).sum()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of logits [..., K]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def mean_logits_kl_div(
    student: paddle.Tensor, teacher: np.ndarray, time_steps: np.ndarray, temperature: float = 1.0
) -> paddle.Tensor:
    """Return the mean divergence of the logits averaged over time.

    Timing drops out, and the order too: what is left is which characters the line has (PP-OCRv4 distils its CTC head
    so).

    Args:
        student: logits [N, T, K].
        teacher: logits [N, T, K].
        time_steps: time steps of each text line without its padding, [N].
        temperature: tau of the divergence.
    """
    real = np.arange(student.shape[1]) < np.asarray(time_steps)[:, None]
    weights = (real / real.sum(axis=1, keepdims=True)).astype(np.float32)[:, None]  # [N, 1, T]
    means = paddle.bmm(paddle.to_tensor(weights), student)
    return divergences(means, paddle.to_tensor(weights @ teacher), temperature).mean()


def align(logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the time step of each character on the likeliest path through the labels (CTC forced alignment).

    Of the time steps that a character takes on the path, it is the one where the character exceeds the blank most.

    Args:
        logits: [N, T, K].
        labels: classes [N, L], padded.
        lengths: characters of each text line, [N].

    Returns:
        [N, L] int64; -1 behind a line's characters, and everywhere in a line whose characters do not fit into its time
        steps.
    """
    lines, time_steps, _ = logits.shape
    states = np.zeros((lines, 2 * labels.shape[1] + 1), np.int64)  # blank, character, blank, character, ..., blank
    states[:, 1::2] = labels
    values = np.take_along_axis(logits, states[:, None, :], axis=2)
    path, possible = _viterbi(states, values, lengths)
    line, step = np.nonzero((path % 2 == 1) & possible[:, None])
    taken = path[line, step]
    order = np.argsort(values[line, step, taken] - values[line, step, 0], kind="stable")
    found = np.full(labels.shape, -1, np.int64)
    found[line[order], taken[order] // 2] = step[order]  # of several the last, which is the largest, stays
    return found


def _viterbi(states: np.ndarray, values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the likeliest path of each text line through the states of its labels.

    Args:
        states: classes of the states, [N, S]: the characters, and blanks between them and at both ends.
        values: logits of the states, [N, T, S].
        lengths: characters of each text line, [N].

    Returns:
        The state at each time step, [N, T] int64, and whether the line fits into its time steps at all, [N] bool.
    """
    lines, time_steps, _ = values.shape
    skips = np.full(states.shape, -np.inf, np.float32)  # a blank may be left out only between unlike characters
    skips[:, 2:][(states[:, 2:] != 0) & (states[:, 2:] != states[:, :-2])] = 0
    padded = np.full((lines, states.shape[1] + 2), -np.inf, np.float32)
    same, one, two = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]  # from which state a state is reached
    same[:, :2] = values[:, 0, :2]
    moves = np.zeros((time_steps, *states.shape), np.int8)
    for step in range(1, time_steps):
        skipped, best = two + skips, np.maximum(same, one)
        move = moves[step]
        np.greater(one, same, out=move.view(bool))
        move[skipped > best] = 2
        np.maximum(best, skipped, out=best)
        np.add(best, values[:, step], out=same)
    every, ends = np.arange(lines), 2 * np.asarray(lengths)
    state = np.where((ends > 0) & (same[every, ends - 1] > same[every, ends]), ends - 1, ends)
    possible = same[every, state] > -np.inf
    path = np.empty((lines, time_steps), np.int64)
    for step in range(time_steps - 1, -1, -1):
        path[:, step] = state
        state = state - moves[step, every, state]
    return path, possible


def character_logits(
    student: paddle.Tensor, teacher: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> tuple[paddle.Tensor, paddle.Tensor, np.ndarray]:
    """Return the logits of student and teacher at each character of the labels, wherever each of them puts it.

    Args:
        student: logits [N, T, K].
        teacher: logits [N, T, K].
        labels: classes [N, L], padded.
        lengths: characters of each text line, [N].

    Returns:
        The student's logits [M, K], the teacher's [M, K], and the characters' classes [M].
    """
    both = np.concatenate([student.detach().numpy(), teacher])  # many small time steps cost as much as a few large ones
    own, theirs = np.split(align(both, np.tile(labels, (2, 1)), np.tile(lengths, 2)), 2)
    line, character = np.nonzero((own >= 0) & (theirs >= 0))
    places = np.stack([line, own[line, character]], axis=1)
    target = paddle.to_tensor(teacher[line, theirs[line, character]])
    return student.gather_nd(paddle.to_tensor(places)), target, labels[line, character]


def aligned_kl_div(
    student: paddle.Tensor, teacher: np.ndarray, labels: np.ndarray, lengths: np.ndarray, temperature: float = 1.0
) -> paddle.Tensor:
    """Return the mean divergence of the labels' characters, wherever each network puts them.

    Both networks are aligned with the labels (`align`), so that timing drops out. A character that the teacher misreads
    is not learned as such, but the probabilities of its other classes are. Blanks are left to the CTC loss.

    Args:
        student: logits [N, T, K].
        teacher: logits [N, T, K].
        labels: classes [N, L], padded.
        lengths: characters of each text line, [N].
        temperature: tau of the divergence.
    """
    own, target, classes = character_logits(student, teacher, labels, lengths)
    return divergences(own, target, temperature).mean() if len(classes) else student.sum() * 0


def dkd(
    student: paddle.Tensor,
    teacher: np.ndarray,
    labels: np.ndarray,
    lengths: np.ndarray,
    temperature: float = 1.0,
    beta: float = 2.0,
) -> paddle.Tensor:
    """Return `aligned_kl_div` in its two parts, weighed apart: target class loss + beta * non-target class loss.

    Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679), with alpha = 1. The target class loss is the
    divergence of (the character, all other classes); the non-target class loss is that of the other classes among
    themselves, which in the plain divergence has the weight 1 - the character's probability and vanishes where the
    teacher is sure.

    Args:
        student: logits [N, T, K].
        teacher: logits [N, T, K].
        labels: classes [N, L], padded.
        lengths: characters of each text line, [N].
        temperature: tau of both divergences.
        beta: weight of the non-target class loss.
    """
    own, target, classes = character_logits(student, teacher, labels, lengths)
    if not len(classes):
        return student.sum() * 0
    chosen = paddle.to_tensor(classes.astype(np.int64))
    target_class = functional.one_hot(chosen, own.shape[1])

    def parts(logits):
        others = logits + target_class * NONE
        sums = paddle.logsumexp(others / temperature, axis=1, keepdim=True) * temperature
        return paddle.concat([(logits * target_class).sum(axis=1, keepdim=True), sums], axis=1), others

    (own_target, own_others), (their_target, their_others) = parts(own), parts(target)
    terms = divergences(own_target, their_target, temperature) + beta * divergences(
        own_others, their_others, temperature
    )
    return terms.mean()


def feature_mse(adapted: paddle.Tensor, teacher: np.ndarray) -> paddle.Tensor:
    """Return the mean squared distance from the teacher's features, each brought to mean 0 and variance 1.

    A student whose features are all 0 has the loss 1, whatever the teacher's scale.

    Args:
        adapted: the student's features [M, C], by way of a learned layer (Romero et al. 2015, arXiv:1412.6550).
        teacher: the teacher's features [M, C].
    """
    centred = teacher - teacher.mean(axis=-1, keepdims=True)
    centred /= np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return functional.mse_loss(adapted, paddle.to_tensor(centred))


def pseudo_labels(teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the texts that the teacher reads, as labels for the CTC loss.

    Sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947), with greedy decoding.

    Args:
        teacher: logits [N, T, K].

    Returns:
        Classes [N, L] int32, padded with 0, and lengths [N] int64.
    """
    best = teacher.argmax(axis=2)
    kept = best != 0
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    lengths = kept.sum(axis=1)
    labels = np.zeros((len(best), max(1, lengths.max())), np.int32)
    labels[np.arange(labels.shape[1]) < lengths[:, None]] = best[kept]
    return labels, lengths.astype(np.int64)


def map_distillation(student: paddle.Tensor, teacher: np.ndarray, entropy_weight: float = 5.0) -> paddle.Tensor:
    """Return the loss of a detector's probability maps against the teacher's, dilated.

    Dice loss + 5 * binary cross-entropy, the teacher's map dilated by a square of 2 pixels, as PP-OCRv2 distils its
    detector (Du et al. 2021, arXiv:2109.03144): a thin map is missed by a shift of one pixel. Unlike a divergence it
    is not 0 for equal maps.

    Args:
        student: probabilities [N, 1, H, W].
        teacher: probabilities [N, 1, H, W] float32.
        entropy_weight: weight of the binary cross-entropy.
    """
    wide = functional.max_pool2d(functional.pad(paddle.to_tensor(teacher), [0, 1, 0, 1]), 2, 1)
    overlap, total = (student * wide).sum(), student.sum() + wide.sum()
    dice = 1 - 2 * overlap / (total + 1e-6)
    return dice + entropy_weight * functional.binary_cross_entropy(student, wide)


def kl_div(student: paddle.Tensor, teacher: np.ndarray, temperature: float = 1.0) -> paddle.Tensor:
    """Return the mean divergence of a classifier's logits [N, K] (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        student: logits [N, K].
        teacher: logits [N, K].
        temperature: tau.
    """
    return divergences(student, paddle.to_tensor(teacher), temperature).mean()
