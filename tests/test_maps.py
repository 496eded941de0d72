"""The maps that DB learns from, against the paper's definitions pixel by pixel."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import page_of_lines, rectangle, turned

from ppocr_slim.data.maps import HIGH, LOW, db_maps
from ppocr_slim.errors import SlimError

SIZE = (120, 200)


def maps_of(*outlines: np.ndarray, ignored=None, size=SIZE, **settings):
    return db_maps(list(outlines), ignored if ignored is not None else [False] * len(outlines), size, **settings)


def distance_to_border(points: np.ndarray, size) -> np.ndarray:
    """[H, W]: of every pixel to the nearest side, the slow and obvious way."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    grid = np.stack([x, y], axis=-1)
    nearest = np.full(size, np.inf)
    for a, b in zip(points.astype(float), np.roll(points.astype(float), -1, axis=0)):
        share = np.clip(((grid - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*np.moveaxis(grid - (a + share[..., None] * (b - a)), -1, 0)))
    return nearest


def test_the_shrunk_box_has_the_papers_distance():
    """Every detection is grown back by a formula that relies on this one."""
    maps = maps_of(rectangle(20, 30, 100, 40))
    by = 100 * 40 * (1 - 0.4**2) / 280  # 12
    inside = np.zeros(SIZE, bool)
    inside[30 + int(by) : 70 - int(by) + 1, 20 + int(by) : 120 - int(by) + 1] = True
    assert np.array_equal(maps.shrink, inside.astype(np.float32))
    assert (maps.shrink_mask == 1).all()


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-30, 150), y=st.floats(-30, 90), width=st.floats(12, 150), height=st.floats(12, 60),
    degrees=st.floats(-90, 90),
)  # fmt: skip
def test_the_threshold_map_is_the_distance_to_the_border(x, y, width, height, degrees):
    """The fast drawing looks at the surroundings of each side alone and must not cut anything off, however the box
    lies and wherever the page ends.
    """
    box = rectangle(x, y, width, height, degrees)
    maps = maps_of(box)
    reach = width * height * 0.84 / (2 * (width + height))
    right = LOW + (HIGH - LOW) * np.maximum(1 - distance_to_border(box, SIZE) / reach, 0)
    assert np.abs(maps.threshold - right).max() < 1e-3
    # The mask: what is inside or within reach. OpenCV's filling is up to a pixel off at edges.
    surely = distance_to_border(box, SIZE) < reach - 1.5
    assert (maps.threshold_mask[surely] == 1).all()
    beyond = (distance_to_border(box, SIZE) > reach + 1.5) & (maps.threshold_mask == 1)
    grid = np.argwhere(beyond)[:, ::-1] - (box.mean(axis=0))
    assert (np.abs(turned(grid, -degrees)) <= [width / 2, height / 2]).all()  # only the box's own middle


def test_the_nearer_border_wins():
    """Between two lines that are close the borders overlap; a later line must not wipe out an earlier one's."""
    above, below = rectangle(20, 20, 100, 30), rectangle(20, 54, 100, 30)
    both = maps_of(above, below)
    assert np.array_equal(both.threshold, np.maximum(maps_of(above).threshold, maps_of(below).threshold))
    assert np.array_equal(both.threshold, maps_of(below, above).threshold)


def test_bent_text_is_shrunk_and_stays_one_region():
    """Polygons of many corners are what curved lines are labelled with."""
    angles = np.linspace(np.pi, 2 * np.pi, 12)
    outer = np.stack([100 + 80 * np.cos(angles), 105 + 80 * np.sin(angles)], axis=1)
    inner = np.stack([100 + 50 * np.cos(angles), 105 + 50 * np.sin(angles)], axis=1)[::-1]
    maps = maps_of(np.concatenate([outer, inner]).astype(np.float32))
    assert maps.shrink.sum() > 300 and (maps.shrink_mask == 1).all()
    assert maps.shrink[39:43, 100].any() and not maps.shrink[80:, 100].any()


def test_what_would_fall_apart_is_shrunk_less():
    """Two regions for one text would teach the network to cut it in two."""
    dumbbell = [[10, 10], [60, 10], [60, 32], [120, 32], [120, 10], [170, 10],
                [170, 70], [120, 70], [120, 48], [60, 48], [60, 70], [10, 70]]  # fmt: skip
    maps = maps_of(np.array(dumbbell, np.float32))
    assert cv2.connectedComponents(maps.shrink.astype(np.uint8))[0] == 2  # the paper and one region
    assert maps.shrink[40, 90] == 1


