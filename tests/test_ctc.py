"""The fast CTC loss must be the loss of the paper, and Paddle's where Paddle's is right."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle.nn import functional

from ppocr_slim.training.kernels import ctc
from ppocr_slim.training.kernels.ctc import ctc_loss
from ppocr_slim.training.kernels.exponential import exp


def value_and_gradient(loss, logits: np.ndarray, *rest, **more):
    x = paddle.to_tensor(logits, stop_gradient=False)
    value = loss(x, *(paddle.to_tensor(part) for part in rest), **more)
    (3.0 * value).backward()
    return float(value), x.grad.numpy() / 3.0


def likelihood(logits: np.ndarray, label) -> float:
    """Return the probability of `label`, over every path through logits [T, K], in double precision."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    paths = product(range(logits.shape[1]), repeat=len(logits))
    fitting = (path for path in paths if [k for k, _ in groupby(path) if k] == list(label))
    return sum(np.prod([p[t, k] for t, k in enumerate(path)]) for path in fitting)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 60),
    lines=st.integers(1, 5),
    classes=st.integers(2, 40),
    longest=st.integers(1, 25),
    scale=st.sampled_from([0.0, 1.0, 5.0]),
    seed=st.integers(0, 10_000),
)
def test_loss_and_gradient_are_paddles(steps, lines, classes, longest, scale, seed):
    """Lost otherwise: training on a CPU would follow wrong gradients, and nobody would see why accuracy is poor.

    Repeated characters, lines shorter than the batch and labels that cannot fit are among the cases. Paddle computes
    in double precision here: in single precision its gradients are off by up to 2e-5 themselves.
    """
    random = np.random.default_rng(seed)
    logits = (scale * random.standard_normal((steps, lines, classes))).astype(np.float32)
    labels = random.integers(1, classes, (lines, longest)).astype(np.int32)
    lengths = random.integers(1, longest + 1, lines)
    used = random.integers(1, steps + 1, lines)
    ours = value_and_gradient(ctc_loss, logits, labels, used, lengths)
    paddles = value_and_gradient(functional.ctc_loss, logits.astype(np.float64), labels, used, lengths, blank=0)
    assert ours[0] == pytest.approx(paddles[0], rel=1e-5, abs=1e-6)
    assert np.abs(ours[1] - paddles[1]).max() < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 5),
    label=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    scale=st.sampled_from([1.0, 10.0, 100.0]),
    seed=st.integers(0, 10_000),
)
def test_loss_and_gradient_are_those_of_all_paths(steps, label, scale, seed):
    """Lost otherwise: an error that Paddle shares, or one of the logarithmic domain alone, would go unseen."""
    logits = (scale * np.random.default_rng(seed).standard_normal((steps, 1, 3))).astype(np.float32)
    probability = likelihood(logits[:, 0].astype(np.float64), label)
    if probability == 0.0:  # the label cannot fit
        return
    value, gradient = value_and_gradient(ctc_loss, logits, np.int32([label]), [steps], [len(label)])
    assert value * len(label) == pytest.approx(-np.log(probability), rel=1e-5, abs=1e-6)
    for t, k in product(range(steps), range(3)):
        moved = logits[:, 0].astype(np.float64)
        moved[t, k] += 1e-4
        more = -np.log(likelihood(moved, label))
        moved[t, k] -= 2e-4
        slope = (more + np.log(likelihood(moved, label))) / 2e-4 / len(label)
        assert gradient[t, 0, k] == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_logarithms_give_what_the_linear_domain_gives(scale, monkeypatch):
    """Lost otherwise: long hopeless lines, which only this branch computes, would spoil the batches they are in."""
    random = np.random.default_rng(3)
    logits = scale * random.standard_normal((50, 12)).astype(np.float32)
    label = np.int32([4, 4, 1, 2, 7, 7, 7, 3])
    skips = np.r_[0.0, label[1:] != label[:-1], 0.0]
    near, work = np.empty((50, 9), np.float32), np.empty((4, 10))
    linear = [np.empty((50, 9)), np.empty((50, 10))]
    logarithmic = [np.empty((50, 9)), np.empty((50, 10))]
    one = ctc._posteriors_linear(logits, label, skips, near, *linear, work)
    other = ctc._posteriors_logarithmic(logits, label, skips, *logarithmic)
    assert one == pytest.approx(other, rel=1e-6)
    assert np.abs(linear[0] - logarithmic[0]).max() < 1e-5
    assert np.abs(linear[1][:, 1:-1] - logarithmic[1][:, 1:-1]).max() < 1e-5


