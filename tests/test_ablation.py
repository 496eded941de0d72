"""Ablations: variants of a config, which runs start and which do not, and the report."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawing import write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, config_dict

from ppocr_slim.config.ablation import load_ablation
from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import TrainStage
from ppocr_slim.errors import SlimError
from ppocr_slim.experiments import ablation
from ppocr_slim.experiments import estimates as estimate
from ppocr_slim.experiments.ablation import (
    ABLATIONS,
    BUDGET,
    AblationPlan,
    Run,
    ablate,
    divide_steps,
    plan,
    run_all,
    slug,
)
from ppocr_slim.experiments.estimates import forecast, multiply_adds, plan_text
from ppocr_slim.experiments.executors import Executor, LocalPool, RayExecutor, open_executor, partition_cores
from ppocr_slim.experiments.identity import code_digest, identity
from ppocr_slim.experiments.runs import derive, prepare_run, start_process
from ppocr_slim.quantization.qparams import LayerQuantParams, QuantParams
from ppocr_slim.reports.ablation import mean_std, table, text_table, write_ablation
from ppocr_slim.reports.plots import pareto_front
from ppocr_slim.reports.records import Ablation, read_record
from ppocr_slim.training.footprint import fewest_bits

ROOT = Path(__file__).resolve().parents[1]
PACT = {"pact": {"weight_bits": 8, "activation_bits": 8}}
RECIPE = [
    {"stage": "train", "epochs": 3},
    {"stage": "quantize", "epochs": 1, "lr": 1e-4, "techniques": [PACT]},
    {"stage": "export"},
]
TWO = [{"name": "plain"}, {"name": "+ slow", "set": {"Optimizer.lr": 1e-4}}]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working directory, with text lines and base.yml."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    save(tmp_path / "base.yml", config_dict(Path("."), Recipe=RECIPE))
    return tmp_path


def save(path: Path, raw: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(raw, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def file(place: Path, **changes: Any) -> Path:
    """Write an ablation file of two variants, with changes."""
    raw = {"base": "base.yml", "budget": {"steps": 40}, "variants": TWO, **changes}
    return save(place / "small.yml", {key: value for key, value in raw.items() if value is not None})


def test_a_variant_changes_what_it_says_and_all_train_as_long(place):
    """Lost otherwise: a table would compare trainings of different lengths, or a variant with another's changes."""
    variants = [*TWO, {"name": "+ short rows", "set": {"Train.augment": [], "Architecture.args.hidden": 16}}]
    every = {"Train.batch_size": 2}
    made = plan(file(place, variants=variants, seeds=[1, 7], set=every))
    assert [(run.variant, run.seed) for run in made.runs] == [
        ("plain", 1), ("plain", 7), ("+ slow", 1), ("+ slow", 7), ("+ short rows", 1), ("+ short rows", 7),
    ]  # fmt: skip
    assert {run.config.train.batch_size for run in made.runs} == {2}
    assert [run.config.run.seed for run in made.runs] == [1, 7] * 3
    assert [made.of(name)[0].config.optimizer.lr for name in ("plain", "+ slow", "+ short rows")] == [3e-3, 1e-4, 3e-3]
    for run in made.runs:  # 40 steps, three to one; what is exported is not a variant's affair
        assert [(stage.stage, stage.epochs, stage.max_steps) for stage in run.config.recipe] == [
            ("train", 30, 30),
            ("quantize", 10, 10),
        ]
    assert len({run.folder for run in made.runs}) == 6
    assert all(run.folder.parent == ABLATIONS / "small" for run in made.runs)
    ladder = plan(file(place, variants=variants, cumulative=True))
    assert [run.config.optimizer.lr for run in ladder.runs] == [3e-3, 1e-4, 1e-4]
    assert [run.config.architecture.args["hidden"] for run in ladder.runs] == [32, 32, 16]


