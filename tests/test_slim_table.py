"""The slim table: the runs that it derives, those that fail or were interrupted, and its report."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from drawing import write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, config_dict, wait_for

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config, TrainStage
from ppocr_slim.errors import SlimError
from ppocr_slim.experiments import runs
from ppocr_slim.experiments.runs import Outcome, derive, read_outcome, run_config
from ppocr_slim.experiments.slim_table import TECHNIQUES, bit_row, plan_rows, run_rows, slim_table
from ppocr_slim.reports.records import LineScores, SlimTable, read_record
from ppocr_slim.reports.slim_table import bit_table, table, text_table, write_slim_table

ROOT = Path(__file__).resolve().parents[1]
DISTILL = {"distill": {"teacher": "teacher", "losses": [{"name": "dkd"}]}}
RECIPE = [
    {"stage": "train", "epochs": 4, "techniques": [DISTILL]},
    {"stage": "prune", "epochs": 3, "lr": 5e-4, "techniques": [{"fpgm": {"max_flops": 0.7}}, DISTILL]},
    {
        "stage": "quantize",
        "epochs": 2,
        "lr": 1e-4,
        "techniques": [{"pact": {"weight_bits": 8, "clip_lr": 2.0}}, DISTILL],
    },
    {"stage": "export", "budget_mb": 6.5},
]
ARGS = {"height": 32, "scale": 0.35, "hidden": 16, "layers": 2}  # of the lively checkpoint


def config_of(folder: Path, recipe=RECIPE, **sections) -> Config:
    return Config.model_validate(config_dict(folder, Recipe=recipe, **sections))


def kinds(row) -> list:
    return [(stage.stage, [entry.name for entry in stage.techniques]) for stage in row.stages]


def test_every_row_trains_for_the_same_epochs_at_the_same_rates(tmp_path):
    """Lost otherwise: a technique would look good because its row was trained longer than FP32's."""
    rows = plan_rows(config_of(tmp_path), [*TECHNIQUES, bit_row(4, True), bit_row(4, False)])
    assert len(rows) == 8
    for row in rows.values():
        assert [(stage.epochs, stage.lr) for stage in row.stages] == [(4, None), (3, 5e-4), (2, 1e-4)]
    assert kinds(rows["fp32"]) == [("train", []), ("train", []), ("train", [])]
    assert kinds(rows["distill"]) == [("train", ["distill"])] * 3
    assert kinds(rows["fpgm"]) == [("train", []), ("prune", ["fpgm"]), ("train", [])]
    assert kinds(rows["pact"]) == [("train", []), ("train", []), ("quantize", ["pact"])]
    assert kinds(rows["share"]) == [("train", []), ("train", []), ("share", ["share"])]
    assert kinds(rows["all"]) == [
        ("train", ["distill"]),
        ("prune", ["fpgm", "distill"]),
        ("quantize", ["pact", "distill"]),
    ]


def test_what_rows_have_in_common_is_trained_once(tmp_path):
    """Lost otherwise: the table would take several times as long, for the very same weights."""
    rows = plan_rows(config_of(tmp_path), TECHNIQUES)
    place = tmp_path / "run" / "slim_table"
    starts = {name: row.config.run.pretrained for name, row in rows.items()}
    assert starts == {
        "fp32": None,
        "distill": None,
        "fpgm": place / "fp32" / "train" / "best",
        "pact": place / "fp32" / "train_2" / "best",
        "share": place / "fp32" / "train_2" / "best",
        "all": place / "distill" / "train" / "best",
    }
    own = [stage.stage for stage in rows["pact"].config.recipe]
    assert own == ["quantize", "export"] and rows["pact"].config.recipe[-1].formats[-1] == "onnx_int8"
    assert [stage.stage for stage in rows["all"].config.recipe] == ["prune", "quantize", "export"]
    assert rows["fp32"].config.recipe[-1].budget_mb == 6.5 and len(rows["fp32"].folders) == 3
    assert len({row.config.run.output_dir for row in rows.values()}) == len(rows)


def test_bits_change_nothing_but_the_bits_and_the_clip(tmp_path):
    """Lost otherwise: the bit table would compare other settings than the config's; or eight bits would train twice."""
    names = ["pact", bit_row(8, True), bit_row(3, True), bit_row(3, False)]
    rows = plan_rows(config_of(tmp_path), names)
    own = RECIPE[2]["techniques"][0]["pact"]
    for name, clip in ((names[2], True), (names[3], False)):
        settings = rows[name].stages[-1].techniques[0].settings
        assert (settings.weight_bits, settings.activation_bits, settings.clip) == (3, 3, clip)
        assert settings.clip_lr == own["clip_lr"] and settings.edge_bits == 8
        assert settings.max_drop is None  # three bits start from nonsense
        assert all(isinstance(stage, TrainStage) for stage in rows[name].config.recipe)
    assert rows["pact"].config == rows[names[1]].config


