"""Alphabets of pen strokes: every character as polylines that a pen can follow, whatever font it is from.

Three sources, one result (`Glyph`): single-stroke Hershey fonts with Vietnamese marks composed on them, the fonts that
matplotlib carries, and fetched handwriting families. Outline fonts are thinned to their centre lines, so that a pen of
constant width can draw them again: that looks penned and makes bold fonts usable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.fonts import FAMILIES, fetched_families

Polyline = np.ndarray  # [points, 2] float32, x to the right, y down


@dataclass(frozen=True)
class Glyph:
    """A character as pen strokes, in x-heights; the origin is on the baseline, at the left of its advance."""

    advance: float
    points: np.ndarray  # [M, 2] float32, all strokes one after another
    lengths: tuple[int, ...]  # points of each stroke
    parts: np.ndarray  # [M] int, 0 for the body and 1, 2, ... for marks apart from it (accents, the dot of an i)

    @staticmethod
    def of(advance: float, strokes: Sequence[tuple[int, Polyline]]) -> Glyph:
        """Return the glyph of `(part, polyline)` pairs."""
        if not strokes:
            return Glyph(advance, np.zeros((0, 2), np.float32), (), np.zeros(0, np.int64))
        points = np.concatenate([line for _, line in strokes]).astype(np.float32)
        lengths = tuple(len(line) for _, line in strokes)
        return Glyph(advance, points, lengths, np.repeat([part for part, _ in strokes], lengths))


class Alphabet(Protocol):
    """A source of glyphs."""

    name: str
    weight: float  # how often a writer uses it, against the others
    cursive: bool  # its characters join

    def glyph(self, character: str) -> Glyph:
        """Return the strokes of one NFC character.

        Raises:
            SlimError: the alphabet lacks it.
        """


# Marks in x-heights around an anchor: the centre of the character's top (for the dot below: of the baseline).
_MARKS: dict[str, list[list[tuple[float, float]]]] = {
    "\u0302": [[(-0.32, -0.12), (0.0, -0.44), (0.30, -0.12)]],
    "\u0306": [[(-0.30, -0.42), (-0.20, -0.20), (0.0, -0.13), (0.20, -0.20), (0.30, -0.42)]],
    "\u0301": [[(-0.02, -0.12), (0.24, -0.50)]],
    "\u0300": [[(-0.26, -0.46), (0.04, -0.12)]],
    "\u0309": [[(-0.12, -0.44), (0.0, -0.54), (0.12, -0.44), (0.03, -0.31), (0.0, -0.14)]],
    "\u0303": [[(-0.34, -0.18), (-0.18, -0.36), (0.0, -0.26), (0.18, -0.16), (0.34, -0.34)]],
    "\u0323": [[(0.0, 0.34), (0.03, 0.38)]],
}
_HORN, _BELOW = "\u031b", "\u0323"
_HATS = ("\u0302", "\u0306")


class HersheyAlphabet:
    """A single-stroke font of the Hershey-Fonts package (A. V. Hershey, 1967; ASCII) with composed Vietnamese marks."""

    def __init__(self, name: str, weight: float, cursive: bool) -> None:
        """Load a font by its name in the package."""
        from HersheyFonts import HersheyFonts

        self.name, self.weight, self.cursive = f"hershey-{name}", weight, cursive
        self._font = HersheyFonts()
        self._font.load_default_font(name)
        self._glyphs: dict[str, Glyph] = {}
        self._baseline, self._unit = 9.0, 1.0
        self._unit = _effective_x_height(*(-_top(self._base_strokes(character)[1]) for character in "xH"))

    def glyph(self, character: str) -> Glyph:
        """Return the strokes of one NFC character; see `Alphabet`."""
        if character not in self._glyphs:
            self._glyphs[character] = self._compose(character)
        return self._glyphs[character]

    def _base_strokes(self, character: str) -> tuple[float, list[Polyline]]:
        """Return the advance and the strokes of an ASCII character."""
        found = list(self._font.glyphs_for_text(character)) if character.isascii() else []
        if not found:
            raise SlimError(f"{self.name}: cannot write {character!r}; leave it out of the text")
        shift = np.array([found[0].left_offset, self._baseline])
        lines = [(np.array(stroke, np.float32) - shift) / self._unit for stroke in found[0].strokes if stroke]
        return found[0].char_width / self._unit, [_resample(line) for line in lines]

    def _compose(self, character: str) -> Glyph:
        """Return a character as its base with its marks."""
        stroked = character in "đĐ"
        base, *marks = unicodedata.normalize("NFD", {"đ": "d", "Đ": "D"}.get(character, character))
        advance, body = self._base_strokes(base)
        if base == "i" and any(mark != _BELOW for mark in marks):
            body = [line for line in body if line[:, 1].max() > -0.9]  # the tone takes the place of the dot
        strokes = [(0, line) for line in body]
        if not body:
            return Glyph.of(advance, strokes)
        points = np.concatenate(body)
        left, right, top = points[:, 0].min(), points[:, 0].max(), points[:, 1].min()
        if stroked:
            stem = left + (0.35 if self.cursive else 0.0)  # a script's D begins with a swing before its stem
            bar = (right - 0.42, right + 0.16, 0.8 * top) if base == "d" else (stem - 0.28, stem + 0.32, 0.5 * top)
            strokes.append((0, np.array([(bar[0], bar[2]), (bar[1], bar[2])])))
        if _HORN in marks:
            hook = np.array([(0.0, 0.06), (0.18, 0.0), (0.22, -0.24)])
            strokes.append((0, _resample(hook + (right - 0.12, top))))
        return Glyph.of(advance, strokes + _mark_strokes(marks, (left + right) / 2, top))


def _mark_strokes(marks: Sequence[str], centre: float, top: float) -> list[tuple[int, Polyline]]:
    """Return the `(part, polyline)` pairs of the marks that stand apart from a body with that centre and top."""
    strokes = []
    part, raised = 1, False
    for mark in sorted(marks, key=lambda mark: mark not in _HATS):
        if mark == _HORN:
            continue
        x, y = (centre, 0.0) if mark == _BELOW else (centre, top - 0.08)
        if raised and mark != _BELOW:  # a tone over a hat stands to its right
            x, y = centre + 0.26, top - 0.34
        strokes += [(part, _resample(np.array(line) + (x, y))) for line in _MARKS[mark]]
        raised, part = raised or mark in _HATS, part + 1
    return strokes


def _top(lines: Sequence[Polyline]) -> float:
    return min(float(line[:, 1].min()) for line in lines)


def _effective_x_height(small: float, capital: float) -> float:
    """Return what counts as the x-height of a font with that height of an x and of an H.

    Scripts set tiny small letters under tall capitals: a mean of both makes hands equal in size.
    """
    return 0.5 * small + 0.5 * capital / 1.75


def _resample(line: Polyline, step: float = 0.12) -> Polyline:
    """Return a polyline with its corners rounded and a point about every `step`, so that a warp can bend it."""
    if len(line) > 2:  # Chaikin's corner cutting (1974)
        cut = np.empty((2 * len(line) - 2, 2), np.float32)
        cut[0::2], cut[1::2] = 0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]
        line = np.concatenate([line[:1], cut, line[-1:]])
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, way[-1], max(2, int(way[-1] / step) + 1))
    return np.stack([np.interp(at, way, line[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


class OutlineAlphabet:
    """The centre lines of an outline font."""

    SIZE = 100  # pixels an em: strokes are 5 to 15 px wide then, enough for a clean centre line

    def __init__(self, name: str, latin: Path, vietnamese: Path | None, weight: float, cursive: bool) -> None:
        """Open the font.

        Args:
            name: of the alphabet.
            latin: font file of the code points under 256.
            vietnamese: font file of the others; without it, `latin` has them too.
            weight: see `Alphabet`.
            cursive: see `Alphabet`.

        Raises:
            SlimError: a font cannot be opened.
        """
        self.name, self.weight, self.cursive = name, weight, cursive
        self._latin = _open_font(latin, self.SIZE)
        self._vietnamese = _open_font(vietnamese, self.SIZE) if vietnamese is not None else self._latin
        self._missing = {id(font): _raster(font, "\U000f0000")[0] for font in (self._latin, self._vietnamese)}
        self._glyphs: dict[str, Glyph] = {}
        small, capital = (-float(self._latin.getbbox(character, anchor="ls")[1]) for character in "xH")
        self._unit = _effective_x_height(small, capital)

    def glyph(self, character: str) -> Glyph:
        """Return the strokes of one NFC character; see `Alphabet`."""
        if character not in self._glyphs:
            self._glyphs[character] = self._trace(character)
        return self._glyphs[character]

    def _trace(self, character: str) -> Glyph:
        font = self._latin if ord(character) < 256 else self._vietnamese
        image, offset = _raster(font, character)
        advance = font.getlength(character) / self._unit
        if character == " ":
            return Glyph.of(advance, [])
        if np.array_equal(image, self._missing[id(font)]) or not image.any():
            raise SlimError(f"{self.name}: the font cannot write {character!r}; leave the family out")
        strokes = [(part, (line + offset) / self._unit) for part, line in centre_lines(image)]
        return Glyph.of(advance, strokes)


def _open_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    try:
        # Basic layout: glyph by glyph, which needs no shaping and keeps the marks of some families in place.
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise SlimError(f"{path}: not a font that can be opened ({error}); fetch the family again") from error


def _raster(font: ImageFont.FreeTypeFont, character: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a character as 0/1 uint8 with a margin, and its pixel (0, 0) from the origin on the baseline."""
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    margin = 3
    canvas = Image.new("L", (max(1, right - left) + 2 * margin, max(1, bottom - top) + 2 * margin))
    ImageDraw.Draw(canvas).text((margin - left, margin - top), character, fill=255, font=font, anchor="ls")
    return (np.asarray(canvas) > 127).astype(np.uint8), np.array([left - margin, top - margin], np.float32)


