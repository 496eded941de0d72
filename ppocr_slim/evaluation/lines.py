"""Evaluation of recognizers on labelled text lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.metrics import Scores, normal_form, score_lines
from ppocr_slim.progress import progress_bar
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.text.corrections import correct

Unreadable = tuple[tuple[Path, str], ...]
"""(path, reason) of images that could not be read."""


def unreadable_to_json(unreadable: Unreadable) -> list[dict[str, str]]:
    """Return unreadable images as dicts and lists."""
    return [{"path": str(path), "error": reason} for path, reason in unreadable]


@dataclass(frozen=True)
class EvaluatedLine:
    """A labelled text line and its prediction; `distance` is the Levenshtein distance in characters."""

    reference: str
    reading: str
    confidence: float
    path: Path
    group: str
    distance: int


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a recognizer.

    Attributes:
        lines: one for each sample, in their order.
        scores: over all lines.
        by_group: over the lines of each group (writer), sorted by name.
        unreadable: (path, reason) of images that could not be read; their prediction is "".
    """

    lines: tuple[EvaluatedLine, ...]
    scores: Scores
    by_group: Mapping[str, Scores]
    unreadable: Unreadable

    def worst(self, count: int) -> list[EvaluatedLine]:
        """Return the `count` lines with the most errors per reference character, worst first."""
        return sorted(self.lines, key=lambda line: -line.distance / max(1, len(line.reference)))[:count]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as dicts and lists."""
        return {
            "scores": asdict(self.scores),
            "by_group": {group: asdict(scores) for group, scores in self.by_group.items()},
            "unreadable": unreadable_to_json(self.unreadable),
            "lines": [{**asdict(line), "path": str(line.path)} for line in self.lines],
        }


def evaluate(
    recognizer: Recognizer, samples: Sequence[Sample], batch_size: int = 8, progress: bool = False
) -> Evaluation:
    """Recognize every sample once and compare it with its label.

    The prediction for an image that cannot be read is "": leaving it out would flatter. The label of a blank text line
    is "".

    Args:
        batch_size: text lines per batch.
        progress: show a progress bar on stderr.

    Returns:
        All predictions and their metrics.

    Raises:
        SlimError: there are no samples.
    """
    if not samples:
        raise SlimError("there is nothing to evaluate: give at least one labelled text line")
    lines: list[EvaluatedLine] = []
    unreadable: list[tuple[Path, str]] = []
    # In chunks of several batches lines of similar width share a batch, and not all images are in memory at once.
    chunk_size = 8 * batch_size
    with progress_bar(total=len(samples), desc="evaluate", unit="line", disable=not progress) as bar:
        for start in range(0, len(samples), chunk_size):
            chunk = samples[start : start + chunk_size]
            images = {}
            for index, sample in enumerate(chunk):
                try:
                    images[index] = load_image(sample.path)
                except SlimError as error:
                    unreadable.append((sample.path, str(error)))
            read = dict(zip(images, recognizer.read(list(images.values()), batch_size)))
            for index, sample in enumerate(chunk):
                text, confidence = (read[index].text, read[index].confidence) if index in read else ("", 0.0)
                reference = normal_form(sample.text)
                distance = Levenshtein.distance(reference, text)
                lines.append(EvaluatedLine(reference, text, confidence, sample.path, sample.group, distance))
            bar.update(len(chunk))
    groups = sorted({line.group for line in lines})
    by_group = {group: scores_of([line for line in lines if line.group == group]) for group in groups}
    return Evaluation(tuple(lines), scores_of(lines), by_group, tuple(unreadable))


@dataclass(frozen=True)
class PostEffect:
    """The effect of corrections on the metrics.

    Attributes:
        names: the corrections, in the order in which they are applied; none for the predictions themselves.
        scores: metrics after correction.
        changed: number of lines that were changed.
        better, worse: number of lines with fewer and with more errors than before.
    """

    names: tuple[str, ...]
    scores: Scores
    changed: int
    better: int
    worse: int


def post_effects(evaluation: Evaluation, names: Sequence[str]) -> list[PostEffect]:
    """Measure the effect of corrections.

    Args:
        names: names of `CORRECTIONS`.

    Returns:
        The effects of no correction, of each one alone, and of all of them in this order.
    """
    combinations = [(), *((name,) for name in names)]
    if len(names) > 1:
        combinations.append(tuple(names))
    effects = []
    references = [line.reference for line in evaluation.lines]
    before = [line.distance for line in evaluation.lines]
    for combination in combinations:
        texts = [correct(line.reading, combination) for line in evaluation.lines]
        after = [Levenshtein.distance(a, b) for a, b in zip(references, texts)]
        effects.append(
            PostEffect(
                names=combination,
                scores=score_lines(references, texts),
                changed=sum(text != line.reading for text, line in zip(texts, evaluation.lines)),
                better=sum(new < old for old, new in zip(before, after)),
                worse=sum(new > old for old, new in zip(before, after)),
            )
        )
    return effects


def scores_of(lines: Sequence[EvaluatedLine]) -> Scores:
    """Return the metrics over some of the lines."""
    return score_lines([line.reference for line in lines], [line.reading for line in lines])
