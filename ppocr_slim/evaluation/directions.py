"""Evaluation of direction classifiers on text lines that are each shown upright and upside down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import Unreadable, unreadable_to_json
from ppocr_slim.evaluation.metrics import DirectionScores
from ppocr_slim.progress import progress_bar
from ppocr_slim.runtime.direction import DirectionClassifier, half_turned
from ppocr_slim.runtime.images import load_image


@dataclass(frozen=True)
class EvaluatedDirection:
    """The classification of a text line as shown.

    Attributes:
        path: the image.
        upside_down: whether it was shown turned by 180 degrees.
        right: whether its direction was classified correctly.
        score: probability of the class that was predicted.
        turned: whether it would be turned: predicted to be upside down, with a sufficient score.
    """

    path: Path
    upside_down: bool
    right: bool
    score: float
    turned: bool

    @property
    def harmful(self) -> bool:
        """True where the line would be read upside down."""
        return self.upside_down != self.turned


@dataclass(frozen=True)
class DirectionEvaluation:
    """The evaluation of a direction classifier.

    Attributes:
        pictures: two for each text line: upright and upside down.
        scores: over all of them.
        unreadable: images that could not be read; they are left out.
    """

    pictures: tuple[EvaluatedDirection, ...]
    scores: DirectionScores
    unreadable: Unreadable

    def worst(self, count: int) -> list[EvaluatedDirection]:
        """Return up to `count` misclassified or wrongly turned images, the most confident errors first."""
        wrong = [one for one in self.pictures if not one.right or one.harmful]
        return sorted(wrong, key=lambda one: one.score if one.right else -one.score)[:count]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as dicts and lists."""
        return {
            "scores": asdict(self.scores),
            "unreadable": unreadable_to_json(self.unreadable),
            "pictures": [{**asdict(one), "path": str(one.path)} for one in self.pictures],
        }


def evaluate_directions(
    classifier: DirectionClassifier, samples: Sequence[Sample], progress: bool = False
) -> DirectionEvaluation:
    """Classify every text line upright and upside down.

    Args:
        progress: show a progress bar on stderr.

    Returns:
        All results and their metrics.

    Raises:
        SlimError: no image can be read.
    """
    pictures, unreadable = [], []
    for sample in progress_bar(samples, desc="evaluate", unit="line", disable=not progress):
        try:
            image = load_image(sample.path)
        except SlimError as error:
            unreadable.append((sample.path, str(error)))
            continue
        for upside_down, (right, score, turned) in enumerate(both_ways(classifier, image)):
            pictures.append(EvaluatedDirection(sample.path, bool(upside_down), right, score, turned))
    scores = _direction_scores(classifier, ((p.upside_down, p.right, p.score) for p in pictures))
    return DirectionEvaluation(tuple(pictures), scores, tuple(unreadable))


def score_directions(classifier: DirectionClassifier, crops: Iterable[np.ndarray]) -> DirectionScores:
    """Return the metrics over upright crops [h, w, 3] uint8 BGR, each shown upright and upside down.

    Raises:
        SlimError: there are no crops.
    """
    results = []
    for crop in crops:
        results += [(bool(i), right, score) for i, (right, score, _) in enumerate(both_ways(classifier, crop))]
    return _direction_scores(classifier, results)


def both_ways(classifier: DirectionClassifier, image: np.ndarray) -> list[tuple[bool, float, bool]]:
    """Return (is the direction correct, score, would it be turned) for an image upright and upside down."""
    found = classifier.classify([image, half_turned(image)])
    return [(one.angle == 180 * i, one.score, one.turned) for i, one in enumerate(found)]


def _direction_scores(classifier: DirectionClassifier, results: Iterable[tuple[bool, bool, float]]) -> DirectionScores:
    return DirectionScores.of(list(results), classifier.spec.threshold)
