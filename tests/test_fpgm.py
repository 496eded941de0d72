"""Pruning: what goes, what it costs, what is left; and that what is left can be kept, trained and pruned again."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from drawing import draw_row
from exported import TEXTS, save_lively_checkpoint
from paddle import nn
from pydantic import ValidationError

from ppocr_slim.config.schema import Fpgm
from ppocr_slim.data.lines import Batch
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import write_json
from ppocr_slim.models import build_model
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.crnn import TYPICAL_ASPECT
from ppocr_slim.models.mobilenet_v3 import MobileNetV3
from ppocr_slim.models.state import model_state
from ppocr_slim.reports.sensitivity import plot_sensitivity
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch
from ppocr_slim.slim import _paddleslim, fpgm, sensitivity
from ppocr_slim.slim.channels import apply_mask, find_groups, median_distances, merge_cuts, remove
from ppocr_slim.slim.fpgm import FpgmPruning, Planner
from ppocr_slim.slim.sensitivity import loss_increase, measure_sensitivity, numbers_to_try
from ppocr_slim.slim.technique import Context
from ppocr_slim.tasks.checkpoint import load_model, save_checkpoint
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.training.kernels.accelerate import accelerated

SHAPE = [1, 3, 32, 480]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_lively_checkpoint(tmp_path_factory.mktemp("fpgm") / "start")


def batches(card) -> list:
    lines = [resize_to_height(draw_row(text), card.spec.height) for text in TEXTS]
    labels = [card.charset.encode(text) for text in TEXTS]
    lengths = np.array([len(label) for label in labels], np.int64)
    padded = np.zeros((len(lines), lengths.max()), np.int32)
    for row, label in zip(padded, labels):
        row[: len(label)] = label
    return [Batch(to_batch(lines, max(line.shape[1] for line in lines)), padded, lengths, tuple(TEXTS))]


def context_of(card, folder: Path, is_first: bool = True) -> Context:
    return Context(
        folder=folder,
        card=card,
        task=RecognitionTask(card.spec),
        calibration=lambda count: batches(card),
        score=lambda model: None,
        augmented=False,
        seed=1,
        is_first=is_first,
        wait=lambda: None,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No exports for the sake of the clock; each layer's numbers are few."""
    monkeypatch.setattr(fpgm, "latencies", lambda before, after, spec: {"ms": 1.0, "base_ms": 2.0, "ratio": 0.5})
    monkeypatch.setattr(sensitivity, "FRACTIONS", (0.25, 0.5))


def lively(model: nn.Layer) -> nn.Layer:
    """Batch norms as after a training, so that offsets and statistics count."""
    rng = np.random.default_rng(3)
    for name, tensor in model_state(model).items():
        if "_mean" in name or len(tensor.shape) == 1:
            tensor.set_value((tensor.numpy() + rng.uniform(0, 0.3, tensor.shape)).astype(np.float32))
    model.eval()
    return model


def learned(model: nn.Layer) -> list:
    return [parameter for parameter in model.parameters() if parameter.trainable]


def assert_masked_computes_as_pruned(model: nn.Layer, cut: dict, small: nn.Layer) -> None:
    image = paddle.randn([2, 3, 32, 64])
    before = model(image)
    apply_mask(model, cut)
    expected = model(image)
    assert float((expected - before).abs().max()) > 1e-3
    assert float((small(image) - expected).abs().max()) < 1e-4


@pytest.mark.parametrize(
    "args", [{}, {"se": True, "hard_swish": True}, {"layers": 1}, {"backbone": "large", "se": True}], ids=str
)
def test_a_pruned_network_computes_what_the_masked_one_computes(args):
    """Lost otherwise: the sensitivities would be of another network than the one that comes out; and a channel that
    is cut in one place and left in another would pass unseen where the shapes happen to fit."""
    model = lively(build_model("crnn_mv3_slim", {"height": 32, "scale": 0.5, "hidden": 16, **args}, 9))
    groups = find_groups(model)
    assert {"collapse.0", "encoder", "backbone.stem.0"} <= {group.name for group in groups}
    cut = merge_cuts(group.cut(group.size // 4) for group in groups)
    small = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.5, "hidden": 16, **args}, 9)
    small.set_state_dict(model.state_dict())
    small.eval()
    changed = remove(small, cut)
    assert changed["encoder"][1] == 12 and changed["backbone.stem.0"][0] == 3
    assert_masked_computes_as_pruned(model, cut, small)


