"""Photographed pages with the boxes of their lines: synthetic data for a text detector.

A page is drawn flat (`layouts`, `sheets`), then photographed (`camera`); its boxes are taken from the ink on the flat
sheet and go through the camera's homography. Every page has a random generator of its own, seeded by (seed, split,
index).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from ppocr_slim.data.page_labels import IGNORED
from ppocr_slim.errors import SlimError
from ppocr_slim.synth.camera import Camera, CameraLimits, draw_camera
from ppocr_slim.synth.clutter import clutter, cover
from ppocr_slim.synth.faces import BUILT_IN_FACES, Face, load_faces
from ppocr_slim.synth.fonts import MONOSPACED, printed_families
from ppocr_slim.synth.handwriting import draw_writer
from ppocr_slim.synth.layouts import PAGE_KINDS, Draft, draw_paper
from ppocr_slim.synth.phrases import Phrases
from ppocr_slim.synth.real_lines import read_real_lines
from ppocr_slim.synth.sheets import Sheet
from ppocr_slim.synth.strokes import load_alphabets

IGNORE = IGNORED[0]

_WEIGHTS = {
    "form": 0.3, "register": 0.13, "table": 0.12, "letter": 0.13, "document": 0.1, "receipt": 0.05, "note": 0.07,
    "card": 0.06, "empty": 0.04,
}  # fmt: skip


@dataclass(frozen=True)
class PageOptions:
    """Options of the mixture of pages.

    Raises:
        SlimError: a value is out of range.
    """

    kinds: dict[str, float] = field(default_factory=lambda: dict(_WEIGHTS))  # weights of PAGE_KINDS
    longer_side: tuple[int, int] = (720, 1280)  # of the photograph, in pixels: least and most
    real: float = 0.7  # fraction of handwritten lines that are real ones, where real lines are given
    machine: float = 0.25  # fraction of forms filled in by a machine
    clutter: float = 1.3  # things that are no text, a page on average
    covered: float = 0.1  # fraction of pages on which something lies
    smallest: float = 8.0  # height in the photograph, in pixels, of a box that can be read
    camera: CameraLimits = field(default_factory=CameraLimits)

    def __post_init__(self) -> None:
        """Check the values."""
        unknown = sorted(self.kinds.keys() - PAGE_KINDS.keys())
        if unknown:
            raise SlimError(f"kinds: no page kind {', '.join(unknown)}; there are {', '.join(PAGE_KINDS)}")
        if not self.kinds or min(self.kinds.values()) < 0 or sum(self.kinds.values()) <= 0:
            raise SlimError(f"kinds {self.kinds}: needs a weight over 0 and none under")
        least, most = self.longer_side
        if not 320 <= least <= most <= 4096:
            raise SlimError(
                f"longer side {least} to {most}: give two numbers of pixels from 320 to 4096, the smaller first"
            )
        for name in ("real", "machine", "covered"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SlimError(f"{name} {getattr(self, name)}: is a fraction; give a number from 0 to 1")
        if self.clutter < 0:
            raise SlimError(f"clutter {self.clutter}: is a number of things; give 0 or more")
        if self.smallest < 0:
            raise SlimError(f"smallest {self.smallest}: is a height in pixels; give 0 or more")


@dataclass(frozen=True)
class Box:
    """A line in a photograph: points [4, 2] int, clockwise from the top left of the text; text `###`: ignore it."""

    text: str
    points: np.ndarray


@dataclass(frozen=True)
class Page:
    """A photograph, [H, W, 3] uint8 BGR, with its boxes, and the quality of the JPEG that it becomes."""

    image: np.ndarray
    boxes: list[Box]
    quality: int


class PageGenerator:
    """Generator of pages; it holds what all of them share: places, alphabets, typefaces, the list of real lines."""

    def __init__(
        self, options: PageOptions | None = None, fonts: Path | None = None, real_lines: Sequence[Path] = ()
    ) -> None:
        """Load what all pages share.

        Args:
            options: the mixture; without it, the default one.
            fonts: folder of fetched font families; without it, built-in strokes and DejaVu are used.
            real_lines: label files of real lines to set between the synthetic ones.

        Raises:
            SlimError: a font or a label file cannot be used.
        """
        self.options = options or PageOptions()
        self.phrases = Phrases()
        self.alphabets = load_alphabets(fonts)
        self.faces = load_faces(printed_families(fonts)) if fonts is not None else []
        self.real_lines = read_real_lines(real_lines)

    def generate(self, seed: int, split: int, index: int) -> Page:
        """Return page `index` of a split, a pure function of the three numbers and the generator's arguments."""
        rng = np.random.default_rng([seed, split, index])
        options = self.options
        longer = int(rng.integers(options.longer_side[0], options.longer_side[1] + 1))
        sheet = self.draw_sheet(longer, rng)
        camera = draw_camera(sheet, longer, options.camera, rng)
        image = camera.photograph(sheet.render(), sheet.covers)
        return Page(image, project_boxes(sheet, camera, options.smallest), int(rng.integers(40, 96)))

    def draw_sheet(self, longer: int, rng: np.random.Generator, kind: str | None = None) -> Sheet:
        """Draw a flat sheet.

        Args:
            longer: pixels of its longer side.
            rng: random generator.
            kind: one of PAGE_KINDS; without it, one is drawn by the weights of the options.

        Returns:
            The sheet with its lines.
        """
        options = self.options
        kind = kind or _choose_kind(options.kinds, rng)
        chosen = PAGE_KINDS[kind]
        shape = chosen.shapes[int(rng.integers(len(chosen.shapes)))] * rng.uniform(0.95, 1.05)
        height, width = (longer, round(longer / shape)) if shape > 1 else (round(longer * shape), longer)
        sheet = Sheet(draw_paper(height, width, rng))
        # print gets smaller with the sheet until it can just be read
        em = max(width / rng.uniform(*chosen.ems), rng.uniform(8.0, 11.0))
        writer = draw_writer(rng, self.alphabets)
        face = self.draw_face(kind, rng)
        tone = rng.uniform(20, 70)
        colour = (120.0, 50.0, 30.0) if rng.random() < 0.1 else (tone, tone, tone)
        real = options.real if self.real_lines else 0.0
        draft = Draft(sheet, rng, self.phrases, writer, face, colour, em, self.real_lines, real)
        draft.machine_filled = bool(rng.random() < options.machine)
        draft.hand = float(rng.uniform(0.85, 1.25))
        draft.skew = float(rng.normal(0.0, 0.006))
        chosen.lay_out(draft)
        for _ in range(rng.poisson(options.clutter)):
            clutter(sheet, rng)
        if rng.random() < options.covered:
            cover(sheet, rng)
        return sheet

    def draw_face(self, kind: str, rng: np.random.Generator) -> Face:
        """Return a typeface for a kind of page, drawn at random; monospaced ones print receipts alone."""
        fetched = [face for face in self.faces if kind == "receipt" or face.family not in MONOSPACED]
        # twice each where they are alone, so that the generator goes on as it did before there were others
        built_in = BUILT_IN_FACES if fetched else [face for face in BUILT_IN_FACES for _ in range(2)]
        faces = [*built_in, *fetched]
        face = faces[int(rng.integers(len(faces)))]
        # DejaVu is wide
        return replace(face, stretch=float(rng.uniform(*((0.78, 1.02) if face.folder is None else (0.9, 1.05)))))


