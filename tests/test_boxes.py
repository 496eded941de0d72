"""From a probability map to boxes, their order, and the pictures of their lines."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pages import iou_of_quads, page_of_lines, rectangle, turned

from ppocr_slim.data.maps import db_maps
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import score_page
from ppocr_slim.runtime.boxes import (
    Box,
    BoxSettings,
    find_boxes,
    reading_order,
    rectify,
    shrink_distance,
    shrunk_by,
)
from ppocr_slim.runtime.polygons import area, perimeter

EXACT = BoxSettings(unclip_ratio=None)


def map_of(lines, size):
    """What a perfect network would answer."""
    return db_maps(lines, [False] * len(lines), size).shrink


def points_of(boxes):
    return [box.points for box in boxes]


@pytest.mark.parametrize("degrees", [0, 4, -20, 44])
@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("ratio", [1.5, None])
def test_what_was_drawn_is_found(degrees, polygons, ratio):
    """The circle from labels to maps to boxes to the metric that reports quote must close."""
    lines = [line + 100 for line in page_of_lines(16, 640, degrees)]
    found = find_boxes(map_of(lines, (840, 840)), settings=BoxSettings(unclip_ratio=ratio, polygons=polygons))
    counts = score_page(lines, [False] * 16, points_of(found))
    assert (counts.matched, counts.truths, counts.detections) == (16, 16, 16)
    assert counts.hmean == 1.0
    assert all(box.score > 0.95 for box in found)


@pytest.mark.parametrize("degrees", [0, 2, 10])
def test_long_lines_need_the_exact_inverse(degrees):
    """A line twenty times as long as high is shrunk to a fifth of its height; the paper's ratio restores half, which
    crops characters, and IoU 0.5 is missed. This is why `unclip_ratio` may be null.
    """
    line = rectangle(40, 120, 800, 40, degrees)
    (tight,) = find_boxes(map_of([line], (300, 900)))
    (exact,) = find_boxes(map_of([line], (300, 900)), settings=EXACT)
    assert iou_of_quads(tight.points, line) < 0.6
    assert iou_of_quads(exact.points, line) > 0.9
    assert np.abs(exact.points - line).max() < 3


@settings(max_examples=60, deadline=None)
@given(width=st.floats(1, 2000), height=st.floats(1, 2000), ratio=st.floats(0.05, 0.95))
def test_growing_undoes_shrinking(width, height, ratio):
    """The closed formula against the definition, for every form of rectangle."""
    by = shrink_distance(rectangle(0, 0, width, height), ratio)
    assume(min(width, height) - 2 * by > 0.01)
    core = rectangle(by, by, width - 2 * by, height - 2 * by)
    assert shrunk_by(area(core), perimeter(core), ratio) == pytest.approx(by, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(
    width=st.floats(40, 300), height=st.floats(25, 120), degrees=st.floats(-89, 89), x=st.floats(0, 40),
    y=st.floats(0, 40),
)  # fmt: skip
def test_a_box_comes_back_wherever_it_lies(width, height, degrees, x, y):
    """Angle, place and form are the photographer's choice."""
    line = rectangle(180 + x, 180 + y, width, height, degrees)
    size = (640, 640)
    assume(line.min() > 2 and line.max() < 637)
    found = find_boxes(map_of([line], size), settings=EXACT)
    assert len(found) == 1
    assert iou_of_quads(found[0].points, line) > 0.83
    assert cv2.contourArea(found[0].points, oriented=True) > 0  # clockwise


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_touching_lines_stay_apart(gap):
    """DB shrinks for this alone: lines of a form touch, and must not become one."""
    lines = [rectangle(20, 20 + i * (32 + gap), 400, 32) for i in range(6)]
    found = reading_order(find_boxes(map_of(lines, (280, 440)), settings=EXACT))
    assert len(found) == 6
    assert all(iou_of_quads(box.points, line) > 0.85 for box, line in zip(found, lines))


def test_an_empty_page_has_no_boxes():
    """Blank pages go through every pipeline; nothing is what they hold."""
    assert find_boxes(np.zeros((64, 96), np.float32)) == []
    assert find_boxes(np.full((64, 96), 0.29, np.float32)) == []
    assert reading_order([]) == []


