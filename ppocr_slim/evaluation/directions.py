"""Evaluation of direction classifiers on text lines that are shown both ways up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.metrics import DirectionScores
from ppocr_slim.evaluation.pages import Unreadable, unreadable_to_json
from ppocr_slim.runtime.direction import DirectionClassifier, half_turned
from ppocr_slim.runtime.images import load_image


@dataclass(frozen=True)
class EvaluatedDirection:
    """A row, whether it was shown upside down, and what was said of it; `turned`: it would be turned."""

    path: Path
    upside_down: bool
    right: bool
    score: float
    turned: bool

    @property
    def harmful(self) -> bool:
        """Whether it would be read upside down."""
        return self.upside_down != self.turned


@dataclass(frozen=True)
class DirectionEvaluation:
    """As `Evaluation`, of rows that were shown both ways up; those that cannot be read are left out, and named."""

    pictures: tuple[EvaluatedDirection, ...]
    scores: DirectionScores
    unreadable: Unreadable

    def worst(self, count: int) -> list[EvaluatedDirection]:
        """The `count` pictures that were told wrong or would be read upside down, the surest errors first."""
        wrong = [one for one in self.pictures if not one.right or one.harmful]
        return sorted(wrong, key=lambda one: one.score if one.right else -one.score)[:count]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain dicts and lists."""
        return {
            "scores": asdict(self.scores),
            "unreadable": unreadable_to_json(self.unreadable),
            "pictures": [{**asdict(one), "path": str(one.path)} for one in self.pictures],
        }


def evaluate_directions(
    classifier: DirectionClassifier, samples: Sequence[Sample], progress: bool = False
) -> DirectionEvaluation:
    """Show every row as it is and upside down. Raises SlimError if there is none that can be read."""
    pictures, unreadable = [], []
    for sample in tqdm(samples, desc="evaluate", unit="row", disable=not progress):
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
    """The figures of upright crops [h, w, 3] uint8 BGR, each shown both ways up; SlimError if there are none."""
    judged = []
    for crop in crops:
        judged += [(bool(i), right, score) for i, (right, score, _) in enumerate(both_ways(classifier, crop))]
    return _direction_scores(classifier, judged)


def both_ways(classifier: DirectionClassifier, image: np.ndarray) -> list[tuple[bool, float, bool]]:
    """(whether its direction was told, with what probability, whether it would be turned) as it is and upside down."""
    found = classifier.classify([image, half_turned(image)])
    return [(one.angle == 180 * i, one.score, one.turned) for i, one in enumerate(found)]


def _direction_scores(classifier: DirectionClassifier, judged: Iterable[tuple[bool, bool, float]]) -> DirectionScores:
    return DirectionScores.of(list(judged), classifier.spec.threshold)