def _thinning_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the tables [256] of the neighbourhoods whose centre the two half-steps of Guo and Hall (1989) remove."""
    tables = np.zeros((2, 256), np.uint8)
    for code in range(256):
        p2, p3, p4, p5, p6, p7, p8, p9 = ((code >> bit) & 1 for bit in range(8))  # north, then clockwise
        pairs = ((p2, p3, p4), (p4, p5, p6), (p6, p7, p8), (p8, p9, p2))
        crossings = sum((1 - straight) & (corner | after) for straight, corner, after in pairs)
        neighbours = min((p9 | p2) + (p3 | p4) + (p5 | p6) + (p7 | p8), (p2 | p3) + (p4 | p5) + (p6 | p7) + (p8 | p9))
        if crossings == 1 and 2 <= neighbours <= 3:
            tables[0, code] = ((p6 | p7 | (1 - p9)) & p8) == 0
            tables[1, code] = ((p2 | p3 | (1 - p5)) & p4) == 0
    return tables[0], tables[1]


_TABLES = _thinning_tables()
_CODES = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)


def thin(image: np.ndarray) -> np.ndarray:
    """Return a 0/1 uint8 image [H, W] thinned to lines one pixel wide; its border must be 0.

    The method is Guo and Hall's (1989, CACM 32(3)): unlike Zhang and Suen's it keeps slanting lines, which circumflexes
    are made of.
    """
    image = image.copy()
    while True:
        changed = False
        for table in _TABLES:
            codes = cv2.filter2D(image, -1, _CODES, borderType=cv2.BORDER_CONSTANT)
            remove = cv2.LUT(codes, table) & image
            if remove.any():
                image -= remove
                changed = True
        if not changed:
            return image


def centre_lines(image: np.ndarray) -> list[tuple[int, Polyline]]:
    """Return the centre lines of a filled shape as `(part, polyline in pixels)`; part 0 is the largest piece.

    Args:
        image: the shape, 0/1 uint8 [H, W], with a border of 0.
    """
    count, pieces, stats, centres = cv2.connectedComponentsWithStats(image, connectivity=8)
    half_width = cv2.distanceTransform(image, cv2.DIST_L2, 3)
    order = sorted(range(1, count), key=lambda piece: -stats[piece, cv2.CC_STAT_AREA])
    strokes = []
    for part, piece in enumerate(order):
        skeleton = thin((pieces == piece).astype(np.uint8))
        lines = [line for line in _trace_skeleton(skeleton, half_width) if len(line) > 1]
        if not lines:  # a dot: the pen set down once
            centre = centres[piece].astype(np.float32)
            lines = [np.stack([centre, centre + 0.5])]
        strokes += [(part, _smooth(line)) for line in lines]
    return strokes


def _trace_skeleton(skeleton: np.ndarray, half_width: np.ndarray) -> list[Polyline]:
    """Return the pixel paths of a skeleton between its ends and junctions, without spurs.

    A spur is a loose end that the pen, set down at the junction with the shape's half width there, would cover: an
    artefact.
    """
    pixels = {(int(x), int(y)) for y, x in zip(*np.nonzero(skeleton))}
    links = _link_pixels(pixels)
    nodes = sorted(pixel for pixel, near in links.items() if len(near) != 2)
    done, paths = set(), []

    def follow(start, following):
        path = [start, following]
        done.update(((start, following), (following, start)))
        while len(links[path[-1]]) == 2:
            ahead = next((pixel for pixel in links[path[-1]] if pixel != path[-2]), None)
            if ahead is None or (path[-1], ahead) in done:
                break
            done.update(((path[-1], ahead), (ahead, path[-1])))
            path.append(ahead)
        return path

    for node in nodes + sorted(pixels):  # what is left after the nodes are closed rings
        for following in links[node]:
            if (node, following) not in done:
                paths.append(follow(node, following))

    def is_spur(path):
        loose = [len(links[end]) == 1 for end in (path[0], path[-1])]
        x, y = path[-1] if loose[0] else path[0]
        return loose[0] != loose[1] and len(path) - 1 <= half_width[y, x]

    paths = [path for path in paths if not is_spur(path)] or [max(paths, key=len)] if paths else []
    return [np.array(path, np.float32) for path in paths]


def _link_pixels(pixels: set[tuple[int, int]]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return the neighbours of each pixel of a skeleton."""
    links = {}
    for x, y in pixels:
        straight = ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1))
        near = [pixel for pixel in straight if pixel in pixels]
        for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            # a diagonal only where no straight step leads round the corner, else junctions become triangles
            if (x + dx, y + dy) in pixels and (x + dx, y) not in pixels and (x, y + dy) not in pixels:
                near.append((x + dx, y + dy))
        links[(x, y)] = near
    return links