def test_a_page_full_of_text_is_one_box():
    """The other end: nothing may lie outside the picture."""
    (box,) = find_boxes(np.ones((64, 96), np.float32))
    assert box.points.tolist() == [[0, 0], [95, 0], [95, 63], [0, 63]]


def test_boxes_are_in_pixels_of_the_picture():
    """A page is scaled, not in its own proportions, before it goes through the network."""
    line = rectangle(40, 20, 100, 30)
    (box,) = find_boxes(map_of([line], (96, 160)), (192, 480), EXACT)
    assert np.abs(box.points - line * [3, 2]).max() < 4
    assert box.points.dtype == np.float32


def test_boxes_end_at_the_pictures_rim():
    """A text that the picture cuts off is grown beyond it; a crop cannot be."""
    line = rectangle(-20, -5, 150, 40)
    for polygons in (False, True):
        (box,) = find_boxes(map_of([line], (96, 160)), settings=BoxSettings(unclip_ratio=None, polygons=polygons))
        assert box.points.min() == 0 and (box.points <= [159, 95]).all()


def test_a_box_scores_its_mean_probability():
    """The score is shown to users and filters what the network doubts."""
    page = np.zeros((60, 200), np.float32)
    page[20:40, 20:100] = 0.7
    page[20:40, 120:180] = 0.5
    (sure,) = find_boxes(page)
    assert sure.score == pytest.approx(0.7)
    both = find_boxes(page, settings=BoxSettings(box_threshold=0.4))
    assert sorted(round(box.score, 5) for box in both) == [0.5, 0.7]
    page[20:40, 40:100] = 0.62
    (mixed,) = find_boxes(page)
    assert mixed.score == pytest.approx((0.7 * 20 + 0.62 * 60) / 80)


def test_specks_and_holes_are_no_boxes():
    """Each box costs a run of the recognizer; JPEG noise must not fill the page with them."""
    page = np.zeros((100, 200), np.float32)
    page[10:12, 10:60] = 1  # two pixels high
    page[30:90, 20:180] = 1
    page[45:75, 60:140] = 0  # a hole: its rim is an outline, too
    page[36:38, 100:102] = 0  # a small one, whose rim would score as text does
    assert len(find_boxes(page, settings=BoxSettings(box_threshold=0.5))) == 1
    assert len(find_boxes(page, settings=BoxSettings(box_threshold=0.5, min_size=2))) == 2
    page[55:65, 80:120] = 1  # text within a frame is text
    assert len(find_boxes(page, settings=BoxSettings(box_threshold=0.5))) == 2


def test_of_too_many_regions_the_largest_stay():
    """A page of noise must end in time, and not at the cost of the lines."""
    cells = np.zeros((200, 200), np.float32)
    for row in (2, 120):
        for y in range(row, row + 70, 8):
            for x in range(2, 190, 8):
                cells[y : y + 4, x : x + 4] = 1
    cells[85:115, 20:180] = 1
    assert len(find_boxes(cells)) > 200
    (line,) = find_boxes(cells, settings=BoxSettings(max_candidates=1))
    assert line.points.mean(axis=0).tolist() == pytest.approx([99.5, 99.5], abs=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([None, 0.0, 1.5, 4.0]))
def test_any_map_gives_boxes_within_the_picture(seed, polygons, ratio):
    """An untrained network answers noise; evaluation after the first epoch must survive it."""
    rng = np.random.default_rng(seed)
    page = cv2.GaussianBlur(rng.random((80, 110)).astype(np.float32), (0, 0), rng.uniform(0.5, 4))
    page = (page - page.min()) / np.ptp(page)
    chosen = BoxSettings(threshold=0.5, box_threshold=0.3, unclip_ratio=ratio, polygons=polygons)
    for box in find_boxes(page, (160, 250), chosen):
        assert np.isfinite(box.points).all() and 0.3 <= box.score <= 1
        assert (box.points >= 0).all() and (box.points <= [249, 159]).all()
        assert len(box.points) == 4 if not polygons else len(box.points) >= 3
        assert cv2.contourArea(box.points, oriented=True) >= 0