def test_a_grid_is_all_its_combinations(place):
    """Lost otherwise: a cell would be missing, or nobody could tell which one a row is."""
    grid = {"Architecture.args.height": [32, 40], "Optimizer.lr": [1e-3, 2e-3, 3e-3]}
    runs = plan(file(place, variants=None, grid=grid)).runs
    assert [run.variant for run in runs][:2] == ["height 32, lr 0.001", "height 32, lr 0.002"] and len(runs) == 6
    assert {(run.config.architecture.args["height"], run.config.optimizer.lr) for run in runs} == {
        (height, lr) for height in (32, 40) for lr in (1e-3, 2e-3, 3e-3)
    }
    same = {"Train.batch_size": [2], "Eval.batch_size": [4]}
    assert plan(file(place, variants=None, grid=same)).runs[0].variant == "Train.batch_size 2, Eval.batch_size 4"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"seed": [1]}, ["unknown key seed", "did you mean seeds?"]),
        ({"budget": {"step": 3}}, ["unknown key budget.step", "did you mean steps?"]),
        ({"budget": {"steps": 3, "minutes": 3}}, ["exactly one of steps, minutes"]),
        ({"variants": None}, ["either variants or a grid"]),
        ({"grid": {"Optimizer.lr": [1]}}, ["either variants or a grid"]),
        ({"variants": None, "grid": {"Optimizer.lr": []}}, ["no value for Optimizer.lr"]),
        ({"variants": None, "grid": {"Optimizer.lr": [1, 1.0, 1]}}, ["the variant lr 1 stands here twice"]),
        ({"variants": None, "grid": {"Optimizer.lr": [1]}, "cumulative": True}, ["cumulative is for variants"]),
        ({"variants": [TWO[0], TWO[0]]}, ["the variant plain stands here twice"]),
        ({"seeds": [3, 3]}, ["the seed 3 stands here twice"]),
        ({"seeds": [-3]}, ["the seed -3 is negative"]),
        ({"base": "nowhere.yml"}, ["cannot read the config", "nowhere.yml"]),
        ({"variants": [{"name": "odd", "set": {"Optimizer.lrr": 1}}]}, ["'odd'", "Optimizer.lrr", "did you mean lr?"]),
        ({"variants": [{"name": "odd", "set": {"Recipe.5.epochs": 1}}]}, ["'odd'", "Recipe is a list of 3"]),
        ({"variants": [{"name": "odd", "set": {"Optimizer..lr": 1}}]}, ["'odd'", "written Section.key"]),
        ({"variants": [{"name": "odd", "set": {"Architecture.args.hight": 40}}]}, ["'odd'", "did you mean height?"]),
        ({"variants": [{"name": "odd", "set": {"Recipe": [{"stage": "export"}]}}]}, ["'odd'", "no training stage"]),
        ({"variants": [*TWO, {"name": "x", "set": {"Metric": {"name": "wer"}}}]}, ["cer and wer", "one Metric"]),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(place, changes, parts):
    """Lost otherwise: a misspelt key would show after hours, or never, and nobody would know in which variant."""
    with pytest.raises(SlimError) as caught:
        plan(file(place, **changes))
    message = str(caught.value)
    assert "small.yml" in message or "nowhere.yml" in message
    assert "\n" not in message and all(part in message for part in parts), message


def test_a_run_is_another_one_exactly_when_its_results_may_be(place):
    """Lost otherwise: results of other data or code would count as these, or everything be trained again."""
    config = plan(file(place)).runs[0].config
    first = save_lively_checkpoint(place / "start")
    config = derive(config, Path("a"), Global={"pretrained": str(first)})
    before = identity(config, None, "code", {})
    assert identity(derive(config, Path("b")), None, "code", {}) == before

    def changed(**sections: Any) -> list[str]:
        now = identity(derive(config, Path("a"), **sections), None, "code", {})
        return [name for name in before if now[name] != before[name]]

    assert changed(Optimizer={"lr": 0.5}) == ["config"] and changed(Global={"seed": 9}) == ["config"]
    parts = identity(config, 3.0, "other code", {})
    assert parts["config"] != before["config"] and parts["code"] == "other code" and parts["data"] == before["data"]
    for path, text in (("train.txt", "\nimages/train/0.png\tmore"), ("images/val/3.png", " "), ("start/x.onnx", "x")):
        whole = Path(path).read_bytes() if Path(path).exists() else None
        with open(path, "a", encoding="utf-8") as more:
            more.write(text)
        assert changed() == ["data"], path
        Path(path).unlink() if whole is None else Path(path).write_bytes(whole)
    assert changed() == []
    (place / "val.txt").rename(place / "gone.txt")
    assert changed() == ["data"]  # what is not there is an error of the run, not of the plan


