"""Detection of lines without writing, before the network makes something up about them."""

from __future__ import annotations

import cv2
import numpy as np

MIN_CONTRAST = 20  # grey levels between stroke and surroundings; pens have about 128, noise under 15
MIN_INK = 0.02  # area of all strokes in squared line heights; real lines have 0.08 and more, a lone l 0.03


def is_blank(line: np.ndarray) -> bool:
    """Return whether a line [H, W, 3] uint8 holds no writing: plain, shaded or noisy paper, with or without rules.

    Strokes are thin structures that are darker or lighter than their surroundings. In a form's line (at least three
    times as wide as high) long horizontal lines and narrow ones over the whole height are printed rules, and what
    reaches in from the rim belongs to the neighbouring lines; in a tight crop they may be a character and count.
    Doubtful lines are not blank: they are left to the network.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(line, cv2.COLOR_BGR2GRAY), (3, 3), 0)
    return all(_stroke_area(grey, hat) < MIN_INK for hat in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))


def _stroke_area(grey: np.ndarray, hat: int) -> float:
    """Return the area of the strokes that a top-hat or black-hat finds in [H, W] uint8, in squared line heights."""
    height, width = grey.shape
    side = max(3, height // 3)  # wider than any stroke
    strokes = cv2.morphologyEx(grey, hat, np.ones((side, side), np.uint8)) > MIN_CONTRAST
    strokes = strokes.astype(np.uint8)
    if width < 3 * height:
        return float(strokes.sum()) / height**2
    rim, edge = height // 6, height // 8  # where the sheet ends there is a shadow
    middle = strokes[rim : height - rim, edge : width - edge]
    # Upright rules lean: seen as wide as they lean, they fill their columns, but for a gap where they are faint.
    full = cv2.dilate(middle, np.ones((1, height // 8 * 2 + 1), np.uint8)).mean(axis=0, keepdims=True) > 0.9
    full = full.astype(np.uint8)
    upright = full & ~cv2.morphologyEx(full, cv2.MORPH_OPEN, np.ones((1, height // 2), np.uint8))  # wide: writing
    rules = cv2.morphologyEx(strokes, cv2.MORPH_OPEN, np.ones((1, height), np.uint8))
    rules = cv2.dilate(rules, np.ones((3, 3), np.uint8))[rim : height - rim, edge : width - edge]
    parts = cv2.connectedComponentsWithStats(np.where(upright, 0, middle & ~rules))[2][1:]  # the first is the paper
    tops, heights, areas = (parts[:, column] for column in (cv2.CC_STAT_TOP, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    reaches_in = ((tops == 0) | (tops + heights == len(middle))) & (heights < height // 4)
    return float(areas[~reaches_in].sum()) / height**2