@pytest.mark.parametrize(
    "values",
    [{"threshold": 0.0}, {"threshold": 1.0}, {"box_threshold": 1.1}, {"unclip_ratio": -1.0},
     {"unclip_ratio": math.nan}, {"min_size": 0}, {"max_candidates": 0}],
)  # fmt: skip
def test_impossible_settings_are_named(values):
    """A setting comes from a bundle's file: the message must say which one is wrong."""
    with pytest.raises(SlimError, match=next(iter(values))):
        BoxSettings(**values)


def test_impossible_maps_are_refused():
    """A batch instead of a page, or a picture without pixels."""
    with pytest.raises(SlimError, match=r"\[H, W\]"):
        find_boxes(np.zeros((1, 8, 8), np.float32))
    with pytest.raises(SlimError, match="0 x 5"):
        find_boxes(np.zeros((8, 8), np.float32), (5, 0))


@pytest.mark.parametrize("degrees", [-44, -10, 0, 10, 44])
@pytest.mark.parametrize("form", [(100, 20), (20, 100), (60, 58)])
def test_the_first_corner_is_the_top_left(degrees, form):
    """The crop is turned by the corners' order: with a wrong first one a line lies on its side."""
    line = rectangle(150, 150, *form, degrees)
    (box,) = find_boxes(cv2.fillPoly(np.zeros((400, 400), np.float32), [line.astype(np.int32)], 1.0))
    middle = line.mean(axis=0)
    assert np.sign(box.points - middle).tolist() == np.sign(line - middle).tolist() or (
        np.abs((box.points - middle) / np.linalg.norm(box.points - middle, axis=1, keepdims=True)
               - (line - middle) / np.linalg.norm(line - middle, axis=1, keepdims=True)).max() < 0.35
    )  # fmt: skip


# --- Reading order ---


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(20)), st.floats(-12, 12))
def test_a_turned_page_is_read_in_the_same_order(shuffled, degrees):
    """A photograph is never quite straight; the order of the lines must not depend on it, nor on the network's."""
    lines = page_of_lines(20, 900, degrees)
    boxes = [Box(lines[number]) for number in shuffled]
    ordered = reading_order(boxes)
    assert [id(box.points) for box in ordered] == [id(line) for line in lines]


def test_words_of_one_line_are_read_from_left_to_right():
    """Words have ascenders or none, and commas are small: their tops differ, they stand in one line."""
    words = [rectangle(20, 30, 60, 30), rectangle(90, 38, 50, 20), rectangle(145, 52, 5, 10)]  # the last: a comma
    words.append(rectangle(160, 28, 70, 38))
    below = [rectangle(20, 70, 80, 30), rectangle(110, 74, 40, 28)]
    mixed = [Box(points) for points in (below[1], words[3], words[1], below[0], words[0], words[2])]
    assert [box.points.tolist() for box in reading_order(mixed)] == [p.tolist() for p in words + below]


def test_a_tall_box_does_not_tie_two_lines_together():
    """A stamp or a bracket beside two lines overlaps both; the lines must not be read word by word in turn."""
    first = [rectangle(20, 20, 80, 30), rectangle(110, 20, 80, 30)]
    second = [rectangle(20, 60, 80, 30), rectangle(110, 60, 80, 30)]
    stamp = rectangle(220, 15, 60, 80)
    ordered = [box.points.tolist() for box in reading_order([Box(p) for p in (*second, stamp, *first)])]
    assert [p for p in ordered if p != stamp.tolist()] == [p.tolist() for p in first + second]


@pytest.mark.parametrize("bend", [-1.3, 1.3])
def test_a_bent_line_stays_one_line(bend):
    """Paper curls: the ends of a line may be lower than the middle by more than the height of its characters."""
    words = [rectangle(20 + 70 * i, 100 + bend * (i - 5) ** 2, 60, 24) for i in range(11)]
    below = [points + np.float32([0, 40]) for points in words]
    ordered = reading_order([Box(points) for points in (below + words)[::-1]])
    assert [box.points.tolist() for box in ordered] == [p.tolist() for p in words + below]


