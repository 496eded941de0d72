"""The quantize stage: calibrated before it trains, stopped where too much is lost, whole when it is read again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import paddle
import pytest
from drawing import draw_row, write_rows
from exported import TEXTS, save_lively_checkpoint
from paddle.nn import functional
from paddle.nn.quant.quant_layers import QuantizedConv2D
from PIL import Image
from pydantic import ValidationError
from trainings import config_dict

from ppocr_slim.config.schema import Config, Lsq, Pact
from ppocr_slim.data.labels import Sample
from ppocr_slim.data.lines import Batch
from ppocr_slim.engines.onnxruntime import fused_operators
from ppocr_slim.engines.session import open_session
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.export import bundle as bundle_module
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.models.fake_quant import MovingQuantizer, PactQuantizer, quant_params_of, quantized_layers
from ppocr_slim.models.state import model_state
from ppocr_slim.quantization.qparams import best_scale
from ppocr_slim.runtime.bundle import INT8, ONNX
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch
from ppocr_slim.slim.quantize import REPORT, SENSITIVITY, LsqQuantization, PactQuantization
from ppocr_slim.slim.technique import Context
from ppocr_slim.tasks.checkpoint import load_model, save_checkpoint
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.training.kernels.accelerate import accelerated
from ppocr_slim.training.optim import build_optimizer
from ppocr_slim.training.recipe import run_recipe

STEM, SHORTCUT = "backbone.stem.0", "backbone.blocks.2"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_lively_checkpoint(tmp_path_factory.mktemp("lively") / "checkpoint")


@pytest.fixture
def stage(checkpoint, tmp_path):
    """Return (network, context): the labels are what the float network reads."""
    return stage_of(checkpoint, tmp_path)


def stage_of(checkpoint, tmp_path):
    model, card = load_model(checkpoint)
    task = RecognitionTask(card.spec)
    images = [draw_row(text) for text in TEXTS]
    texts = [line.text for line in task.recognizer(model).read(images)]

    def calibration(count):
        lines = [resize_to_height(image, card.spec.height) for image in images]
        labels = [[card.charset.classes.index(c) for c in text] or [1] for text in TEXTS]
        width = max(line.shape[1] for line in lines)
        padded = np.zeros((len(lines), max(map(len, labels))), np.int32)
        for row, label in zip(padded, labels):
            row[: len(label)] = label
        lengths = np.array([len(label) for label in labels])
        whole = Batch(to_batch(lines, width), padded, lengths, tuple(TEXTS))
        parts = (slice(0, 4), slice(4, 8))
        return [Batch(whole.image[i], padded[i], lengths[i], whole.sources[i]) for i in parts]

    def score(network):
        return score_lines(texts, [line.text for line in task.recognizer(network).read(images)])

    return model, Context(tmp_path, card, task, calibration, score, False, 0, True, lambda: None)


def pact(**changes):
    return PactQuantization(Pact(**{"max_drop": None, **changes}))


def save_prepared(technique, model, context, folder):
    """Let a technique prepare the network, and save it; return its card and its weights."""
    card = replace(context.card, transforms=technique.prepare(model, context))
    weights = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    save_checkpoint(folder, card, weights, {}, {"step": 0, "best": None, "best_step": 0})
    return card, weights


def output(model):
    model.eval()
    with paddle.no_grad():
        return model(paddle.to_tensor(to_batch([resize_to_height(draw_row("Thôn 7"), 32)], 96))).numpy()


@pytest.mark.parametrize("kind,section", [(PactQuantization, Pact), (LsqQuantization, Lsq)])
def test_calibrated_at_8_bits_it_reads_nearly_as_before(stage, kind, section):
    """Lost otherwise: a training that starts at a network which reads nothing (PaddleOCR's QAT ran to NaN)."""
    model, context = stage
    before = output(model)
    kind(section(max_drop=0.9)).prepare(model, context)  # of the network's own nonsense, which nothing has settled
    assert np.abs(output(model) - before).mean() < 0.25 * np.abs(before).mean()
    report = json.loads((context.folder / REPORT).read_text())
    assert report["float"]["cer"] == 0 and report["quantized"]["cer"] < 0.9
    assert report["quantized"]["loss"] == pytest.approx(report["float"]["loss"], rel=0.02)


def test_the_plan_follows_what_layers_read(stage):
    """Lost otherwise: half the integers unused behind a ReLU, values clipped elsewhere, a shortcut with two scales."""
    model, context = stage
    (transform,) = pact(weight_bits=4, activation_bits=3).prepare(model, context)
    layers = transform["layers"]
    assert json.loads(json.dumps(transform)) == transform
    assert layers[STEM] == {"inputs": [{"bits": 8, "zero_point": 128, "fixed": True}], "weight_bits": 7}
    assert layers["head"]["weight_bits"] == 7 and layers["head"]["inputs"][0]["bits"] == 8
    assert layers[f"{SHORTCUT}.expand.0"] == {"inputs": [{"bits": 3, "zero_point": 4}], "weight_bits": 4}
    assert layers[f"{SHORTCUT}.depthwise.0"]["inputs"] == [{"bits": 3, "zero_point": 0}]
    shared, own = layers[f"{SHORTCUT}.add"]["inputs"]
    assert shared == {"same_as": [f"{SHORTCUT}.expand.0", 0]} and own == {"bits": 3, "zero_point": 4}
    assert layers["encoder"] == {"inputs": []}
    assert list(layers)[0] == STEM and list(layers)[-1] == "head"


@pytest.mark.parametrize(
    "settings, inner, edge",
    [({}, 7, 7), ({"weight_bits": 8}, 8, 8), ({"edge_bits": 6}, 7, 6), ({"edge_bits": None}, 7, 7)],
)
def test_weights_are_trained_with_the_bits_of_the_file(stage, settings, inner, edge):
    """Lost otherwise: what is trained is rounded once more on its way into the INT8 file."""
    model, context = stage
    (transform,) = pact(**settings).prepare(model, context)
    layers = transform["layers"]
    assert (layers[f"{SHORTCUT}.expand.0"]["weight_bits"], layers["head"]["weight_bits"]) == (inner, edge)
    assert layers[f"{SHORTCUT}.expand.0"]["inputs"][0]["bits"] == 8


def test_edges_are_as_all_others_by_option(stage):
    """Lost otherwise: the bit table would never show what the first and the last layer cost."""
    model, context = stage
    (transform,) = pact(weight_bits=4, activation_bits=4, edge_bits=None).prepare(model, context)
    assert transform["layers"]["head"]["weight_bits"] == 4
    assert transform["layers"][STEM]["inputs"][0]["zero_point"] == 8


@pytest.mark.parametrize(
    "technique", [pact(), pact(clip=False), pact(weight_bits=3), LsqQuantization(Lsq(max_drop=None))]
)
def test_a_folder_is_enough_to_load_it(stage, technique, tmp_path):
    """Lost otherwise: learned clips would drop out when a checkpoint is read again, as in PaddleOCR's export."""
    model, context = stage
    card, _ = save_prepared(technique, model, context, tmp_path / "checkpoint")
    loaded, _ = load_model(tmp_path / "checkpoint")
    np.testing.assert_array_equal(output(loaded), output(model))
    assert quant_params_of(loaded).keys() == card.transforms[0]["layers"].keys()


@pytest.mark.parametrize("kind", ["conv", "conv_attention"])
@pytest.mark.parametrize("technique", [PactQuantization(Pact(max_drop=None)), LsqQuantization(Lsq(max_drop=None))])
def test_a_convolutional_neck_is_integers_throughout(kind, technique, tmp_path, monkeypatch):
    """Lost otherwise: the neck that was chosen for its INT8 would run in float, or read other texts than before."""
    monkeypatch.setattr(bundle_module, "TIMED_ROUNDS", 1)
    neck = {"kind": kind, "channels": 16, "depth": 2, "kernel": 5}
    model, context = stage_of(save_lively_checkpoint(tmp_path / "float", neck=neck), tmp_path)
    save_prepared(technique, model, context, tmp_path / "trained")
    for number, text in enumerate(TEXTS):
        Image.fromarray(draw_row(text)).save(tmp_path / f"{number}.png")
    samples = [Sample(tmp_path / f"{number}.png", text, "a") for number, text in enumerate(TEXTS)]
    export_bundle(tmp_path / "trained", tmp_path / "bundle", ("onnx", "onnx_int8"), 5, samples)
    line = to_batch([resize_to_height(draw_row("Hà Nội"), 32)], 512)
    in_float, in_integers = (open_session(tmp_path / "bundle" / name)(line) for name in (ONNX, INT8))
    model.eval()
    trained = functional.softmax(model(paddle.to_tensor(line))).numpy()
    # Where a value is rounded to the other side, the time steps around it are others.
    equal = [np.abs(found - trained).max(axis=2) < 1e-3 for found in (in_integers, in_float)]
    assert equal[0].mean() > 0.9 and equal[1].mean() < 0.1
    # Attention is float, so what it reads cannot be computed in integers.
    in_float = int(kind == "conv_attention")
    operators = fused_operators(tmp_path / "bundle" / INT8)
    assert operators.get("Conv", 0) == in_float and not operators.keys() & {"FusedConv", "DynamicQuantizeLSTM"}
    convolutions = sum(isinstance(layer, QuantizedConv2D) for layer in model.sublayers())
    assert operators["QLinearConv"] == convolutions - in_float


def test_training_learns_the_clips_and_they_decay(stage):
    """Lost otherwise: PACT would be plain rounding at calibrated ranges."""
    model, context = stage
    technique = pact(clip_lr=10.0, clip_decay=1e-3)
    technique.prepare(model, context)
    technique.attach(model, context)
    found = model_state(model).items()
    clips = [tensor for name, tensor in found if name.endswith(".clip") and not tensor.stop_gradient]
    assert {id(clip) for clip in clips} == {id(clip) for clip in technique.clips} and len(clips) > 30
    before, other = [clip.item() for clip in clips], model.head.weight.numpy()
    settings = Config.model_validate(config_dict(context.folder)).optimizer
    parameters = [tensor for tensor in model_state(model).values() if not tensor.stop_gradient]
    batch = context.calibration(8)[0]
    model.train()
    with accelerated(model, context.task.criterion):
        for fast in (False, True):
            optimizer = build_optimizer(parameters, settings, fast)
            optimizer.set_lr(1e-4)
            outputs = context.task.outputs(model, batch)
            terms = technique.terms(model, outputs, batch)
            assert terms["clips"].item() == pytest.approx(1e-3 * sum(clip.item() ** 2 for clip in clips), rel=1e-4)
            (sum(context.task.loss(outputs, batch).values()) + terms["clips"]).backward()
            optimizer.step()
            optimizer.clear_grad()
    moved = [abs(clip.item() - value) for clip, value in zip(clips, before)]
    assert max(moved) == pytest.approx(2e-3, rel=0.2)  # two steps of ten learning rates
    assert np.abs(model.head.weight.numpy() - other).max() < 4e-4


def test_a_training_without_qat_keeps_the_quantization_parameters(stage, tmp_path):
    """Lost otherwise: clips would be trained like weights, without a decay, and drift off what was calibrated."""
    model, context = stage
    card, weights = save_prepared(pact(), model, context, tmp_path / "checkpoint")
    (tmp_path / "characters.txt").write_text("\n".join(card.charset.characters) + "\n", encoding="utf-8")
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    start = {"pretrained": str(tmp_path / "checkpoint"), "character_dict_path": str(tmp_path / "characters.txt")}
    architecture = {"name": card.name, "args": card.args}
    raw = config_dict(tmp_path, Global=start, Architecture=architecture, Recipe=[{"stage": "train", "epochs": 1}])
    run_recipe(Config.model_validate(raw))
    after = model_state(load_model(tmp_path / "run" / "train" / "last")[0])
    clips = [name for name in weights if name.endswith(".clip")]
    assert clips and all(after[name].item() == weights[name].item() for name in clips)
    assert not np.array_equal(after["head.weight"].numpy(), weights["head.weight"])


def test_without_a_clip_ranges_are_the_largest_values(stage):
    """Lost otherwise: the bit table's row "without PACT's clip" would have one after all."""
    model, context = stage
    technique = pact(clip=False, weight_bits=4, activation_bits=4)
    technique.prepare(model, context)
    technique.attach(model, context)
    assert not technique.learned and not technique.terms(model, {}, None)
    layer = quantized_layers(model)[f"{SHORTCUT}.project.0"]
    seen = []
    layer._fake_quant_input.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].max().item()))
    assert type(layer._fake_quant_input) is MovingQuantizer
    kept = layer._fake_quant_input.clip.item()
    for batch in context.calibration(8):
        context.task.outputs(model, batch)
    assert max(seen) == pytest.approx(kept, rel=0.3)  # of the network before it was quantized


