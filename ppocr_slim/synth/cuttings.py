"""Text lines glued from words that were cut out of photographed lines: real handwriting, new addresses."""

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
from ppocr_slim.synth.lines import HEIGHT

MIN_LINES = 2  # that a writer needs, for a new text
TRIES = 100


@dataclass(frozen=True)
class CutLine:
    """A line's picture ([64, W, 3] uint8 BGR), its words, and the columns before, between and after them."""

    image: np.ndarray
    edges: tuple[int, ...]
    words: tuple[str, ...]


class CutLines:
    """Lines of a label file whose words can be cut apart for certain, by writer: a folder holds a writer's lines."""

    def __init__(self, label_file: Path) -> None:
        """Read the lines and cut them into words.

        Args:
            label_file: entries `path<TAB>text`, a folder for each writer.

        Raises:
            SlimError: the label file or a picture cannot be read, or no writer has two such lines.
        """
        samples, findings = read_label_file(label_file)
        for finding in findings:
            logger.warning("%s: %s", finding.where, finding.detail)
        by_writer: dict[Path, list[CutLine]] = defaultdict(list)
        for sample in samples:
            image = resize_to_height(load_image(sample.path), HEIGHT)
            pieces = split_words(image, sample.text)
            if pieces:
                edges = (pieces[0][0], *(right for _, right, _ in pieces))
                by_writer[sample.path.parent].append(CutLine(image, edges, tuple(word for _, _, word in pieces)))
        self.writers = [lines for lines in by_writer.values() if len(lines) >= MIN_LINES]
        if not self.writers:
            raise SlimError(
                f"{label_file}: no folder in it has {MIN_LINES} lines whose words can be cut apart; "
                "give real lines, a folder for each writer"
            )
        self.texts = {sample.text for sample in samples}
        count = sum(map(len, self.writers))
        logger.info("%s: words of %d of %d lines, %d writers", label_file, count, len(samples), len(self.writers))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Draw a new line of one writer's words.

        Two to four lines give a few words each, the first one from its beginning and the last one from its end, so
        that numbers come first and provinces last, as in the addresses that they are from.

        Returns:
            The line ([64, W, 3] uint8 BGR) and its text, which no line of the label file has.

        Raises:
            SlimError: no new text of at most 68 characters was found.
        """
        for _ in range(TRIES):
            lines = self.writers[int(rng.integers(len(self.writers)))]
            chosen = [lines[i] for i in rng.choice(len(lines), min(len(lines), int(rng.integers(2, 5))), replace=False)]
            spans = [_draw_span(len(line.words), place, len(chosen), rng) for place, line in enumerate(chosen)]
            text = " ".join(" ".join(line.words[first:last]) for line, (first, last) in zip(chosen, spans))
            if len(text) <= LONGEST and text not in self.texts:
                return _glue_spans(chosen, spans), text
        raise SlimError("the lines to cut words from are too few or too long for new texts: give more of them")


def _draw_span(words: int, place: int, places: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the words [first, last) that a line of `words` words gives to the `place`-th of `places` spans.

    They are about `words / places`, at about the span's own place in the line.
    """
    count = min(words, max(1, int(rng.poisson(words / places))))
    if place == 0:
        first = 0
    elif place == places - 1:
        first = words - count
    else:
        first = int(np.clip(round(rng.normal(place / places * words, 1.0)), 0, words - count))
    return first, first + count


def _glue_spans(lines: Sequence[CutLine], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the words [first, last) of each line side by side.

    The form's paper before the first span and after the last one, with its rule at the right, goes with them.
    """
    columns = [[line.edges[first], line.edges[last]] for line, (first, last) in zip(lines, spans)]
    columns[0][0], columns[-1][1] = 0, lines[-1].image.shape[1]
    return glued([line.image[:, left:right] for line, (left, right) in zip(lines, columns)])
