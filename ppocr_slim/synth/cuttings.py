"""Rows glued together from words that were cut out of photographed rows: real handwriting, new addresses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppocr_slim.data.ink import glued, split_words
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height
from ppocr_slim.synth.addresses import LONGEST
from ppocr_slim.synth.rows import HEIGHT

FEWEST = 2  # rows that a writer needs, for a new text
TRIES = 100


@dataclass(frozen=True)
class CutRow:
    """A row's picture (uint8 [64, W, 3] BGR), its words, and the columns before, between and after them."""

    image: np.ndarray
    edges: tuple[int, ...]
    words: tuple[str, ...]


class Cuttings:
    """The rows of a label file whose words can be told apart for certain, by writer: a folder holds a writer's rows.

    Raises SlimError where the label file or a picture cannot be read, or no writer has two such rows.
    """

    def __init__(self, label_file: Path) -> None:
        samples, findings = read_label_file(label_file)
        for finding in findings:
            logger.warning("%s: %s", finding.where, finding.detail)
        of_writers: dict[Path, list[CutRow]] = defaultdict(list)
        for sample in samples:
            image = resize_to_height(load_image(sample.path), HEIGHT)
            pieces = split_words(image, sample.text)
            if pieces:
                edges = (pieces[0][0], *(right for _, right, _ in pieces))
                of_writers[sample.path.parent].append(CutRow(image, edges, tuple(word for _, _, word in pieces)))
        self.writers = [rows for rows in of_writers.values() if len(rows) >= FEWEST]
        if not self.writers:
            raise SlimError(
                f"{label_file}: no folder in it has {FEWEST} rows whose words can be cut apart; "
                "give real rows, a folder for each writer"
            )
        self.texts = {sample.text for sample in samples}
        rows = sum(map(len, self.writers))
        logger.info("%s: words of %d of %d rows, %d writers", label_file, rows, len(samples), len(self.writers))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Return a row of words of one writer: its picture (uint8 [64, W, 3] BGR) and its text, which no row has.

        Two to four rows give a few words each, the first one from its beginning and the last one from its end, so
        that numbers come first and provinces last, as in the addresses that they are from.

        Raises:
            SlimError: no new text of at most 68 characters comes of them.
        """
        for _ in range(TRIES):
            rows = self.writers[int(rng.integers(len(self.writers)))]
            chosen = [rows[i] for i in rng.choice(len(rows), min(len(rows), int(rng.integers(2, 5))), replace=False)]
            spans = [_span(len(row.words), place, len(chosen), rng) for place, row in enumerate(chosen)]
            text = " ".join(" ".join(row.words[first:last]) for row, (first, last) in zip(chosen, spans))
            if len(text) <= LONGEST and text not in self.texts:
                return _glued(chosen, spans), text
        raise SlimError("the rows to cut words from are too few or too long for new texts: give more of them")


def _span(words: int, place: int, places: int, rng: np.random.Generator) -> tuple[int, int]:
    """Words [first, last) of a row for the `place`-th of `places` spans: about its share, at about its place."""
    count = min(words, max(1, int(rng.poisson(words / places))))
    if place == 0:
        first = 0
    elif place == places - 1:
        first = words - count
    else:
        first = int(np.clip(round(rng.normal(place / places * words, 1.0)), 0, words - count))
    return first, first + count


def _glued(rows: Sequence[CutRow], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Words [first, last) of each row side by side; what stands before the first and after the last one goes with them:
    the form's paper and its rule at the right.
    """
    columns = [[row.edges[first], row.edges[last]] for row, (first, last) in zip(rows, spans)]
    columns[0][0], columns[-1][1] = 0, rows[-1].image.shape[1]
    return glued([row.image[:, left:right] for row, (left, right) in zip(rows, columns)])