def test_the_code_counts_as_far_as_a_training_runs_through_it(tmp_path):
    """Lost otherwise: a changed report would train everything again, or a changed loss nothing."""
    counted = ("ppocr_slim/slim/fpgm.py", "ppocr_slim/cli/train.py")
    for name in ("ppocr_slim/__init__.py", "ppocr_slim/reports/x.py", *counted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1", encoding="utf-8")
    before = code_digest(tmp_path)
    (tmp_path / "ppocr_slim/reports/x.py").write_text("2", encoding="utf-8")
    assert code_digest(tmp_path) == before
    for name in counted:
        (tmp_path / name).write_text("2", encoding="utf-8")
        assert code_digest(tmp_path) != before
        before = code_digest(tmp_path)


def test_a_stage_is_as_long_as_the_shorter_of_epochs_and_steps():
    """Lost otherwise: a budget would be ignored, or a stage that says nothing of it would not end."""
    stage = {"stage": "train", "epochs": 3}
    assert TrainStage(**stage).length(10) == 30
    assert TrainStage(**stage, max_steps=12).length(10) == 12 and TrainStage(**stage, max_steps=99).length(10) == 30
    assert divide_steps(1500, [6, 2, 2]) == [900, 300, 300] and divide_steps(10, [1, 1, 1]) == [3, 4, 3]
    assert divide_steps(1, [5, 5]) == [1, 1] and sum(divide_steps(997, [3, 1, 7])) == 997


FAKE = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]).parent
text = (folder / "run.yml").read_text()
stage = folder / "train"
stage.mkdir(exist_ok=True)
with open("started.txt", "a") as file:
    file.write(folder.name + "\\n")
if "weight_decay: 0.5" in text:
    sys.exit("error: it fails on purpose")
records = [{"step": n, "images": 4 * n, "images_per_s": 40.0 if n > 8 else 1.0} for n in (8, 16, 24)]
(stage / "log.jsonl").write_text("".join(json.dumps(record) + "\\n" for record in records))
if "clip_norm: 77" in text and not (stage / "last").exists():
    (stage / "last").mkdir()
    (stage / "last" / "model.states").write_text(json.dumps({"step": 7, "best": None, "best_step": 0}))
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(130))
    pathlib.Path("waiting.txt").touch()
    time.sleep(60)