def _smooth(line: Polyline) -> Polyline:
    """Return a staircase of pixels as a smooth line with a point about every four pixels; its ends stay."""
    if len(line) < 5:
        return line
    padded = np.concatenate([line[:1]] * 2 + [line] + [line[-1:]] * 2)
    smooth = sum(padded[i : i + len(line)] for i in range(5)) / 5
    smooth[0], smooth[-1] = line[0], line[-1]
    keep = np.unique(np.linspace(0, len(line) - 1, max(3, len(line) // 4 + 1)).round().astype(int))
    return smooth[keep]


def builtin_alphabets() -> list[Alphabet]:
    """Return the alphabets without a download: Hershey's simplex and script, and at low weight matplotlib's DejaVu."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    alphabets: list[Alphabet] = [
        HersheyAlphabet("futural", 1.0, False),
        HersheyAlphabet("cursive", 0.6, True),
    ]
    for name, weight in (("DejaVuSans-Oblique", 0.25), ("DejaVuSans", 0.2), ("DejaVuSerif-Italic", 0.25)):
        alphabets.append(OutlineAlphabet(name, folder / f"{name}.ttf", None, weight, False))
    return alphabets


_PROBE = "Hx7/'ĐđăƠưÂẫẵữợỵ"


def load_alphabets(fonts: Path | None = None) -> list[Alphabet]:
    """Return the alphabets to draw writers from.

    Args:
        fonts: folder of fetched families; with it, the built-in alphabets have a lower weight.

    Raises:
        SlimError: the folder has no family, or one of them cannot be used.
    """
    alphabets = builtin_alphabets()
    if fonts is None:
        return alphabets
    for alphabet in alphabets:
        alphabet.weight *= 0.6
    for folder in fetched_families(fonts):
        vietnamese = folder / "vietnamese.woff2"
        weight = FAMILIES.get(folder.name, 1.0)
        alphabet = OutlineAlphabet(
            folder.name,
            folder / "latin.woff2",
            vietnamese if vietnamese.is_file() else None,
            weight,
            weight < 1.0,
        )
        for character in _PROBE:  # a font that lacks characters is to be found now, not after a thousand lines
            alphabet.glyph(character)
        alphabets.append(alphabet)
    return alphabets
