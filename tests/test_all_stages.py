"""All stages in one config, killed in each of them."""

from __future__ import annotations

import signal
import subprocess

import pytest
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, assert_same, config_dict, run, train_command, wait_for

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.slim.shared_file import SHARED_FILE, read_shared
from ppocr_slim.tasks.checkpoint import load_model, read_arrays, read_states
from ppocr_slim.tasks.networks import open_recognizer

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