@pytest.mark.parametrize(
    ("outline", "ignored"),
    [
        (rectangle(20, 30, 100, 40), True),
        (rectangle(20, 30, 100, 3.5), False),
        (rectangle(20, 30, 100, 3.5, 40), False),  # its bounding box is large, it is not
        (rectangle(20, 30, 100, 40)[[0, 2, 1, 3]], False),  # two corners were swapped: it crosses itself
        (np.array([[20, 30], [120, 30], [120, 70], [20, 70], [20, 30], [20, 5]], np.float32), False),
        (rectangle(20, 30, 0, 0), False),  # a click instead of a box
    ],
    ids=["ignored", "small", "small and slanting", "crosses itself", "spike", "a point"],
)
def test_ignored_and_invalid_polygons_are_masked(outline, ignored):
    """Punished for finding an unreadable text, or for missing it, a network learns noise."""
    maps = maps_of(outline, rectangle(20, 85, 100, 30), ignored=[ignored, False])
    alone = maps_of(rectangle(20, 85, 100, 30))
    centre = outline.mean(axis=0).round().astype(int)
    assert maps.shrink_mask[centre[1], centre[0]] == 0
    assert np.array_equal(maps.shrink, alone.shrink) and np.array_equal(maps.threshold, alone.threshold)
    assert np.array_equal(maps.threshold_mask, alone.threshold_mask)


def test_all_that_a_crossing_outline_may_mean_is_masked():
    """The text is in the rectangle, the outline covers half of it."""
    box = rectangle(20, 30, 100, 40)
    assert (maps_of(box[[0, 2, 1, 3]]).shrink_mask[30:71, 20:121] == 0).all()


def test_a_page_without_text():
    """Empty pages are part of every data set."""
    maps = maps_of()
    assert not maps.shrink.any() and not maps.threshold_mask.any()
    assert (maps.shrink_mask == 1).all() and np.allclose(maps.threshold, LOW)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.tuples(st.floats(-300, 500), st.floats(-300, 500)), min_size=3, max_size=8),
                       st.booleans()), max_size=4)
)  # fmt: skip
def test_any_outline_gives_maps_in_their_ranges(drawn):
    """Labels hold anything: slivers, knots, points outside the page. None may stop a training or give it a NaN."""
    maps = db_maps([np.array(points, np.float32) for points, _ in drawn], [flag for _, flag in drawn], (60, 90))
    for name in ("shrink", "shrink_mask", "threshold", "threshold_mask"):
        plane = getattr(maps, name)
        assert plane.shape == (60, 90) and plane.dtype == np.float32, name
        low, high = (LOW, HIGH) if name == "threshold" else (0, 1)
        assert low - 1e-6 <= plane.min() and plane.max() <= high + 1e-6, name
    assert set(np.unique(maps.shrink)) | set(np.unique(maps.shrink_mask)) <= {0, 1}
    # Borders lie within the mask: where D is smallest, 1.7 pixels, so high a value is a pixel away from its edge.
    assert not ((maps.threshold > LOW + 0.25) & (maps.threshold_mask == 0)).any()


@pytest.mark.parametrize(
    ("points", "says"),
    [([[0, 0], [5, 5]], "three corners"), ([[0, 0], [5, np.nan], [5, 0]], "not finite"),
     ([[0, 0], [5, 2e6], [5, 0]], "a million")],
)  # fmt: skip
def test_impossible_polygons_are_named(points, says):
    """A page has dozens of polygons: the message must say which one and why."""
    with pytest.raises(SlimError, match=f"polygon 1 .*{says}"):
        maps_of(rectangle(20, 30, 100, 40), np.array(points, np.float32))
    with pytest.raises(SlimError, match="2 flags"):
        maps_of(rectangle(20, 30, 100, 40), ignored=[True, True])


def test_a_page_is_drawn_in_time():
    """Maps are made for every page of every epoch, on the cores that train. Ten times the measured time: a machine
    may be busy.
    """
    lines = page_of_lines(30, 640)
    spent = []
    for _ in range(5):
        start = time.process_time()
        maps_of(*lines, size=(640, 640))
        spent.append(time.process_time() - start)
    assert min(spent) < 0.1
