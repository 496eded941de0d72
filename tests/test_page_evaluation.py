"""Pages, directions and whole pipelines are scored by rules that one can follow by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pages import rectangle

from ppocr_slim.benchmarks.pipeline import flags, parse_range, score_side
from ppocr_slim.data.labels import Sample
from ppocr_slim.data.page_labels import PageSample
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.directions import evaluate_directions
from ppocr_slim.evaluation.hmean import score_page
from ppocr_slim.evaluation.pages import ReadingErrors, evaluate_pages, match_lines, score_reading
from ppocr_slim.evaluation.tables import page_table
from ppocr_slim.reports.pipeline import report, write_pipeline
from ppocr_slim.reports.records import LineScores, Pipeline, read_record
from ppocr_slim.runtime.boxes import Box
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.specs import ClsSpec
from ppocr_slim.visualize.evaluation_sheets import GREEN, ORANGE, RED, direction_sheet, page_sheet

A, B, C = (rectangle(10, 10 + 40 * number, 200, 20) for number in range(3))
FAR = rectangle(400, 300, 100, 20)


def page(*texts: str, path: str = "images/1.jpg") -> PageSample:
    return PageSample(Path(path), (A, B, C)[: len(texts)], texts, "train.txt:1")


def test_each_line_is_matched_with_its_best_box():
    """Two boxes on one line would both count as it, and a text beside the line would hide the one on it."""
    nearly = A + [20, 0]
    matches = match_lines([A, B], [False, False], [nearly, FAR, A])
    assert matches.pairs == ((0, 2),)
    assert matches.missed == (1,)
    assert matches.wrong == (0, 1)


def test_what_lies_within_an_ignored_line_counts_for_nothing():
    """Print on a form would count as wrong readings of a recognizer that is not made for it."""
    part = rectangle(20, 12, 60, 16)
    matches = match_lines([A, B], [True, False], [part, A, B])
    assert (matches.pairs, matches.missed, matches.wrong) == (((1, 2),), (), ())


@pytest.mark.parametrize("truths, detections", [([], []), ([A], []), ([], [A]), ([A, B, C], [C, FAR, A])])
def test_matches_are_as_many_as_the_protocol_counts(truths, detections):
    """The sheet would show other errors than the figures have."""
    counts = score_page(truths, [False] * len(truths), detections)
    matches = match_lines(truths, [False] * len(truths), detections)
    assert len(matches.pairs) == counts.matched
    assert len(matches.missed) == counts.truths - counts.matched
    assert len(matches.wrong) == counts.detections - counts.matched


def test_missed_lines_are_wholly_wrong_and_added_ones_too_much():
    """A pipeline that finds a line in ten, and reads that one well, would seem a good one."""
    errors = score_reading(
        page("Hà Nội", "Huế", "###"), [False, False, True], [A, FAR, C], ["Hà Nôi", "abcd", "x" * 50]
    )
    assert errors == ReadingErrors(wrong=1, missed=3, added=4, characters=9, lines=2, found=1)
    assert errors.cer == pytest.approx(8 / 9)
    assert (errors + errors).cer == pytest.approx(8 / 9)


def test_decomposed_readings_are_equal():
    """What other runtimes give in another normal form would count as errors."""
    assert score_reading(page("Huế"), [False], [A], ["Hue\u0302\u0301"]).cer == 0


def test_a_page_without_lines_has_errors_only_where_something_was_read():
    """Empty pages would divide by zero, or cost nothing however much was read from them."""
    assert score_reading(page(), [], [], []).cer == 0
    assert score_reading(page(), [], [A], ["x"]).cer == 1


def test_only_wanted_lines_count():
    """The CER of the handwriting would be that of the print around it."""
    assert flags(page("Hà Nội", "###", "Họ và tên"), {"Hà Nội"}) == [False, True, True]
    assert flags(page("Hà Nội", "###"), None) == [False, True]


@pytest.mark.parametrize("text, expected", [("8-12", (8, 12)), ("7", (7, 7))])
def test_ranges_of_lines(text, expected):
    """Pages of ten lines are the case that counts."""
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["", "x", "12-8", "-3"])
def test_wrong_ranges_are_refused(text):
    """A slip would time no page, or all, after an hour."""
    with pytest.raises(SlimError, match="range"):
        parse_range(text)


class Fixed:
    """A detector that finds the same on every page."""

    def __init__(self, *outlines: np.ndarray):
        self.found = [Box(points) for points in outlines]

    def detect(self, image):
        return self.found


def write_page(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((360, 540, 3), 255, np.uint8))
    return str(path)


def test_pages_are_scored_by_folder_and_the_worst_are_drawn(tmp_path: Path):
    """One could not see where a detector fails; and a page that is lost would flatter it."""
    forms = page("a", "b", path=write_page(tmp_path / "forms" / "1.png"))
    notes = page("a", path=write_page(tmp_path / "notes" / "1.png"))
    lost = page("a", path=str(tmp_path / "notes" / "2.png"))
    result = evaluate_pages(Fixed(A, FAR), [forms, notes, lost])
    assert result.by_group["forms"].recall == 0.5 and result.by_group["forms"].precision == 0.5
    assert result.by_group["notes"].recall == 0.5
    assert result.scores.recall == 0.5 and result.scores.lines == 4
    assert [path for path, _ in result.unreadable] == [lost.path]
    assert result.worst(1)[0].sample is forms
    assert len(page_table(result)) == 5
    assert {entry["matched"] for entry in result.to_json()["pages"]} == {0, 1}
    page_sheet(result.worst(4), tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert all((sheet == colour).all(axis=-1).any() for colour in (RED, ORANGE, GREEN))


def test_directions_are_scored_both_ways_up(tmp_path: Path):
    """A classifier that always says upright would seem right, as all lines of a label file are."""
    dark_left = np.full((48, 192, 3), 255, np.uint8)
    dark_left[:, :60] = 0
    cv2.imwrite(str(tmp_path / "good.png"), dark_left)
    cv2.imwrite(str(tmp_path / "bad.png"), np.ascontiguousarray(dark_left[:, ::-1]))

    def session(x: np.ndarray) -> np.ndarray:  # upright is what is dark at the left
        upright = (x[:, :, :, :60].mean(axis=(1, 2, 3)) < 0).astype(np.float32)
        upright = 0.05 + 0.9 * upright
        return np.stack([upright, 1 - upright], axis=1)

    samples = [Sample(tmp_path / f"{name}.png", "", "val.txt:1") for name in ("good", "bad", "lost")]
    result = evaluate_directions(DirectionClassifier(session, ClsSpec()), samples)
    scores = result.scores
    assert (scores.accuracy, scores.wrongly_turned, scores.left, scores.pictures) == (0.5, 0.5, 0.5, 4)
    assert {one.path.name for one in result.worst(9)} == {"bad.png"}
    assert len(result.unreadable) == 1
    direction_sheet(result.worst(9), tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def figures() -> dict[str, Any]:
    pages = [page("Hà Nội", "Huế", path="forms/1.jpg"), page("Huế", path="notes/1.jpg")]
    side = score_side(pages, [[[A.tolist(), "Hà Nội"]], [[A.tolist(), "Huế"], [FAR.tolist(), "z"]]], None)
    alone = {**dict.fromkeys(LineScores.model_fields, 0), "cer": 0.05}
    direction = {"accuracy": 0.99, "wrongly_turned": 0.01, "left": 0.02, "pictures": 6}
    ms = {"det": 100.0, "cls": 5.0, "rec": 50.0, "total": 160.0}
    against = {"ms": 160.0, "base_ms": 500.0, "ratio": 0.32}
    return {
        "command": "python tools/bench_pipeline.py",
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"processor": "X", "cores": 2, "memory_gb": 1},
        "threads": 2,
        "pages": {"file": "train.txt", "count": 2, "lines": 3},
        "only_rows": "val.txt",
        "sides": {
            "fp32": {**side, "versions": {"numpy": "1"}, "sizes": {}},
            "rapidocr": {**side, "versions": {"numpy": "2"}, "sizes": {"det.onnx": 4_745_517}},
        },
        "true_boxes": {"fp32": {"all": alone, "by_lines": {"1 to 7": alone}}},
        "direction": {"crops": direction, "rows": direction},
        "speed": {
            "pages": 2,
            "median_lines": 10,
            "rounds": 3,
            "sides": {
                "fp32": {"ms": ms, "peak_mb": 300.0, "against_rapidocr": against},
                "rapidocr": {"ms": ms, "peak_mb": 500.0},
            },
        },
        "bundles": {"det": {"model.onnx": 2_000_000}},
    }


def test_a_side_is_scored_by_kind_and_by_number_of_lines():
    """The pages that count, of about ten lines, would be lost in the mean of all."""
    found = [[[A.tolist(), "a"], [B.tolist(), ""]], []]  # what was dropped was found nevertheless
    side = score_side([page("a", "b", path="f/1.jpg"), page(path="e/1.jpg")], found, None)
    assert side["reading"]["by_lines"]["1 to 7"]["missed"] == side["reading"]["all"]["missed"] == 1
    detection = side["detection"]
    assert detection["all"]["recall"] == 1
    assert set(detection["by_kind"]) == {"e", "f"} and detection["by_kind"]["e"]["hmean"] == 1
    assert set(detection["by_lines"]) == {"0", "1 to 7"}


def test_the_page_has_the_figures_and_no_text_of_a_label(tmp_path: Path):
    """What people wrote must not be published with the figures; and these are what the page is for."""
    path = write_pipeline(tmp_path / "results" / "pipeline", figures())
    text = path.read_text(encoding="utf-8") + path.with_suffix(".json").read_text(encoding="utf-8")
    assert "Huế" not in text and "Hà Nội" not in text
    # 3 characters missed and 1 added of 12: 0.3333, 28.3 points more than on true boxes
    for wanted in ("| 0.3333 |", "+28.3", "0.32", "4.75", "2 of 3", "val.txt", "0.9900"):
        assert wanted in text, wanted


def test_a_report_without_times_or_baselines_is_written(tmp_path: Path):
    """Results without RapidOCR, or measured on a busy machine, would have no report."""
    some = figures()
    del some["sides"]["rapidocr"]
    text = report("pipeline", read_record(Pipeline, {**some, "speed": {}, "only_rows": None}, "it"))
    assert "Time and memory" not in text and "RapidOCR" not in text
