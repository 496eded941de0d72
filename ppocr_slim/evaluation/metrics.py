"""How well a network does: the figures that a config's Metric section may name."""

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
    """Figures over a set of lines.

    Attributes:
        cer: character error rate: sum of Levenshtein distances / sum of reference lengths.
        wer: word error rate: the same over words, split at white space.
        line_accuracy: fraction of lines read exactly.
        edit_similarity: mean of 1 - d / max(len(reference), len(reading)); PaddleOCR's norm_edit_dis.
        kalapa_score: mean of the challenge's score a line, see `kalapa_score`.
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
    """Figures over a set of pages; see `Found`.

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
        """Raises SlimError if there are no pages."""
        if not pages:
            raise SlimError("no pages cannot be scored: give at least one")
        return cls(found.hmean, found.precision, found.recall, pages, found.truths)


@dataclass(frozen=True)
class DirectionScores:
    """Figures over a set of rows, each seen both ways up.

    Attributes:
        accuracy: share of the pictures whose direction was told.
        wrongly_turned: share of the upright ones that would be turned, since the answer was sure enough.
        left: share of those upside down that would be left, wrong or not sure enough.
        pictures: number of pictures, two a row.
    """

    accuracy: float
    wrongly_turned: float
    left: float
    pictures: int

    @classmethod
    def of(cls, judged: Sequence[tuple[bool, bool, float]], threshold: float) -> DirectionScores:
        """(whether it is upside down, whether that was told, with what probability) of each picture.

        Raises SlimError if there is none, or none of either kind.
        """
        upright = [one for one in judged if not one[0]]
        turned = [one for one in judged if one[0]]
        if not upright or not turned:
            raise SlimError("directions are scored on pictures of both ways up: give at least one row")
        return cls(
            accuracy=sum(right for _, right, _ in judged) / len(judged),
            wrongly_turned=sum(not right and score >= threshold for _, right, score in upright) / len(upright),
            left=sum(not (right and score >= threshold) for _, right, score in turned) / len(turned),
            pictures=len(judged),
        )


def better(name: str, a: float, b: float) -> bool:
    """Whether value `a` of the metric `name` is strictly better than `b`; any number is better than NaN."""
    if a != a or b != b:
        return a == a and b != b
    return a > b if HIGHER_IS_BETTER[name] else a < b


def kalapa_score(distance: int, length: int) -> float:
    """The Kalapa 2023 score of a line: 1 if exact, else max(0, 1 - 1.5^distance / length); a misread blank
    line has 0.
    """
    if distance == 0:
        return 1.0
    # 1.5^distance leaves every length behind long before it overflows a float.
    return max(0.0, 1 - 1.5 ** min(distance, 100) / length) if length else 0.0


def normal_form(text: str) -> str:
    """NFC, so that a composed and a decomposed "ế" are one character and equal."""
    return unicodedata.normalize("NFC", text)


def score_lines(references: Sequence[str], readings: Sequence[str]) -> Scores:
    """Compare readings with references, both brought to NFC.

    Where no reference has a character (or word), its error rate is 0 if nothing was read and 1 otherwise.

    Raises:
        SlimError: the numbers of lines differ, or there is none.
    """
    if len(references) != len(readings) or not references:
        raise SlimError(
            f"{len(references)} references and {len(readings)} readings cannot be scored: "
            "give at least one line, and a reading for each"
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
