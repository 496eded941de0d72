"""The training benchmark: its arithmetic by hand, and contenders that run, die or are not there."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from ppocr_slim.benchmarks import training_speed as training
from ppocr_slim.benchmarks.training_speed import (
    Case,
    Contender,
    ContenderPlan,
    TrainingSpeedSettings,
    contender_environment,
    contender_plans,
    curve_differences,
    find_torch,
    require_memory,
    run_training_benchmark,
    summarize,
)
from ppocr_slim.errors import SlimError
from ppocr_slim.reports.records import TrainingSpeed, read_record
from ppocr_slim.reports.training_speed import table, write_training_speed

TINY = Case("tiny", "a tiny network", "crnn_mv3_slim", {"scale": 0.35, "height": 32, "hidden": 16}, 32, 480, 2)
STOCK, OURS = ContenderPlan("stock", 1, 32, fast=False), ContenderPlan("ours", 2, 16, fast=True)


def turn(seconds: float, waited=0.0, images: int = 32) -> dict:
    return {"seconds": seconds, "waited": waited, "images": images}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    """Lost otherwise: what slows one round down would change the ratio, though it met both sides alike."""
    rounds = [
        {"stock": turn(2.0), "ours": turn(0.5, 0.01)},  # 16 and 64 images/s: 4
        {"stock": turn(8.0), "ours": turn(1.6, 0.02)},  # a slow round, 4 and 20: 5
        {"stock": turn(4.0), "ours": turn(0.4, 0.02)},  # 8 and 80: 10
    ]
    stock, ours = summarize([STOCK, OURS], rounds, {"stock": 100.0, "ours": 150.0})
    assert (stock["images_per_s"], stock["ratio"]) == (8, 1)
    assert (ours["images_per_s"], ours["ratio"], ours["peak_mb"]) == (64, 5, 150)
    assert ours["waiting_share"] == pytest.approx(0.05 / 2.5)
    assert ours["rounds"] == [64, 20, 80]


CASE = {"name": "tiny", "title": "a tiny network", "model": "m", "args": {}, "size": [32, 480], "batch": 2}
HEADER = {
    "command": "c",
    "date": "d",
    "commit": "e",
    "machine": {"processor": "p", "cores": 2, "memory_gb": 8.0},
    "versions": {"python": "3"},
    "rounds": 0,
    "steps": 8,
}


def test_waiting_that_is_not_known_stays_unknown():
    """Lost otherwise: a contender without data loading would seem never to wait for it."""
    rounds = [{"stock": turn(1.0), "torch": turn(1.0, None)}]
    torch = ContenderPlan("torch", 1, 32, fast=False, torch=True)
    found = summarize([STOCK, torch], rounds, {"stock": 1.0, "torch": 1.0})
    assert found[1]["waiting_share"] is None
    assert table(read_record(TrainingSpeed, {**HEADER, "cases": [{**CASE, "contenders": found}]}, "it")).endswith("-")


def test_curves_are_compared_step_by_step():
    """Lost otherwise: a gap that closes again, or one that stays, would not be seen."""
    found = curve_differences([3.0, 2.0, 1.0], [3.0, 2.5, 0.75])
    assert found == {"largest_difference": 0.5, "final_difference": 0.25}


def test_the_contenders_of_a_case():
    """Lost otherwise: several processes would be compared at another batch than stock's."""
    found = [(p.name, p.processes, p.batch, p.fast) for p in contender_plans(TINY, 2, torch=False)]
    assert found == [
        ("stock", 1, 2, False),
        ("ours", 2, 1, True),
        ("ours, larger batch", 2, 2, True),
        ("ours, one process", 1, 2, True),
    ]
    assert [(p.name, p.processes) for p in contender_plans(TINY, 1, torch=True)] == [
        ("stock", 1),
        ("ours", 1),
        ("torch", 1),
    ]
    with pytest.raises(SlimError, match="batch of 2 cannot be divided among 3"):
        contender_plans(TINY, 3, torch=False)


def test_without_torch_its_column_is_left_out(monkeypatch):
    """Lost otherwise: the benchmark would not run where PyTorch is not installed, which is nearly everywhere."""
    monkeypatch.setattr(training, "TORCH_PROBE", "raise SystemExit(1)")
    assert find_torch(None) is None
    with pytest.raises(SlimError, match="torch is not installed"):
        find_torch(sys.executable)
    with pytest.raises(SlimError, match="cannot be run"):
        find_torch("/no/such/python")