def test_layers_left_in_float_are_named_by_patterns(stage):
    """Lost otherwise: the layers that an error names could not be left alone."""
    model, context = stage
    pact(float_layers=["backbone.blocks.1*.add", "backbone.stem", "encoder"]).prepare(model, context)
    left = quantized_layers(model)
    assert not {STEM, "backbone.blocks.10.add", "encoder"} & left.keys()
    assert {"backbone.blocks.9.add", "backbone.blocks.1.expand.0", "head"} <= left.keys()


def test_a_pattern_that_matches_nothing_is_an_error(stage):
    """Lost otherwise: a misspelt layer would be quantized all the same."""
    model, context = stage
    with pytest.raises(SlimError, match=r"float_layers: no layer is called 'backbone.steam'"):
        pact(float_layers=["backbone.steam"]).prepare(model, context)


def test_a_report_that_cannot_be_written_is_one_clear_line(stage):
    """Lost otherwise: a full disk ends in a stack trace."""
    model, context = stage
    (context.folder / "file").write_text("")
    with pytest.raises(SlimError, match=f"cannot write .*{REPORT}"):
        pact().prepare(model, replace(context, folder=context.folder / "file"))


def test_a_drop_stops_the_run_and_names_layers(stage):
    """Lost otherwise: hours of training from a network that calibration has ruined, without a hint at which layer."""
    model, context = stage
    with pytest.raises(SlimError, match=r"max_drop 0\.01 lost; .*float_layers: (backbone|collapse|encoder|head)"):
        pact(weight_bits=2, activation_bits=2, max_drop=0.01).prepare(model, context)
    found = json.loads((context.folder / SENSITIVITY).read_text())
    rises = list(found["rise"].values())
    assert rises == sorted(rises, reverse=True) and len(rises) == len(quantized_layers(model))
    assert found["rise"]["encoder"] < max(rises)  # 8 bits against 2


