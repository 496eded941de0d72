"""Metrics against counts made by hand, and evaluation, which must not lie about broken images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from drawing import write_rows

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Metric
from ppocr_slim.data.labels import Sample, read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import Found
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.evaluation.metrics import DirectionScores, PageScores, Scores, better, kalapa_score, score_lines
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.tasks.table import TASKS


def test_scores_equal_hand_counts():
    """Every published figure would be wrong: one substitution, one insertion, one exact line."""
    scores = score_lines(["ab cd", "xy", "q"], ["ab xd", "xyz", "q"])
    assert scores.cer == pytest.approx(2 / 8)
    assert scores.wer == pytest.approx(2 / 4)  # words: cd -> xd, xy -> xyz; ab and q are right
    assert scores.line_accuracy == pytest.approx(1 / 3)
    assert scores.edit_similarity == pytest.approx((4 / 5 + 2 / 3 + 1) / 3)
    assert scores.kalapa_score == pytest.approx(((1 - 1.5 / 5) + (1 - 1.5 / 2) + 1) / 3)
    assert (scores.lines, scores.characters) == (3, 8)


def test_error_rates_are_micro_averages():
    """A short line would weigh as much as a long one, and figures compare with nobody else's."""
    scores = score_lines(["a", "bcdefghij"], ["x", "bcdefghij"])
    assert scores.cer == pytest.approx(1 / 10)  # the mean over lines would be 1/2


@pytest.mark.parametrize(("distance", "expected"), [(0, 1.0), (1, 0.96), (3, 0.91), (5, 0.80), (7, 0.54), (9, 0.0)])
def test_kalapa_score_matches_the_challenge(distance, expected):
    """The challenge's own figures for a label of 37 characters would not be met."""
    assert kalapa_score(distance, 37) == pytest.approx(expected, abs=0.006)


def test_a_hopeless_line_scores_zero_and_does_not_overflow():
    """One very long wrong reading would stop the evaluation of everything."""
    assert kalapa_score(100_000, 5) == 0.0


def test_blank_labels():
    """A blank text line read as blank is right, an invented text for it is wrong, and nothing divides by zero."""
    right, wrong = score_lines([""], [""]), score_lines([""], ["abc"])
    assert (right.cer, right.wer, right.line_accuracy, right.edit_similarity, right.kalapa_score) == (
        0,
        0,
        1,
        1,
        1,
    )
    assert (wrong.cer, wrong.wer, wrong.line_accuracy, wrong.edit_similarity, wrong.kalapa_score) == (
        1,
        1,
        0,
        0,
        0,
    )


def test_composed_and_decomposed_letters_are_equal():
    """Labels typed on a Mac (NFD) would count every marked letter as an error."""
    assert score_lines(["ế ộ"], ["e\u0302\u0301 o\u0323\u0302"]).cer == 0


