"""The table of what knowledge of addresses is worth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from drawing import write_rows
from exported import TEXTS, save_lively_checkpoint

from ppocr_slim.benchmarks.decoding import WAYS, compare_ways, made_worse
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.reports.decoding import report
from ppocr_slim.reports.records import Decoding, read_record
from ppocr_slim.runtime.bundle import LANGUAGE, put_language
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.text.language_training import build_language_model
from ppocr_slim.text.vietnamese.place_names import PLACE_NAMES


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knowledge")
    samples, _ = read_label_file(write_rows(folder, TEXTS))
    save_lively_checkpoint(folder / "checkpoint")
    export_bundle(folder / "checkpoint", folder / "bundle", ["onnx"], 50, samples)
    put_language(folder / "bundle", build_language_model(TEXTS, order=4, least=1))
    return folder, samples, *compare_ways(folder / "bundle", samples, "the command")


def test_the_plain_row_is_what_an_evaluation_says(compared):
    """Lost otherwise: gains would be told from another start than the one that is published."""
    folder, samples, figures, lines = compared
    alone = evaluate(open_recognizer(folder / "bundle"), samples, batch_size=1)
    assert [line.reading for line in lines["greedy"]] == [line.reading for line in alone.lines]
    assert figures["ways"][0]["scores"]["cer"] == pytest.approx(alone.scores.cer)
    assert figures["ways"][0]["changed"] == figures["ways"][0]["bytes"] == 0


def test_what_a_way_costs_and_breaks_is_counted(compared):
    """Lost otherwise: knowledge would be sold without its price, and rows that it spoils be hidden."""
    folder, _, figures, lines = compared
    language = (folder / "bundle" / LANGUAGE).stat().st_size
    assert [way["bytes"] for way in figures["ways"]][2:] == [language] + 2 * [language + PLACE_NAMES.stat().st_size]
    for way in figures["ways"]:
        assert way["better"] + way["worse"] <= way["changed"] <= figures["rows"] and way["numbers_changed"] == 0
        assert way["ms"] >= figures["network_ms"] > 0
    name = WAYS[-1].name
    worse = made_worse(lines, name)
    assert len(worse) == figures["ways"][-1]["worse"]
    before = {line.path: line.distance for line in lines["greedy"]}
    assert all(line.distance > before[line.path] for line in worse)


def test_the_page_has_every_way_and_no_text(compared):
    """Lost otherwise: a label of the data, which must not leave it, would stand in docs/results."""
    _, _, figures, _ = compared
    page = report("knowledge", read_record(Decoding, figures, "it"))
    assert all(way.name in page for way in WAYS)
    assert not any(text in page + json.dumps(figures, ensure_ascii=False) for text in TEXTS)


def test_a_bundle_without_a_language_model_is_said(compared, tmp_path):
    """Lost otherwise: a table of five equal rows."""
    folder, samples, *_ = compared
    export_bundle(folder / "checkpoint", tmp_path / "plain", ["onnx"], 50, samples)
    with pytest.raises(SlimError, match="has no language model"):
        compare_ways(tmp_path / "plain", samples, "")


def test_rows_that_cannot_be_read_count_as_errors_and_take_no_time(compared, tmp_path, caplog):
    """Lost otherwise: a label file whose images are elsewhere would give an error rate of 1 at 0 ms, and no word."""
    folder, samples, figures, _ = compared
    gone = replace(samples[0], path=tmp_path / "gone.png")
    found, lines = compare_ways(folder / "bundle", [*samples, gone, gone, gone, gone, gone], "")
    assert found["rows"] == figures["rows"] + 5 and lines["greedy"][-1].reading == ""
    assert found["network_ms"] > 0 and caplog.text.count('counted as read ""') == 5 and "gone.png" in caplog.text
    with pytest.raises(SlimError, match="none of the 2 rows can be read"):
        compare_ways(folder / "bundle", [gone, gone], "")