def load_like(context, model):
    """The float network of the card, with the weights of `model`."""
    twin = context.card.build("twin")
    own = model_state(model)
    for name, tensor in model_state(twin).items():
        tensor.set_value(own[name])
    return twin


def test_measuring_sensitivity_changes_nothing(stage):
    """Lost otherwise: layers would stay in float that the card says are quantized."""
    model, context = stage
    technique = pact(weight_bits=4, activation_bits=4, sensitivity=True)
    technique.prepare(model, context)
    after = output(model)
    other = load_like(context, model)
    pact(weight_bits=4, activation_bits=4).prepare(other, context)
    np.testing.assert_array_equal(after, output(other))


def test_quantizing_twice_is_an_error(stage):
    """Lost otherwise: two transforms in the card, whose combined effect nobody knows."""
    model, context = stage
    pact().prepare(model, context)
    with pytest.raises(SlimError, match="quantized already"):
        pact().prepare(model, context)


def test_the_best_scale_is_the_one_with_the_least_error():
    """Lost otherwise: the range of few bits would be as wide as the one largest value."""
    values = np.append(np.random.default_rng(0).normal(0, 1, 10000), 40).astype(np.float32)
    scale = best_scale(values, 40 / 7, -8, 7)

    def error(s):
        return np.square(np.clip(np.rint(values / s), -8, 7) * s - values).sum()

    assert error(scale) < 0.5 * error(40 / 7)
    assert error(scale) <= 1.02 * min(error(s) for s in np.linspace(0.05, 6, 300))
    assert best_scale(np.arange(256, dtype=np.float32), 1.0, 0, 255) == 1
    assert best_scale(np.zeros(4, np.float32), 0.0, 0, 255) > 0


@pytest.mark.parametrize("wrong", [{"weight_bits": 9}, {"activation_bits": 1}, {"max_drop": 0}, {"clip_lr": 0}])
def test_settings_out_of_range_are_refused(wrong):
    """Lost otherwise: parameters that no integer holds, found hours later."""
    with pytest.raises(ValidationError):
        Pact(**wrong)


def test_clips_start_at_calibrated_ranges(stage):
    """Lost otherwise: a clip of 1 everywhere, which cuts most of a network off."""
    model, context = stage
    pact().prepare(model, context)
    clips = [q.clip.item() for q in model.sublayers() if isinstance(q, PactQuantizer)]
    assert len(set(clips)) > 0.8 * len(clips)
