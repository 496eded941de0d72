"""The DB loss: its terms by hand, finite everywhere, and decreasing."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from pages import rectangle

from ppocr_slim.data.maps import db_maps
from ppocr_slim.tasks.db_loss import DBLoss

SIZE = (64, 96)


def targets(*pages):
    """Turn lists of (outline, ignored) into the four targets [N, H, W], as tensors."""
    targets = [db_maps([outline for outline, _ in page], [flag for _, flag in page], SIZE) for page in pages]
    names = ("shrink", "shrink_mask", "threshold", "threshold_mask")
    return [paddle.to_tensor(np.stack([getattr(maps, name) for maps in targets])) for name in names]


def outputs_of(probability, threshold, binary):
    maps = [np.broadcast_to(plane, (1, *SIZE)) for plane in (probability, threshold, binary)]
    return paddle.to_tensor(np.stack(maps, axis=1).astype(np.float32), stop_gradient=False)


TEXT = [(rectangle(10, 10, 70, 30), False)]


def test_a_perfect_output_has_no_loss():
    """Otherwise the loss pulls the network away from the truth."""
    maps = targets(TEXT)
    shrink, threshold = maps[0].numpy(), maps[2].numpy()
    losses = DBLoss()(outputs_of(shrink, threshold, shrink), *maps)
    assert set(losses) == {"probability", "binary", "threshold"}
    assert all(float(loss) == pytest.approx(0, abs=1e-5) for loss in losses.values())


def test_the_terms_by_hand():
    """Weights and means decide what a network learns first; a wrong one only shows in a worse metric, days later."""
    maps = targets(TEXT)
    shrink, _, threshold, near = (plane.numpy() for plane in maps)
    losses = DBLoss(alpha=2, beta=3)(outputs_of(0.25, 0.5, 0.5), *maps)
    text = shrink.sum()
    hard = min(3 * text, shrink.size - text)
    assert float(losses["probability"]) == pytest.approx(
        2 * (-text * np.log(0.25) - hard * np.log(0.75)) / (text + hard), rel=1e-4
    )
    assert float(losses["threshold"]) == pytest.approx(3 * np.abs(0.5 - threshold)[near == 1].mean(), rel=1e-4)
    assert float(losses["binary"]) == pytest.approx(1 - (text + 1) / (0.5 * shrink.size + text + 1), rel=1e-4)


def test_the_hardest_background_counts():
    """A page is nearly all background: its mean would drown the one line that was invented."""
    maps = targets(TEXT)
    wrong = maps[0].numpy().copy()
    wrong[0, 50:60, 10:90] = 0.9  # 800 pixels
    text = float(maps[0].sum())
    losses = DBLoss(alpha=1)(outputs_of(wrong, 0.3, 0), *maps)
    hard = 3 * text
    assert float(losses["probability"]) == pytest.approx(-min(800, hard) * np.log(0.1) / (text + hard), rel=1e-3)


def test_what_is_masked_has_no_gradient():
    """Ignored text is neither right nor wrong."""
    maps = targets([*TEXT, (rectangle(10, 45, 70, 15), True)])
    outputs = outputs_of(0.5, 0.5, 0.5)
    sum(DBLoss()(outputs, *maps).values()).backward()
    gradient = outputs.grad.numpy()[0]
    masked = maps[1].numpy()[0] == 0
    assert masked.any() and not gradient[0][masked].any() and not gradient[2][masked].any()
    assert not gradient[1][maps[3].numpy()[0] == 0].any()
    assert all(plane.any() for plane in gradient)


@pytest.mark.parametrize(
    "page",
    [[], [(rectangle(-50, -50, 300, 300), True)], [(rectangle(500, 500, 50, 20), False)], TEXT],
    ids=["no text", "all ignored", "text outside", "text"],
)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_every_page_has_a_finite_loss(page, value):
    """One crop without text in an epoch, or a saturated sigmoid, must not turn the weights into NaN."""
    outputs = outputs_of(value, value, value)
    losses = DBLoss()(outputs, *targets(page))
    total = sum(losses.values())
    total.backward()
    assert np.isfinite([float(loss) for loss in losses.values()]).all()
    assert np.isfinite(outputs.grad.numpy()).all()


def test_a_page_without_text_teaches_to_find_none():
    """With no text there is nothing to take three times as many pixels of: the page would be wasted."""
    outputs = outputs_of(0.5, 0.5, 0.5)
    sum(DBLoss()(outputs, *targets([])).values()).backward()
    gradient = outputs.grad.numpy()[0]
    assert (gradient[0] >= 0).all() and gradient[0].any()  # down with the probability of some
    assert (gradient[2] > 0).all()
    assert not gradient[1].any()


def test_maps_can_be_learnt():
    """Gradients of the right size and sign, all the way: free maps that follow the loss become the targets."""
    maps = targets(TEXT, [])
    logits = paddle.create_parameter([2, 2, *SIZE], "float32", default_initializer=paddle.nn.initializer.Constant(0))
    optimizer = paddle.optimizer.Adam(0.3, parameters=[logits])
    first = None
    for _ in range(60):
        probability, threshold = paddle.nn.functional.sigmoid(logits).unbind(axis=1)
        binary = paddle.nn.functional.sigmoid(50 * (probability - threshold))
        loss = sum(DBLoss()(paddle.stack([probability, threshold, binary], axis=1), *maps).values())
        first = float(loss) if first is None else first
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert float(loss) < 0.05 * first
    assert np.array_equal(probability.numpy() > 0.5, maps[0].numpy() > 0.5)