@pytest.mark.parametrize("kind", ["conv", "conv_attention"])
def test_a_convolutional_neck_is_pruned_with_all_that_reads_it(kind):
    """Lost otherwise: the head, or the attention, would read channels that are gone, or keep what nothing writes."""
    neck = {"kind": kind, "channels": 16, "depth": 2, "kernel": 5}
    model = lively(build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "neck": neck}, 9))
    groups = find_groups(model)
    names = {layer for group in groups for layer in group.layers}
    assert {"collapse.0", "encoder.blocks.0.expand.0", "encoder.blocks.1.expand.0"} <= names
    assert ("encoder.reduce.0" in names) == (kind == "conv")  # attention splits its channels into heads
    small, cut = copy.deepcopy(model), merge_cuts(group.cut(group.size // 4) for group in groups)
    remove(small, cut)
    assert small.head.weight.shape[0] == (12 if kind == "conv" else 16)
    assert_masked_computes_as_pruned(model, cut, small)


def test_the_filters_nearest_the_geometric_median_go():
    """Lost otherwise: it would be some other pruning under FPGM's name."""
    filters = np.array([[0, 0], [10, 0], [0.4, 0.2], [-10, 0], [0, 10], [0, -10]], np.float32)
    by_hand = [sum(np.hypot(*(a - b)) for b in filters) for a in filters]
    assert median_distances(filters) == pytest.approx(by_hand)
    assert set(np.argsort(median_distances(filters))[:2]) == {0, 2}

    model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.35, "hidden": 16}, 9)
    convolution, norm = model.collapse[0], model.collapse[1]
    weight = convolution.weight.numpy()
    scales = np.ones(len(weight), np.float32)
    scales[[5, 17]] = 0  # batch norm makes them equal: both at the origin
    norm.weight.set_value(scales)
    group = next(group for group in find_groups(model) if group.name == "collapse.0")
    gone = np.flatnonzero(~group.cut(2)["collapse.0.weight"][0])
    folded = weight * scales[:, None, None, None]
    assert set(gone) == set(np.argsort(median_distances(folded), kind="stable")[:2])
    assert np.array_equal(convolution.weight.numpy(), weight)  # looking changes nothing
    columns = group.cut(2)["encoder.weight_ih_l0_reverse"][1]
    assert np.array_equal(np.flatnonzero(~columns), gone)


def test_pruned_to_its_target_saved_loaded_trained_and_pruned_again(checkpoint, tmp_path):
    """Lost otherwise: a pruned model would reload with random weights, or could be pruned only once."""
    model, card = load_model(checkpoint)
    whole = measure_cost(model, SHAPE).flops
    now = whole
    for number, max_flops in enumerate((0.8, 0.9)):
        folder = tmp_path / str(number)
        [transform] = FpgmPruning(Fpgm(max_flops=max_flops)).prepare(model, context_of(card, folder))
        flops = measure_cost(model, SHAPE).flops
        assert 0.5 * max_flops * now < flops <= max_flops * now
        report = json.loads((folder / "fpgm.json").read_text())
        assert report["flops"] == {"before": now, "after": flops, "ratio": flops / now}
        assert report["parameters"]["after"] < report["parameters"]["before"]
        assert (folder / "fpgm_sensitivity.png").stat().st_size > 10_000
        now, card = flops, replace(card, transforms=[*card.transforms, transform])

    weights = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    save_checkpoint(tmp_path / "pruned", card, weights, {}, {"step": 0, "best": None, "best_step": 0})
    again, found = load_model(tmp_path / "pruned")
    assert len(found.transforms) == 2 and measure_cost(again, SHAPE).flops == now
    image = paddle.randn([1, 3, 32, 100])
    model.eval()
    assert bool((model(image) == again(image)).all())

    again.train()
    task, [batch] = RecognitionTask(card.spec), batches(card)
    task.loss(task.outputs(again, batch), batch)["ctc"].backward()
    assert all(parameter.grad is not None for parameter in learned(again))


