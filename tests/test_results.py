"""The reports in docs/results: made from their records, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppocr_slim.errors import SlimError
from ppocr_slim.reports import ablation, decoding, pipeline, slim_table, training_run, training_speed
from ppocr_slim.reports.records import (
    Ablation,
    Decoding,
    Pipeline,
    SlimTable,
    TrainingRun,
    TrainingSpeed,
    read_record,
)

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
BY_HAND = {"distillation"}  # of six runs, put together before there were ablations
# A key that tells a kind of record, the kind, and who makes its report
KINDS = {
    "variants": (Ablation, ablation.report),
    "fp32_checkpoint_cer": (SlimTable, slim_table.report),
    "sides": (Pipeline, pipeline.report),
    "ways": (Decoding, decoding.report),
    "by_writer": (TrainingRun, training_run.report),
    "cases": (TrainingSpeed, None),  # with its plots, below
}
FILES = sorted(path for path in RESULTS.glob("*.json") if path.stem not in BY_HAND)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_report_is_made_from_its_record(path: Path, tmp_path: Path):
    """A number that somebody changed by hand, or forgot to make anew, would stand there as if it had been measured."""
    figures = json.loads(path.read_text(encoding="utf-8"))
    kind, report = next(found for key, found in KINDS.items() if key in figures)
    committed = path.with_suffix(".md").read_text(encoding="utf-8")
    if report is None:
        assert training_speed.write_training_speed(tmp_path / path.name, figures).read_text("utf-8") == committed
    else:
        assert report(path.stem, read_record(kind, figures, path.name)) == committed


def test_a_renamed_key_is_no_hole_in_a_report():
    """A report would say nothing of what its record calls by another name."""
    figures = json.loads((RESULTS / "knowledge.json").read_text(encoding="utf-8"))
    figures["ways"][0]["milliseconds"] = figures["ways"][0].pop("ms")
    with pytest.raises(SlimError, match=r"it is no Decoding: ways\.0\.ms: Field required"):
        read_record(Decoding, figures, "it")
