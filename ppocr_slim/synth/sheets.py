"""A flat sheet of paper with lines of text whose places are known, before anybody photographs it.

A sheet is a paper and a list of marks in the order in which they came onto it. What is text is a mark, too, so
that it can be left out: then the difference between two pictures is the ink of that line and nothing else.
Pixels: x to the right, y down, the middle of the first pixel at (0, 0).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.handwriting import Writer, write

Colour = tuple[float, float, float]  # BGR, 0 to 255
MARGIN = 1.5  # pixels between the ink and its box: blur and rounding need them
_VISIBLE = 40  # of 255: fainter rims of strokes are not seen
_SHIFT = 4  # fractional bits of a coordinate, for OpenCV


@dataclass(frozen=True)
class Mark:
    """Something on the paper: mask [h, w] uint8, 255 where it is opaque, with its first pixel at (x, y)."""

    mask: np.ndarray
    x: int
    y: int
    colour: Colour

    def shifted(self, x: int, y: int) -> Mark:
        return Mark(self.mask, self.x + x, self.y + y, self.colour)


@dataclass(frozen=True)
class Line:
    """A line of text: its box (quad [4, 2] float32, clockwise from the top left of the text) and its mark's number."""

    text: str
    quad: np.ndarray
    mark: int

    @property
    def bounds(self) -> np.ndarray:
        """left, top, right, bottom."""
        return np.concatenate([self.quad.min(0), self.quad.max(0)])


class Sheet:
    """Paper [height, width] with marks and lines of text."""

    def __init__(self, paper: np.ndarray) -> None:
        self.paper = paper  # uint8 [H, W, 3] BGR
        self.height, self.width = paper.shape[:2]
        self.marks: list[Mark] = []
        self.lines: list[Line] = []
        self.covers: list[np.ndarray] = []  # outlines [M, 2] of things that lie on the sheet and hide what is below
        self._bounds = np.zeros((0, 4), np.float32)

    def add(self, mark: Mark) -> None:
        self.marks.append(mark)

    def add_line(self, mark: Mark, text: str, slope: float = 0.0) -> Line | None:
        """Lay a line of text. None, and nothing laid, where it has no ink, leaves the sheet or meets other text."""
        quad = ink_quad(mark, slope)
        if quad is None or not self.is_free(np.concatenate([quad.min(0), quad.max(0)])):
            return None
        line = Line(text, quad, len(self.marks))
        self.marks.append(mark)
        self.lines.append(line)
        self._bounds = np.concatenate([self._bounds, line.bounds[None]])
        return line

    def is_free(self, bounds: np.ndarray, overlap: float = 0.16) -> bool:
        """Return whether a rectangle lies on the sheet and covers no line's box by more than `overlap` of the smaller.

        Handwritten lines under one another do reach into each other a little.
        """
        left, top, right, bottom = bounds
        if left < 1 or top < 1 or right > self.width - 2 or bottom > self.height - 2:
            return False
        if not len(self._bounds):
            return True
        size = np.minimum(self._bounds[:, 2:], bounds[2:]) - np.maximum(self._bounds[:, :2], bounds[:2])
        shared = np.prod(np.maximum(size, 0.0), axis=1)
        areas = np.prod(self._bounds[:, 2:] - self._bounds[:, :2], axis=1)
        return bool((shared <= overlap * np.minimum(areas, (right - left) * (bottom - top))).all())

    def painted(self, without: int | None = None) -> np.ndarray:
        """Return the sheet as uint8 [H, W, 3] BGR; `without` is the number of a line to leave out."""
        picture = self.paper.copy()
        left_out = None if without is None else self.lines[without].mark
        for number, mark in enumerate(self.marks):
            if number != left_out:
                _lay(picture, mark)
        return picture


def _lay(picture: np.ndarray, mark: Mark) -> None:
    height, width = mark.mask.shape
    top, left = max(0, -mark.y), max(0, -mark.x)
    bottom, right = min(height, picture.shape[0] - mark.y), min(width, picture.shape[1] - mark.x)
    if top >= bottom or left >= right:
        return
    region = picture[mark.y + top : mark.y + bottom, mark.x + left : mark.x + right]
    share = mark.mask[top:bottom, left:right, None].astype(np.float32) * np.float32(1 / 255)
    below = region.astype(np.float32)
    region[:] = np.rint(below + share * (np.array(mark.colour, np.float32) - below))


