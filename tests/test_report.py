"""The report of a training run, from files written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.errors import SlimError
from ppocr_slim.experiments.training_run import collect
from ppocr_slim.reports.training_run import write_training_run

SCORES = {"cer": 0.25, "wer": 0.5, "line_accuracy": 0.5, "edit_similarity": 0.8, "kalapa_score": 0.6, "lines": 2}
COUNTED = [
    {"step": 20, "loss": 4.0, "images_per_s": 5.0, "images": 150},
    {"step": 20, "eval/cer": 0.9},
    {"step": 40, "loss": 2.0, "images_per_s": 2.5, "images": 300},
]


def write_json_lines(path: Path, records: Sequence[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def evaluation(path: Path, readings: dict) -> Path:
    lines = [{"path": name, "reading": text} for name, text in readings.items()]
    path.write_text(json.dumps({"scores": SCORES, "by_group": {"an": SCORES}, "lines": lines}), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two processes with batches of 8, and an evaluation of two lines."""
    files = {"label_files": [{"path": "labels.txt"}]}
    raw = {
        "Global": {"output_dir": str(tmp_path / "run"), "processes": 2},
        "Architecture": {"name": "crnn_mv3_slim"},
        "Train": {**files, "batch_size": 8},
        "Eval": files,
        "Recipe": [{"stage": "train", "epochs": 1}],
    }
    write_json_lines(tmp_path / "run" / "train" / "log.jsonl", COUNTED)
    dump_config(Config.model_validate(raw), tmp_path / "run" / "config.yml")
    evaluation(tmp_path / "eval.json", {"1.jpg": "a", "2.jpg": "b"})
    return tmp_path / "run"


def results_of(run: Path, **more) -> dict:
    return collect(run, "make it", "A note.", run.parent / "eval.json", **more)


def test_results_equal_hand_counts(run: Path):
    """The published training time and images would be others than the run's."""
    results = results_of(run, commit="abc")
    assert (results["steps"], results["images_seen"]) == (40, 300)
    assert results["training_minutes"] == (150 / 5 + 150 / 2.5) / 60
    assert results["commit"] == "abc" and results["scores"] == SCORES
    assert results["curve"] == {"train_loss": [[20, 4.0], [40, 2.0]], "eval_cer": [[20, 0.9]]}


def test_the_report_is_of_the_last_training_stage(run: Path):
    """A run without a stage called train could have no report, and one with both the wrong curve."""
    raw = load_config(run / "config.yml").model_dump(by_alias=True, mode="json")
    raw["Recipe"].append({"stage": "prune", "epochs": 1, "techniques": [{"fpgm": {"max_flops": 0.7}}]})
    dump_config(Config.model_validate(raw), run / "config.yml")
    write_json_lines(run / "prune" / "log.jsonl", COUNTED[:2])
    assert results_of(run)["steps"] == 20


def test_a_log_without_counts_of_images_is_read_by_its_batches(run: Path):
    """With two processes half of the images and of the time would be published."""
    records = [{key: value for key, value in record.items() if key != "images"} for record in COUNTED]
    write_json_lines(run / "train" / "log.jsonl", records)
    results = results_of(run)
    assert results["images_seen"] == 40 * 8 * 2
    assert results["training_minutes"] == pytest.approx((320 / 5 + 320 / 2.5) / 60)


def test_engines_are_compared_on_the_same_lines_only(run: Path):
    """That 0 texts differ could be said of evaluations that have nothing to do with each other."""
    other = evaluation(run.parent / "other.json", {"1.jpg": "a", "2.jpg": "x"})
    assert results_of(run, other_evaluation=other)["checks"] == {
        "texts that differ between engines": 1,
        "lines compared": 2,
    }
    for readings in ({"1.jpg": "a"}, {"1.jpg": "a", "3.jpg": "b"}, {"2.jpg": "b", "1.jpg": "a"}):
        evaluation(other, readings)
        with pytest.raises(SlimError, match="different lines"):
            results_of(run, other_evaluation=other)


def test_times_leave_out_the_first_lines_and_need_some_others(run: Path):
    """The first line's loading would count as reading, or nothing would be averaged into NaN."""
    lines = [{"ms": 900.0}, {"ms": 900.0}, {"path": "x", "error": "broken"}, {"ms": 900.0}, {"ms": 10.0}, {"ms": 20.0}]
    predictions = write_json_lines(run.parent / "lines.jsonl", lines)
    assert results_of(run, predictions=predictions)["checks"] == {"median ms a line": 15.0, "95th percentile, ms": 19.5}
    for few in (lines[:4], []):
        write_json_lines(predictions, few)
        with pytest.raises(SlimError, match="at most 3 lines"):
            results_of(run, predictions=predictions)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval.json", "{}"),
        ("eval.json", "[]"),
        ("eval.json", "{"),
        ("run/train/log.jsonl", ""),
        ("run/train/log.jsonl", '{"step": 5, "loss": 1.0}\n'),
        ("run/config.yml", "Global: {}\n"),
    ],
)
def test_files_of_another_kind_are_one_clear_line(run: Path, name: str, content: str):
    """A wrong file on the command line would end in a stack trace."""
    (run.parent / name).write_text(content, encoding="utf-8")
    with pytest.raises(SlimError):
        results_of(run)


def test_the_report_has_the_results_and_no_label_text(run: Path):
    """What people wrote would be published with the results."""
    evaluation(run.parent / "eval.json", {"1.jpg": "Hà Nội", "2.jpg": "Huế"})
    report = write_training_run(run.parent / "results", "first", results_of(run, commit="abc"))
    text = report.read_text(encoding="utf-8")
    assert "40 steps, 300 images seen" in text and "| an | 2 | 0.2500 |" in text and "commit: abc" in text
    assert {path.name for path in report.parent.iterdir()} == {"first.md", "first.json", "first.png"}
    written = text + (report.parent / "first.json").read_text(encoding="utf-8")
    assert "Huế" not in written and "Nội" not in written