def test_the_fast_kernels_serve_a_pruned_network(checkpoint, tmp_path):
    """Lost otherwise: fine-tuning would take three times as long, silently."""
    model, card = load_model(checkpoint)
    with accelerated(model) as count:
        before = dict(count)
    FpgmPruning(Fpgm(max_flops=0.75)).prepare(model, context_of(card, tmp_path))
    model.train()
    image = paddle.randn([2, 3, 32, 96])
    results = []
    for fast in (False, True):
        for parameter in learned(model):
            parameter.clear_gradient()
        paddle.seed(1)
        if fast:
            with accelerated(model) as count:
                model(image).square().mean().backward()
            assert dict(count) == before
        else:
            model(image).square().mean().backward()
        results.append(np.concatenate([parameter.grad.numpy().ravel() for parameter in learned(model)]))
    plain, own = results
    assert np.linalg.norm(plain - own) <= 1e-3 * np.linalg.norm(plain)


def test_layers_named_in_skip_are_left_alone(checkpoint, tmp_path):
    """Lost otherwise: a layer that must keep its width would lose it, or a typo would leave nothing alone."""
    model, card = load_model(checkpoint)
    skip = ["encoder", "collapse.*", "backbone.blocks.10"]
    kept = [model.encoder, model.collapse[0], model.backbone.blocks[10].depthwise[0]]
    FpgmPruning(Fpgm(max_flops=0.95, skip=skip)).prepare(model, context_of(card, tmp_path))
    assert [model.encoder.hidden_size, model.collapse[0]._out_channels] == [16, kept[1]._out_channels]
    assert model.backbone.blocks[10].depthwise[0] is kept[2]
    assert json.loads((tmp_path / "fpgm.json").read_text())["removed"]

    for settings, words in [
        (Fpgm(max_flops=0.9, skip=["backbone.block.*"]), ["backbone.block.*", "backbone.stem.0", "collapse.0"]),
        (Fpgm(max_flops=0.9, skip=["*"]), ["no layer"]),
        (Fpgm(max_flops=0.05), ["0.05", "max_ratio"]),
    ]:
        with pytest.raises(SlimError) as error:
            FpgmPruning(settings).prepare(model, context_of(card, tmp_path))
        assert all(word in str(error.value) for word in words)


def test_sensitivity_goes_on_where_it_was_and_starts_anew_for_other_weights(checkpoint, tmp_path, monkeypatch):
    """Lost otherwise: a killed analysis would begin again, or the losses of another network would decide."""
    model, card = load_model(checkpoint)
    task, samples, groups = RecognitionTask(card.spec), batches(card), find_groups(model)[-3:]
    state = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    path = tmp_path / "sensitivity.json"
    calls, real = [], sensitivity.mean_loss

    def counted(*args, stop_at=None):
        if stop_at == len(calls):
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    def measure():
        return measure_sensitivity(model, groups, 0.6, task, samples, path)

    monkeypatch.setattr(sensitivity, "mean_loss", lambda *args: counted(*args, stop_at=4))
    with pytest.raises(KeyboardInterrupt):
        measure()
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in model_state(model).items())
    monkeypatch.setattr(sensitivity, "mean_loss", counted)
    losses = measure()
    needed = 1 + sum(len(numbers_to_try(group.size, 0.6)) for group in groups)
    assert len(calls) == needed > 4
    assert measure() == losses and len(calls) == needed  # all of it is kept
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in model_state(model).items())

    path.write_text(path.read_text()[:50])
    assert measure() == losses and len(calls) == 2 * needed  # damaged: made anew
    model.head.bias.set_value(model.head.bias + 0.1)
    assert measure() != losses and len(calls) == 3 * needed


def test_numbers_to_try_leave_multiples_of_eight():
    """Lost otherwise: what is left would fill vectors badly, or a layer would lose more than max_ratio says."""
    assert numbers_to_try(8, 0.6) == []
    for size in (16, 24, 56, 432):
        numbers = numbers_to_try(size, 0.6)
        assert numbers and all((size - number) % 8 == 0 and 0 < number <= 0.6 * size for number in numbers)


