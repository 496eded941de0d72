"""A recognition data set that the project makes itself: rows, and label files in PaddleOCR's form.

Every line has a generator of its own, seeded by (seed, split, index).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.addresses import AddressBook, as_written
from ppocr_slim.synth.cuttings import Cuttings
from ppocr_slim.synth.fonts import family_versions
from ppocr_slim.synth.handwriting import draw_writer
from ppocr_slim.synth.picture_set import SPLITS, Draw, Picture, Summary, write_set
from ppocr_slim.synth.rows import HEIGHT, draw_row
from ppocr_slim.synth.strokes import load_alphabets

_SHARD = 1000  # pictures a folder


class LineMaker:
    """Makes line after line; holds what all of them need (places, alphabets)."""

    def __init__(self, fonts: Path | None = None) -> None:
        self.book = AddressBook()
        self.alphabets = load_alphabets(fonts)

    def make(self, seed: int, split: int, index: int, blank: float = 0.0) -> tuple[np.ndarray, str, int]:
        """Line `index`: the row (BGR uint8 [64, W, 3]), its label (empty for a share `blank`), the JPEG quality."""
        rng = np.random.default_rng([seed, split, index])
        writer = draw_writer(rng, self.alphabets)
        address = self.book.draw(rng)
        neighbours = [self.book.draw(rng).text for _ in range(2)]
        text, written = address.text, as_written(address, rng)
        if blank and rng.random() < blank:
            text = written = ""
        return draw_row(written, writer, rng, neighbours), text, int(rng.integers(70, 96))


class LineGluer:
    """Glues line after line from the words of the rows of a label file (see `Cuttings`)."""

    def __init__(self, words: Path) -> None:
        self.cuttings = Cuttings(words)

    def make(self, seed: int, split: int, index: int) -> tuple[np.ndarray, str, int]:
        """Line `index`, as `LineMaker.make` has it."""
        rng = np.random.default_rng([seed, split, index])
        return *self.cuttings.draw(rng), int(rng.integers(85, 98))  # its words have been JPEGs before


@dataclass(frozen=True)
class RowRecipe:
    """What every process needs to make the same rows, written with fonts or glued from `words`.

    SlimError for a share `blank` that makes no sense, or for what glued rows have not: fonts, and blank ones.
    """

    seed: int
    fonts: Path | None = None
    blank: float = 0.0
    words: Path | None = None

    marker: ClassVar[str] = "synth.json"
    unit: ClassVar[str] = "line"
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        if not 0.0 <= self.blank < 1.0:
            raise SlimError(f"blank {self.blank}: is a share of the lines; give a number from 0 up to 1")
        if self.words and (self.blank or self.fonts):
            raise SlimError("rows glued from words have no fonts and are never blank; make those in a set of their own")

    def drawer(self) -> Draw:
        if self.words:
            make = LineGluer(self.words).make
        else:
            make = partial(LineMaker(self.fonts).make, blank=self.blank)

        def draw(split: int, index: int) -> Picture:
            image, text, quality = make(self.seed, split, index)
            path = f"images/{SPLITS[split]}/{index // _SHARD:03d}/{index:06d}.jpg"
            return Picture(path, image, quality, f"{path}\t{text}\n")

        return draw

    def made_from(self, count: int, val: int) -> dict[str, object]:
        made_from = {"seed": self.seed, "count": count, "val": val}
        if self.words:
            return {**made_from, "words": str(self.words)}
        return {**made_from, "blank": self.blank, "fonts": family_versions(self.fonts) if self.fonts else {}}


def synthesize(
    out: Path,
    count: int,
    val: int = 0,
    seed: int = 1,
    workers: int | None = None,
    fonts: Path | None = None,
    blank: float = 0.0,
    progress: bool = True,
    words: Path | None = None,
) -> Summary:
    """Write `count` training and `val` validation rows: train.txt, val.txt, images/<split>/NNN/NNNNNN.jpg, and in
    synth.json what they were made from. A blank row's line is `path<TAB>`. With `words`, a label file of real rows,
    lines are not written with fonts but glued from its words. SlimError as `write_set` and `Cuttings` have them, and
    for validation rows that would be of the very writers who are trained on.
    """
    if words and val:
        raise SlimError(f"val {val}: glued rows are their writers' own, and validate nothing; give 0")
    return write_set(out, count, val, RowRecipe(seed, fonts, blank, words), workers, progress)


def contact_sheet(made: Path, real: Path | None, made_lines: int = 14, real_rows: int = 6) -> np.ndarray:
    """Rows under one another, BGR uint8: the first made ones of a label file, and evenly chosen real ones between them.

    A green bar at the left marks a made row, an orange one a real row.
    """
    rows = [(image, (80, 170, 60)) for image in _pictures(made, made_lines, evenly=False)]
    others = [(image, (40, 140, 255)) for image in _pictures(real, real_rows, evenly=True)] if real else []
    for number, other in enumerate(others):
        rows.insert(round((number + 0.5) * len(rows) / len(others)) + number, other)
    sheet = []
    width = max(image.shape[1] for image, _ in rows)
    for image, colour in rows:
        row = cv2.copyMakeBorder(image, 0, 6, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
        sheet.append(cv2.copyMakeBorder(row, 0, 0, 10, 0, cv2.BORDER_CONSTANT, value=colour))
    return np.vstack(sheet)


def _pictures(label_file: Path, number: int, evenly: bool) -> list[np.ndarray]:
    try:
        lines = [line for line in label_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise SlimError(f"{label_file}: cannot be read ({error.strerror}); give a label file") from error
    step = max(1, len(lines) // number) if evenly else 1
    images = []
    for line in lines[::step][:number]:
        path = label_file.parent / line.split("\t")[0]
        image = cv2.imread(str(path))
        if image is None:
            raise SlimError(f"{path}: is not a picture that can be read; see {label_file}")
        width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
        images.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    if not images:
        raise SlimError(f"{label_file}: has no lines to show")
    return images