"""


@pytest.fixture
def fake(place, monkeypatch) -> Path:
    """Runs that take no time: with a weight decay of 0.5 they fail, with a norm of 77 they wait to be stopped."""
    (place / "fake.py").write_text(FAKE, encoding="utf-8")
    save(place / "base.yml", config_dict(Path("."), Recipe=RECIPE[:1]))

    def prepared(config):
        run = prepare_run(config)
        return replace(run, command=[sys.executable, str(place / "fake.py"), run.command[-1]])

    monkeypatch.setattr(ablation, "prepare_run", prepared)
    monkeypatch.setattr(ablation, "POLL", 0.01)
    return place


def started(place: Path) -> list[str]:
    """Return the folders of the runs that were started since the last call."""
    path = place / "started.txt"
    names = path.read_text(encoding="utf-8").split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def test_what_is_done_is_skipped_and_a_failure_takes_nothing_with_it(fake):
    """Lost otherwise: hours again with each call, or none of the other variants for one that cannot be run."""
    variants = [TWO[0], {"name": "bad", "set": {"Optimizer.weight_decay": 0.5}}, TWO[1]]
    path = file(fake, variants=variants, seeds=[1, 2])
    outcomes, stopped = run_all(plan(path).runs, LocalPool(2))
    assert not stopped and sorted(name.rpartition("-")[0] for name in started(fake)) == sorted(
        f"{name}-s{seed}" for name in ("plain", "bad", "slow") for seed in (1, 2)
    )
    for run in plan(path).runs:
        assert outcomes[run.folder].done == (run.variant != "bad")
        assert run.variant != "bad" or outcomes[run.folder].reason == "it fails on purpose"
    run_all(plan(path).runs, LocalPool(1))
    assert {name.rpartition("-s")[0] for name in started(fake)} == {"bad"}


def test_a_variant_that_would_change_nothing_is_refused(fake):
    """Lost otherwise: two rows of a table would be one run, or the seed that a variant names be another one."""
    twins = [TWO[0], {"name": "longer", "set": {"Recipe.0.epochs": 7}}]  # the budget says how long
    with pytest.raises(SlimError, match="'plain' and 'longer' train the same"):
        plan(file(fake, variants=twins))
    for key in ("Global.seed", "Global.output_dir", "Recipe.0.max_steps"):
        section, _, inner = key.partition(".")
        whole = {section: {inner: 3}} if section == "Global" else {section: [{**RECIPE[0], "max_steps": 3}]}
        for changes in ({key: 3}, whole):
            with pytest.raises(SlimError, match=f"{key} cannot be set here"):
                plan(file(fake, variants=[{"name": "a", "set": changes}]))


def test_code_that_changes_while_an_ablation_runs_is_not_filed_under_the_old(fake, monkeypatch):
    """Lost otherwise: whoever edits while runs go on would compare two programs, and not know it."""
    runs = plan(file(fake)).runs
    monkeypatch.setattr(ablation, "code_digest", lambda: "another")
    outcomes, _ = run_all(runs, LocalPool(1))
    assert all("have changed since the ablation began" in outcome.reason for outcome in outcomes.values())
    assert started(fake) == []


def test_other_code_counts_where_that_is_asked_for(fake, monkeypatch):
    """Lost otherwise: a comment in the training code would cost a week of runs; or old results pass for new ones."""
    path = file(fake)
    run_all(plan(path).runs, LocalPool(1))
    folders = [run.folder for run in plan(path).runs]
    monkeypatch.setattr(ablation, "code_digest", lambda: "another")
    assert not any(run.outcome.done or run.folder in folders for run in plan(path).runs)
    assert [run.folder for run in plan(path, any_code=True).runs] == folders
    changed = plan(file(fake, budget={"steps": 39}), any_code=True).runs
    assert not any(run.outcome.done for run in changed)


def test_a_stopped_ablation_goes_on_where_it_was(fake):
    """Lost otherwise: Ctrl-C throws hours away, or leaves a training behind that nobody sees."""
    variants = [{"name": "waits", "set": {"Optimizer.clip_norm": 77}}, *TWO]
    path = file(fake, variants=variants)

    class Interrupting(LocalPool):
        def poll(self, handle: subprocess.Popen) -> int | None:
            if (fake / "waiting.txt").exists():
                (fake / "waiting.txt").unlink()
                os.kill(os.getpid(), signal.SIGINT)
            return super().poll(handle)

    outcomes, stopped = run_all(plan(path).runs, Interrupting(1))
    assert stopped == signal.SIGINT and [outcome.done for outcome in outcomes.values()] == [False] * 3
    assert all("the same command resumes it" in outcome.reason for outcome in outcomes.values())
    states = [one.state for one in forecast(plan(path), probe=False)]
    assert len(started(fake)) == 1 and states == ["half done", "to do", "to do"]
    outcomes, stopped = run_all(plan(path).runs, LocalPool(1))
    assert not stopped and all(outcome.done for outcome in outcomes.values()) and len(started(fake)) == 3


def test_minutes_become_steps_once(fake):
    """Lost otherwise: a run that is resumed on a busier machine would have another schedule."""
    path = file(fake, budget={"minutes": 0.5}, variants=TWO[:1])
    run = plan(path).runs[0]
    assert run.full_config is None and not run.outcome.done
    run_all([run], LocalPool(1))
    assert started(fake) == ["probe", run.folder.name]
    # 40 images a second, the first record not counted, in batches of 4
    assert json.loads((run.folder / BUDGET).read_text())["steps"] == [300]
    assert plan(path).runs[0].full_config.recipe[0].max_steps == 300 and plan(path).runs[0].outcome.done
    run_all(plan(path).runs, LocalPool(1))
    assert started(fake) == []
    (run.folder / BUDGET).write_text('{"steps": [1, 2]}', encoding="utf-8")
    assert "damaged" in plan(path).runs[0].outcome.reason


def test_a_dry_run_runs_nothing_and_says_how_long_it_would_take(fake, monkeypatch):
    """Lost otherwise: one learns after a night that it takes a week."""
    variants = [*TWO, {"name": "wide", "set": {"Architecture.args.scale": 1.0}}]
    path = file(fake, variants=variants, seeds=[1, 2])
    made = plan(path)
    assert "unknown" in plan_text(made, forecast(made, probe=False), 1) and started(fake) == []
    probed: list[Any] = []
    monkeypatch.setattr(estimate, "run_config", lambda config, title: probed.append(config) or Failing())
    assert forecast(made)[0].seconds is None and probed[0].recipe[0].max_steps == estimate.PROBE_STEPS

    outcomes, _ = run_all(made.of("plain")[:1], LocalPool(1))
    made = plan(path)
    found = {(one.run.variant, one.run.seed): one for one in forecast(made)}
    assert found["plain", 1].state == "done" and found["plain", 1].seconds == 0
    assert found["plain", 2].seconds == pytest.approx(40 * 4 / 40)  # the log's speed
    work = {one.name: multiply_adds(one.config) for one in made.experiments}
    assert work["+ slow"] == work["plain"] and work["wide"] > 3 * work["plain"]
    assert found["wide", 1].seconds == pytest.approx(4 * work["wide"] / work["plain"])
    text = plan_text(made, list(found.values()), 2)
    assert "1 done, 5 to do" in text and "Architecture.args.scale: 1.0" in text and "2 at a time" in text
    assert len(probed) == 1
    minutes = forecast(plan(file(fake, budget={"minutes": 90})))
    assert [one.seconds for one in minutes] == [5400, 5400]


class Failing:
    done = False


def test_the_pool_gives_each_process_cores_of_its_own(tmp_path):
    """Lost otherwise: trainings side by side would take each other's cores, and be slower than one after the other."""
    assert partition_cores([0, 1, 2, 3], 2) == [(0, 1), (2, 3)] and partition_cores([4, 5], 1) == [()]
    assert partition_cores([0, 1], 3) == [(0,), (1,), (0,)]
    cores = sorted(os.sched_getaffinity(0))
    code = "import os, sys, time; print(sorted(os.sched_getaffinity(0)), flush=True); time.sleep(float(sys.argv[1]))"
    pool = open_executor(2, None)
    command, logs = [sys.executable, "-c", code], [tmp_path / name for name in ("first.log", "second.log")]
    both = [pool.submit([*command, "60"], log) for log in logs]
    with pytest.raises(SlimError, match="2 runs are active"):
        pool.submit([*command, "0"], tmp_path / "third.log")
    while not all(log.read_text(encoding="utf-8") for log in logs):
        assert [pool.poll(handle) for handle in both] == [None, None]
        time.sleep(0.02)
    assert [log.read_text(encoding="utf-8").strip() for log in logs] == [
        str(list(one)) for one in partition_cores(cores, 2)
    ]
    for handle in both:
        pool.stop(handle)
        assert wait_for_status(pool, handle) not in (0, None)
    assert wait_for_status(pool, pool.submit([*command, "0"], tmp_path / "third.log")) == 0
    with pytest.raises(SlimError, match="--jobs is 0; it must be at least 1"):
        open_executor(0, None)


