"""Evaluations as text tables."""

from __future__ import annotations

from collections.abc import Sequence

from ppocr_slim.evaluation.directions import DirectionEvaluation
from ppocr_slim.evaluation.lines import Evaluation, PostEffect
from ppocr_slim.evaluation.metrics import PageScores, Scores
from ppocr_slim.evaluation.pages import PageEvaluation


def line_table(result: Evaluation) -> list[str]:
    """Return the lines of a table with a row for each writer and one for all."""
    lines = [f"{'writer':<16} {'lines':>6} {'CER':>7} {'WER':>7} {'exact':>7} {'similar':>8} {'Kalapa':>7}"]
    every: list[tuple[str, Scores]] = [*result.by_group.items(), ("all", result.scores)]
    for name, s in every:
        lines.append(
            f"{name:<16} {s.lines:>6} {s.cer:>7.4f} {s.wer:>7.4f} {s.line_accuracy:>7.4f} "
            f"{s.edit_similarity:>8.4f} {s.kalapa_score:>7.4f}"
        )
    return lines


def post_table(effects: Sequence[PostEffect]) -> list[str]:
    """Return the lines of a table with a row for each combination of corrections."""
    lines = [f"{'corrections':<32} {'CER':>7} {'WER':>7} {'changed':>8} {'better':>7} {'worse':>6}"]
    for effect in effects:
        lines.append(
            f"{', '.join(effect.names) or 'none':<32} {effect.scores.cer:>7.4f} {effect.scores.wer:>7.4f} "
            f"{effect.changed:>8} {effect.better:>7} {effect.worse:>6}"
        )
    return lines


def page_table(result: PageEvaluation) -> list[str]:
    """Return the lines of a table with a row for each folder of pages and one for all."""
    lines = [f"{'folder':<16} {'pages':>6} {'lines':>6} {'hmean':>7} {'precision':>9} {'recall':>7}"]
    every: list[tuple[str, PageScores]] = [*result.by_group.items(), ("all", result.scores)]
    for name, s in every:
        lines.append(f"{name:<16} {s.pages:>6} {s.lines:>6} {s.hmean:>7.4f} {s.precision:>9.4f} {s.recall:>7.4f}")
    return lines + [f"counted as nothing found: {reason}" for _, reason in result.unreadable]


def direction_table(result: DirectionEvaluation) -> list[str]:
    """Return the metrics of a direction classifier, one per line."""
    s = result.scores
    return [
        f"{s.pictures} images, half of them upside down",
        f"correct direction     {s.accuracy:.4f}",
        f"upright but turned    {s.wrongly_turned:.4f}",
        f"upside down but left  {s.left:.4f}",
        *(f"left out: {reason}" for _, reason in result.unreadable),
    ]
