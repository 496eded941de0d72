"""Localization of the ink in a photographed text line: for cutting it into words and for trimming empty paper."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

CLEARANCE = 1.35  # a gap between words is at least this many times the widest gap inside a word


def percentile(plane: np.ndarray, percent: float) -> float:
    """Return `np.percentile` of uint8 values [H, W], from their histogram: ten times as fast."""
    upto = np.cumsum(cv2.calcHist([plane], [0], None, [256], [0, 256]))
    place = percent / 100 * (plane.size - 1)
    low, high = np.searchsorted(upto, [int(place), min(int(place) + 1, plane.size - 1)], side="right")
    return float(low + (place - int(place)) * (high - low))


def paper_tone(image: np.ndarray) -> tuple[float, ...]:
    """Return the median of each channel of [H, W, 3] uint8."""
    return tuple(percentile(channel, 50) for channel in cv2.split(image))


def ink_mask(image: np.ndarray) -> np.ndarray:
    """Return the mask [H, W] bool of the ink in [H, W, 3] uint8: clearly darker than the paper; no printed rules."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    window = max(3, height // 2 * 2 + 1)
    paper = cv2.medianBlur(cv2.resize(grey, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA), 9)
    paper = cv2.resize(cv2.dilate(paper, np.ones((3, 3))), (width, height))
    darkness = cv2.subtract(paper, grey)
    mask = (darkness > max(18, 0.35 * percentile(darkness, 99.5))).astype(np.uint8)
    rules = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((1, max(8, height * 5 // 4)), np.uint8))
    rules |= cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((max(4, window * 4 // 5), 1), np.uint8))
    return (mask & ~cv2.dilate(rules, np.ones((3, 3), np.uint8))).astype(bool)


def ink_columns(image: np.ndarray) -> np.ndarray:
    """Return which columns [W] bool contain ink.

    The outer sixths of the height are left out: neighbouring text lines reach into them.
    """
    mask = ink_mask(image)
    margin = image.shape[0] // 6
    return mask[margin : image.shape[0] - margin].sum(axis=0) >= 2


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the intervals [start, end) in which `flags`, [W] bool, is True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def split_words(image: np.ndarray, text: str) -> list[tuple[int, int, str]] | None:
    """Cut a text line into its words.

    The text says how many words there are. There must be one gap less, each at least `CLEARANCE` times as wide as the
    widest gap inside a word.

    Returns:
        (left, right, word) of each word, or None where the gaps are not certain to separate words, or there is no text.
    """
    if not text:
        return None
    words = text.split(" ")
    stretches = runs(ink_columns(image))
    # The right edge of the form leaves specks behind: narrow stretches at the end are not words.
    while len(stretches) > len(words) and stretches[-1][1] - stretches[-1][0] < image.shape[0] // 8:
        stretches.pop()
    if len(stretches) < len(words):
        return None
    gaps = sorted(((b[0] - a[1], a[1], b[0]) for a, b in zip(stretches, stretches[1:])), reverse=True)
    chosen, others = gaps[: len(words) - 1], gaps[len(words) - 1 :]
    if chosen and others and chosen[-1][0] < CLEARANCE * max(others[0][0], 2):
        return None
    cuts = sorted((a + b) // 2 for _, a, b in chosen)
    margin = image.shape[0] // 4
    left, right = max(0, stretches[0][0] - margin), min(image.shape[1], stretches[-1][1] + margin)
    edges = [left, *cuts, right]
    # A wrong or a missed cut makes some word far too wide or narrow for its number of characters.
    character_widths = np.diff(edges) / np.array([len(word) + 1 for word in words])
    if (np.abs(np.log(character_widths / np.median(character_widths))) > np.log(1.7)).any():
        return None
    return [(a, b, word) for a, b, word in zip(edges, edges[1:], words)]


def glued(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images of one height, [H, W, 3] uint8, side by side, with their paper in the tone of the first one."""
    tones = [np.array(paper_tone(image)) for image in images]
    matched = [cv2.add(image, (*(tones[0] - tone), 0.0)) for image, tone in zip(images, tones)]
    return np.ascontiguousarray(np.hstack(matched))
