"""Clutter on sheets that is no text: stamps, logos, scribbles, bar codes, folds, stains, a pen across the page.

Each function adds one thing to the sheet, at a place that it draws from the random generator.
"""

from __future__ import annotations

import cv2
import numpy as np

from ppocr_slim.synth.sheets import Colour, Mark, Sheet, filled_mark, stroke_mark

STAMP_INKS: tuple[Colour, ...] = ((50, 40, 190), (60, 50, 220), (150, 60, 40), (110, 40, 110))


def clutter(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add one thing of any kind; what hides text is added only where there is none."""
    kinds = (stamp, stamp, pen_strokes, pen_strokes, scribble, logo, bar_code, square_code, fold, stain, holes)
    kinds[int(rng.integers(len(kinds)))](sheet, rng)


def stamp(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a stamp: rings and a star, or a frame; its ink lets text through."""
    radius = rng.uniform(0.06, 0.11) * min(sheet.width, sheet.height)
    centre = rng.uniform(1.2 * radius, [sheet.width - 1.2 * radius, sheet.height - 1.2 * radius])
    colour, strength = STAMP_INKS[int(rng.integers(len(STAMP_INKS)))], rng.uniform(0.35, 0.75)
    pen = radius * rng.uniform(0.03, 0.07)
    turn = rng.uniform(0, 2 * np.pi)
    strokes = []
    if rng.random() < 0.7:
        for scale in (1.0, 0.9, 0.55)[: int(rng.integers(2, 4))]:
            strokes.append(_ring(centre, scale * radius, 60))
        corners = turn + np.arange(11) * np.pi / 5
        reach = 0.42 * radius * np.where(np.arange(11) % 2, 0.42, 1.0)
        strokes.append(centre + np.stack([np.cos(corners), np.sin(corners)], 1) * reach[:, None])
    else:
        tilt, wide = rng.normal(0.0, 0.2), radius * rng.uniform(1.0, 1.8)
        for scale in (1.0, 0.88):
            frame = np.array(
                [(-wide, -0.6 * radius), (wide, -0.6 * radius), (wide, 0.6 * radius), (-wide, 0.6 * radius)]
            )
            strokes.append(centre + np.concatenate([frame, frame[:1]]) * scale @ _rotation(tilt))
    mark = stroke_mark(strokes, max(1.0, pen), colour, strength)
    wear = cv2.resize(rng.uniform(0.35, 1.3, (9, 9)).astype(np.float32), mark.mask.shape[::-1])
    sheet.add(Mark(np.clip(mark.mask * wear, 0, 255).astype(np.uint8), mark.x, mark.y, colour))


def scribble(sheet: Sheet, rng: np.random.Generator, at: np.ndarray | None = None, size: float = 0.0) -> None:
    """Add a signature: loops without meaning, around `at` if given, else where no text is."""
    size = size or rng.uniform(0.08, 0.16) * sheet.width
    if at is None:
        at = _free_place(sheet, size, 0.6 * size, rng)
        if at is None:
            return
    count = int(rng.integers(6, 14))
    steps = np.linspace(-0.5, 0.5, count)
    knots = np.stack([steps + rng.normal(0, 0.12, count), rng.normal(0, 0.2, count)], 1) * (size, 0.7 * size)
    knots[:, 1] = np.clip(knots[:, 1], -0.3 * size, 0.3 * size)
    strokes = [at + _curve(knots, 12)]
    if rng.random() < 0.6:
        strokes.append(at + _curve(rng.uniform(-0.5, 0.5, (3, 2)) * (size, 0.3 * size), 12))
    sheet.add(stroke_mark(strokes, rng.uniform(1.0, 2.4), _pen_ink(rng), rng.uniform(0.7, 1.0)))


def pen_strokes(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a tick, a ring around something, or a line drawn by hand."""
    reach = rng.uniform(0.02, 0.12) * sheet.width
    centre = rng.uniform(reach, [sheet.width - reach, sheet.height - reach])
    kind = rng.random()
    if kind < 0.3:
        strokes = [centre + reach * 0.3 * np.array([(-0.5, 0.0), (0.0, 0.7), (1.0, -1.0)])]
    elif kind < 0.55:
        around = np.linspace(0, 2 * np.pi * rng.uniform(0.9, 1.15), 40) + rng.uniform(0, 6)
        strokes = [centre + np.stack([np.cos(around) * reach, np.sin(around) * 0.4 * reach], 1)]
    elif kind < 0.8:
        strokes = [centre + _curve(rng.normal(0, 1, (3, 2)) * (2 * reach, 0.05 * reach), 10)]
    else:
        strokes = [centre + _curve(rng.normal(0, 0.4, (5, 2)) * reach, 10)]
    sheet.add(stroke_mark(strokes, rng.uniform(0.9, 2.2), _pen_ink(rng), rng.uniform(0.6, 1.0)))


def logo(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a logo: a few coloured shapes."""
    size = rng.uniform(0.05, 0.11) * sheet.width
    at = _free_place(sheet, size, size, rng)
    if at is None:
        return
    for _ in range(int(rng.integers(1, 4))):
        colour = tuple(float(value) for value in rng.uniform(20, 220, 3))
        corners = int(rng.choice([3, 4, 5, 6, 40]))
        around = np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 6)
        outline = np.stack([np.cos(around), np.sin(around)], 1) * size * rng.uniform(0.2, 0.5)
        sheet.add(filled_mark(at + outline + rng.normal(0, 0.06 * size, 2), colour, rng.uniform(0.6, 1.0)))


def bar_code(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a bar code."""
    width, height = rng.uniform(0.15, 0.3) * sheet.width, rng.uniform(0.03, 0.06) * sheet.width
    at = _free_place(sheet, width, height, rng)
    if at is None:
        return
    bars = np.repeat(rng.random(90) < 0.5, rng.integers(1, 3, 90))
    mask = np.repeat(bars[None].astype(np.uint8) * 255, max(4, round(height)), axis=0)
    mask = cv2.resize(mask, (round(width), mask.shape[0]), interpolation=cv2.INTER_AREA)
    sheet.add(Mark(mask, round(at[0] - width / 2), round(at[1] - height / 2), (30, 28, 28)))


def square_code(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add something like a QR code."""
    size = round(rng.uniform(0.07, 0.13) * sheet.width)
    at = _free_place(sheet, size, size, rng)
    if at is None:
        return
    cells = (rng.random((25, 25)) < 0.5).astype(np.uint8) * 255
    for rows, columns in ((slice(0, 7), slice(0, 7)), (slice(0, 7), slice(18, 25)), (slice(18, 25), slice(0, 7))):
        eye = np.full((7, 7), 255, np.uint8)
        eye[1:6, 1:6] = 0
        eye[2:5, 2:5] = 255
        cells[rows, columns] = eye
    mask = cv2.resize(cells, (size, size), interpolation=cv2.INTER_NEAREST)
    sheet.add(Mark(mask, round(at[0] - size / 2), round(at[1] - size / 2), (25, 25, 25)))


def photo(sheet: Sheet, left: float, top: float, width: float, height: float, rng: np.random.Generator) -> None:
    """Add a portrait, or the empty frame for one."""
    frame = np.array([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
    if rng.random() < 0.6:
        backdrop = ((210, 160, 90), (225, 225, 225), (150, 90, 40))[int(rng.integers(3))]
        sheet.add(filled_mark(frame, backdrop))
        middle = np.array([left + width / 2, top + height / 2])
        around = np.linspace(0, 2 * np.pi, 24)
        round_shape = np.stack([np.cos(around), np.sin(around)], 1)
        shoulders = np.clip(middle + (0, 0.42 * height) + round_shape * (0.42 * width, 0.24 * height), None, frame[2])
        sheet.add(filled_mark(shoulders, (70, 50, 45)))
        sheet.add(filled_mark(middle + (0, -0.12 * height) + round_shape * (0.23 * width, 0.26 * height), (25, 22, 22)))
        sheet.add(
            filled_mark(middle + (0, -0.06 * height) + round_shape * (0.19 * width, 0.22 * height), (140, 170, 215))
        )
    sheet.add(stroke_mark([np.concatenate([frame, frame[:1]])], 1.0, (70, 66, 64)))


def fold(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a crease right across the sheet, dark on one side and light on the other."""
    where, tilt = rng.uniform(0.25, 0.75), rng.normal(0, 0.01)
    if rng.random() < 0.5:
        line = np.array([(0, (where - tilt) * sheet.height), (sheet.width, (where + tilt) * sheet.height)])
        aside = np.array([0.0, 1.5])
    else:
        line = np.array([((where - tilt) * sheet.width, 0), ((where + tilt) * sheet.width, sheet.height)])
        aside = np.array([1.5, 0.0])
    sheet.add(stroke_mark([line], 2.0, (110, 110, 112), rng.uniform(0.15, 0.4)))
    sheet.add(stroke_mark([line + aside], 1.0, (255, 255, 255), rng.uniform(0.1, 0.4)))


def stain(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add a ring from a cup, or a spot."""
    radius = rng.uniform(0.03, 0.12) * sheet.width
    centre = rng.uniform(0, [sheet.width, sheet.height])
    if rng.random() < 0.5:
        sheet.add(stroke_mark([_ring(centre, radius, 60)], 0.08 * radius, (90, 130, 165), rng.uniform(0.15, 0.4)))
    else:
        wobble = 1 + 0.15 * rng.normal(size=(9, 1))
        wobble[-1] = wobble[0]
        sheet.add(
            filled_mark(
                centre + _curve(_ring(np.zeros(2), radius, 9) * wobble, 8), (120, 150, 175), rng.uniform(0.08, 0.25)
            )
        )


def holes(sheet: Sheet, rng: np.random.Generator) -> None:
    """Add punched holes along the left edge."""
    radius, x = 0.011 * sheet.width, 0.025 * sheet.width
    for height in (0.4, 0.6) if rng.random() < 0.6 else np.linspace(0.1, 0.9, 12):
        sheet.add(filled_mark(_ring(np.array([x, height * sheet.height]), radius, 20), (60, 62, 66)))


def cover(sheet: Sheet, rng: np.random.Generator) -> None:
    """Lay a pen, a ruler or a finger on the sheet, which hides what is under it."""
    kind = rng.random()
    length, width = (rng.uniform(0.3, 0.6), 0.014) if kind < 0.6 else (rng.uniform(0.4, 0.8), 0.05)
    if kind > 0.85:  # a finger comes in from the side
        length, width = 0.3, 0.08
    middle = rng.uniform(0.1, 0.9, 2) * (sheet.width, sheet.height)
    if kind > 0.85:
        middle[0] = 0.0 if rng.random() < 0.5 else sheet.width
    longer = max(sheet.width, sheet.height)
    half, across = 0.5 * length * longer, 0.5 * width * longer
    if kind < 0.85:
        outline = np.array([(-half, -across), (half, -across), (half, across), (-half, across)])
    else:
        around = np.linspace(0, 2 * np.pi, 24, endpoint=False) + np.pi / 24
        outline = np.stack([np.cos(around) * half * 0.7, np.sin(around) * across], 1)
    sheet.covers.append(middle + outline @ _rotation(rng.uniform(0, np.pi) if kind < 0.85 else rng.normal(0, 0.3)))


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _ring(centre: np.ndarray, radius: float, points: int) -> np.ndarray:
    around = np.linspace(0, 2 * np.pi, points)
    return centre + radius * np.stack([np.cos(around), np.sin(around)], 1)


def _curve(knots: np.ndarray, steps: int) -> np.ndarray:
    """Return a smooth line through knots [K, 2] (Catmull and Rom, 1974)."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:]):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3))
    return np.concatenate([*parts, knots[-1:]])


def _pen_ink(rng: np.random.Generator) -> Colour:
    inks = ((118, 58, 42), (88, 40, 34), (42, 38, 38), (50, 40, 190))
    return inks[int(rng.integers(len(inks)))]


def _free_place(sheet: Sheet, width: float, height: float, rng: np.random.Generator) -> np.ndarray | None:
    """Return the centre of a place of that size without text; None where eight trials find none."""
    for _ in range(8):
        at = rng.uniform([width, height], [sheet.width - width, sheet.height - height])
        half = np.array([0.55 * width + 3, 0.55 * height + 3])
        if sheet.is_free(np.concatenate([at - half, at + half]), 0.0):
            return at
    return None