def ink_quad(mark: Mark, slope: float = 0.0) -> np.ndarray | None:
    """Return the tight box of a mark's ink along a baseline of that slope, [4, 2] float32; None where nothing is seen."""
    found = cv2.findNonZero((mark.mask > _VISIBLE).astype(np.uint8))
    if found is None:
        return None
    along = np.array([1.0, slope]) / np.hypot(1.0, slope)
    across = np.array([-along[1], along[0]])
    points = found[:, 0, :] + np.array([mark.x, mark.y])
    u, v = points @ along, points @ across
    reach = 0.5 + MARGIN  # a pixel reaches half a pixel beyond its middle
    left, right, top, bottom = u.min() - reach, u.max() + reach, v.min() - reach, v.max() + reach
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return (corners @ np.stack([along, across])).astype(np.float32)


def drawn_strokes(strokes: Sequence[np.ndarray], pen: float, colour: Colour, strength: float = 1.0) -> Mark:
    """Polylines [points, 2] of the sheet, drawn with a pen of that width; less than a pixel gives a fainter line."""
    every = np.concatenate(strokes)
    reach = int(np.ceil(pen)) + 2
    x, y = (np.floor(every.min(0)) - reach).astype(int)
    width, height = (np.ceil(every.max(0)) - (x, y) + reach + 1).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = [np.round((stroke - (x, y)) * (1 << _SHIFT)).astype(np.int32) for stroke in strokes]
    level = round(255 * strength * min(1.0, max(pen, 0.3)))
    cv2.polylines(mask, fixed, False, level, max(1, round(pen)), cv2.LINE_AA, _SHIFT)
    return Mark(mask, int(x), int(y), colour)


def filled(outline: np.ndarray, colour: Colour, strength: float = 1.0) -> Mark:
    """Return a filled outline [points, 2]."""
    x, y = np.floor(outline.min(0)).astype(int) - 1
    width, height = (np.ceil(outline.max(0)) - (x, y) + 2).astype(int)
    mask = np.zeros((height, width), np.uint8)
    fixed = np.round((outline - (x, y)) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], round(255 * strength), cv2.LINE_AA, _SHIFT)
    return Mark(mask, int(x), int(y), colour)