def test_the_planner_takes_what_is_cheap(checkpoint):
    """Lost otherwise: accuracy would be paid where FLOPs are saved for nothing elsewhere."""
    model, _ = load_model(checkpoint)
    groups = [group for group in find_groups(model) if numbers_to_try(group.size, 0.6)]
    increases = {
        group.name: {0: 0.0, **{n: n / group.size for n in numbers_to_try(group.size, 0.6)}} for group in groups
    }
    free = max(groups, key=lambda group: group.size * group.name.startswith("collapse")).name
    increases[free] = dict.fromkeys(increases[free], 0.0)
    planner = Planner(model, groups, increases)
    plan = {group.name: max(increases[group.name]) for group in groups[::2]}
    small = planner.pruned(plan)
    assert planner.remaining_flops(plan) == pytest.approx(
        measure_cost(small, SHAPE).flops / measure_cost(model, SHAPE).flops
    )
    assert planner.plan(1.0) == {}
    largest = 1 - planner.remaining_flops({free: max(increases[free])})
    assert set(planner.plan(1 - largest / 2)) == {free}
    ratios = [planner.remaining_flops(planner.plan(target)) for target in (0.9, 0.8, 0.7)]
    assert all(ratio <= target for ratio, target in zip(ratios, (0.9, 0.8, 0.7)))
    broken = {**increases, free: {0: 0.0, **dict.fromkeys(list(increases[free])[1:], float("inf"))}}
    assert free not in Planner(model, groups, broken).plan(0.9)


def test_the_planned_flops_are_the_reported_ones():
    """Lost otherwise: gates, which are computed once a text line however long it is, would weigh more in the plan."""
    model = build_model("crnn_mv3_slim", {"height": 32, "scale": 0.5, "hidden": 16, "se": True}, 9)
    groups = find_groups(model)
    increases = {group.name: {0: 0.0, **{n: 1.0 for n in numbers_to_try(group.size, 0.6)}} for group in groups}
    planner = Planner(model, groups, increases)
    plan = {name: max(found) for name, found in increases.items() if max(found)}
    small = planner.pruned(plan)
    ratio = measure_cost(small, SHAPE).flops / measure_cost(model, SHAPE).flops
    assert planner.remaining_flops(plan) == pytest.approx(ratio, rel=1e-9)


def test_files_are_written_whole_or_refused_in_one_line(tmp_path):
    """Lost otherwise: a full disk ends in a stack trace, and a plot cut short looks like a result."""
    plot_sensitivity(tmp_path / "new" / "plot.png", {}, {}, {}, "nothing to prune")  # the folder is made
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["plot.png"]
    below_a_file = tmp_path / "new" / "plot.png" / "x"
    with pytest.raises(SlimError, match="cannot write .*plot.png/x"):
        plot_sensitivity(below_a_file, {}, {}, {}, "")
    with pytest.raises(SlimError, match="cannot write .*plot.png/x"):
        write_json(below_a_file, {})


def test_the_loss_increase_never_shrinks_and_no_number_is_the_worst():
    """Lost otherwise: a lucky measurement, or a network that gives NaN, would look like a bargain."""
    assert loss_increase({0: 1.0, 8: 1.5, 16: 1.2, 24: 2.0}) == pytest.approx({0: 0, 8: 0.5, 16: 0.5, 24: 1.0})
    assert loss_increase({0: 1.0, 8: float("nan")})[8] > 1e300


def test_a_latency_target_is_met_by_timing(checkpoint, tmp_path, monkeypatch):
    """Lost otherwise: a promise of milliseconds would be kept in FLOPs."""
    model, card = load_model(checkpoint)

    def half_as_good(before, after, spec):  # half of what is saved in FLOPs is saved in time
        ratio = measure_cost(after, SHAPE).flops / measure_cost(before, SHAPE).flops
        return {"ms": 1 + ratio, "base_ms": 2.0, "ratio": (1 + ratio) / 2}

    monkeypatch.setattr(fpgm, "latencies", half_as_good)
    with pytest.raises(SlimError, match="0.3"):
        FpgmPruning(Fpgm(max_latency=0.3)).prepare(model, context_of(card, tmp_path))
    FpgmPruning(Fpgm(max_latency=0.9)).prepare(model, context_of(card, tmp_path))
    report = json.loads((tmp_path / "fpgm.json").read_text())
    assert 0.8 < report["onnxruntime_ms"]["ratio"] <= 0.9