def test_the_twin_imports_nothing_that_its_interpreter_may_lack():
    """Lost otherwise: it would only run where both frameworks are installed together."""
    tree = ast.parse((training.ROOT / "ppocr_slim/benchmarks/torch_twin.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {n for i in imports for n in ([i.module] if isinstance(i, ast.ImportFrom) else [a.name for a in i.names])}
    others = {name.split(".")[0] for name in names} - {"torch", "numpy"}
    assert others <= {"__future__", "ctypes", "json", "os", "socket", "sys", "time"}


def test_contenders_start_from_an_untuned_environment():
    """Lost otherwise: a variable of the user's would tune one contender and not another."""
    found = contender_environment({"OMP_NUM_THREADS": "8", "MALLOC_ARENA_MAX": "1", "PATH": "/bin"})
    assert found == {"PATH": "/bin"}


def test_a_contender_that_would_not_fit_is_refused():
    """Lost otherwise: the system would run out of memory, and end a process that has nothing to do with it."""
    require_memory(TINY, OURS, 1.0)
    with pytest.raises(SlimError, match="'ours' needs about 1000.* smaller --batch"):
        require_memory(TINY, ContenderPlan("ours", 1, 2, fast=True), 1e9)


def test_a_contender_that_dies_is_one_error_with_its_last_output(tmp_path: Path):
    """Lost otherwise: the benchmark would wait for ever, or not say why there are no results."""
    training.generate_lines(tmp_path / "lines", 4)
    wrong = Case("wrong", "", "no_such_network", {}, 32, 480, 2)
    with Contender(
        ContenderPlan("stock", 1, 2, False), wrong, tmp_path / "stock", tmp_path / "lines" / "train.txt"
    ) as contender:
        with pytest.raises(SlimError) as error:
            contender.start()
    assert "wrong: the contender 'stock' ended" in str(error.value)
    assert "no model is called 'no_such_network'" in str(error.value)


def test_a_whole_benchmark(tmp_path: Path, monkeypatch):
    """Lost otherwise: any part of it could be broken, and be found after an hour of rounds."""
    monkeypatch.setattr(training, "LINES", 8)
    monkeypatch.setattr(training, "TORCH_PROBE", "raise SystemExit(1)")
    settings = TrainingSpeedSettings([TINY], rounds=1, steps=1, warm_up=1, processes=1)
    (results,) = run_training_benchmark(settings, "the command")
    commands = [child.as_dict(["cmdline"])["cmdline"] for child in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if "--contender" in (command or [])]

    report = write_training_speed(tmp_path / "bench.json", results)
    results = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert results["command"] == "the command" and results["machine"]["cores"] >= 1
    assert {"date", "commit", "rounds", "steps"} <= results.keys()
    assert {"python", "paddlepaddle", "numba"} <= results["versions"].keys()
    (case,) = results["cases"]
    assert case["size"] == [32, 480] and case["batch"] == 2 and case["parameters"] > 10_000
    assert [found["name"] for found in case["contenders"]] == ["stock", "ours"]
    for found in case["contenders"]:
        assert found["images_per_s"] > 0 and found["peak_mb"] > 100 and 0 <= found["waiting_share"] < 1
    assert table(read_record(TrainingSpeed, results, "it")).splitlines()[0].split()[:2] == ["case", "contender"]
    assert "| tiny | ours | 1 x 2 |" in report.read_text(encoding="utf-8")


def test_the_report_shows_curves_and_memory(tmp_path: Path):
    """Lost otherwise: the proof that training is the same and memory flat would lie in the JSON unseen."""
    curve = {"steps": 2, "stock": [3.0, 2.0], "fast": [3.0, 2.1], "largest_difference": 0.1, "final_difference": 0.1}
    case = {**CASE, "curve": curve, "memory": {"steps": 100, "resident_mb": [[50, 900.0], [100, 901.0]]}}
    text = write_training_speed(tmp_path / "b.json", {**HEADER, "cases": [case]}).read_text(encoding="utf-8")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"b.json", "b.md", "b_curve_tiny.png", "b_memory_tiny.png"}
    assert "(b_curve_tiny.png)" in text and "(b_memory_tiny.png)" in text and "| case |" not in text


def test_a_detector_is_timed_as_it_trains(tmp_path: Path):
    """Lost otherwise: the detector's row would say how fast random maps and another loss are."""
    case = Case("tiny", "", "db_mv3_slim", {"scale": 0.35}, 96, 96, 2, "configs/kalapa/det_1_pretrain.yml")
    pages = training.generate_pages(tmp_path / "pages", 2)
    with Contender(ContenderPlan("ours", 1, 2, True), case, tmp_path / "ours", pages, tmp_path / "shared") as contender:
        contender.start()
        turn = contender.train(1)
    assert turn["images"] == 2 and turn["seconds"] > 0
    assert set(json.loads((tmp_path / "shared" / "network.json").read_text(encoding="utf-8"))["loss"]) == {
        "alpha",
        "beta",
        "negatives",
    }
    with np.load(tmp_path / "shared" / "batches.npz") as arrays:
        assert arrays["shrink_mask0"].shape == (2, 96, 96)
