"""The decoding benchmark: greedy decoding compared with a language model and place names."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from drawing import write_rows
from exported import TEXTS, save_lively_checkpoint

from ppocr_slim.benchmarks.decoding import METHODS, compare_methods, worse_lines
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
    folder = tmp_path_factory.mktemp("decoding")
    samples, _ = read_label_file(write_rows(folder, TEXTS))
    save_lively_checkpoint(folder / "checkpoint")
    export_bundle(folder / "checkpoint", folder / "bundle", ["onnx"], 50, samples)
    put_language(folder / "bundle", build_language_model(TEXTS, order=4, least=1))
    return folder, samples, *compare_methods(folder / "bundle", samples, "the command")


def test_greedy_decoding_scores_as_an_evaluation_does(compared):
    """Lost otherwise: gains would be measured from another start than the published one."""
    folder, samples, results, lines = compared
    alone = evaluate(open_recognizer(folder / "bundle"), samples, batch_size=1)
    assert [line.reading for line in lines["greedy"]] == [line.reading for line in alone.lines]
    assert results["ways"][0]["scores"]["cer"] == pytest.approx(alone.scores.cer)
    assert results["ways"][0]["changed"] == results["ways"][0]["bytes"] == 0


def test_costs_and_errors_of_a_method_are_counted(compared):
    """Lost otherwise: a method would be reported without its cost, and lines that it makes worse be hidden."""
    folder, _, results, lines = compared
    language = (folder / "bundle" / LANGUAGE).stat().st_size
    assert [way["bytes"] for way in results["ways"]][2:] == [language] + 2 * [language + PLACE_NAMES.stat().st_size]
    for way in results["ways"]:
        assert way["better"] + way["worse"] <= way["changed"] <= results["rows"] and way["numbers_changed"] == 0
        assert way["ms"] >= results["network_ms"] > 0
    name = METHODS[-1].name
    worse = worse_lines(lines, name)
    assert len(worse) == results["ways"][-1]["worse"]
    before = {line.path: line.distance for line in lines["greedy"]}
    assert all(line.distance > before[line.path] for line in worse)


def test_the_report_has_every_method_and_no_text(compared):
    """Lost otherwise: a label of the data, which must not leave it, would stand in docs/results."""
    _, _, results, _ = compared
    text = report("knowledge", read_record(Decoding, results, "it"))
    assert all(method.name in text for method in METHODS)
    assert not any(label in text + json.dumps(results, ensure_ascii=False) for label in TEXTS)


def test_a_bundle_without_a_language_model_is_an_error(compared, tmp_path):
    """Lost otherwise: a table of five equal rows."""
    folder, samples, *_ = compared
    export_bundle(folder / "checkpoint", tmp_path / "plain", ["onnx"], 50, samples)
    with pytest.raises(SlimError, match="has no language model"):
        compare_methods(tmp_path / "plain", samples, "")


def test_lines_that_cannot_be_read_count_as_errors_and_take_no_time(compared, tmp_path, caplog):
    """Lost otherwise: a label file whose images are elsewhere would give an error rate of 1 at 0 ms, and no word."""
    folder, samples, results, _ = compared
    gone = replace(samples[0], path=tmp_path / "gone.png")
    found, lines = compare_methods(folder / "bundle", [*samples, gone, gone, gone, gone, gone], "")
    assert found["rows"] == results["rows"] + 5 and lines["greedy"][-1].reading == ""
    assert found["network_ms"] > 0 and caplog.text.count('counted as read ""') == 5 and "gone.png" in caplog.text
    with pytest.raises(SlimError, match="none of the 2 lines can be read"):
        compare_methods(folder / "bundle", [gone, gone], "")
