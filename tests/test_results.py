"""The reports in docs/results: made from their records alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppocr_slim.errors import SlimError
from ppocr_slim.reports import ablation, decoding, pipeline, slim_table, stages, training_run, training_speed
from ppocr_slim.reports.records import (
    Ablation,
    Decoding,
    Pipeline,
    SlimTable,
    StageTable,
    TrainingRun,
    TrainingSpeed,
    read_record,
)

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
BY_HAND = {"distillation"}  # of six runs, from before there were ablations
# A key that is in one type of record only -> the type, and the function that makes its report
RECORDS = {
    "variants": (Ablation, ablation.report),
    "fp32_checkpoint_cer": (SlimTable, slim_table.report),
    "sides": (Pipeline, pipeline.report),
    "ways": (Decoding, decoding.report),
    "by_writer": (TrainingRun, training_run.report),
    "samples": (StageTable, stages.report),
    "cases": (TrainingSpeed, None),  # with its plots, below
}
FILES = sorted(path for path in RESULTS.glob("*.json") if path.stem not in BY_HAND)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_report_is_made_from_its_record(path: Path, tmp_path: Path):
    """A number that was changed by hand, or not updated, would look as if it had been measured."""
    results = json.loads(path.read_text(encoding="utf-8"))
    kind, report = next(found for key, found in RECORDS.items() if key in results)
    committed = path.with_suffix(".md").read_text(encoding="utf-8")
    if report is None:
        assert training_speed.write_training_speed(tmp_path / path.name, results).read_text("utf-8") == committed
    else:
        assert report(path.stem, read_record(kind, results, path.name)) == committed


def test_a_renamed_key_is_no_gap_in_a_report():
    """A value whose key has another name would be missing in the report."""
    results = json.loads((RESULTS / "knowledge.json").read_text(encoding="utf-8"))
    results["ways"][0]["milliseconds"] = results["ways"][0].pop("ms")
    with pytest.raises(SlimError, match=r"it is no Decoding: ways\.0\.ms: Field required"):
        read_record(Decoding, results, "it")
