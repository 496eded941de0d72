"""A synthetic data set for recognition: text lines, and label files in PaddleOCR's format.

Every line has a random generator of its own, seeded by (seed, split, index).
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
from ppocr_slim.synth.cuttings import CutLines
from ppocr_slim.synth.dataset_writer import SPLITS, GenerateImage, LabelledImage, Summary, write_dataset
from ppocr_slim.synth.fonts import family_versions
from ppocr_slim.synth.handwriting import draw_writer
from ppocr_slim.synth.lines import HEIGHT, draw_line
from ppocr_slim.synth.strokes import load_alphabets

_IMAGES_PER_FOLDER = 1000


class LineGenerator:
    """Generator of text lines written with fonts; it holds what all lines share: places and alphabets."""

    def __init__(self, fonts: Path | None = None) -> None:
        """Load the places and the alphabets.

        Args:
            fonts: folder of fetched handwriting families; without it only built-in strokes are written.

        Raises:
            SlimError: a font cannot be used, or the table of places is missing.
        """
        self.book = AddressBook()
        self.alphabets = load_alphabets(fonts)

    def generate(self, seed: int, split: int, index: int, blank: float = 0.0) -> tuple[np.ndarray, str, int]:
        """Generate line `index` of a split, a pure function of the arguments.

        Args:
            seed: of the data set.
            split: number of the split in SPLITS.
            index: number of the line in the split.
            blank: fraction of lines with nothing written and an empty label.

        Returns:
            The line ([64, W, 3] uint8 BGR), its label, and the quality of its JPEG.
        """
        rng = np.random.default_rng([seed, split, index])
        writer = draw_writer(rng, self.alphabets)
        address = self.book.draw(rng)
        neighbours = [self.book.draw(rng).text for _ in range(2)]
        text, written = address.text, as_written(address, rng)
        if blank and rng.random() < blank:
            text = written = ""
        return draw_line(written, writer, rng, neighbours), text, int(rng.integers(70, 96))


class GluedLineGenerator:
    """Generator of text lines that are glued from the words of real lines (see `CutLines`)."""

    def __init__(self, words: Path) -> None:
        """Read the real lines of the label file `words`."""
        self.cut_lines = CutLines(words)

    def generate(self, seed: int, split: int, index: int) -> tuple[np.ndarray, str, int]:
        """Return line `index` of a split, its label and the quality of its JPEG, as `LineGenerator.generate` does."""
        rng = np.random.default_rng([seed, split, index])
        return *self.cut_lines.draw(rng), int(rng.integers(85, 98))  # its words have been JPEGs before


@dataclass(frozen=True)
class LineRecipe:
    """Arguments of a data set of text lines, written with fonts or glued from the real lines of `words`.

    Raises:
        SlimError: `blank` is no fraction, or glued lines are asked for with fonts or blank lines.
    """

    seed: int
    fonts: Path | None = None
    blank: float = 0.0
    words: Path | None = None

    marker: ClassVar[str] = "synth.json"
    unit: ClassVar[str] = "line"
    chunk: ClassVar[int] = 64

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0.0 <= self.blank < 1.0:
            raise SlimError(f"blank {self.blank}: is a fraction of the lines; give a number from 0 up to 1")
        if self.words and (self.blank or self.fonts):
            raise SlimError(
                "lines glued from words have no fonts and are never blank; make those in a set of their own"
            )

    def image_generator(self) -> GenerateImage:
        """Return the generator of the data set's images; see `DatasetRecipe`."""
        if self.words:
            generate = GluedLineGenerator(self.words).generate
        else:
            generate = partial(LineGenerator(self.fonts).generate, blank=self.blank)

        def generate_image(split: int, index: int) -> LabelledImage:
            image, text, quality = generate(self.seed, split, index)
            path = f"images/{SPLITS[split]}/{index // _IMAGES_PER_FOLDER:03d}/{index:06d}.jpg"
            return LabelledImage(path, image, quality, f"{path}\t{text}\n")

        return generate_image

    def provenance(self, count: int, val: int) -> dict[str, object]:
        """Return the content of synth.json; see `DatasetRecipe`."""
        provenance = {"seed": self.seed, "count": count, "val": val}
        if self.words:
            return {**provenance, "words": str(self.words)}
        return {**provenance, "blank": self.blank, "fonts": family_versions(self.fonts) if self.fonts else {}}


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
    """Write a data set of lines: images/<split>/NNN/NNNNNN.jpg, train.txt, val.txt, and its provenance, synth.json.

    Args:
        out: folder of the data set; one that was written here before is replaced.
        count: training lines.
        val: validation lines.
        seed: the same seed gives the same files, byte for byte.
        workers: processes; without it, one for each core.
        fonts: folder of fetched font families.
        blank: fraction of lines with nothing written; their entry in the label file is `path<TAB>`.
        progress: show a progress bar.
        words: label file of real lines from whose words the lines are glued, instead of being written with fonts.

    Returns:
        Counts and duration.

    Raises:
        SlimError: as `write_dataset` and `CutLines` raise it, and for glued validation lines, which would be of the
            very writers who are trained on.
    """
    if words and val:
        raise SlimError(f"val {val}: glued lines are their writers' own, and validate nothing; give 0")
    return write_dataset(out, count, val, LineRecipe(seed, fonts, blank, words), workers, progress)


def contact_sheet(label_file: Path, real: Path | None, synthetic_lines: int = 14, real_lines: int = 6) -> np.ndarray:
    """Return synthetic and real lines under one another, for comparison by eye.

    A green bar at the left marks a synthetic line, an orange one a real line.

    Args:
        label_file: of the synthetic lines, of which the first are shown.
        real: label file of real lines, of which evenly spaced ones are set between the others.
        synthetic_lines: how many are shown at most.
        real_lines: how many are shown at most.

    Returns:
        The sheet, [H, W, 3] uint8 BGR.

    Raises:
        SlimError: a label file or a picture cannot be read, or there is nothing to show.
    """
    lines = [(image, (80, 170, 60)) for image in _read_images(label_file, synthetic_lines, evenly=False)]
    others = [(image, (40, 140, 255)) for image in _read_images(real, real_lines, evenly=True)] if real else []
    for number, other in enumerate(others):
        lines.insert(round((number + 0.5) * len(lines) / len(others)) + number, other)
    sheet = []
    width = max(image.shape[1] for image, _ in lines)
    for image, colour in lines:
        line = cv2.copyMakeBorder(image, 0, 6, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
        sheet.append(cv2.copyMakeBorder(line, 0, 0, 10, 0, cv2.BORDER_CONSTANT, value=colour))
    return np.vstack(sheet)


def _read_images(label_file: Path, number: int, evenly: bool) -> list[np.ndarray]:
    """Read the first pictures of a label file, or evenly spaced ones, scaled to the height of a line."""
    try:
        entries = [line for line in label_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise SlimError(f"{label_file}: cannot be read ({error.strerror}); give a label file") from error
    step = max(1, len(entries) // number) if evenly else 1
    images = []
    for entry in entries[::step][:number]:
        path = label_file.parent / entry.split("\t")[0]
        image = cv2.imread(str(path))
        if image is None:
            raise SlimError(f"{path}: is not a picture that can be read; see {label_file}")
        width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
        images.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    if not images:
        raise SlimError(f"{label_file}: has no lines to show")
    return images
