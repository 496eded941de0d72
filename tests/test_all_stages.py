"""All stages in one config, killed in each of them."""

from __future__ import annotations

import signal
import subprocess

import pytest
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from test_training import TEXTS, assert_same, config_dict, run, train_command, wait_for

from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.tasks.checkpoint import load_model, read_arrays

ARGS = {"height": 32, "scale": 0.35, "hidden": 16, "layers": 2}  # of the lively checkpoint
STAGES = ("train", "prune", "quantize")
EPOCHS = 8  # of each stage: long enough to be killed in


def recipe(teacher):
    teach = {"distill": {"teacher": str(teacher), "losses": [{"name": "mean_logits"}]}}
    return [
        {"stage": "train", "epochs": EPOCHS, "steps": [teach]},
        {"stage": "prune", "epochs": EPOCHS, "lr": 1e-5, "steps": [{"fpgm": {"max_flops": 0.8}}, teach]},
        {"stage": "quantize", "epochs": EPOCHS, "lr": 1e-5, "steps": [{"pact": {"max_drop": 10}}]},
        {"stage": "export", "formats": ["paddle", "onnx", "onnx_int8"], "budget_mb": 5},
    ]


@pytest.mark.parametrize("kind", [signal.SIGKILL])
def test_one_command_from_nothing_to_a_slim_bundle_survives_a_kill_in_every_stage(tmp_path, kind):
    """Lost otherwise: the pruned shapes, the learned clips or the teacher would be others after an interruption."""
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