def test_latencies_are_of_the_two_networks(checkpoint, monkeypatch):
    """Lost otherwise: the latencies before and after would come from one network, or mixed up."""
    monkeypatch.undo()
    monkeypatch.setattr(fpgm, "TIMING_ROUNDS", 2)
    model, card = load_model(checkpoint)
    state = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    timed = []
    monkeypatch.setattr(fpgm, "time_in_turns", lambda calls, rounds: timed.append(calls) or {"own": [1], "base": [4]})
    small = build_model(card.name, card.args, len(card.charset.classes))
    small.eval()
    assert fpgm.latencies(model, small, card.spec) == {"ms": 1, "base_ms": 4, "ratio": 0.25}
    image = paddle.zeros([1, 3, card.spec.height, TYPICAL_ASPECT * card.spec.height])
    for name, network in (("own", small), ("base", model)):
        expected = nn.functional.softmax(network(image), axis=-1).numpy()
        assert np.abs(timed[0][name]()[0] - expected).max() < 1e-4
    for name, tensor in model_state(model).items():
        assert tensor.name == name and np.array_equal(tensor.numpy(), state[name])


def test_all_processes_follow_the_first_ones_plan(checkpoint, tmp_path):
    """Lost otherwise: two processes that timed differently would train networks of different shapes."""
    model, card = load_model(checkpoint)
    FpgmPruning(Fpgm(max_flops=0.8)).prepare(model, context_of(card, tmp_path))
    other, _ = load_model(checkpoint)
    FpgmPruning(Fpgm(max_flops=0.8)).prepare(
        other, replace(context_of(card, tmp_path, is_first=False), calibration=None)
    )
    own, theirs = model_state(model), model_state(other)
    assert all(np.array_equal(own[name].numpy(), theirs[name].numpy()) for name in {*own, *theirs})


def test_no_process_follows_the_plan_of_an_earlier_run(checkpoint, tmp_path, monkeypatch):
    """Lost otherwise: after a killed run, the others would train a network that the first one does not have; or they
    would wait in a collective, which times out, while the first one measures."""
    path, stale, fresh = tmp_path / "fpgm.json", {"removed": {"encoder": 3}}, {"removed": {"encoder": 8}}
    events = []

    def decide(step, *args):
        events.append("decided")
        return fresh

    monkeypatch.setattr(FpgmPruning, "_decide", decide)
    write_json(path, stale)
    model, card = load_model(checkpoint)
    hidden = model.encoder.hidden_size
    first = replace(context_of(card, tmp_path), wait=lambda: events.append(path.exists()))
    FpgmPruning(Fpgm(max_flops=0.8)).prepare(model, first)
    assert events == [False, "decided"] and model.encoder.hidden_size == hidden - 8

    def wait():  # the first one removes the stale plan before, and leaves its own some time after
        path.unlink()
        threading.Timer(0.5, write_json, (path, fresh)).start()

    write_json(path, stale)
    other, _ = load_model(checkpoint)
    FpgmPruning(Fpgm(max_flops=0.8)).prepare(other, replace(context_of(card, tmp_path, is_first=False), wait=wait))
    assert other.encoder.hidden_size == hidden - 8 and len(events) == 2


def test_what_cannot_be_pruned_is_one_clear_line(checkpoint, monkeypatch):
    """Lost otherwise: a stack trace from PaddleSlim's tracer, or a quantized network cut in half."""
    with pytest.raises(SlimError, match="MobileNetV3 cannot be pruned; CRNN, DB, DirectionClassifier can"):
        find_groups(MobileNetV3())
    model, _ = load_model(checkpoint)
    monkeypatch.setattr(_paddleslim, "importlib", SimpleNamespace(import_module=_no_module))
    with pytest.raises(SlimError, match="pip install --no-deps"):
        find_groups(model)
    monkeypatch.undo()
    monkeypatch.setattr(type(model.collapse), "forward", lambda self, x: x.numpy())
    with pytest.raises(SlimError, match="cannot trace"):
        find_groups(model)
    assert paddle.in_dynamic_mode()
    monkeypatch.undo()
    model.collapse.add_sublayer("0", nn.Conv1D(3, 3, 1))
    with pytest.raises(SlimError, match="collapse.0 .*before it is quantized"):
        find_groups(model)


def _no_module(name):
    raise ImportError(name)


def test_a_target_is_needed():
    """Lost otherwise: a prune stage would measure for minutes and remove nothing."""
    with pytest.raises(ValidationError, match="max_flops or max_latency"):
        Fpgm()
