"""What a student loses to its teacher: pure functions, each with its formula and source.

A teacher's outputs are arrays, and nothing flows back into them; a student's are tensors. Every divergence is
tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) (Hinton et al. 2015, arXiv:1503.02531), a mean over what is
compared, so that repeating a batch changes nothing. A constant added to all classes of a step changes nothing either:
log-probabilities serve as logits.

CTC networks put each letter on one or two steps and the blank on all others (Graves et al. 2006), and two networks
need not put it on the same ones. A plain mean of the steps' divergences therefore teaches the blank above all, and
asks for letters where the student does not see them: the functions here differ in what they do about that.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle.nn import functional

NONE = -1e4  # a logit whose probability is 0; finite, because 0 times infinity is none


def divergences(student: paddle.Tensor, teacher: paddle.Tensor, temperature: float = 1.0) -> paddle.Tensor:
    """tau^2 KL(teacher || student) of logits [..., K] -> [...]."""
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    with paddle.no_grad():
        shares = functional.softmax(teacher, axis=-1)
        entropy = _cross_entropy(teacher, shares)
    # The fused operation: the parts of a KL divergence one by one take five times as long on a CPU.
    return (_cross_entropy(student, shares) - entropy) * temperature**2


def _cross_entropy(logits: paddle.Tensor, shares: paddle.Tensor) -> paddle.Tensor:
    return functional.cross_entropy(logits, shares, soft_label=True, reduction="none").squeeze(-1)


def frames(student: paddle.Tensor, teacher: np.ndarray, temperature: float = 1.0) -> paddle.Tensor:
    """The divergences of the steps at and beside the teacher's letters: logits [N, T, K] of both -> scalar.

    A step counts by the largest probability of "no blank" that the teacher has there or one step away. Blanks beside
    letters are kept because they tell where a letter ends; all others are left out (blank selection of Hilmes et al.
    2025, arXiv:2506.01503, with soft weights). The student is guided to the teacher's timing (Kurata and Audhkhasi
    2019, arXiv:1904.08311), which a student that has a timing of its own already resists.
    """
    letters = 1 - np.exp(log_softmax(teacher)[:, :, 0])
    padded = np.pad(letters, ((0, 0), (1, 1)))
    weights = np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), letters)
    weights /= max(weights.sum(), np.finfo(np.float32).tiny)
    return (divergences(student, paddle.to_tensor(teacher), temperature) * paddle.to_tensor(weights)).sum()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits [..., K]."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def mean_logits(
    student: paddle.Tensor, teacher: np.ndarray, steps: np.ndarray, temperature: float = 1.0
) -> paddle.Tensor:
    """The divergence of logits averaged over time: [N, T, K] of both, each row's steps [N] -> scalar.

    Timing drops out, order too: what is left is which characters the row has (PP-OCRv4 distils its CTC so).
    """
    real = np.arange(student.shape[1]) < np.asarray(steps)[:, None]
    shares = (real / real.sum(axis=1, keepdims=True)).astype(np.float32)[:, None]  # [N, 1, T]
    means = paddle.bmm(paddle.to_tensor(shares), student)
    return divergences(means, paddle.to_tensor(shares @ teacher), temperature).mean()


def align(logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The step of each letter on the likeliest path through `labels`: [N, T, K], [N, L], [N] -> [N, L] int64.

    Viterbi's path over letters and the blanks between them; of the steps that a letter takes on it the one where it
    exceeds the blank most. -1 behind a row's letters, and all along a row whose letters do not fit into its steps.
    """
    rows, steps, _ = logits.shape
    states = np.zeros((rows, 2 * labels.shape[1] + 1), np.int64)  # blank, letter, blank, letter, ..., blank
    states[:, 1::2] = labels
    values = np.take_along_axis(logits, states[:, None, :], axis=2)
    skips = np.full(states.shape, -np.inf, np.float32)  # a blank may be left out only between unlike letters
    skips[:, 2:][(states[:, 2:] != 0) & (states[:, 2:] != states[:, :-2])] = 0
    padded = np.full((rows, states.shape[1] + 2), -np.inf, np.float32)
    same, one, two = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]  # from which state a state is reached
    same[:, :2] = values[:, 0, :2]
    moves = np.zeros((steps, *states.shape), np.int8)
    for step in range(1, steps):
        skipped, best = two + skips, np.maximum(same, one)
        move = moves[step]
        np.greater(one, same, out=move.view(bool))
        move[skipped > best] = 2
        np.maximum(best, skipped, out=best)
        np.add(best, values[:, step], out=same)
    every, ends = np.arange(rows), 2 * np.asarray(lengths)
    state = np.where((ends > 0) & (same[every, ends - 1] > same[every, ends]), ends - 1, ends)
    possible = same[every, state] > -np.inf
    path = np.empty((rows, steps), np.int64)
    for step in range(steps - 1, -1, -1):
        path[:, step] = state
        state = state - moves[step, every, state]
    row, step = np.nonzero((path % 2 == 1) & possible[:, None])
    taken = path[row, step]
    order = np.argsort(values[row, step, taken] - values[row, step, 0], kind="stable")
    found = np.full(labels.shape, -1, np.int64)
    found[row[order], taken[order] // 2] = step[order]  # of several the last, which is the largest, stays
    return found


def letters(
    student: paddle.Tensor, teacher: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> tuple[paddle.Tensor, paddle.Tensor, np.ndarray]:
    """What student and teacher say at each letter of the labels, wherever each of them puts it.

    Logits [N, T, K] of both, labels [N, L], lengths [N] -> logits [M, K] of both, the letters' classes [M].
    """
    both = np.concatenate([student.detach().numpy(), teacher])  # at once: many small steps cost as much as a few large
    own, theirs = np.split(align(both, np.tile(labels, (2, 1)), np.tile(lengths, 2)), 2)
    row, letter = np.nonzero((own >= 0) & (theirs >= 0))
    places = np.stack([row, own[row, letter]], axis=1)
    target = paddle.to_tensor(teacher[row, theirs[row, letter]])
    return student.gather_nd(paddle.to_tensor(places)), target, labels[row, letter]


def aligned(
    student: paddle.Tensor, teacher: np.ndarray, labels: np.ndarray, lengths: np.ndarray, temperature: float = 1.0
) -> paddle.Tensor:
    """The mean divergence of the labels' letters, wherever each network puts them: logits, labels -> scalar.

    Both networks are aligned with the labels (`align`), so that timing drops out and a teacher's misreading is no
    letter to learn, while what it takes a letter for besides is. Blanks are left to the CTC loss.
    """
    own, target, classes = letters(student, teacher, labels, lengths)
    return divergences(own, target, temperature).mean() if len(classes) else student.sum() * 0


def dkd(
    student: paddle.Tensor,
    teacher: np.ndarray,
    labels: np.ndarray,
    lengths: np.ndarray,
    temperature: float = 1.0,
    beta: float = 2.0,
) -> paddle.Tensor:
    """Return `aligned` in its two parts, weighed apart: target class loss + beta * non-target class loss.

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
    own, target, classes = letters(student, teacher, labels, lengths)
    if not len(classes):
        return student.sum() * 0
    chosen = paddle.to_tensor(classes.astype(np.int64))
    letter = functional.one_hot(chosen, own.shape[1])

    def parts(logits):
        others = logits + letter * NONE
        sums = paddle.logsumexp(others / temperature, axis=1, keepdim=True) * temperature
        return paddle.concat([(logits * letter).sum(axis=1, keepdim=True), sums], axis=1), others

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
    """Return the loss of a detector's probability maps, [N, 1, H, W] in 0 to 1, against the teacher's, dilated.

    dice + 5 * binary cross-entropy, the teacher's map dilated by a square of 2 pixels, as PP-OCRv2 teaches its
    detector (Du et al. 2021, arXiv:2109.03144): a thin map is missed by a shift of one pixel. Unlike a divergence it
    is not 0 for equal maps.
    """
    wide = functional.max_pool2d(functional.pad(paddle.to_tensor(teacher), [0, 1, 0, 1]), 2, 1)
    overlap, total = (student * wide).sum(), student.sum() + wide.sum()
    dice = 1 - 2 * overlap / (total + 1e-6)
    return dice + entropy_weight * functional.binary_cross_entropy(student, wide)


def kl_div(student: paddle.Tensor, teacher: np.ndarray, temperature: float = 1.0) -> paddle.Tensor:
    """Return the mean divergence of a classifier's logits [N, K] (Hinton et al. 2015, arXiv:1503.02531)."""
    return divergences(student, paddle.to_tensor(teacher), temperature).mean()