def test_a_run_can_be_stopped_though_its_starter_blocks_signals(tmp_path):
    """Lost otherwise: what Ray's workers start inherits their blocked SIGINT, and no training would ever save."""
    log = tmp_path / "run.log"
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        code = "import time; print('here', flush=True); time.sleep(60)"
        process = start_process([sys.executable, "-c", code], log)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    while not log.read_text(encoding="utf-8"):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0


def wait_for_status(executor: Executor, handle: Any, seconds: float = 120) -> int | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = executor.poll(handle)
        if status is not None:
            return status
        time.sleep(0.05)
    return None


def test_ray_runs_stops_and_loses_nothing(tmp_path, monkeypatch):
    """Lost otherwise: over a cluster a run that was asked to stop would be killed before it saved."""
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(SlimError, match="pip install ray"):
            RayExecutor()
        pytest.skip("Ray is not installed; to run this: pip install ray, into an environment of its own")
    monkeypatch.chdir(tmp_path)
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *ignored: sys.exit("saved"))
print("here", flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""
    executor = RayExecutor(jobs=2)
    try:
        command = [sys.executable, "-c", code]
        quick, bad, long = (
            executor.submit([*command, *arguments], tmp_path / f"{name}.log")
            for name, arguments in (("quick", ("0", "0")), ("bad", ("0", "3")), ("long", ("60", "0")))
        )
        assert wait_for_status(executor, quick) == 0 and wait_for_status(executor, bad) == 3
        until = time.monotonic() + 120
        while "here" not in (tmp_path / "long.log").read_text() if (tmp_path / "long.log").exists() else True:
            executor.poll(long)
            assert time.monotonic() < until
            time.sleep(0.05)
        while not long.is_started:
            executor.poll(long)
        executor.stop(long)
        assert wait_for_status(executor, long) == 1 and "saved" in (tmp_path / "long.log").read_text()
    finally:
        executor.close()


def test_an_ablation_from_its_file_to_its_report(place):
    """Lost otherwise: the one command; and its size, time and last evaluation."""
    variants = [
        {"name": "plain", "set": {"Recipe": RECIPE[:1]}},
        {"name": "lost", "set": {"Eval.label_files.0.path": "x"}},
    ]
    path = file(place, variants=variants, budget={"steps": 3}, int8=True)
    results, stopped = ablate(plan(path), LocalPool(2), "make it", rounds=1)
    assert not stopped
    plain, lost = results["variants"]
    assert plain["int8_bytes"] < 0.5 * plain["bytes"] and plain["int8_ms"]["base_ms"] == plain["ms"]["ms"]
    assert plain["runs"][0]["scores"]["int8_cer"] > 0 and "int8_ms" not in lost
    assert "x" in lost["runs"][0]["reason"] and "file" not in lost
    run = plain["runs"][0]
    assert run["steps"] == [3] and run["scores"]["lines"] == 8 and run["minutes"] >= 0
    assert plain["file"] == "model.onnx" and plain["bytes"] > 1e5 and plain["flops"] > 1e6 and plain["ms"]["ratio"] == 1
    folder = plan(path).runs[0].folder
    records = [json.loads(line) for line in (folder / "train" / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 3 and records[-1]["eval/cer"] == run["scores"]["cer"]
    assert (folder / "measured" / "model.onnx").is_file()
    again, _ = ablate(plan(path), None, "make it", rounds=1)
    assert (
        again["variants"][0]["runs"] == plain["runs"] and "no finished run" in again["variants"][1]["runs"][0]["reason"]
    )
    assert str(place) not in json.dumps(results) and not any(text in json.dumps(results) for text in TEXTS)
    text = write_ablation(place / "docs" / "small", results).read_text(encoding="utf-8")
    assert "| plain |" in text and "| INT8 CER |" in text and "| INT8 ms |" in text


def test_few_bits_have_no_file():
    """Lost otherwise: a network of 4 bits would be measured and timed as one of 8."""
    params = {
        "a": LayerQuantParams((QuantParams(None, 8),), QuantParams(None, 8)),
        "b": LayerQuantParams((QuantParams(None, 4),), None),
    }
    assert fewest_bits(params) == 4 and fewest_bits({"a": params["a"]}) == 8 and fewest_bits({}) == 8
    assert fewest_bits({"a": LayerQuantParams((QuantParams(None, 8),), QuantParams(None, 7))}) == 8
    assert fewest_bits({"a": LayerQuantParams((QuantParams(None, 7),), QuantParams(None, 7))}) == 7


def results_of(*variants: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "command": "make it",
        "date": "today",
        "commit": "abc",
        "machine": {"processor": "fast", "cores": 2, "memory_gb": 8},
        "threads": 2,
        "versions": {"python": "3"},
        "metric": "cer",
        "higher_is_better": False,
        "budget": "40 steps",
        "seeds": [1, 2],
        "cumulative": False,
        "reference": "a",
        "variants": list(variants),
        **changes,
    }


def variant_of(name: str, *cers: float, megabytes: float = 5.0, **more: Any) -> dict[str, Any]:
    runs = [
        {
            "seed": n,
            "commit": "abc",
            "steps": [30, 10],
            "minutes": 1.5,
            "scores": {"cer": cer, "wer": 2 * cer, "lines": 9},
        }
        for n, cer in enumerate(cers, 1)
    ]
    measured = {"parameters": 1_300_000, "flops": 160e6, "file": "model.onnx", "bytes": int(1e6 * megabytes)}
    return {"name": name, "changes": ["Optimizer.lr: 1"], "runs": runs, **measured, **more}


def test_the_report_shows_means_deviations_and_what_is_missing(tmp_path):
    """Lost otherwise: a lucky seed would pass for a better variant, and a failed one would silently not be there."""
    lost = {"name": "lost", "changes": [], "runs": [{"seed": 1, "reason": "no teacher | here"}]}
    ms = {"ms": 3.0, "base_ms": 2.0, "ratio": 1.5}
    results = results_of(
        variant_of("a", 0.2, 0.4, ms=ms),
        variant_of("b " * 60, 0.1, megabytes=2),
        lost,
        variant_of("few", 0.3, note="4 bits"),
    )
    record = read_record(Ablation, results, "it")
    assert str(mean_std(record.variants[0], "cer")) == "0.3000 ± 0.1414"
    assert str(mean_std(record.variants[1], "cer")) == "0.1000" and mean_std(record.variants[2], "cer") is None
    headings, rows, missing = table(record)
    assert headings == ["variant", "CER", "n", "WER", "parameters", "MFLOPs", "MB", "ms"]
    assert rows[0] == ["a", "0.3000 ± 0.1414", "2", "0.6000", "1.30 M", "160", "5.00", "3.00 (1.50x)"]
    assert rows[2][:3] == ["lost", "no teacher | here", "0"] and missing["few, MB and ms"] == "4 bits"
    assert "not there: lost, seed 1: no teacher" in text_table(record)
    text = write_ablation(tmp_path / "docs" / "small.v1", results).read_text(encoding="utf-8")
    assert "| a | 0.3000 ± 0.1414 | 2 |" in text and "no teacher \\| here" in text and "on 9 lines" in text
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        f"small.v1.{end}" for end in ("json", "csv", "md", "png")
    }
    lines = list(csv.DictReader((tmp_path / "docs" / "small.v1.csv").open(encoding="utf-8")))
    assert [line["seed"] for line in lines] == ["1", "2", "1", "1", "1"]
    assert lines[1]["cer"] == "0.4" and lines[1]["steps"] == "40" and lines[3]["reason"] == "no teacher | here"
    higher = results_of(variant_of("only", 0.9), metric="cer", higher_is_better=True)
    write_ablation(tmp_path / "one", higher)
    write_ablation(tmp_path / "none", results_of(lost, reference=None))


def test_the_front_is_what_nothing_beats_in_both():
    """Lost otherwise: a variant would look like a good bargain beside one that is smaller and better."""
    points = {"small": (1.0, 0.5), "worse": (2.0, 0.6), "good": (2.0, 0.3), "best": (4.0, 0.1), "dear": (5.0, 0.1)}
    assert pareto_front(points, higher_is_better=False) == ["small", "good", "best"]
    assert pareto_front(points, higher_is_better=True) == ["small", "worse"]


def test_folder_names_are_plain():
    """Lost otherwise: a variant called "+ 48 x 192 / ép" would make a folder that shells and Windows stumble over."""
    assert (
        slug("+ 48 x 192 / ép") == "48-x-192-ep" and slug("lr 0.001, p 2") == "lr-0.001-p-2" and slug("+") == "variant"
    )
    assert len(slug("a" * 99)) == 48


def test_every_shipped_ablation_is_right_and_starts_with_its_command():
    """Lost otherwise: an ablation that we ship would fail on a user's machine."""
    paths = sorted((ROOT / "configs" / "ablation").glob("*.yml"))
    assert {path.stem for path in paths} >= {"rec_strategies", "det_strategies", "cls_strategies"} and len(paths) == 10
    for path in paths:
        ablation_file, experiments = load_ablation(path)
        made: AblationPlan = plan(path)
        assert all(isinstance(run, Run) for run in made.runs)
        assert len(made.runs) == len(experiments) * len(ablation_file.seeds)
        assert len(ablation_file.seeds) >= (3 if "strategies" in path.stem else 2)  # a mean_std is stated everywhere
        before = re.findall(r"Before it.*?-c (configs/\S+\.yml)", path.read_text(encoding="utf-8"), re.DOTALL)
        needed = {load_config(ROOT / name).run.output_dir for name in before}
        starts = {run.config.run.pretrained for run in made.runs} - {None}
        assert {start.parents[1] for start in starts} == needed, f"{path.name}: what it starts from is not what it says"
        names = {tuple(run.digests.items()) for run in made.runs}
        assert len(names) == len(made.runs), f"{path.name}: two variants are the same"
        assert path.read_text(encoding="utf-8").startswith(f"# python tools/ablate.py -c {path.relative_to(ROOT)} ")