def test_a_row_beyond_the_range_of_a_double_is_still_right():
    """Lost otherwise: a line that the network reads as something else entirely would have no gradient, or NaN."""
    steps, label = 200, np.arange(1, 61, dtype=np.int32)[None]
    logits = np.zeros((steps, 1, 62), np.float32)
    logits[:, :, 0] = 30.0  # certain of nothing but blanks: exp(-30 * 60) is no double
    value, gradient = value_and_gradient(ctc_loss, logits, label, [steps], [60])
    # 60 characters in 200 time steps: C(200, 60) ways and more, as characters may be held; exp(-30) for each non-blank
    assert 1600 < value * 60 < 1800
    assert np.isfinite(gradient).all()
    assert gradient.sum(axis=2) == pytest.approx(0.0, abs=1e-5)
    assert (gradient[:, 0, 61] >= 0).all() and gradient[:, 0, 0].sum() * 60 == pytest.approx(60.0, abs=0.01)


def test_not_a_number_stays_one():
    """Lost otherwise: a diverged network would go on training on a loss that looks like one."""
    logits = np.zeros((8, 2, 20), np.float32)
    logits[3, 1, 17] = np.nan
    labels, steps, lengths = np.int32([[1, 2], [3, 4]]), np.int64([8, 8]), np.int64([2, 2])
    value, gradient = value_and_gradient(ctc_loss, logits, labels, steps, lengths)
    assert np.isnan(value) and np.isnan(gradient[3, 1]).all() and np.isfinite(gradient[:, 0]).all()
    steps[1] = 3  # now it is in what the line does not use
    assert np.isfinite(value_and_gradient(ctc_loss, logits, labels, steps, lengths)[0])


def test_an_empty_label_is_as_in_paddle():
    """Lost otherwise: a broken label file would pass unseen where Paddle's own loss shows infinity."""
    rest = (np.int32([[1, 2], [3, 4]]), np.int64([8, 8]), np.int64([2, 0]))
    logits = np.random.default_rng(0).standard_normal((8, 2, 5)).astype(np.float32)
    assert value_and_gradient(ctc_loss, logits, *rest)[0] == np.inf
    assert value_and_gradient(functional.ctc_loss, logits, *rest)[0] == np.inf


def test_transposed_logits_and_arrays():
    """Lost otherwise: the layout in which networks give their logits would be read wrongly."""
    random = np.random.default_rng(1)
    x = paddle.to_tensor(random.standard_normal((3, 20, 9)).astype(np.float32), stop_gradient=False)
    rest = (random.integers(1, 9, (3, 6)), np.int64([20, 20, 19]), np.int64([6, 5, 4]))
    ctc_loss(x.transpose([1, 0, 2]), *rest).backward()
    _, expected = value_and_gradient(ctc_loss, x.numpy().transpose(1, 0, 2), np.int32(rest[0]), *rest[1:])
    assert np.array_equal(x.grad.numpy(), expected.transpose(1, 0, 2)) or np.allclose(
        x.grad.numpy(), expected.transpose(1, 0, 2), atol=1e-7
    )


@pytest.mark.parametrize(
    "labels, steps, lengths, message",
    [
        ([[1, 9]], [5], [2], "labels must be 1 to 3"),
        ([[0, 1]], [5], [2], "labels must be 1 to 3"),
        ([[1, 2]], [6], [2], "input lengths must be 0 to 5"),
        ([[1, 2]], [5], [3], "label lengths must be 0 to 2"),
        ([[1, 2]], [5, 5], [2], "need labels"),
    ],
)
def test_what_does_not_fit_is_refused(labels, steps, lengths, message):
    """Lost otherwise: memory beyond the arrays would be read."""
    with pytest.raises(ValueError, match=message):
        ctc_loss(paddle.zeros([5, 1, 4]), np.int32(labels), np.int64(steps), np.int64(lengths))


def test_double_precision_takes_paddles_own():
    """Lost otherwise: an input of another type would be reinterpreted as garbage or crash."""
    logits, labels = paddle.zeros([5, 1, 4], dtype="float64"), paddle.to_tensor(np.int32([[1, 2]]))
    assert ctc_loss(logits, labels, paddle.to_tensor([5]), paddle.to_tensor([2])).dtype == paddle.float64


def test_exp_is_as_exact_as_it_says():
    """Lost otherwise: every loss, and every gate of the fast LSTM, would be a little wrong."""
    x = np.linspace(-87, 87, 20_001, dtype=np.float32)
    values = np.array([exp(value) for value in x], np.float64)
    error = np.abs(values / np.exp(x.astype(np.float64)) - 1)
    assert (error <= (2 + np.abs(x)) * 1e-7).all()
    assert np.isnan(exp(np.float32(np.nan)))
    assert 0 < exp(np.float32(-np.inf)) < 2e-38 and 8e37 < exp(np.float32(np.inf)) < np.inf