def project_boxes(sheet: Sheet, camera: Camera, smallest: float) -> list[Box]:
    """Return the boxes of a sheet's lines in its photograph.

    A line is ignored where its box is lower than `smallest` pixels, where the picture's edge cuts it, or where
    something hides more than a tenth of it; what lies outside is left out.

    Args:
        sheet: the flat sheet.
        camera: that photographs it.
        smallest: height in pixels of the photograph of a box that can be read.
    """
    if not sheet.lines:
        return []
    quads = camera.project(np.concatenate([line.quad for line in sheet.lines])).reshape(-1, 4, 2)
    frame = np.array([(0, 0), (camera.width - 1, 0), (camera.width - 1, camera.height - 1), (0, camera.height - 1)])
    hidden = np.zeros((camera.height, camera.width), np.uint8)
    for outline in sheet.covers:
        cv2.fillPoly(hidden, [np.round(camera.project(outline)).astype(np.int32)], 1)
    boxes = []
    for line, quad in zip(sheet.lines, quads):
        area = cv2.contourArea(quad)
        inside, seen = cv2.intersectConvexConvex(quad, frame.astype(np.float32))
        if inside < 0.03 * area:
            continue
        low = min(np.hypot(*(quad[3] - quad[0])), np.hypot(*(quad[2] - quad[1]))) < smallest
        cut = inside < 0.995 * area
        if cut:
            quad = _order_like(cv2.boxPoints(cv2.minAreaRect(seen)), quad)
        text = IGNORE if low or cut or (sheet.covers and _covered_fraction(hidden, quad) > 0.1) else line.text
        points = np.clip(np.rint(quad), 0, frame[2]).astype(int)
        boxes.append(Box(text, points))
    return boxes


def _order_like(corners: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return four corners in clockwise order, from the top left of a text that lies as the quad `like` does."""
    if cv2.contourArea(corners.astype(np.float32), oriented=True) < 0:
        corners = corners[::-1]
    along = like[1] - like[0] + like[2] - like[3]
    first = max(range(4), key=lambda at: float(np.dot(corners[(at + 1) % 4] - corners[at], along)))
    return np.roll(corners, -first, axis=0)


def _covered_fraction(mask: np.ndarray, quad: np.ndarray) -> float:
    """Return the fraction of a quadrilateral that is 1 in a 0/1 mask."""
    low = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    high = np.ceil(quad.max(0)).astype(int) + 1
    part = mask[low[1] : high[1], low[0] : high[0]]
    if not part.any():
        return 0.0
    inside = np.zeros_like(part)
    cv2.fillConvexPoly(inside, np.round(quad - low).astype(np.int32), 1)
    return float((part & inside).sum() / max(1, inside.sum()))


def _choose_kind(weights: dict[str, float], rng: np.random.Generator) -> str:
    names = [name for name in PAGE_KINDS if name in weights]  # in one order, whatever the dictionary's
    sums = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(sums, rng.random() * sums[-1], "right"))]


def label_line(image: str, boxes: Sequence[Box]) -> str:
    """Return the entry of a page in PaddleOCR's label file: the path, a TAB, JSON, a newline."""
    items = [{"transcription": box.text, "points": box.points.tolist()} for box in boxes]
    return f"{image}\t{json.dumps(items, ensure_ascii=False)}\n"


def draw_boxes(page: Page) -> np.ndarray:
    """Return a page's photograph with its boxes: green for text, grey for ignored, a red dot where the text begins."""
    picture = page.image.copy()
    for box in page.boxes:
        colour = (150, 150, 150) if box.text == IGNORE else (60, 180, 0)
        cv2.polylines(picture, [box.points.astype(np.int32)], True, colour, 1, cv2.LINE_AA)
        cv2.circle(picture, tuple(int(v) for v in box.points[0]), 2, (0, 0, 255), -1)
    return picture
