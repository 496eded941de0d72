"""Slimming techniques in the training loop: what they add is trained and resumed, and none of it is exported."""

from __future__ import annotations

from typing import get_args

import numpy as np
import paddle
import pytest
from drawing import write_rows
from paddle import nn
from pydantic import ValidationError
from trainings import TEXTS, TINY, FixedBatches, Poisoned, assert_same, config_dict

from ppocr_slim.config.loading import dump_config, load_config
from ppocr_slim.config.schema import Config, DistillLoss
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.lines import TrainingLines
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.models import build_model
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.slim import TECHNIQUES
from ppocr_slim.slim.technique import Technique
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, read_arrays
from ppocr_slim.tasks.checks import check_config
from ppocr_slim.training.loop import Job, fit
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.runlog import read_log

CHARSET = Charset(("a", "b"))


class Probe(Technique):
    """A technique with a layer of its own that learns to output 1; it records when it is called."""

    supervised_weight = 0.5

    def __init__(self):
        self.called = []

    def attach(self, model, context):
        paddle.seed(11)
        self.layer = nn.Linear(len(CHARSET.classes), 1)

    def extras(self):
        return {"probe": self.layer}

    def terms(self, model, outputs, batch):
        return {"probe": (self.layer(outputs["logits"].detach()) - 1).square().mean() * 2}

    def after_backward(self, model):
        self.called.append("gradients" if self.layer.weight.grad is not None else "no gradients")


def fit_with(technique, folder, epochs):
    """Fit two batches an epoch, with a technique attached; return the state of the technique's layer at the end."""
    raw = config_dict(folder, Global={"log_every_steps": 1, "save_every_steps": 1})
    config = check_config(Config.model_validate(raw))
    paddle.seed(5)
    model = build_model("crnn_mv3_slim", TINY, len(CHARSET.classes))
    technique.attach(model, None)
    card = ModelCard("crnn_mv3_slim", TINY, RecSpec(TINY["height"], CHARSET.classes))

    def evaluate(network):
        return score_lines(["a"], ["b"])

    stage = folder / "run" / "train"
    task, data = Poisoned(at=1000), FixedBatches()
    job = Job(stage, config, epochs * 2, model, card, task, data, evaluate, Processes(), [technique])
    fit(job)
    return {name: tensor.numpy().copy() for name, tensor in technique.layer.state_dict().items()}


def test_what_a_technique_adds_is_trained_and_resumed_and_not_exported(tmp_path):
    """Lost otherwise: a resumed distillation would go on with a fresh adapter, or export the peer's weights."""
    technique = Probe()
    paddle.seed(11)
    before = nn.Linear(len(CHARSET.classes), 1).weight.numpy()
    whole = fit_with(technique, tmp_path / "whole", epochs=4)
    assert not np.array_equal(whole["weight"], before)
    assert technique.called == ["gradients"] * 8

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fit_with(Interrupted(after=3), folder, epochs=4)
    resumed = fit_with(Probe(), folder, epochs=4)
    assert_same(resumed, whole)
    last = "run/train/last"
    assert_same(*(read_arrays(path / last / "model.pdparams") for path in (folder, tmp_path / "whole")))

    assert not any("probe" in name for name in read_arrays(folder / last / "model.pdparams"))
    load_model(folder / last)


class Interrupted(Probe):
    """A probe that ends the run in the middle of an epoch, as a kill would."""

    def __init__(self, after):
        super().__init__()
        self._left = after

    def after_backward(self, model):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1


def test_losses_are_weighted_and_logged_by_name(tmp_path):
    """Lost otherwise: nobody could tell whether the teacher or the labels drive a training."""
    fit_with(Probe(), tmp_path, epochs=1)
    record = read_log(tmp_path / "run" / "train")[0]
    assert record["loss"] == pytest.approx(0.5 * record["squares"] + record["probe"], rel=1e-4)


@pytest.mark.parametrize(
    "stage, problem",
    [
        ({"stage": "prune", "epochs": 1}, "needs one technique fpgm"),
        (
            {"stage": "quantize", "epochs": 1, "techniques": [{"pact": {}}, {"lsq": {}}]},
            "needs one technique pact or lsq",
        ),
        ({"stage": "train", "epochs": 1, "techniques": [{"pact": {}}]}, "belongs in a stage 'quantize'"),
        ({"stage": "train", "epochs": 1, "techniques": [{}]}, "exactly one of"),
        ({"stage": "train", "epochs": 1, "techniques": [{"mutual": {}}, {"mutual": {}}]}, "stands here twice"),
        (
            {"stage": "quantize", "epochs": 1, "techniques": [{"pact": {"weight_bits": 1}}]},
            "greater than or equal to 2",
        ),
    ],
)
def test_a_stage_whose_techniques_do_not_fit_is_refused(tmp_path, stage, problem):
    """Lost otherwise: a run called "prune" would train for hours and prune nothing."""
    with pytest.raises(ValidationError, match=problem):
        Config.model_validate(config_dict(tmp_path, Recipe=[stage]))


def test_calibration_lines_are_plain_and_the_same_for_every_process(tmp_path):
    """Lost otherwise: each process would choose other ranges, and the networks would drift apart."""
    write_rows(tmp_path, TEXTS, "train.txt")
    samples, _ = read_label_file(tmp_path / "train.txt")
    config = Config.model_validate(config_dict(tmp_path))

    def plain(part):
        checked = [CheckedSample(sample) for sample in samples]
        loader = LoaderSettings(2, config.train.augment, part=part)
        lines = TrainingLines(checked, Charset.from_texts(TEXTS), 32, time_steps_for_width, loader)
        return lines.plain(5)

    first, second = plain((0, 2)), plain((1, 2))
    assert [len(batch.sources) for batch in first] == [2, 2, 1]
    assert all(np.array_equal(a.image, b.image) and a.sources == b.sources for a, b in zip(first, second))
    assert len({source for batch in first for source in batch.sources}) == 5
    assert sum(len(batch.sources) for batch in plain((0, 1))) == 5


def test_a_saved_config_with_every_technique_reads_back_equal(tmp_path):
    """Lost otherwise: a run could not be continued, its own saved config being refused."""
    losses = [{"name": name} for name in get_args(DistillLoss.model_fields["name"].annotation)]
    techniques = {
        "train": [{"distill": {"teacher": "t", "losses": losses}}, {"mutual": {}}, {"guide": {}}, {"tones": {}}],
        "prune": [{"fpgm": {"max_flops": 0.7}}],
        "quantize": [{"pact": {}}],
        "share": [{"share": {}}],
    }
    recipe = [{"stage": name, "epochs": 1, "techniques": given} for name, given in techniques.items()]
    recipe.append({"stage": "quantize", "epochs": 1, "techniques": [{"lsq": {}}]})
    config = Config.model_validate(config_dict(tmp_path, Recipe=recipe))
    assert {one.name for stage in config.recipe for one in stage.techniques} == set(TECHNIQUES)
    dump_config(config, tmp_path / "saved.yml")
    assert load_config(tmp_path / "saved.yml") == config