def test_a_row_that_the_config_cannot_make_says_so_and_the_others_stay(tmp_path):
    """Lost otherwise: no table at all for a config without a teacher."""
    rows = plan_rows(config_of(tmp_path, [{"stage": "train", "epochs": 2}]), TECHNIQUES)
    problems = {name: row.problem for name, row in rows.items() if row.problem}
    assert problems.keys() == {"distill", "all"} and "no technique distill" in problems["distill"]
    assert kinds(rows["fpgm"]) == [("prune", ["fpgm"])]
    assert kinds(rows["pact"]) == [("quantize", ["pact"])] and kinds(rows["share"]) == [("share", ["share"])]
    with pytest.raises(SlimError, match="no row is called 'fpgn'"):
        slim_table(config_of(tmp_path), "", ["fpgn"])
    with pytest.raises(SlimError, match="9 bits"):
        slim_table(config_of(tmp_path), "", ["fp32"], [9])
    with pytest.raises(SlimError, match="0 rounds"):
        slim_table(config_of(tmp_path), "", rounds=0)
    with pytest.raises(SlimError, match="no training stage"):
        plan_rows(config_of(tmp_path, [{"stage": "export"}]), ["fp32"])


def test_rows_that_start_from_a_failed_one_are_not_run(tmp_path, monkeypatch):
    """Lost otherwise: they would fail with words that hide the reason, or start from the weights of an earlier run."""
    rows = plan_rows(config_of(tmp_path), TECHNIQUES)
    asked = []

    def run(config: Config, title: str) -> Outcome:
        asked.append(config.run.output_dir.name)
        return Outcome(config.run.output_dir.name != "distill", "no teacher")

    monkeypatch.setattr("ppocr_slim.experiments.slim_table.run_config", run)
    outcomes = run_rows(rows)
    assert asked == ["fp32", "distill", "fpgm", "pact", "share"]
    assert [name for name, outcome in outcomes.items() if not outcome.done] == ["distill", "all"]
    assert "starts from the row distill" in outcomes["all"].reason