def handwritten(
    text: str, writer: Writer, rng: np.random.Generator, x: float, baseline: float, room: float, slope: float = 0.0
) -> Mark:
    """Return a line in the writer's hand, from x on, no wider than about `room`."""
    ink = write(text, writer, rng, room).moved(0.0, 0.0, slope)
    if not len(ink.points):
        return Mark(np.zeros((1, 1), np.uint8), int(x), int(baseline), writer.ink)
    reach = float(ink.pens.max()) + 2.0
    left, top = np.floor(ink.points.min(0) - reach + (x, baseline)).astype(int)
    right, bottom = np.ceil(ink.points.max(0) + reach + (x, baseline)).astype(int)
    mask = ink.moved(x - left, baseline - top).drawn(int(bottom - top), int(right - left))
    pressure = np.clip(1.0 - np.abs(rng.normal(0.0, 0.09, max(4, mask.shape[1] // 24))), 0.6, 1.0)
    mask *= cv2.resize(pressure[None].astype(np.float32), (mask.shape[1], 1))
    return Mark(np.rint(mask * 255).astype(np.uint8), int(left), int(top), writer.ink)


@dataclass(frozen=True)
class Face:
    """A printed letter: matplotlib's DejaVu, "Sans" or "Serif", or a fetched family in its folder."""

    family: str
    stretch: float = 1.0  # of the width
    folder: Path | None = None  # as `fonts` describes it

    def files(self, bold: bool, italic: bool) -> tuple[Path, Path]:
        """Return the fonts of Latin and of Vietnamese letters; a fetched family is bold or slanted, never both."""
        if self.folder is not None:
            style = "-bold" if bold else "-italic" if italic else ""
            return self.folder / f"latin{style}.woff2", self.folder / f"vietnamese{style}.woff2"
        slanted = "Italic" if self.family == "Serif" else "Oblique"
        style = ("Bold" if bold else "") + (slanted if italic else "")
        file = _font_folder() / f"DejaVu{self.family}{'-' + style if style else ''}.ttf"
        return file, file


# DejaVu's monospaced letters are none of them: they lack 46 of Vietnamese, and would print boxes for ấ or ế.
BUILT_IN_FACES = (Face("Sans"), Face("Serif"))
_PROBE = "Hx7ÂâĐđĂăƠơƯưẤấẾếỐốẪẫỮữỢợỴỵỞởỊị"


def load_faces(folders: Sequence[Path]) -> list[Face]:
    """Return the faces in the folders of fetched families.

    Raises:
        SlimError: one that cannot be opened or lacks letters.
    """
    faces = [Face(folder.name, folder=folder) for folder in folders]
    for face in faces:
        for bold, italic in ((False, False), (True, False), (False, True)):
            _check(face.files(bold, italic))
    return faces


def _check(files: tuple[Path, Path]) -> None:
    for letter in _PROBE:
        path = files[0] if _is_latin(letter) else files[1]
        try:
            font = _font(path, 24)
        except OSError as error:
            raise SlimError(f"{path}: not a font that can be opened ({error}); fetch the family again") from error
        if bytes(font.getmask(letter)) == bytes(font.getmask("\U000f0000")):  # the box for what a font has not
            raise SlimError(f"{path}: the font cannot write {letter!r}; leave the family out")


def print_width(text: str, face: Face, size: float, bold: bool = False, italic: bool = False) -> float:
    """Return how wide a printed line will be, in pixels."""
    return _length(text, face.files(bold, italic), max(4, round(size))) * face.stretch


def printed(
    text: str,
    face: Face,
    size: float,
    x: float,
    baseline: float,
    colour: Colour,
    bold: bool = False,
    italic: bool = False,
) -> Mark:
    """Return a printed line of `size` pixels an em."""
    runs = _runs(text, face.files(bold, italic), max(4, round(size)))
    bounds = np.array([font.getbbox(run, anchor="ls") for run, font, _ in runs])
    begins = np.array([begin for *_, begin in runs])
    left, top = int(np.floor(bounds[:, 0] + begins).min()), int(bounds[:, 1].min())
    right, bottom = int(np.ceil(bounds[:, 2] + begins).max()), int(bounds[:, 3].max())
    canvas = Image.new("L", (max(1, right - left) + 2, max(1, bottom - top) + 2))
    for run, font, begin in runs:
        ImageDraw.Draw(canvas).text((1 - left + begin, 1 - top), run, fill=255, font=font, anchor="ls")
    mask = np.asarray(canvas)
    if face.stretch != 1.0:
        width = max(1, round(mask.shape[1] * face.stretch))
        mask = cv2.resize(mask, (width, mask.shape[0]), interpolation=cv2.INTER_AREA)
    return Mark(mask, round(x + left * face.stretch) - 1, round(baseline + top) - 1, colour)


def _is_latin(letter: str) -> bool:
    """Return whether a fetched family has it among its Latin letters: Latin-1 and punctuation."""
    return ord(letter) < 256 or 0x2000 <= ord(letter) < 0x2070


def _runs(text: str, files: tuple[Path, Path], size: int) -> list[tuple[str, ImageFont.FreeTypeFont, float]]:
    """Return the text in pieces of one font, each with where it begins, in pixels."""
    if files[0] == files[1]:
        return [(text, _font(files[0], size), 0.0)]
    runs, begin = [], 0.0
    for latin, letters in groupby(text, _is_latin):
        run, font = "".join(letters), _font(files[0] if latin else files[1], size)
        runs.append((run, font, begin))
        begin += font.getlength(run)
    return runs or [("", _font(files[0], size), 0.0)]


@cache
def _font_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=20000)
def _length(text: str, files: tuple[Path, Path], size: int) -> float:
    run, font, begin = _runs(text, files, size)[-1]
    return begin + font.getlength(run)


@lru_cache(maxsize=256)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    # Basic layout is the same on every machine; all letters of the language are single glyphs
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@dataclass(frozen=True)
class Row:
    """A photographed row of text that somebody has: where it lies and what it says."""

    path: Path
    text: str


def read_rows(label_files: Sequence[Path]) -> list[Row]:
    """Return the rows of label files, a `path<TAB>text` a line, the path from the file's own folder; rows without text
    are left out.

    Raises:
        SlimError: a file that cannot be read or has none.
    """
    rows: list[Row] = []
    for label_file in label_files:
        try:
            lines = label_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SlimError(f"{label_file}: cannot be read ({error}); give a label file of rows in UTF-8") from error
        pairs = [line.partition("\t") for line in lines]
        found = [
            Row(label_file.parent / path, unicodedata.normalize("NFC", text).strip())
            for path, _, text in pairs
            if path and text.strip()
        ]
        if not found:
            raise SlimError(f"{label_file}: has no row with a text; it needs lines 'path<TAB>text'")
        rows += found
    return rows


def row_mark(row: Row, x: float, baseline: float, x_height: float, room: float) -> Mark | None:
    """Return a real row's ink as a mark; None where it would have to shrink by more than a third to have room.

    The row is taken to be a form row: its ink is about three x-heights high, and rules run along its edges.

    Raises:
        SlimError: a picture that cannot be read.
    """
    mask, colour = _ink_of(row.path)
    points = cv2.findNonZero((mask > _VISIBLE).astype(np.uint8))
    if points is None:
        return None
    left, top, width, height = cv2.boundingRect(points)
    scale = 3.2 * x_height / height
    if width * scale > 1.5 * room:
        return None
    scale = min(scale, room / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    ink = mask[top : top + height, left : left + width]
    ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ink = cv2.convertScaleAbs(ink, alpha=1.0 + 0.5 * max(0.0, 1.0 - scale))  # thin strokes fade as they shrink
    return Mark(ink, round(x), round(baseline - 0.72 * size[1]), colour)


@lru_cache(maxsize=4000)  # of about 50 KB each: a page shows several of them
def _ink_of(path: Path) -> tuple[np.ndarray, Colour]:
    picture = cv2.imread(str(path))
    if picture is None:
        raise SlimError(f"{path}: is not a picture that can be read; mend the label file of --rows")
    scale = min(1.0, 64 / picture.shape[0])
    return row_ink(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def row_ink(picture: np.ndarray) -> tuple[np.ndarray, Colour]:
    """Return the ink of a photographed row, uint8 [H, W] with 255 for the darkest, and its colour. Rules and what
    reaches in from neighbouring rows are no ink of this row.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (height // 4 * 2 + 1, height // 4 * 2 + 1))
    paper = cv2.GaussianBlur(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel), (0, 0), height / 6)
    darkness = np.clip(1.0 - grey / np.maximum(paper, 1.0).astype(np.float32), 0.0, 1.0)
    darkest = max(0.15, float(np.percentile(darkness, 98)))
    ink = (darkness > 0.35 * darkest).astype(np.uint8)
    across = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, 2 * height), np.uint8))
    rules = cv2.dilate(across, np.ones((5, 1), np.uint8))
    # a vertical rule leans a little, and in its band every row of pixels has ink, as in no letter's
    upright = cv2.dilate(ink, np.ones((1, 9), np.uint8)).mean(0) > 0.93
    at_right = np.flatnonzero(upright[int(0.8 * width) :])
    if len(at_right):  # beyond it lies no text
        rules[:, int(0.8 * width) + at_right[0] :] = 1
    at_left = np.flatnonzero(upright[: int(0.04 * width)])
    if len(at_left):
        rules[:, : at_left[-1] + 1] = 1
    ink &= 1 - rules
    count, pieces, stats, centres = cv2.connectedComponentsWithStats(ink, connectivity=8)
    top, bottom = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
    foreign = ((top <= 2) & (bottom < 0.3 * height)) | ((bottom >= height - 2) & (top > 0.75 * height))
    keep = ~foreign & (stats[:, cv2.CC_STAT_AREA] >= 4)
    keep[0] = False
    keep &= ~_beyond_the_writing(stats, keep, height)
    kept = cv2.dilate(keep[pieces].astype(np.uint8), np.ones((3, 3), np.uint8)) & (1 - rules)
    mask = np.rint(255 * np.clip(darkness / darkest, 0.0, 1.0) * kept).astype(np.uint8)
    strong = picture[mask > 160]
    colour = np.median(strong, axis=0) if len(strong) else np.array([60.0, 50.0, 50.0])
    return mask, tuple(float(value) for value in colour)


def _beyond_the_writing(stats: np.ndarray, keep: np.ndarray, height: int) -> np.ndarray:
    """Return which of the pieces of ink [n] are what is left of a rule, before or behind the writing of a row."""
    left, right = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH]
    flat = stats[:, cv2.CC_STAT_HEIGHT] < 0.15 * height
    letters = keep & ~flat
    if not letters.any():
        return np.zeros_like(keep)
    away = height // 2
    return flat & ((left > right[letters].max() + away) | (right < left[letters].min() - away))
