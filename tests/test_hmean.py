"""ICDAR 2015's precision, recall and hmean, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import iou_of_quads, rectangle

from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import Found, score_page
from ppocr_slim.runtime.polygons import area, intersection_area

A, B, C = rectangle(0, 0, 100, 20), rectangle(0, 40, 100, 20), rectangle(0, 80, 100, 20)


def score(truths, detections, ignored=None):
    return score_page(truths, ignored if ignored is not None else [False] * len(truths), detections)


def test_counts_by_hand():
    """The headline figure of every detector rests on these three counts."""
    counts = score([A, B, C], [A + 2, B, rectangle(200, 200, 50, 20)])
    assert counts == Found(matched=2, truths=3, detections=3)
    assert (counts.precision, counts.recall) == (2 / 3, 2 / 3)
    assert counts.hmean == pytest.approx(2 / 3)
    counts = score([A, B, C], [A])
    assert (counts.precision, counts.recall, counts.hmean) == (1, 1 / 3, pytest.approx(0.5))


@pytest.mark.parametrize(("height", "found"), [(10.0, 0), (10.5, 1)])
def test_an_iou_of_exactly_a_half_is_not_enough(height, found):
    """The protocol's program asks for more than 0.5."""
    assert score([A], [rectangle(0, 0, 100, height)]).matched == found


def test_a_truth_is_found_once():
    """Ten boxes on one text are nine mistakes, not ten hits."""
    assert score([A], [A, A + 1, A - 1]) == Found(matched=1, truths=1, detections=3)
    assert score([A, A + 1], [A]) == Found(matched=1, truths=2, detections=1)


def test_one_box_over_two_lines_finds_neither():
    """Merged lines cannot be read."""
    assert score([A, rectangle(0, 20, 100, 20)], [rectangle(0, 0, 100, 40)]).matched == 0


def test_ignored_texts_count_for_nothing():
    """ "###" marks what people cannot read: finding it or not must not move the figure."""
    left_half = rectangle(0, 40, 50, 20)
    for detections in ([A], [A, B], [A, left_half]):
        assert score([A, B], detections, ignored=[False, True]) == Found(1, 1, 1)


@pytest.mark.parametrize(("width", "counted"), [(199, 0), (201, 1)])
def test_a_detection_half_within_an_ignored_text_is_dropped(width, counted):
    """More than half of the detection's own area, not of the union: small boxes within a large ignored block count
    for nothing.
    """
    assert score([A], [rectangle(0, 0, width, 20)], ignored=[True]).detections == counted


def test_pages_add_up():
    """The protocol sums counts over pages; a mean of the pages' figures would weigh an empty page like a full one."""
    pages = [score([A, B], [A]), score([C], [C, A]), score([], [])]
    total = sum(pages, Found())
    assert total == Found(matched=2, truths=3, detections=3)
    assert total.hmean == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "hmean"),
    [(Found(0, 0, 0), 1, 1, 1), (Found(0, 0, 3), 0, 1, 0), (Found(0, 3, 0), 0, 0, 0), (Found(0, 3, 3), 0, 0, 0)],
)
def test_nothing_to_find_or_nothing_found(counts, precision, recall, hmean):
    """Blank pages must neither divide by zero nor count against a detector that left them blank."""
    assert (counts.precision, counts.recall, counts.hmean) == (precision, recall, hmean)


def test_corners_may_run_either_way():
    """Data sets differ in it, and an area with the wrong sign makes every overlap vanish."""
    assert score([A, B[::-1]], [A[::-1], B]).hmean == 1.0


def test_bent_outlines_overlap_by_area():
    """A bounding rectangle of a bent text holds much that is not text."""
    bent = np.array([[0, 0], [90, 0], [90, 60], [60, 60], [60, 30], [0, 30]], np.float32)
    assert area(bent) == 3600
    assert intersection_area(bent, rectangle(0, 30, 60, 40)) == pytest.approx(0, abs=1)
    assert intersection_area(bent, rectangle(0, 0, 90, 60)) == pytest.approx(3600)
    assert score([bent], [rectangle(0, 0, 90, 60)]).matched == 1  # 3600 of 5400
    assert score([bent], [rectangle(0, 0, 90, 85)]).matched == 0  # 3600 of 7650


def test_a_truth_that_crosses_itself_is_ignored():
    """Nobody can say which text it means, so no detector can be right or wrong about it."""
    knot = A[[0, 2, 1, 3]]
    assert score([knot, B], [A, B]) == Found(1, 1, 1)
    assert score([B], [knot, B]) == Found(1, 1, 2)


def test_a_point_is_no_text():
    """A click instead of a box is in many label files, and must not end an evaluation."""
    point = rectangle(10, 10, 0, 0)
    assert score([point, A], [A, point]) == Found(1, 1, 2)
    assert score([point], [], ignored=[True]) == Found(0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_overlaps_are_right_for_any_two_rectangles(data):
    """Against a second program that clips polygons another way."""
    number = st.floats(10, 90)
    a, b = (rectangle(*[data.draw(number) for _ in range(4)], data.draw(st.floats(-180, 180))) for _ in range(2))
    common = intersection_area(a, b)
    assert common / (area(a) + area(b) - common) == pytest.approx(iou_of_quads(a, b), abs=0.01)
    assert common == pytest.approx(intersection_area(b, a), abs=1)
    assert intersection_area(a, a) == pytest.approx(area(a), rel=0.02)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=12), st.randoms())
def test_counts_are_possible(cells, random):
    """No input may give a precision or recall above 1, and one's own labels are a perfect answer."""
    outlines = [rectangle(100 * x, 40 * y, 90, 30) for x, y, _ in cells]
    ignored = [flag for _, _, flag in cells]
    some = [outline + random.uniform(-20, 20) for outline in outlines if random.random() < 0.7]
    counts = score(outlines, some, ignored)
    assert 0 <= counts.matched <= min(counts.truths, counts.detections)
    assert 0 <= counts.hmean <= 1
    assert score(outlines, outlines, [False] * len(outlines)).hmean == 1.0


def test_unusable_input_is_named():
    """Labels come from files: the message must say which polygon is wrong."""
    with pytest.raises(SlimError, match="ground truth 1"):
        score([A, np.zeros((2, 2))], [])
    with pytest.raises(SlimError, match="detection 0"):
        score([A], [np.full((4, 2), np.inf)])
    with pytest.raises(SlimError, match="3 flags"):
        score([A], [], ignored=[False] * 3)
