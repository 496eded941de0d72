"""Slimming detectors and direction classifiers: the same techniques as for recognizers, on other networks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import pytest
from drawing import write_rows
from trainings import TEXTS, config_dict

from ppocr_slim.config.schema import Config, Distill, Pact
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.models import build_model
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.fake_quant import quant_params_of, quantized_layers
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import PAGE_NORMALIZED
from ppocr_slim.runtime.specs import ClsSpec, DetSpec
from ppocr_slim.slim.channels import apply_mask, find_groups, merge_cuts, remove
from ppocr_slim.slim.distill import Distillation
from ppocr_slim.slim.quantize import PactQuantization, collect_statistics, quantizable
from ppocr_slim.slim.teachers import open_plain_teacher
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, save_checkpoint
from ppocr_slim.tasks.table import task_for
from ppocr_slim.training.recipe import run_recipe

DET = ("db_mv3_slim", {"scale": 0.35, "channels": 16}, DetSpec())
CLS = ("dir_cls_mv3_slim", {"scale": 0.35}, ClsSpec())
SHAPES = {"db_mv3_slim": [2, 3, 64, 96], "dir_cls_mv3_slim": [2, 3, 48, 192]}


def lively(name: str, args: dict):
    """Return a network whose batch norms have statistics, so that no channel is like another."""
    paddle.seed(1)
    model = build_model(name, args)
    for key, tensor in model_state(model).items():
        if key.endswith(("_mean", "bias")):
            tensor.set_value(paddle.randn(tensor.shape) * 0.3)
        if key.endswith("_variance"):
            tensor.set_value(paddle.rand(tensor.shape) + 0.5)
    model.eval()
    return model


def save(folder: Path, name: str, args: dict, spec) -> Path:
    model = lively(name, args)
    weights = {key: tensor.numpy() for key, tensor in model_state(model).items()}
    card = ModelCard(name, args, spec)
    save_checkpoint(folder, card, weights, {"step": 0}, {"step": 0, "best": None, "best_step": 0})
    return folder


@pytest.mark.parametrize(("name", "args", "spec"), [DET, CLS])
def test_a_pruned_network_computes_what_the_masked_one_does(name, args, spec):
    """Lost otherwise: channels would be cut out of one layer and stay in those that read it."""
    model = lively(name, args)
    x = paddle.randn(SHAPES[name])
    groups = find_groups(model)
    cut = merge_cuts(group.cut(group.size // 4) for group in groups)
    masked, small = copy.deepcopy(model), copy.deepcopy(model)
    apply_mask(masked, cut)
    remove(small, cut)
    for key, expected in masked.outputs(x).items():
        found = small.outputs(x)[key]
        if found.shape == expected.shape:  # pruned features have other channels
            assert np.abs(found.numpy() - expected.numpy()).max() < 1e-4
    last = list(masked.outputs(x))[-1]
    assert small.outputs(x)[last].shape == model.outputs(x)[last].shape
    before, after = (measure_cost(one, model.typical_input).flops for one in (model, small))
    assert after < 0.85 * before


def test_a_detectors_pruning_reaches_neck_and_heads():
    """Lost otherwise: half of a detector's FLOPs, those of its neck, could not be pruned."""
    names = {group.name for group in find_groups(lively(*DET[:2]))}
    assert {"neck.lateral.0", "probability.0.0", "threshold.0.0"} <= names


def test_layers_that_only_training_uses_are_not_quantized():
    """Lost otherwise: the INT8 file would be refused, for quantization parameters of layers that no bundle has."""
    paths = quantizable(lively(*DET[:2]), [])
    assert any(path.startswith("probability.") for path in paths)
    assert not any(path.startswith("threshold.") for path in paths)


def test_a_bundle_as_teacher_is_the_same_whenever_it_is_opened():
    """A killed stage would not go on: of the head that only training has, a bundle's network has random weights."""
    digests = set()
    for seed in (1, 2):
        paddle.seed(seed)
        digests.add(open_plain_teacher(shipped("det"), DetSpec()).digest)
    assert len(digests) == 1


@pytest.mark.parametrize(("name", "args", "spec"), [DET, CLS])
def test_a_fake_quantized_network_sees_the_whole_picture(name, args, spec):
    """Lost otherwise: a page's light and dark, normalized to more than 1, would be cut off where lines end at 1."""
    model, task = lively(name, args), task_for(spec)
    largest = np.abs(PAGE_NORMALIZED).max() if isinstance(spec, DetSpec) else 1.0
    image = np.random.default_rng(3).uniform(-largest, largest, SHAPES[name]).astype(np.float32)

    class Seen(NamedTuple):
        image: np.ndarray

    technique = PactQuantization(Pact())
    technique._quantize(model, collect_statistics(model, quantizable(model, []), [Seen(image)], task))
    stem = quant_params_of(model)["backbone.stem.0"].inputs[0]
    assert largest <= float(stem.scale) * 127.01 <= 1.01 * largest