def test_a_derived_config_is_checked(tmp_path):
    """Lost otherwise: a wrong value would show after hours, when its row is due."""
    config = config_of(tmp_path)
    assert derive(config, tmp_path / "x", Optimizer={"lr": 0.5}).optimizer.lr == 0.5
    assert derive(config, tmp_path / "x").train == config.train
    with pytest.raises(SlimError, match="Optimizer.lr"):
        derive(config, tmp_path / "x", Optimizer={"lr": -1})


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with data, starting weights and the config small.yml, of one short training stage."""
    folder = tmp_path_factory.mktemp("slim_table")
    write_rows(folder, TEXTS, "train.txt")
    write_rows(folder, TEXTS, "val.txt")
    save_lively_checkpoint(folder / "start")
    recipe = [{"stage": "train", "epochs": 2}, {"stage": "export", "budget_mb": 5}]
    start = {"pretrained": str(folder / "start")}
    raw = config_dict(folder, Global=start, Architecture={"args": ARGS}, Optimizer={"lr": 1e-5}, Recipe=recipe)
    (folder / "small.yml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return folder


def test_a_run_is_done_once_and_a_failed_one_says_why(small, monkeypatch):
    """Lost otherwise: the same hours again with every call, or a failure that nobody can explain."""
    config = derive(load_config(small / "small.yml"), small / "one", Recipe=[{"stage": "train", "epochs": 1}])
    assert not read_outcome(config).done
    assert run_config(config, "one").done
    broken = derive(config, small / "broken", Eval={"label_files": [{"path": str(small / "nowhere.txt")}]})
    outcome = run_config(broken, "broken")
    assert not outcome.done and "nowhere.txt" in outcome.reason and "error:" not in outcome.reason

    def no_process(*args, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(runs.subprocess, "Popen", no_process)
    assert run_config(config, "one").done and read_outcome(config).commit
    start = derive(config, small / "one", Global={"pretrained": str(small / "one" / "train" / "best")})
    dump_config(start, small / "one" / "run.yml")
    record = {"commit": "a", "origins": {str(start.run.pretrained): "b"}}
    (small / "one" / "done.json").write_text(json.dumps(record), encoding="utf-8")
    assert "other weights" in read_outcome(start).reason
    dump_config(config, small / "one" / "run.yml")
    other = derive(config, small / "one", Optimizer={"lr": 1e-4})
    assert "another config" in read_outcome(other).reason
    (small / "one" / "done.json").write_text("[]", encoding="utf-8")
    assert not read_outcome(config).done


def tool(small: Path, *more: str) -> list:
    out = ["--out", str(small / "results" / "table"), "--rounds", "2", *more]
    return [sys.executable, str(ROOT / "tools" / "slim_table.py"), "-c", str(small / "small.yml"), *out]


def test_ctrl_c_saves_the_active_run(small):
    """Lost otherwise: stopping the table throws hours away, or leaves a training behind that nobody sees."""
    place = small / "stopped"
    more = ["-o", f"Global.output_dir={place}", "Recipe=[{stage: train, epochs: 100000}]", "Global.save_every_steps=5"]
    process = subprocess.Popen(tool(small, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = place / "slim_table" / "fp32" / "train" / "last"
    wait_for(last / "model.yml", process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "saved at step" in (place / "slim_table" / "fp32" / "run.log").read_text(encoding="utf-8")


def test_the_tool_trains_measures_and_writes_what_is_there(small):
    """Lost otherwise: the one command of the table; and a row that cannot be run would take all others with it."""
    done = subprocess.run(tool(small, "--rows", "fp32,distill,share", "--bits"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "+ weight sharing" in done.stdout and "no technique distill" in done.stdout
    results = json.loads((small / "results" / "table.json").read_text(encoding="utf-8"))
    fp32, distill, share = results["rows"]
    assert results["steps"] == 4 and results["evaluation_rows"] == 8 and results["size"][0] == 32
    assert [row["name"] for row in (fp32, distill, share)] == ["fp32", "distill", "share"] and "reason" in distill
    assert fp32["ms"]["onnxruntime"]["ratio"] == 1 and share["ms"]["onnxruntime"]["ms"] > 0
    assert share["file"] == "model.shared" and share["bytes"] < fp32["bytes"] / 2
    assert share["parameters"] == fp32["parameters"] and share["flops"] == fp32["flops"] > 1e6
    for row in (fp32, share):
        assert row["scores"]["lines"] == 8 and abs(row["scores"]["cer"] - row["checkpoint_cer"]) < 0.02
    assert not any(text in json.dumps(results, ensure_ascii=False) for text in TEXTS)

    config = load_config(small / "small.yml")
    again = slim_table(config, "", ["share"], (), read_only=True, rounds=1)
    assert [row["scores"] for row in again["rows"]] == [fp32["scores"], share["scores"]]
    with pytest.raises(SlimError, match="holds no finished run"):
        slim_table(derive(config, small / "empty"), "", read_only=True)


def row_results(name: str, size: float, cer: float) -> dict:
    return {
        "name": name,
        "title": name.upper(),
        "run_commit": "abc",
        "parameters": 1_300_000,
        "flops": 160e6,
        "file": "model.onnx",
        "bytes": int(1e6 * size),
        "scores": {**dict.fromkeys(LineScores.model_fields, 0), "cer": cer, "lines": 9},
        "checkpoint_cer": cer,
        "ms": {"onnxruntime": {"ms": 3.5, "base_ms": 3.5, "ratio": 1.0}},
    }


def results_of(*rows: dict, bits=()) -> dict:
    return {
        "command": "make it",
        "date": "today",
        "commit": "abc",
        "machine": {"processor": "fast", "cores": 2, "memory_gb": 8},
        "versions": {"python": "3"},
        "epochs": [2, 1],
        "steps": 30,
        "evaluation_rows": 9,
        "start": {"folder": "start", "cer": 0.1},
        "teachers": ["start"],
        "engines": ["onnxruntime"],
        "threads": 2,
        "size": [40, 608],
        "rows": list(rows),
        "fp32_checkpoint_cer": 0.14,
        "bits": list(bits),
    }


def test_the_report_shows_every_row_and_why_one_is_missing(tmp_path):
    """Lost otherwise: a row that failed would silently not be there."""
    bits = [{"bits": 8, "clip": 0.15, "noclip": 0.16}, {"bits": 2, "clip": 0.5, "noclip_reason": "NaN", "paper": 11.1}]
    lost = {"name": "fpgm", "title": "FPGM", "run_commit": "", "reason": "no technique"}
    results = results_of(row_results("fp32", 5.3, 0.14), lost, row_results("pact", 1.5, 0.145), bits=bits)
    record = read_record(SlimTable, results, "it")
    assert [row[0] for row in table(record)[1]] == ["FP32", "PACT"] and table(record)[2] == {"FPGM": "no technique"}
    assert bit_table(record)[1][2] == ["2", "0.5000", "-", "11.1", "-"]
    assert "not there: 2 bits without a clip: NaN" in text_table(record)
    text = write_slim_table(tmp_path / "docs" / "slim.v1", results).read_text(encoding="utf-8")
    assert "| PACT | 1.30 M | 160 | model.onnx | 1.50 | 0.1450 | 3.50 (1.00x) |" in text and "no technique" in text
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        f"slim.v1.{end}" for end in ("json", "csv", "md", "png")
    }
    lines = list(csv.DictReader((tmp_path / "docs" / "slim.v1.csv").open(encoding="utf-8")))
    assert [line["name"] for line in lines] == [
        "fp32",
        "fpgm",
        "pact",
        "bits8",
        "bits8_noclip",
        "bits2",
        "bits2_noclip",
    ]
    assert lines[0]["cer"] == "0.14" and lines[1]["reason"] == "no technique" and lines[6]["reason"] == "NaN"


def test_a_table_of_one_row_has_a_report_too(tmp_path):
    """Lost otherwise: where all techniques fail, the report fails with them."""
    text = write_slim_table(tmp_path / "one", results_of(row_results("fp32", 5.3, 0.0))).read_text(encoding="utf-8")
    assert "fake-quantized" not in text and "one.png" in text
