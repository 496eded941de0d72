"""Training: it learns, it resumes to the bit, and it never loses a good checkpoint."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import time
from itertools import islice
from pathlib import Path

import numpy as np
import paddle
import psutil
import pytest
import yaml
from drawing import draw_row, write_rows
from tensorboardX.event_file_writer import EventsWriter
from trainings import TEXTS, TINY, FixedBatches, Poisoned, assert_same, config_dict, run, train_command, wait_for

from ppocr_slim.config.schema import Config, Optimizer
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.lines import TrainingLines
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.folders import PROGRAM
from ppocr_slim.models import build_model
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks import checkpoint
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, read_arrays
from ppocr_slim.tasks.checks import check_config
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.training import launch
from ppocr_slim.training.loop import Job, Stopped, fit
from ppocr_slim.training.optim import AveragedWeights, build_optimizer, learning_rate
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.recipe import experiment_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def data(tmp_path) -> Path:
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    return tmp_path


def test_a_tiny_model_learns_eight_lines_by_heart(tmp_path):
    """Lost otherwise: the trainer might run to the end and teach nothing."""
    write_rows(tmp_path, TEXTS, "train.txt", width=192)
    write_rows(tmp_path, TEXTS, "val.txt", width=192)
    raw = config_dict(
        tmp_path,
        Train={"augment": [], "batch_size": 8},
        Architecture={"args": {**TINY, "dropout": 0.0}},
        Optimizer={"lr": 0.005, "warmup_steps": 10, "ema_decay": 0.5},
        Recipe=[{"stage": "train", "epochs": 300}],
    )
    done = run(train_command(tmp_path, raw))
    assert done.returncode == 0, done.stderr
    images = [draw_row(text, width=192) for text in TEXTS]
    lines = open_recognizer(tmp_path / "run" / "train" / "best").read(images)
    assert score_lines(TEXTS, [line.text for line in lines]).cer == 0


def test_killed_and_resumed_training_gives_the_very_same_weights(data):
    """Lost otherwise: a run that was interrupted would silently be another experiment."""
    raw = config_dict(data)
    whole = config_dict(data, Global={"output_dir": str(data / "whole")})
    assert run(train_command(data, whole)).returncode == 0
    process = subprocess.Popen(train_command(data, raw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(data / "run" / "train" / "last" / "model.yml", process)
    process.kill()
    process.communicate()
    stopped_at = checkpoint.read_states(data / "run" / "train" / "last")["step"]
    assert 0 < stopped_at < 40
    resumed = run(train_command(data, raw))
    assert resumed.returncode == 0 and f"at step {stopped_at}" in resumed.stderr
    for name in ("model.pdparams", "model.pdopt"):
        expected = read_arrays(data / "whole" / "train" / "last" / name)
        got = read_arrays(data / "run" / "train" / "last" / name)
        assert_same(got, expected)
    lines = [yaml.safe_load(line) for line in (data / "run/train/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 40]  # the last one is the evaluation
    assert [line["images"] for line in lines] == [80, 160, 160]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_with_a_message(data, number):
    """Lost otherwise: Ctrl-C or a batch system's stop would throw away the work since the last checkpoint."""
    raw = config_dict(data, Global={"save_every_steps": 100_000}, Recipe=[{"stage": "train", "epochs": 5000}])
    process = subprocess.Popen(train_command(data, raw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(data / "run" / "train" / "log.jsonl", process)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "continues from there" in errors and "Traceback" not in errors
    load_model(data / "run" / "train" / "last")


def trainers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """Return the processes that train for a command, without the short-lived ones that the launcher starts."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if f"{PROGRAM} train" in line and "distributed.launch" not in line:
            found.append(child)
    return found


def start_two_processes(data) -> subprocess.Popen:
    """Start an endless training by two processes, and wait until it has saved once."""
    settings = {"processes": 2, "save_every_steps": 5, "log_every_steps": 1}
    raw = config_dict(data, Global=settings, Recipe=[{"stage": "train", "epochs": 100_000}])
    process = subprocess.Popen(train_command(data, raw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(data / "run" / "train" / "last" / "model.yml", process)
    return process


EXPORT = {"Recipe": [{"stage": "export", "formats": ["onnx"], "budget_mb": 5}]}


@pytest.mark.parametrize(
    ("cores", "batch", "more", "expected"),
    [
        (4, 32, {}, 4),
        (3, 32, {}, 2),
        (64, 32, {}, 4),
        (2, 7, {}, 1),
        (2, 7, {"Global.processes": 3}, 3),
        (4, 32, EXPORT, 1),
    ],
)
def test_a_training_uses_the_cores_that_can_share_its_batch(cores, batch, more, expected, tmp_path, monkeypatch):
    """Lost otherwise: half of a machine idles, or a step's batch and so the training depends on the machine."""
    monkeypatch.setattr(launch, "usable_cores", lambda: cores)
    raw = config_dict(tmp_path, Train={"batch_size": batch})
    del raw["Global"]["processes"]
    for key, value in more.items():
        section, _, name = key.partition(".")
        raw[section] = {**raw[section], name: value} if name else value
    config = Config.model_validate(raw)
    assert launch.process_count(config) == expected
    share = LoaderSettings.from_config(config, (0, expected)).batch_size
    assert share * expected == config.step_batch == batch * (config.run.processes or 1)


def test_a_run_goes_on_in_as_many_processes_as_it_began(tmp_path, monkeypatch):
    """Lost otherwise: samples would be repeated and others left out, on a machine of other cores."""
    raw = config_dict(tmp_path, Train={"batch_size": 32})
    del raw["Global"]["processes"]
    config = Config.model_validate(raw)
    last = tmp_path / "run" / "train" / "last"
    last.mkdir(parents=True)
    (last / "model.states").write_text('{"processes": 2}', encoding="utf-8")
    monkeypatch.setattr(launch, "usable_cores", lambda: 4)
    assert launch.process_count(config) == 2
    (last / "model.states").write_text("{", encoding="utf-8")
    assert launch.process_count(config) == 4


def test_a_run_of_one_process_is_the_same_experiment_without_the_key(tmp_path):
    """Lost otherwise: what was begun when one process was the default could not be continued by the same command."""
    raw = config_dict(tmp_path)
    one = Config.model_validate(raw)
    two = Config.model_validate({**raw, "Global": {**raw["Global"], "processes": 2}})
    del raw["Global"]["processes"]
    assert experiment_of(one) == experiment_of(Config.model_validate(raw)) != experiment_of(two)


def test_two_processes_train_together_and_stop_together(data):
    """Lost otherwise: the second core would learn something else, or Ctrl-C would leave a process behind."""
    process = start_two_processes(data)
    trainers = trainers_of(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "continues from there" in errors and "Traceback" not in errors
    assert len(trainers) >= 2 and not any(p.is_running() for p in trainers)
    load_model(data / "run" / "train" / "last")
    record = yaml.safe_load((data / "run" / "train" / "log.jsonl").read_text().splitlines()[0])
    assert record["step"] == 1 and record["images"] == 8  # four of each process


def test_processes_hold_the_same_network(data):
    """Lost otherwise: each process would evaluate its own network, and none of them be the one that is saved."""
    settings = {"processes": 2, "eval_every_steps": 6}
    raw = config_dict(data, Global=settings, Recipe=[{"stage": "train", "epochs": 6}])
    done = run(train_command(data, raw))
    assert done.returncode == 0, done.stderr
    records = [yaml.safe_load(line) for line in (data / "run" / "train" / "log.jsonl").read_text().splitlines()]
    logged = min(record["eval/cer"] for record in records if "eval/cer" in record)
    samples, _ = read_label_file(data / "val.txt")
    best = evaluate(open_recognizer(data / "run" / "train" / "best"), samples)
    assert best.scores.cer == pytest.approx(logged, abs=1e-6)


def test_a_killed_command_leaves_no_process_behind(data):
    """Lost otherwise: trainers that nobody can see or stop would go on, beside the resumed run."""
    settings = {"processes": 2, "save_every_steps": 5}
    raw = config_dict(data, Global=settings, Recipe=[{"stage": "train", "epochs": 100_000}])
    process = subprocess.Popen(train_command(data, raw), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    trainers = []
    while len(trainers) < 2 and time.monotonic() < until:  # killed before paddle is even imported
        trainers = trainers_of(process)
        time.sleep(0.05)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(trainers, timeout=30)
    assert len(gone) >= 2 and not alive


def test_when_one_process_dies_all_stop_within_half_a_minute(data):
    """Lost otherwise: the others would wait for it for hours, holding the machine (PaddleOCR#13435)."""
    process = start_two_processes(data)
    launcher = psutil.Process(process.pid).children()[0]
    launcher.children()[1].kill()
    killed = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, None) and time.monotonic() - killed < 30
    assert "one of the 2 processes failed" in errors and "another process of this training has ended" in errors
    load_model(data / "run" / "train" / "last")


def test_parts_of_an_epoch_are_its_lines_divided(data):
    """Lost otherwise: two processes would train on the same lines, or leave some out."""
    samples, _ = read_label_file(data / "train.txt")
    charset = Charset.from_texts(TEXTS)

    def sources(part):
        checked = [CheckedSample(sample) for sample in samples]
        lines = TrainingLines(checked, charset, 32, lambda width: width, LoaderSettings(2, part=part))
        return [batch.sources for batch in islice(lines.batches(0), len(lines))]

    dealt = [source for rank in range(2) for batch in sources((rank, 2)) for source in batch]
    assert sorted(dealt) == sorted(sample.where for sample in samples)
    padded = [source for rank in range(3) for batch in sources((rank, 3)) for source in batch]
    assert set(padded) == {sample.where for sample in samples} and len(padded) == 9


def small_fit(folder, task, epochs=4, characters=("a", "b"), data=None, evaluate=None):
    """Train the tiny network on `FixedBatches` by `task`, in folder/run/train."""
    config = check_config(Config.model_validate(config_dict(folder)))
    charset = Charset(characters)
    model = build_model("crnn_mv3_slim", TINY, len(charset.classes))
    card = ModelCard("crnn_mv3_slim", TINY, RecSpec(TINY["height"], charset.classes))
    evaluate = evaluate or (lambda model: score_lines(["a"], ["b"]))
    stage = folder / "run" / "train"
    return fit(Job(stage, config, epochs * 2, model, card, task, data or FixedBatches(), evaluate, Processes()))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    """Lost otherwise: hours of training would be overwritten by NaN."""
    with pytest.raises(SlimError, match="step 5.*train.txt:1"):
        small_fit(tmp_path, Poisoned(at=5))
    model, _ = load_model(tmp_path / "run" / "train" / "last")
    assert all(bool(paddle.isfinite(p).all()) for p in model.parameters())
    assert checkpoint.read_states(tmp_path / "run" / "train" / "last")["step"] == 3


def test_a_full_disk_keeps_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    """Lost otherwise: the disk fills up overnight and the only checkpoint is half a file."""
    small_fit(tmp_path, Poisoned(at=100), epochs=2)
    before = read_arrays(tmp_path / "run" / "train" / "last" / "model.pdparams")

    def no_space(state, path):
        Path(path).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.paddle, "save", no_space)
    with pytest.raises(SlimError, match="No space left.*previous checkpoint is kept"):
        small_fit(tmp_path, Poisoned(at=100), epochs=4)
    assert_same(read_arrays(tmp_path / "run" / "train" / "last" / "model.pdparams"), before)
    assert not (tmp_path / "run" / "train" / "last.new").exists()


def test_a_disk_that_fills_up_with_the_log_stops_the_run(tmp_path, monkeypatch):
    """Lost otherwise: a run whose log cannot be written would hang, or go on without leaving a trace."""

    def no_space(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventsWriter, "flush", no_space)
    with pytest.raises(SlimError, match="No space left.*last checkpoint is kept"):
        small_fit(tmp_path, Poisoned(at=100))


@pytest.mark.parametrize("changed", [{"characters": ("c", "d")}, {"data": FixedBatches("other data")}])
def test_other_characters_or_data_cannot_continue_a_checkpoint(tmp_path, changed):
    """Lost otherwise: training would go on with permuted classes, or silently be another experiment."""
    small_fit(tmp_path, Poisoned(at=100), epochs=2)
    with pytest.raises(SlimError, match="was trained (with|on) other"):
        small_fit(tmp_path, Poisoned(at=100), epochs=4, **changed)


def test_a_signal_during_the_last_evaluation_is_not_lost(tmp_path):
    """Lost otherwise: Ctrl-C at the end would be ignored, and the recipe go on to the next stage."""

    def evaluate(model):
        os.kill(os.getpid(), signal.SIGINT)
        return score_lines(["a"], ["b"])

    with pytest.raises(Stopped):
        small_fit(tmp_path, Poisoned(at=100), epochs=2, evaluate=evaluate)
    assert checkpoint.read_states(tmp_path / "run" / "train" / "last")["step"] == 4
    small_fit(tmp_path, Poisoned(at=0), epochs=2)  # trained already: no step is taken


def test_a_kill_between_the_two_renames_is_undone(tmp_path):
    """Lost otherwise: a kill at the wrong microsecond would leave no checkpoint at all."""
    small_fit(tmp_path, Poisoned(at=100), epochs=2)
    last = tmp_path / "run" / "train" / "last"
    last.rename(last.with_name("last.old"))
    load_model(last)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    """Lost otherwise: opening a stranger's checkpoint would hand them the machine."""

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps({"head.weight": Evil()}))
    with pytest.raises(SlimError, match="refused.*would run"):
        read_arrays(path)
    assert not (tmp_path / "executed").exists()


def test_weights_must_fit_the_architecture_exactly(tmp_path):
    """Lost otherwise: a checkpoint of another width would load half, the rest staying random (PaddleOCR#10219)."""
    small_fit(tmp_path, Poisoned(at=100), epochs=2)
    last = tmp_path / "run" / "train" / "last"
    card = yaml.safe_load((last / "model.yml").read_text(encoding="utf-8"))
    for args, words in [({"hidden": 16}, "encoder"), ({"se": True}, "lacks"), ({"layers": 2}, "lacks")]:
        changed = {**card, "architecture": {"name": "crnn_mv3_slim", "args": {**TINY, **args}}}
        (last / "model.yml").write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
        with pytest.raises(SlimError, match=words):
            load_model(last)


def test_damaged_checkpoints_say_so(tmp_path):
    """Lost otherwise: a truncated download would show as a stack trace from deep inside a library."""
    small_fit(tmp_path, Poisoned(at=100), epochs=2)
    last = tmp_path / "run" / "train" / "last"
    (last / "model.pdparams").write_bytes((last / "model.pdparams").read_bytes()[:2000])
    with pytest.raises(SlimError, match="damaged"):
        load_model(last)
    with pytest.raises(SlimError, match="not a checkpoint folder"):
        load_model(tmp_path)


def test_the_learning_rate_warms_up_and_decays():
    """Lost otherwise: a wrong schedule trains worse without any message."""
    config = Optimizer(lr=1.0, warmup_steps=4, final_lr_ratio=0.1)
    rates = [learning_rate(config, step, 24) for step in range(25)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[14] == pytest.approx(0.55)
    assert rates[24] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[4:], rates[5:]))


def test_weight_decay_spares_biases_and_norms():
    """Lost otherwise: batch norms shrink and accuracy goes with them."""
    model = build_model("crnn_mv3_slim", TINY, 5)
    optimizer = build_optimizer(model.parameters(), Optimizer(lr=1.0, weight_decay=0.5))
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    for parameter in optimizer._parameter_list:
        parameter.grad = paddle.zeros_like(parameter)
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not np.array_equal(p.numpy(), before[name])}
    assert {"backbone.stem.0.weight", "encoder.weight_ih_l0", "head.weight"} <= changed
    assert not [name for name in changed if "bias" in name or name.startswith("backbone.stem.1")]


def test_averaged_weights_by_hand():
    """Lost otherwise: what is evaluated and shipped would not be the average that it claims to be."""
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(paddle.ones([1, 1]))
    average = AveragedWeights(layer, decay=0.5)
    layer.weight.set_value(paddle.full([1, 1], 3.0))
    average.update(step=0)  # decay min(0.5, 1 / 10)
    assert float(average.state["weight"]) == pytest.approx(0.1 * 1 + 0.9 * 3)
    average.update(step=1000)
    assert float(average.state["weight"]) == pytest.approx(0.5 * 2.8 + 0.5 * 3)
