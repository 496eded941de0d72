"""Distillation losses: every loss against its formula, and what it must not depend on."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import pytest

from ppocr_slim.slim import losses

LINES, TIME_STEPS, CLASSES = 3, 12, 6
LABELS = np.array([[1, 2, 3, 0], [4, 4, 5, 1], [2, 0, 0, 0]], np.int32)
LENGTHS = np.array([3, 4, 1])
REAL = np.array([12, 10, 7])


def logits(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape or (LINES, TIME_STEPS, CLASSES)).astype(np.float32)


def probabilities(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def divergence(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    p, q = probabilities(teacher / temperature), probabilities(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(axis=-1)


# name -> loss of (student, teacher, labels, lengths, time steps without padding, temperature)
CTC_LOSSES = {
    "frames": lambda s, t, labels, lengths, real, tau: losses.frame_kl_div(s, t, tau),
    "mean_logits": lambda s, t, labels, lengths, real, tau: losses.mean_logits_kl_div(s, t, real, tau),
    "aligned": lambda s, t, labels, lengths, real, tau: losses.aligned_kl_div(s, t, labels, lengths, tau),
    "dkd": lambda s, t, labels, lengths, real, tau: losses.dkd(s, t, labels, lengths, tau),
}


def loss_of(name: str, student: np.ndarray, teacher: np.ndarray, temperature: float = 1.0, repeat: int = 1) -> float:
    s, t = (np.tile(values, (repeat, 1, 1)) for values in (student, teacher))
    rest = np.tile(LABELS, (repeat, 1)), np.tile(LENGTHS, repeat), np.tile(REAL, repeat)
    return float(CTC_LOSSES[name](paddle.to_tensor(s), t, *rest, temperature))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", CTC_LOSSES)
def test_the_loss_of_a_student_equal_to_its_teacher_is_zero(name, temperature):
    """Lost otherwise: a constant in the loss would hide how near the student is."""
    same = logits(1)
    assert loss_of(name, same, same, temperature) == pytest.approx(0, abs=1e-6)
    constants = np.linspace(-3, 3, LINES * TIME_STEPS, dtype=np.float32).reshape(LINES, TIME_STEPS, 1)
    assert loss_of(name, same + constants, same, temperature) == pytest.approx(0, abs=1e-5)
    assert loss_of(name, logits(2), same, temperature) > 0.01


@pytest.mark.parametrize("name", CTC_LOSSES)
def test_repeating_a_batch_changes_nothing(name):
    """Lost otherwise: the weight of a loss would mean something else with every batch size."""
    student, teacher = logits(1), logits(2)
    assert loss_of(name, student, teacher, 2.0, repeat=3) == pytest.approx(loss_of(name, student, teacher, 2.0))


@pytest.mark.parametrize("name", CTC_LOSSES)
def test_the_gradient_is_that_of_the_value(name):
    """Lost otherwise: the student would be led somewhere, and the falling loss would not show where."""
    student, teacher, direction = logits(3), logits(4), logits(5)
    tensor = paddle.to_tensor(student, stop_gradient=False)
    CTC_LOSSES[name](tensor, teacher, LABELS, LENGTHS, REAL, 2.0).backward()
    step = 2e-3
    ahead, behind = (loss_of(name, student + sign * step * direction, teacher, 2.0) for sign in (1, -1))
    assert (tensor.grad.numpy() * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=0.02, abs=2e-3)


def test_frames_by_hand():
    """Lost otherwise: the blank, which is nearly everywhere, would be all that is taught."""
    student, teacher = logits(6), logits(7)
    teacher[:, 4:, 0] += 20  # characters at the first four time steps at most
    no_blank = 1 - probabilities(teacher)[:, :, 0]
    weights = np.stack([no_blank[:, max(0, t - 1) : t + 2].max(axis=1) for t in range(TIME_STEPS)], axis=1)
    expected = (divergence(teacher, student, 2.0) * weights).sum() / weights.sum()
    assert loss_of("frames", student, teacher, 2.0) == pytest.approx(expected, rel=1e-4)
    elsewhere = student.copy()
    elsewhere[:, 5:] = logits(8, LINES, TIME_STEPS - 5, CLASSES)
    assert loss_of("frames", elsewhere, teacher, 2.0) == pytest.approx(expected, rel=1e-4)


def test_frames_of_a_teacher_that_sees_nothing_is_finite():
    """Lost otherwise: one blank batch would end a training with NaN."""
    teacher = np.zeros((1, 4, 3), np.float32)
    teacher[:, :, 0] = 200
    assert float(losses.frame_kl_div(paddle.zeros([1, 4, 3]), teacher)) == 0


def test_mean_logits_by_hand():
    """Lost otherwise: padding, which is most of a short line in a wide batch, would weigh as the line does."""
    student, teacher = logits(6), logits(7)
    means = [np.stack([row[:n].mean(axis=0) for row, n in zip(values, REAL)]) for values in (teacher, student)]
    assert loss_of("mean_logits", student, teacher, 2.0) == pytest.approx(divergence(*means, 2.0).mean(), rel=1e-4)


def spikes(*places: int, seed: int = 9) -> np.ndarray:
    """Return one line [1, T, K] with the characters 1, 2, 3 at these time steps and blanks elsewhere."""
    line = np.zeros((1, TIME_STEPS, CLASSES), np.float32)
    line[:, :, 0] = 9
    for character, (place, values) in enumerate(zip(places, logits(seed, 3, CLASSES)), 1):
        line[0, place] = values
        line[0, place, character] = 6
    return line


def test_aligned_does_not_depend_on_timing():
    """Lost otherwise: a student that reads right, but a time step later than its teacher, would be led away from it."""
    teacher, late = spikes(2, 5, 8), spikes(3, 7, 10)
    labels, lengths = np.array([[1, 2, 3]]), np.array([3])
    assert float(losses.aligned_kl_div(paddle.to_tensor(late), teacher, labels, lengths)) == pytest.approx(0, abs=1e-6)
    assert float(losses.dkd(paddle.to_tensor(late), teacher, labels, lengths)) == pytest.approx(0, abs=1e-6)
    assert float(losses.frame_kl_div(paddle.to_tensor(late), teacher)) > 1
    other = spikes(3, 7, 10, seed=10)
    expected = np.mean([divergence(teacher[0, t], other[0, s], 2.0) for t, s in [(2, 3), (5, 7), (8, 10)]])
    own = float(losses.aligned_kl_div(paddle.to_tensor(other), teacher, labels, lengths, 2.0))
    assert own == pytest.approx(expected, rel=1e-4)


def test_dkd_is_the_plain_divergence_when_its_parts_weigh_as_they_do_there():
    """Lost otherwise: the two parts would not be those of the paper (its equation 6)."""
    teacher, student, label = logits(11, 1, 1, CLASSES), logits(12, 1, 1, CLASSES), np.array([[2]])
    beta = 1 - probabilities(teacher)[0, 0, 2]
    own = losses.dkd(paddle.to_tensor(student), teacher, label, np.array([1]), 1.0, float(beta))
    assert float(own) == pytest.approx(divergence(teacher, student, 1.0).item(), rel=1e-4)


def collapse(path) -> list:
    return [k for k, _ in itertools.groupby(path) if k != 0]


@pytest.mark.parametrize("label", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 2, 1, 1]])
def test_align_finds_the_best_of_all_paths(label):
    """Lost otherwise: characters would be compared with whatever stands beside them."""
    values = logits(sum(label), 1, 5, 3)
    paths = [path for path in itertools.product(range(3), repeat=5) if collapse(path) == label]
    found = losses.align(values, np.array([[*label, 0]]), np.array([len(label)]))[0]
    if not paths:
        assert (found == -1).all()
        return
    best = max(paths, key=lambda path: sum(values[0, t, k] for t, k in enumerate(path)))
    runs, expected = [], []
    for t, k in enumerate(best):
        if t and best[t - 1] == k:
            runs[-1].append(t)
        else:
            runs.append([t])
    for run in runs:
        if best[run[0]]:
            expected.append(max(run, key=lambda t: values[0, t, best[t]] - values[0, t, 0]))
    assert found.tolist() == [*expected, -1]


def test_lines_that_do_not_fit_teach_nothing():
    """Lost otherwise: a line longer than its time steps, which the CTC loss passes over, would end the training."""
    values, labels = logits(1, 1, 2, CLASSES), np.array([[1, 2, 3]])
    tensor = paddle.to_tensor(logits(2, 1, 2, CLASSES), stop_gradient=False)
    for loss in (losses.aligned_kl_div, losses.dkd):
        value = loss(tensor, values, labels, np.array([3]))
        value.backward()
        assert float(value) == 0 and float(tensor.grad.abs().sum()) == 0


def test_features_do_not_depend_on_the_teachers_scale():
    """Lost otherwise: the weight that suits one teacher would be a hundredfold wrong for the next."""
    teacher = logits(1, 20, 32)
    centred = (teacher - teacher.mean(axis=1, keepdims=True)) / teacher.std(axis=1, keepdims=True)
    for scale in (1, 100):
        assert float(losses.feature_mse(paddle.zeros([20, 32]), teacher * scale + 3)) == pytest.approx(1, abs=1e-3)
        assert float(losses.feature_mse(paddle.to_tensor(centred), teacher * scale + 3)) == pytest.approx(0, abs=1e-6)


def test_pseudo_labels_by_hand():
    """Lost otherwise: doubled characters would be learned as one, or blanks as characters."""
    paths = np.array([[0, 1, 1, 0, 1, 2], [0, 0, 0, 0, 0, 0], [3, 3, 3, 2, 2, 0]])
    labels, lengths = losses.pseudo_labels(np.eye(4, dtype=np.float32)[paths])
    assert labels.tolist() == [[1, 1, 2], [0, 0, 0], [3, 2, 0]] and lengths.tolist() == [3, 0, 2]


def test_map_distillation_by_hand():
    """Lost otherwise: a detector's student would learn maps that are shifted or thinned."""
    teacher = np.zeros((1, 1, 4, 4), np.float32)
    teacher[0, 0, 1, 1] = 1
    wide = np.zeros_like(teacher)
    wide[0, 0, :2, :2] = 1
    student = probabilities(logits(3, 1, 4, 4, 2))[..., 0][:, None]
    dice = 1 - 2 * (student * wide).sum() / (student.sum() + wide.sum())
    entropy = -(wide * np.log(student) + (1 - wide) * np.log(1 - student)).mean()
    own = float(losses.map_distillation(paddle.to_tensor(student), teacher))
    assert own == pytest.approx(dice + 5 * entropy, rel=1e-4)
    assert float(losses.map_distillation(paddle.to_tensor(wide), teacher)) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(float(losses.map_distillation(paddle.zeros([1, 1, 4, 4]), np.zeros((1, 1, 4, 4), np.float32))))


def test_kl_div_by_hand():
    """Lost otherwise: the direction classifier's student would learn from another quantity than it logs."""
    student, teacher = logits(1, 5, 2), logits(2, 5, 2)
    own = float(losses.kl_div(paddle.to_tensor(student), teacher, 4.0))
    assert own == pytest.approx(divergence(teacher, student, 4.0).mean(), rel=1e-4)
    assert float(losses.kl_div(paddle.to_tensor(teacher), teacher, 4.0)) == 0
