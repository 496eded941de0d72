"""All stages in one config, killed in each of them."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, assert_same, config_dict, run, train_command, wait_for

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.models.cost import parameter_count
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.slim.shared_file import SHARED_FILE, read_shared
from ppocr_slim.tasks.checkpoint import load_model, read_arrays, read_states
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.training.recipe import experiment_of
from ppocr_slim.training.stage_table import _networks

ARGS = {"height": 32, "scale": 0.35, "hidden": 16, "layers": 2}  # of the lively checkpoint
STAGES = ("train", "prune", "quantize")
EPOCHS = 8  # of each stage: long enough to be killed in
TECHNIQUES = EPOCHS * len(TEXTS) // 4  # batches of 4


def recipe(teacher):
    teach = {"distill": {"teacher": str(teacher), "losses": [{"name": "mean_logits"}]}}
    return [
        {"stage": "train", "epochs": EPOCHS, "techniques": [teach]},
        {"stage": "prune", "epochs": EPOCHS, "lr": 1e-5, "techniques": [{"fpgm": {"max_flops": 0.8}}, teach]},
        {"stage": "quantize", "epochs": EPOCHS, "lr": 1e-5, "techniques": [{"pact": {"max_drop": 10}}]},
        {"stage": "export", "formats": ["paddle", "onnx", "onnx_int8"], "budget_mb": 5},
        {"stage": "report", "rounds": 2},
    ]


def test_one_command_from_nothing_to_a_slim_bundle_survives_a_kill_in_every_stage(tmp_path):
    """Lost otherwise: the pruned shapes, the learned clips or the teacher would be others after an interruption."""
    kind = signal.SIGKILL
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    teacher = save_lively_checkpoint(tmp_path / "teacher")
    results = {}
    for name in ("whole", "killed"):
        raw = config_dict(
            tmp_path,
            Global={"output_dir": str(tmp_path / name), "pretrained": str(teacher), "save_every_steps": 1},
            Architecture={"args": ARGS},
            Optimizer={"lr": 1e-4},
            Recipe=recipe(teacher),
        )
        command = train_command(tmp_path, raw)
        for stage in STAGES if name == "killed" else ():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            wait_for(tmp_path / name / stage / "last" / "model.yml", process)
            process.send_signal(kind)
            process.communicate()
            assert process.returncode == -kind
            assert read_states(tmp_path / name / stage / "last")["step"] < TECHNIQUES
        done = run(command)
        assert done.returncode == 0, done.stderr
        results[name] = [read_arrays(tmp_path / name / stage / "best" / "model.pdparams") for stage in STAGES]
    for whole, killed in zip(results["whole"], results["killed"]):
        assert_same(killed, whole)

    plain, _ = load_model(tmp_path / "killed" / "train" / "best")
    slim, card = load_model(tmp_path / "killed" / "quantize" / "best")
    assert [transform["name"] for transform in card.transforms] == ["widths", "fake_quant"]
    assert sum(p.size for p in slim.parameters()) < 0.95 * sum(p.size for p in plain.parameters())
    bundle = tmp_path / "killed" / "export"
    assert (bundle / "model.int8.onnx").stat().st_size < 0.5 * (bundle / "model.onnx").stat().st_size
    assert len(Recognizer.from_bundle(bundle).read([draw_row(text) for text in TEXTS])) == len(TEXTS)
    check_report(tmp_path / "killed")


def check_report(run_folder):
    """The table has what stands in the files and in the logs."""
    record = json.loads((run_folder / "report" / "stages.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in record["rows"]}
    assert [row["title"] for row in record["rows"]] == [
        "teacher and start",
        "train: teacher",
        "prune: FPGM, teacher",
        "quantize: PACT",
    ]
    assert rows["quantize"]["file"] == "model.int8.onnx" and rows["prune"]["file"] == "model.onnx"
    assert rows["quantize"]["bytes"] < 0.5 * rows["prune"]["bytes"] < 0.5 * rows["train"]["bytes"]
    assert rows["teacher_1"]["parameters"] == rows["train"]["parameters"] > rows["prune"]["parameters"]
    assert rows["prune"]["parameters"] == parameter_count(load_model(run_folder / "prune" / "best")[0])
    assert [rows[stage]["steps"] for stage in STAGES] == [TECHNIQUES] * 3
    assert all(row["ms"]["ms"] > 0 for row in rows.values()) and rows["teacher_1"]["ms"]["ratio"] == 1
    for stage in ("train", "prune"):  # the exported file scores what the checkpoint did
        assert rows[stage]["score"] == pytest.approx(read_states(run_folder / stage / "best")["best"], abs=0.01)
    assert (run_folder / "report" / "stages.png").stat().st_size > 10_000
    assert "| quantize: PACT |" in (run_folder / "report" / "stages.md").read_text(encoding="utf-8")


def test_a_teacher_may_be_a_config_that_is_trained_first(tmp_path):
    """Lost otherwise: from nothing to a slim bundle by one override, without knowing in which order to train what."""
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    large = config_dict(
        tmp_path,
        Global={"output_dir": str(tmp_path / "large")},
        Architecture={"args": {**ARGS, "hidden": 24}},
        Recipe=[{"stage": "train", "epochs": 1}],
    )
    train_command(tmp_path, large)
    raw = config_dict(
        tmp_path,
        Global={"teacher": str(tmp_path / "large.yml"), "processes": 2},
        Architecture={"args": ARGS},
        Train={"batch_size": 2},
        Recipe=[{"stage": "train", "epochs": 1, "techniques": [{"distill": {"losses": [{"name": "mean_logits"}]}}]}],
    )
    command = train_command(tmp_path, raw)
    for override, problem in {
        "Architecture.args.hiden=3": "hiden",
        "Eval.label_files.0.path=nowhere": "nowhere",
        f"Global.output_dir={tmp_path / 'large'}": "its student's Global.output_dir",
    }.items():  # all of it before the teacher costs a day
        wrong = run([*command, "-o", override])
        assert wrong.returncode == 2 and problem in wrong.stderr and not (tmp_path / "large").exists(), wrong.stderr
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "distill_mean_logits" in (tmp_path / "run" / "train" / "log.jsonl").read_text(encoding="utf-8")
    weights = tmp_path / "large" / "train" / "best" / "model.pdparams"
    first = weights.stat().st_mtime_ns
    again = run(command)
    assert again.returncode == 0 and weights.stat().st_mtime_ns == first
    assert f"{tmp_path / 'large' / 'train'} is trained already" in again.stderr


def test_a_teacher_that_leads_to_itself_is_said(tmp_path):
    """A teacher's config that is made of its student's has its teacher, too: that would go on for ever."""
    raw = config_dict(
        tmp_path,
        Global={"teacher": str(tmp_path / "run.yml")},
        Recipe=[{"stage": "train", "epochs": 1, "techniques": [{"distill": {"losses": [{"name": "frames"}]}}]}],
    )
    train_command(tmp_path, raw)
    raw["Global"]["output_dir"] = str(tmp_path / "other")
    done = run(train_command(tmp_path, raw))
    assert done.returncode == 2 and "would be taught by itself" in done.stderr, done.stderr


def test_a_distillation_needs_a_teacher_and_a_dumped_config_takes_another(tmp_path):
    """A training would begin without what it is for; or go on with the old teacher, and say nothing."""
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    raw = config_dict(
        tmp_path,
        Recipe=[{"stage": "train", "epochs": 1, "techniques": [{"distill": {"losses": [{"name": "frames"}]}}]}],
    )
    done = run(train_command(tmp_path, raw))
    assert done.returncode == 2 and "Recipe.0.techniques.0.distill: no teacher: name one here" in done.stderr
    raw["Global"]["teacher"] = "one"
    train_command(tmp_path, raw)
    dump_config(load_config(tmp_path / "run.yml"), tmp_path / "dumped.yml")
    assert load_config(tmp_path / "dumped.yml", ["Global.teacher=another"]).teachers == [Path("another")]
    assert experiment_of(load_config(tmp_path / "dumped.yml")) == experiment_of(
        load_config(tmp_path / "dumped.yml", ["Global.teacher=null", "Recipe.0.techniques.0.distill.teacher=one"])
    )


def names_of(folder, *recipe, **run_section):
    """The networks of a report at the end of a recipe: name -> (title, whether it is a bundle's INT8 file)."""
    raw = config_dict(folder, Global={"output_dir": "run", **run_section}, Recipe=[*recipe, {"stage": "report"}])
    config = Config.model_validate(raw)
    return {name: (one.title, one.int8) for name, one in _networks(config, Path("run") / "report")}


def test_a_report_knows_the_networks_before_it(tmp_path):
    """A row would be missing, doubled or another network's, and a stage that is yet to come would end the run."""
    train = {"stage": "train", "epochs": 1}
    pact = {"stage": "quantize", "epochs": 1, "techniques": [{"pact": {}}]}
    int8 = {"stage": "export", "formats": ["onnx", "onnx_int8"]}
    assert names_of(tmp_path, train, int8) == {
        "train": ("train", None),
        "export": ("export: INT8 by calibration", Path("run/export")),
    }
    assert names_of(tmp_path, train, pact, {"stage": "export"}, int8, pretrained="start") == {
        "start": ("start", None),
        "train": ("train", None),
        "quantize": ("quantize: PACT", Path("run/export_2")),
    }
    assert list(names_of(tmp_path, pact, train)) == ["quantize", "train"]
    raw = config_dict(tmp_path, Global={"output_dir": "run"}, Recipe=[train, {"stage": "report"}, pact])
    assert [name for name, _ in _networks(Config.model_validate(raw), Path("run") / "report")] == ["train"]


def test_two_processes_slim_one_network(tmp_path):
    """Lost otherwise: each process would prune, calibrate or share by itself, and none be the network that is saved."""
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    start = save_lively_checkpoint(tmp_path / "start")
    stages = {
        "prune": [{"fpgm": {"max_flops": 0.8}}, {"mutual": {}}],
        "quantize": [{"lsq": {"max_drop": None}}],
        "share": [{"share": {"bits": 5}}],
    }
    raw = config_dict(
        tmp_path,
        Global={"pretrained": str(start), "processes": 2, "eval_every_steps": 2},
        Architecture={"args": ARGS},
        Optimizer={"lr": 1e-5},
        Recipe=[{"stage": name, "epochs": 2, "techniques": steps} for name, steps in stages.items()],
    )
    done = run(train_command(tmp_path, raw))
    assert done.returncode == 0, done.stderr
    samples, _ = read_label_file(tmp_path / "val.txt")
    for name in stages:
        best = tmp_path / "run" / name / "best"
        scores = evaluate(open_recognizer(best), samples).scores
        assert scores.cer == pytest.approx(read_states(best)["best"], abs=1e-6)  # as both had scored it together
    weights = read_arrays(tmp_path / "run" / "share" / "best" / "model.pdparams")
    assert_same(read_shared(tmp_path / "run" / "share" / SHARED_FILE)[1], weights)
