"""Rows glued together from words that were cut out of photographed rows: real handwriting, new addresses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppocr_slim.data.ink import glued, split_words
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height
from ppocr_slim.synth.rows import HEIGHT

LONGEST = 68  # characters: the longest of real address rows
FEWEST = 2  # rows that a writer needs, for a new text


@dataclass(frozen=True)
class CutRow:
    """A row cut into words: its picture (uint8 [64, W, 3] BGR), the columns before, between and after its words
    ([words + 1]), and the words.
    """

    image: np.ndarray
    edges: tuple[int, ...]
    words: tuple[str, ...]

    def span(self, first: int, last: int, begins: bool, ends: bool) -> tuple[np.ndarray, str]:
        """Words `first` to `last`, without the last one: their picture and text. Where they begin or end the new row,
        the form's paper before the row's first or after its last word goes with them.
        """
        left = 0 if begins and first == 0 else self.edges[first]
        right = self.image.shape[1] if ends and last == len(self.words) else self.edges[last]
        return self.image[:, left:right], " ".join(self.words[first:last])


class Cuttings:
    """The rows of a label file whose words can be told apart for certain, by writer: a folder holds a writer's rows.

    Raises SlimError where the label file cannot be read or no writer has two such rows.
    """

    def __init__(self, label_file: Path) -> None:
        samples, _ = read_label_file(label_file)
        of_writers: dict[Path, list[CutRow]] = defaultdict(list)
        self.rows_read = len(samples)
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

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A row of words of one writer: its picture (uint8 [64, W, 3] BGR) and its text.

        Two to four rows give a few words each, the first one from its beginning and the last one from its end, so
        that numbers come first and provinces last, as in the addresses that they are from.
        """
        rows = self.writers[int(rng.integers(len(self.writers)))]
        chosen = [rows[i] for i in rng.choice(len(rows), min(len(rows), int(rng.integers(2, 5))), replace=False)]
        spans = []
        for place, row in enumerate(chosen):
            words = _stretch(len(row.words), place, len(chosen), rng)
            spans.append(row.span(*words, begins=place == 0, ends=place == len(chosen) - 1))
        while len(" ".join(text for _, text in spans)) > LONGEST and len(spans) > 1:
            spans.pop(len(spans) // 2)
        return glued([image for image, _ in spans]), " ".join(text for _, text in spans)


def _stretch(words: int, place: int, places: int, rng: np.random.Generator) -> tuple[int, int]:
    """Words [first, last) of a row for the `place`-th of `places` spans: about its share, at about its place."""
    count = min(words, 1 + int(rng.poisson(words / places)))
    if place == 0:
        first = 0
    elif place == places - 1:
        first = words - count
    else:
        first = int(np.clip(round(rng.normal(place / places * words, 1.0)), 0, words - count))
    return first, first + count