def test_equal_boxes_keep_their_order():
    """Two detectors' boxes may coincide; the result must be the same on every run."""
    boxes = [Box(rectangle(10, 10, 50, 20), score) for score in (0.9, 0.8, 0.7)]
    assert [box.score for box in reading_order(boxes)] == [0.9, 0.8, 0.7]


# --- Crops ---


def test_an_upright_box_is_cut_out_to_the_pixel():
    """A crop that is resampled or shifted without need blurs the strokes."""
    page = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    crop = rectify(page, rectangle(20, 30, 60, 25))
    assert np.array_equal(crop, page[30:55, 20:80])


@pytest.mark.parametrize("degrees", [-60, -30, -5, 7, 45])
def test_a_turned_line_is_cut_out_straight(degrees):
    """The recognizer reads level lines only."""
    page = np.full((400, 400, 3), 255, np.uint8)
    line = rectangle(120, 180, 160, 32, degrees)
    left_half = rectangle(120, 180, 80, 32)  # the left half is red, which tells where the line begins
    half = turned(left_half - [200, 196], degrees) + [200, 196]
    cv2.fillPoly(page, [line.round().astype(np.int32)], (200, 0, 0))
    cv2.fillPoly(page, [half.round().astype(np.int32)], (0, 0, 200))
    crop = rectify(page, line)
    assert crop.shape == (32, 160, 3)
    assert (crop[4:-4, 4:76, 2] > 150).all() and (crop[4:-4, 84:-4, 0] > 150).all()


def test_perspective_is_undone():
    """A page photographed at an angle has lines that grow towards the camera."""
    page = np.zeros((200, 300, 3), np.uint8)
    quad = np.array([[40, 60], [240, 40], [240, 140], [40, 100]], np.float32)
    cv2.fillPoly(page, [quad.astype(np.int32)], (255, 255, 255))
    crop = rectify(page, quad)
    assert crop.shape == (100, 204, 3)  # the longer of both sides, each way
    assert (crop[6:-6, 6:-6] == 255).all()


def test_a_line_that_runs_downwards_is_turned():
    """PaddleOCR turns crops of 1.5 times their width counter-clockwise; recognizers were trained with these."""
    page = np.random.default_rng(0).integers(0, 256, (120, 80, 3), np.uint8)
    crop = rectify(page, rectangle(20, 30, 20, 60))
    assert np.array_equal(crop, np.rot90(page[30:90, 20:40]))
    assert crop.flags["C_CONTIGUOUS"]
    assert rectify(page, rectangle(20, 30, 40, 59)).shape == (59, 40, 3)
    assert rectify(page, rectangle(20, 30, 40, 60)).shape == (40, 60, 3)


def test_a_page_longer_than_opencv_warps():
    """OpenCV refuses pictures of 32768 pixels or more a side, which the lines on a scanned roll are not."""
    page = np.zeros((40_000, 50, 3), np.uint8)
    page[39_000:39_020, 10:40] = 9
    assert np.array_equal(rectify(page, rectangle(10, 39_000, 30, 20)), np.full((20, 30, 3), 9, np.uint8))


@pytest.mark.parametrize("quad", [rectangle(-30, -30, 60, 50), rectangle(500, 500, 40, 20), rectangle(10, 10, 0, 0)])
def test_a_box_over_the_rim_is_still_a_picture(quad):
    """One box at the rim must not end the reading of a page."""
    page = np.full((80, 120, 3), 7, np.uint8)
    crop = rectify(page, quad)
    assert crop.size and crop.dtype == np.uint8


def test_only_four_corners_are_made_straight():
    """A polygon's corners have no meaning of their own."""
    with pytest.raises(SlimError, match="3 corners"):
        rectify(np.zeros((9, 9, 3), np.uint8), np.array([[0, 0], [5, 0], [5, 5]]))
    with pytest.raises(SlimError, match="not finite"):
        rectify(np.zeros((9, 9, 3), np.uint8), np.full((4, 2), np.nan))