@pytest.mark.parametrize(("references", "readings"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_unequal_or_no_lines_are_refused(references, readings):
    """Pairs would shift silently, or an empty validation set would score perfectly."""
    with pytest.raises(SlimError, match="cannot be compared"):
        score_lines(references, readings)


def test_every_metric_of_the_config_is_scored_and_ordered():
    """A config could name a metric by which best/ cannot be kept."""
    names = set(Metric.model_fields["name"].annotation.__args__)
    assert names == set(HIGHER_IS_BETTER) == {name for task in TASKS.values() for name in task.metrics}
    for task, kind in (("rec", Scores), ("det", PageScores), ("cls", DirectionScores)):
        assert set(TASKS[task].metrics) <= set(kind.__dataclass_fields__)


def test_page_scores_equal_hand_counts():
    """Every published figure of a detector would be wrong; a page with many lines must not weigh as one with few."""
    pages = [Found(3, 4, 3), Found(0, 0, 2), Found(1, 1, 1)]
    scores = PageScores.of(sum(pages, Found()), len(pages))
    assert (scores.precision, scores.recall) == (4 / 6, 4 / 5)
    assert scores.hmean == pytest.approx(2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5))
    assert (scores.pages, scores.lines) == (3, 5)


def test_pages_without_text_are_scored():
    """An evaluation on empty pages would end in a division by zero, or call inventions right."""
    assert PageScores.of(Found(), 2) == PageScores(1.0, 1.0, 1.0, 2, 0)
    assert PageScores.of(Found(0, 0, 5), 2) == PageScores(0.0, 0.0, 1.0, 2, 0)
    with pytest.raises(SlimError, match="no pages"):
        PageScores.of(Found(), 0)


def test_direction_scores_equal_hand_counts():
    """A classifier that turns upright lines over would look harmless, or one that turns nothing over useful."""
    results = [
        (False, True, 0.99),
        (False, False, 0.6),  # wrong, but with too low a score to be turned
        (False, False, 0.95),
        (False, True, 0.5),
        (True, True, 0.95),
        (True, True, 0.8),  # correct, but left as it is
        (True, False, 0.9),
        (True, True, 0.9),  # exactly the threshold
    ]
    scores = DirectionScores.of(results, 0.9)
    assert scores == DirectionScores(accuracy=5 / 8, wrongly_turned=1 / 4, left=2 / 4, pictures=8)


@pytest.mark.parametrize("results", [[], [(True, True, 0.9)], [(False, True, 0.9)]])
def test_directions_without_pictures_are_one_clear_error(results):
    """An empty evaluation would be a stack trace, or a perfect score."""
    with pytest.raises(SlimError, match="at least one text line"):
        DirectionScores.of(results, 0.9)


def test_better():
    """The worst checkpoint would be kept as best/, or one whose score is NaN."""
    assert better("cer", 0.1, 0.2) and not better("cer", 0.2, 0.1) and not better("cer", 0.1, 0.1)
    assert better("kalapa_score", 0.2, 0.1) and not better("kalapa_score", 0.1, 0.2)
    assert better("cer", 5.0, math.nan) and not better("cer", math.nan, 5.0)
    assert not better("cer", math.nan, math.nan)


class FixedReader:
    """Reads "Hà Nội" from every line and remembers how many lines it was given."""

    def __init__(self):
        self.rows = 0

    def read(self, images, batch_size=8):
        self.rows += len(images)
        return [TextLine("Hà Nội", 0.75) for _ in images]


def test_evaluation_counts_every_sample_once_in_order(tmp_path: Path):
    """Samples would be lost at the borders of batches, or change places with each other."""
    texts = [f"Thôn {n}" for n in range(1, 24)]
    samples, _ = read_label_file(write_rows(tmp_path, texts))
    reader = FixedReader()
    result = evaluate(reader, samples, batch_size=2)
    assert reader.rows == len(texts)
    assert [line.reference for line in result.lines] == texts
    assert [line.path for line in result.lines] == [sample.path for sample in samples]
    assert result.scores.lines == len(texts)


def test_an_unreadable_image_counts_as_read_empty(tmp_path: Path):
    """A broken image would be dropped or replaced by its neighbour, and the score would flatter."""
    samples, _ = read_label_file(write_rows(tmp_path, ["Hà Nội", "Huế", "Hà Nội"]))
    samples[1].path.write_bytes(b"not an image")
    result = evaluate(FixedReader(), samples)
    assert [line.reading for line in result.lines] == ["Hà Nội", "", "Hà Nội"]
    assert result.scores.cer == pytest.approx(3 / 15)
    assert [path for path, _ in result.unreadable] == [samples[1].path]
    assert str(samples[1].path) in result.unreadable[0][1]


def test_blank_lines_are_evaluated(tmp_path: Path):
    """What a recognizer invents for blank lines would cost it nothing."""
    samples, _ = read_label_file(write_rows(tmp_path, ["Hà Nội", ""]))
    result = evaluate(FixedReader(), samples)
    assert [(line.reference, line.distance) for line in result.lines] == [("Hà Nội", 0), ("", 6)]
    assert (result.scores.cer, result.scores.line_accuracy) == (1.0, 0.5)


def test_scores_by_writer_worst_lines_and_json(tmp_path: Path):
    """The table by writer and the sheet of worst lines would show other lines than they say."""
    first, _ = read_label_file(write_rows(tmp_path, ["Hà Nội", "Hà Nam"], name="an.txt"))
    second, _ = read_label_file(write_rows(tmp_path, ["Quảng Trị"], name="binh.txt"))
    result = evaluate(FixedReader(), [*second, *first])
    assert list(result.by_group) == ["an", "binh"]
    assert result.by_group["an"].cer == pytest.approx(2 / 12)
    assert [line.reference for line in result.worst(2)] == ["Quảng Trị", "Hà Nam"]
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["scores"]["cer"] == pytest.approx(result.scores.cer)
    assert plain["by_group"]["binh"]["lines"] == 1
    assert [line["distance"] for line in plain["lines"]] == [line.distance for line in result.lines]


def test_nothing_to_evaluate_is_an_error():
    """An empty validation file would look like a finished evaluation."""
    with pytest.raises(SlimError, match="nothing to evaluate"):
        evaluate(FixedReader(), [])


def test_an_unreadable_writer_has_a_row_of_its_own(tmp_path: Path):
    """A writer whose images are all broken would vanish from the table."""
    sample = Sample(tmp_path / "cuc" / "1.png", "Huế", "val.txt:1")
    result = evaluate(FixedReader(), [sample])
    assert result.by_group["cuc"].cer == 1.0