@pytest.mark.parametrize(("name", "args", "spec"), [DET, CLS])
def test_a_teacher_outputs_what_its_network_does(tmp_path, name, args, spec):
    """Lost otherwise: a student would learn from something else than the teacher that it was given."""
    folder = save(tmp_path / "teacher", name, args, spec)
    image = np.random.default_rng(1).standard_normal(SHAPES[name]).astype(np.float32)
    model, _ = load_model(folder)
    with paddle.no_grad():
        expected = model(paddle.to_tensor(image)).numpy()
    teacher = open_plain_teacher(folder, spec)
    assert np.abs(teacher(image).logits - expected).max() < 1e-3 * max(1, np.abs(expected).max())
    other = CLS[2] if spec is DET[2] else DET[2]
    with pytest.raises(SlimError, match=f"choose one of task {other.task}"):
        open_plain_teacher(folder, other)
    with pytest.raises(SlimError, match="no teacher"):
        open_plain_teacher(tmp_path / "nowhere", spec)


def test_a_loss_of_another_task_is_refused(tmp_path):
    """Lost otherwise: a stack trace about a missing output in the middle of the first step."""
    folder = save(tmp_path / "teacher", *DET)

    class Context:
        task = task_for(DET[2])
        augmented = False

    technique = Distillation(Distill(teacher=folder, losses=[{"name": "frames"}]))
    with pytest.raises(SlimError, match="the loss frames is for networks of task rec"):
        technique.attach(lively(*DET[:2]), Context())


def test_a_direction_classifier_goes_through_all_stages(tmp_path):
    """Lost otherwise: teacher, pruning, PACT and INT8 would be there for recognizers alone."""
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    teacher = save(tmp_path / "teacher", *CLS)
    distill = {"distill": {"teacher": str(teacher), "losses": [{"name": "kl_div", "temperature": 2}]}}
    fpgm = {"fpgm": {"max_flops": 0.8, "calibration_samples": 4}}
    pact = {"pact": {"max_drop": None, "calibration_samples": 8}}
    raw = config_dict(
        tmp_path,
        Architecture={"name": CLS[0], "args": CLS[1]},
        Train={"augment": [{"name": "rand_augment", "p": 0.5}]},
        Recipe=[
            {"stage": "train", "epochs": 2, "techniques": [distill]},
            {"stage": "prune", "epochs": 1, "techniques": [fpgm, distill]},
            {"stage": "quantize", "epochs": 1, "techniques": [pact]},
            {"stage": "export", "formats": ["paddle", "onnx", "onnx_int8"], "budget_mb": 0.5},
        ],
    )
    run_recipe(Config.model_validate(raw))
    run = tmp_path / "run"
    model, card = load_model(run / "quantize" / "best")
    assert quantized_layers(model) and card.spec == CLS[2]
    report = json.loads((run / "prune" / "fpgm.json").read_text(encoding="utf-8"))
    assert report["flops"]["ratio"] <= 0.8
    samples, _ = read_label_file(tmp_path / "val.txt")
    images = [load_image(sample.path) for sample in samples]
    trained = DirectionClassifier(task_for(card.spec).session(model), card.spec).classify(images)
    for precision in ("fp32", "int8"):
        shipped = DirectionClassifier.from_bundle(run / "export", precision=precision).classify(images)
        assert all(abs(one.score - other.score) < 0.2 for one, other in zip(trained, shipped))


def test_a_detectors_bundle_is_a_starting_point_and_has_no_threshold_head(tmp_path):
    """Lost otherwise: nobody could fine-tune the detector that ships."""
    from ppocr_slim.export.weights import read_bundle_weights
    from ppocr_slim.models.state import with_training_only

    folder = save(tmp_path / "checkpoint", *DET)

    class Page:
        path = write_rows(tmp_path, ["Hà Nội"], "page.txt").parent / "images" / "page" / "0.png"
        outlines, ignored = (), ()

    export_bundle(folder, tmp_path / "bundle", ["paddle"], 5, [Page()])
    weights = read_bundle_weights(tmp_path / "bundle")
    model, _ = load_model(folder)
    assert not any(name.startswith("threshold.") for name in weights)
    assert with_training_only(model, weights).keys() == model_state(model).keys()
