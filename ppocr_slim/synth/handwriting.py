"""Handwriting: a writer's hand, drawn at random, and the pen strokes in which it writes a text.

Strokes are points in pixels of the text line (x to the right, y down, baseline of the first character at y = 0) and are
rendered once, at the end, onto a mask. All deformation happens to the points, which costs a tenth of warping pictures.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.synth.strokes import Alphabet, Glyph

_LETTERS = string.ascii_letters + string.digits + "đĐ"
OVERSAMPLE = 3  # the mask is drawn at three times the line's size: whole pen widths become thirds of a pixel
_NO_BEND = np.zeros((2, 5))
_SHIFT = 4  # fractional bits of a coordinate, for OpenCV


@dataclass(frozen=True)
class Writer:
    """A writer's traits, which stay the same over a line.

    Lengths are in pixels of a line that is 64 pixels high, gaps in x-heights.
    """

    alphabet: Alphabet
    capitals: Alphabet  # people mix: the capitals and digits of one hand, the small letters of another
    x_height: float
    width: float  # of letters, against the alphabet's own
    slant: float  # horizontal shift per height
    pen: float
    letter_gap: float
    word_gap: float
    gap_jitter: float  # how unevenly letters and words stand
    size_jitter: float
    wobble: float  # of the baseline, in x-heights
    bend: float  # how unlike two of the same letter are
    mark_shift: float
    mark_scale: float
    joining: float  # fraction of letters that the pen connects to the next
    raised_marks: float  # extra height of marks over their letter
    flat_marks: float  # height of marks, against their usual one
    joined_marks: float  # fraction of double marks that are drawn in one go
    tall: float  # how far ascenders, capitals and marks reach over an x, against the alphabet's own
    haste: int  # how often strokes are smoothed: who writes fast rounds corners off and closes loops
    borrowed: Mapping[str, Alphabet]  # letters that are not written as the rest: nobody writes one font
    shapes: Mapping[str, np.ndarray]  # each letter's own bend, [2, 5], which stays the same over the line
    ink: tuple[float, float, float]  # BGR, 0 to 255


def draw_writer(rng: np.random.Generator, alphabets: Sequence[Alphabet]) -> Writer:
    """Draw a writer.

    Args:
        rng: random generator, on which alone the writer depends.
        alphabets: from which the hand is mixed, by their weights.

    Returns:
        The writer.
    """
    weights = np.cumsum([alphabet.weight for alphabet in alphabets])
    alphabet, other = (alphabets[at] for at in np.searchsorted(weights, rng.random(2) * weights[-1], "right"))
    capitals = other if rng.random() < 0.3 else alphabet
    joins = rng.random() < (0.3 if alphabet.cursive else 0.6)
    borrowing = rng.uniform(0.0, 0.5) if rng.random() < 0.7 else 0.0
    lenders = np.searchsorted(weights, rng.random(len(_LETTERS)) * weights[-1], "right")
    borrows = rng.random(len(_LETTERS)) < borrowing
    own_shape = rng.uniform(0.02, 0.14)
    return Writer(
        alphabet=alphabet,
        capitals=capitals,
        x_height=float(np.clip(rng.normal(16.3, 2.2), 10.5, 22.0)),
        width=float(np.exp(rng.normal(-0.15, 0.15))),
        slant=float(rng.normal(0.0, 0.12) if alphabet.cursive else rng.normal(0.14, 0.17)),
        pen=float(np.clip(rng.normal(1.75, 0.33), 1.0, 2.8)),
        letter_gap=float(rng.normal(0.0, 0.015) if alphabet.cursive else rng.normal(-0.01, 0.07)),
        word_gap=float(np.clip(rng.normal(0.45, 0.35), -0.05, 1.5)),
        gap_jitter=float(rng.uniform(0.02, 0.12) * (0.3 if alphabet.cursive else 1.0)),
        size_jitter=float(rng.uniform(0.02, 0.09)),
        wobble=float(rng.uniform(0.02, 0.11)),
        bend=float(rng.uniform(0.015, 0.075)),
        mark_shift=float(rng.uniform(0.03, 0.17)),
        mark_scale=float(np.exp(rng.normal(0.05, 0.18))),
        joining=float(rng.uniform(0.3, 0.95)) if joins else 0.0,
        raised_marks=float(0.08 + abs(rng.normal(0.0, 0.12))),
        flat_marks=float(rng.uniform(0.45, 1.1)),
        joined_marks=float(rng.uniform(0.0, 1.0)) if rng.random() < 0.5 else 0.0,
        tall=float(np.exp(rng.normal(0.08, 0.13))),
        haste=int(rng.integers(0, 9)) if rng.random() < 0.6 else 0,
        borrowed={_LETTERS[at]: alphabets[lenders[at]] for at in np.flatnonzero(borrows)},
        shapes=dict(zip(_LETTERS, rng.normal(0.0, own_shape, (len(_LETTERS), 2, 5)))),
        ink=_ink_colour(rng),
    )


def _ink_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    blue, navy, violet, black, grey = (118, 58, 42), (88, 40, 34), (108, 46, 54), (42, 38, 38), (74, 70, 68)
    kinds = (blue, navy, violet, black, black, blue, navy, grey)
    colour = np.array(kinds[int(rng.integers(len(kinds)))], np.float64) * rng.uniform(0.7, 1.15)
    return tuple(float(value) for value in np.clip(colour + rng.normal(0, 5, 3), 10, 170))


@dataclass(frozen=True)
class Ink:
    """Pen strokes of a text."""

    points: np.ndarray  # [M, 2] float32, pixels, all strokes one after another
    lengths: np.ndarray  # points of each stroke
    pens: np.ndarray  # width of each stroke, in pixels

    @property
    def width(self) -> float:
        """Pixels from the origin to the rightmost point; 0 for no ink."""
        return float(self.points[:, 0].max()) if len(self.points) else 0.0

    def moved(self, x: float, y: float, slope: float = 0.0) -> Ink:
        """Return the ink shifted by (x, y), and tilted so that it falls by `slope` pixels a pixel."""
        points = self.points + np.array([x, y], np.float32)
        points[:, 1] += slope * self.points[:, 0]
        return Ink(points, self.lengths, self.pens)

    def render(self, height: int, width: int) -> np.ndarray:
        """Return the mask of the ink, [height, width] float32, 0 for paper and 1 for ink."""
        canvas = np.zeros((height * OVERSAMPLE, width * OVERSAMPLE), np.uint8)
        # a pixel's centre lies at a half: without the shift the pen would land half a pixel off after
        # shrinking
        fixed = np.round((self.points * OVERSAMPLE - 0.5) * (1 << _SHIFT)).astype(np.int32)
        strokes = np.split(fixed, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []
        thickness = np.maximum(1, np.round(self.pens * OVERSAMPLE)).astype(int)
        for pen in np.unique(thickness):
            chosen = [strokes[index] for index in np.flatnonzero(thickness == pen)]
            cv2.polylines(canvas, chosen, False, 255, int(pen), cv2.LINE_AA, _SHIFT)
        small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) * np.float32(1 / 255)


def write(text: str, writer: Writer, rng: np.random.Generator, room: float = np.inf) -> Ink:
    """Write a text in a writer's hand.

    Args:
        text: NFC characters.
        writer: whose hand it is.
        rng: random generator of what varies within a line.
        room: greatest width in pixels; the hand narrows for a longer text, as people's do.

    Returns:
        The pen strokes.

    Raises:
        SlimError: an alphabet lacks a character.
    """
    bases = [unicodedata.normalize("NFD", character)[0] for character in text]
    alphabets = [
        writer.borrowed.get(base, writer.alphabet if character.islower() else writer.capitals)
        for character, base in zip(text, bases)
    ]
    glyphs = [alphabet.glyph(character) for alphabet, character in zip(alphabets, text)]
    starts = _character_starts(text, glyphs, writer, rng)
    ink = _InkBuilder(bases, glyphs, starts, writer, rng).ink()
    if ink.width > room > 0:
        # a cramped hand is narrower, and a little smaller too
        narrow = room / ink.width
        ink.points[:, 0] *= narrow
        ink.points[:, 1] *= max(0.75, narrow**0.4)
    return ink


def _character_starts(text: str, glyphs: Sequence[Glyph], writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """Return the x at which each character begins, in x-heights.

    It follows from the advances and the writer's gaps; now and then words stand closer together or farther apart.
    """
    count = len(glyphs)
    advances = np.array([glyph.advance for glyph in glyphs]) * writer.width
    advances += writer.letter_gap + rng.normal(0.0, writer.gap_jitter, count)
    for found in re.finditer(" ", text):
        at = found.start()
        extra = writer.word_gap + rng.normal(0.0, 2.5 * writer.gap_jitter + 0.05)
        chance = rng.random()
        if chance < 0.05:
            extra -= 0.3  # run together
        elif chance < 0.12:
            extra += rng.uniform(0.4, 1.6)  # moved apart
        advances[at] = max(0.08, advances[at] + extra)
    return np.concatenate([[0.0], np.cumsum(advances)[:-1]])


class _InkBuilder:
    """Builder of a line's ink from its glyphs: all points in one array, deformed and placed together."""

    def __init__(
        self,
        bases: Sequence[str],
        glyphs: Sequence[Glyph],
        starts: np.ndarray,
        writer: Writer,
        rng: np.random.Generator,
    ) -> None:
        """Collect the points of a line's glyphs.

        Args:
            bases: the characters without their marks.
            glyphs: of the characters.
            starts: the x at which each begins, in x-heights.
            writer: whose hand it is.
            rng: random generator of what varies within a line.
        """
        self.bases, self.glyphs, self.starts, self.writer, self.rng = bases, glyphs, starts, writer, rng
        sizes = [len(glyph.points) for glyph in glyphs]
        self.letter = np.repeat(np.arange(len(glyphs)), sizes)  # of each point: the index of its character
        self.points = np.concatenate([glyph.points for glyph in glyphs] + [np.zeros((0, 2), np.float32)])
        self.lengths = [length for glyph in glyphs for length in glyph.lengths]
        self.part = np.concatenate([glyph.parts for glyph in glyphs] + [np.zeros(0, np.int64)])
        self.stroke_letter = np.repeat(np.arange(len(glyphs)), [len(glyph.lengths) for glyph in glyphs])

    def ink(self) -> Ink:
        """Return the ink in pixels, after deforming and placing the points."""
        writer, rng = self.writer, self.rng
        if not len(self.points):
            return Ink(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0))
        self._smooth()
        self._bend_letters()
        self._loosen_marks()
        self._place()
        points, lengths, stroke_letter = self.points, list(self.lengths), self.stroke_letter
        joints = [*(self._joints() if writer.joining else []), *(self._mark_joints() if writer.joined_marks else [])]
        if joints:
            points = np.concatenate([points] + [line for _, line in joints])
            lengths += [len(line) for _, line in joints]
            stroke_letter = np.concatenate([stroke_letter, [letter for letter, _ in joints]])
        points = self._tremble(points) * np.float32(writer.x_height)
        pens = writer.pen * np.exp(rng.normal(0.0, 0.09, len(self.glyphs)))[stroke_letter]
        return Ink(points.astype(np.float32), np.array(lengths), pens)

    def _smooth(self) -> None:
        """Move every point towards its neighbours in the stroke, as often as the writer's haste says; the ends stay."""
        inner = np.ones(len(self.points), bool)
        ends = np.cumsum(self.lengths)
        inner[ends - 1] = inner[ends - self.lengths] = False
        at = np.flatnonzero(inner)
        for _ in range(self.writer.haste):
            self.points[at] += 0.5 * (0.5 * (self.points[at - 1] + self.points[at + 1]) - self.points[at])

    def _bend_letters(self) -> None:
        """Give each letter the writer's quadratic bend for its kind, a small one of its own, and a size of its own."""
        writer, rng, count = self.writer, self.rng, len(self.glyphs)
        size = np.exp(rng.normal(0.0, writer.size_jitter, (count, 2)))
        x, y = self.points[:, 0] - 0.5, self.points[:, 1] + 0.6
        terms = np.stack([x, y, x * y, x * x, y * y])  # [5, M]
        kinds = np.stack([writer.shapes.get(base, _NO_BEND) for base in self.bases])
        factors = (kinds + rng.normal(0.0, writer.bend, (count, 2, 5))) * np.array([0.8, 0.8, 1.0, 0.7, 0.7])
        moved = np.einsum("mdt,tm->md", factors[self.letter], terms)
        # no letter of a line needs more than a third of its height; long tails would fly off
        self.points = self.points * size[self.letter] + np.clip(moved, -0.35, 0.35)

    def _loosen_marks(self) -> None:
        """Move, turn and scale each mark; a mark's strokes stay together."""
        writer, rng = self.writer, self.rng
        marks = self.part > 0
        if not marks.any():
            return
        key = self.letter[marks] * 8 + np.minimum(self.part[marks], 7)
        _, which = np.unique(key, return_inverse=True)
        count = int(which.max()) + 1
        sums = np.stack([np.bincount(which, self.points[marks, axis], count) for axis in (0, 1)], 1)
        centre = sums / np.bincount(which, minlength=count)[:, None]
        turn = rng.normal(0.0, 1.6 * writer.mark_shift, count)[which]
        scale = (writer.mark_scale * np.exp(rng.normal(0.0, 0.12, count)))[which]
        shift = rng.normal([0.4 * writer.mark_shift, 0.0], [writer.mark_shift, 0.35 * writer.mark_shift], (count, 2))
        shift[:, 1] += np.where(centre[:, 1] < 0, -writer.raised_marks, 0.7 * writer.raised_marks)
        x, y = (self.points[marks] - centre[which]).T * np.array([[1.0], [writer.flat_marks]])
        turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
        self.points[marks] = centre[which] + turned * scale[:, None] + shift[which]

    def _place(self) -> None:
        """Move the letters to their places, and slant them."""
        writer, rng = self.writer, self.rng
        self.points[:, 1] -= (writer.tall - 1) * np.maximum(0.0, -self.points[:, 1] - 1.0)
        rise = rng.normal(0.0, 0.5 * writer.wobble, len(self.glyphs))[self.letter]
        self.points[:, 0] = (
            self.points[:, 0] * writer.width + self.starts[self.letter] - writer.slant * self.points[:, 1]
        )
        self.points[:, 1] += rise

    def _joints(self) -> list[tuple[int, np.ndarray]]:
        """Return strokes that join letters: from low on a letter's right to low or middle on the next one's left."""
        rng, joints = self.rng, []
        chance = rng.random(len(self.glyphs))
        heights = rng.uniform([0.0, 0.15], [0.35, 0.75], (len(self.glyphs), 2))
        body = self.part == 0
        firsts = np.searchsorted(self.letter, np.arange(len(self.glyphs) + 1))
        for letter in range(len(self.glyphs) - 1):
            if chance[letter] > self.writer.joining:
                continue
            here, there = (
                slice(firsts[letter], firsts[letter + 1]),
                slice(firsts[letter + 1], firsts[letter + 2]),
            )
            one, other = self.points[here][body[here]], self.points[there][body[there]]
            if len(one) < 2 or len(other) < 2:
                continue
            begin = one[np.argmax(one[:, 0] - 2.0 * np.abs(one[:, 1] + heights[letter, 0]))]
            end = other[np.argmin(other[:, 0] + 2.0 * np.abs(other[:, 1] + heights[letter, 1]))]
            gap = end - begin
            if not (0.02 < gap[0] < 0.75 and abs(gap[1]) < 0.9):
                continue
            middle = begin + gap * 0.5 + np.array([0.0, 0.10 + 0.25 * gap[0]])
            way = np.linspace(0.0, 1.0, 6)[:, None]
            joints.append((letter, (1 - way) ** 2 * begin + 2 * way * (1 - way) * middle + way**2 * end))
        return joints

    def _mark_joints(self) -> list[tuple[int, np.ndarray]]:
        """Return strokes from the end of one mark over a letter to the beginning of the next one over it."""
        joints = []
        over = np.flatnonzero((self.part > 0) & (self.points[:, 1] < -0.8))
        chance = self.rng.random(len(self.glyphs))
        for letter in np.unique(self.letter[over]):
            mine = over[self.letter[over] == letter]
            parts = np.unique(self.part[mine])
            if len(parts) < 2 or chance[letter] > self.writer.joined_marks:
                continue
            one, other = (self.points[mine[self.part[mine] == part]] for part in parts[:2])
            if one[:, 0].mean() > other[:, 0].mean():
                one, other = other, one
            ends = np.stack([one[np.argmax(one[:, 0])], other[np.argmin(other[:, 0])]])
            joints.append((int(letter), ends))
        return joints

    def _tremble(self, points: np.ndarray) -> np.ndarray:
        """Return points with slow waves over the line: the baseline drifts, the width of letters swells and shrinks."""
        writer, rng = self.writer, self.rng
        x, y = points[:, 0], points[:, 1]
        moved = points.copy()
        for length, amount in ((18.0, 1.2), (5.0, 0.6), (1.3, 0.25)):
            phase = rng.uniform(0.0, 2 * np.pi, 2)
            per = 2 * np.pi / (length * rng.uniform(0.7, 1.4))
            moved[:, 1] += writer.wobble * amount * np.sin(per * x + phase[0])
            moved[:, 0] += 0.6 * writer.wobble * amount * np.sin(per * (x + 0.8 * y) + phase[1])
        return moved
