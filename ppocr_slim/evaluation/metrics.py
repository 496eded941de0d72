"""The metrics that the Metric section of a config may name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import Found


@dataclass(frozen=True)
class Scores:
    """Metrics over a set of text lines.

    Attributes:
        cer: character error rate: sum of Levenshtein distances / sum of reference lengths.
        wer: word error rate: the same over words, split at white space.
        line_accuracy: fraction of lines read exactly.
        edit_similarity: mean of 1 - d / max(len(reference), len(reading)); PaddleOCR's norm_edit_dis.
        kalapa_score: mean of the challenge's score per line, see `kalapa_score`.
        lines: number of lines.
        characters: number of reference characters.
    """

    cer: float
    wer: float
    line_accuracy: float
    edit_similarity: float
    kalapa_score: float
    lines: int
    characters: int


@dataclass(frozen=True)
class PageScores:
    """Metrics over a set of pages; see `Found`.

    Attributes:
        pages: number of pages.
        lines: number of lines that are not ignored.
    """

    hmean: float
    precision: float
    recall: float
    pages: int
    lines: int

    @classmethod
    def of(cls, found: Found, pages: int) -> PageScores:
        """Return the metrics of the summed counts of `pages` pages.

        Raises:
            SlimError: there are no pages.
        """
        if not pages:
            raise SlimError("there are no pages to evaluate: give at least one")
        return cls(found.hmean, found.precision, found.recall, pages, found.truths)


@dataclass(frozen=True)
class DirectionScores:
    """Metrics over a set of text lines, each shown upright and upside down.

    Attributes:
        accuracy: fraction of the images that were classified correctly.
        wrongly_turned: fraction of the upright images that would be turned.
        left: fraction of the upside down images that would not be turned: misclassified, or the score is too low.
        pictures: number of images, two for each text line.
    """

    accuracy: float
    wrongly_turned: float
    left: float
    pictures: int

    @classmethod
    def of(cls, results: Sequence[tuple[bool, bool, float]], threshold: float) -> DirectionScores:
        """Return the metrics of a classifier.

        Args:
            results: (whether it is upside down, whether it was classified correctly, score) of each image.
            threshold: the score from which on a line is turned.

        Raises:
            SlimError: there are no upright images or no upside down ones.
        """
        upright = [one for one in results if not one[0]]
        turned = [one for one in results if one[0]]
        if not upright or not turned:
            raise SlimError("directions are evaluated on upright and upside down images: give at least one text line")
        return cls(
            accuracy=sum(right for _, right, _ in results) / len(results),
            wrongly_turned=sum(not right and score >= threshold for _, right, score in upright) / len(upright),
            left=sum(not (right and score >= threshold) for _, right, score in turned) / len(turned),
            pictures=len(results),
        )


def better(name: str, a: float, b: float) -> bool:
    """Return whether value `a` of the metric `name` is strictly better than `b`; any number is better than NaN."""
    if a != a or b != b:
        return a == a and b != b
    return a > b if HIGHER_IS_BETTER[name] else a < b


def kalapa_score(distance: int, length: int) -> float:
    """Return the Kalapa 2023 score of a line: 1 if exact, else max(0, 1 - 1.5^distance / length).

    A misread blank line has 0.
    """
    if distance == 0:
        return 1.0
    # 1.5^100 is more than any length, and no overflow.
    return max(0.0, 1 - 1.5 ** min(distance, 100) / length) if length else 0.0


def normal_form(text: str) -> str:
    """Return `text` in NFC, in which a composed and a decomposed "ế" are one character and equal."""
    return unicodedata.normalize("NFC", text)


def score_lines(references: Sequence[str], readings: Sequence[str]) -> Scores:
    """Return the metrics of predictions, both they and the references in NFC.

    Where no reference has a character (or word), the error rate is 0 if no prediction has one and 1 otherwise.

    Args:
        references: labels.
        readings: predictions, one for each reference.

    Raises:
        SlimError: the numbers of lines differ, or there is none.
    """
    if len(references) != len(readings) or not references:
        raise SlimError(
            f"{len(references)} references and {len(readings)} predictions cannot be compared: "
            "give at least one line, and a prediction for each"
        )
    references = [normal_form(text) for text in references]
    readings = [normal_form(text) for text in readings]
    distances = [Levenshtein.distance(a, b) for a, b in zip(references, readings)]
    words = [(a.split(), b.split()) for a, b in zip(references, readings)]
    word_errors = sum(Levenshtein.distance(a, b) for a, b in words)
    similarities: list[float] = [1 - d / max(len(a), len(b), 1) for d, a, b in zip(distances, references, readings)]
    lines = len(references)
    characters = sum(map(len, references))
    return Scores(
        cer=_rate(sum(distances), characters),
        wer=_rate(word_errors, sum(len(a) for a, _ in words)),
        line_accuracy=sum(d == 0 for d in distances) / lines,
        edit_similarity=sum(similarities) / lines,
        kalapa_score=sum(kalapa_score(d, len(a)) for d, a in zip(distances, references)) / lines,
        lines=lines,
        characters=characters,
    )


def _rate(errors: int, total: int) -> float:
    return errors / total if total else float(errors > 0)
