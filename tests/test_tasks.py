"""Detection and direction as tasks: the recipe trains and exports them, and what belongs to another task is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from labelled_pages import PAGES, write_pages
from PIL import Image

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.models.state import model_state, training_only
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import ClsSpec, DetSpec
from ppocr_slim.tasks.checkpoint import load_model, read_arrays
from ppocr_slim.tasks.checks import check_config
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.tasks.table import TASKS, task_for
from ppocr_slim.training.recipe import run_recipe
from ppocr_slim.training.starting import load_starting_weights, read_starting_weights

LINES = ["Hà Nội", "Thôn Ba", "Quận 1", "Huế"]
SECTIONS = {
    "det": {
        "Architecture": {"name": "db_mv3_slim", "args": {"backbone": "small", "scale": 0.35, "channels": 16}},
        "Loss": {"name": "db", "beta": 5.0},
        "PostProcess": {"name": "db", "longer_side": 160, "thresh": 0.25, "box_thresh": 0.3},
        "Metric": {"name": "recall"},
        "Train": {"batch_size": 2, "crop": 64, "augment": [{"name": "color"}]},
    },
    "cls": {
        "Architecture": {"name": "dir_cls_mv3_slim", "args": {"height": 32, "width": 96}},
        "PostProcess": {"name": "direction", "thresh": 0.7},
        "Train": {"batch_size": 2, "augment": [{"name": "squeeze"}]},
    },
    "rec": {
        "Architecture": {"name": "crnn_mv3_slim", "args": {"height": 32, "scale": 0.35, "hidden": 16}},
        "Train": {"batch_size": 2},
    },
}


def raw_config(folder: Path, task: str, **sections) -> dict:
    raw = {
        "Global": {"output_dir": str(folder / "run"), "max_bad_fraction": 0.0},
        "Optimizer": {"lr": 0.003, "warmup_steps": 1, "ema_decay": 0.5},
        "Eval": {"label_files": [{"path": str(folder / "val.txt")}]},
        "Recipe": [{"stage": "train", "epochs": 1}, {"stage": "export", "formats": ["paddle", "onnx"]}],
        **copy.deepcopy(SECTIONS[task]),
    }
    raw["Train"]["label_files"] = [{"path": str(folder / "train.txt")}]
    for section, changes in sections.items():
        own = raw.get(section, {})
        raw[section] = {**own, **changes} if isinstance(changes, dict) and isinstance(own, dict) else changes
    return raw


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """folder of data and of run/ by task: a recipe of one training and one export each; of "rec" a checkpoint alone."""
    folders = {task: tmp_path_factory.mktemp(task) for task in TASKS}
    for name in ("train.txt", "val.txt"):
        write_pages(folders["det"], PAGES[:4], name)
        for task in ("cls", "rec"):
            write_rows(folders[task], LINES, name)
    for task in ("det", "cls"):
        run_recipe(Config.model_validate(raw_config(folders[task], task)))
    save_lively_checkpoint(folders["rec"] / "run" / "train" / "best")
    return folders


def test_a_detector_is_trained_exported_and_found_again(runs):
    """Lost otherwise: the one command that a detector is made by, or boxes of another network than was evaluated."""
    run = runs["det"] / "run"
    bundle = read_bundle(run / "export")
    model, card = load_model(run / "train" / "best")
    assert bundle.spec == card.spec and isinstance(card.spec, DetSpec)
    assert (card.spec.longer_side, card.spec.boxes.threshold, card.spec.boxes.box_threshold) == (160, 0.25, 0.3)
    assert load_config(run / "config.yml").metric.name == "recall"
    page = load_image(runs["det"] / "images" / "train" / "0.png")
    session, detector = task_for(card.spec).session(model), Detector.from_bundle(run / "export")
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    assert np.abs(session(x) - detector.session(x)).max() < 1e-3
    ours, theirs = Detector(session, card.spec).detect(page), detector.detect(page)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        assert np.abs(mine.points - other.points).max() <= 2


def test_a_direction_classifier_is_trained_exported_and_found_again(runs):
    """Lost otherwise: the one command that a classifier is made by, or predictions of another network."""
    run = runs["cls"] / "run"
    model, card = load_model(run / "train" / "best")
    assert read_bundle(run / "export").spec == card.spec == ClsSpec(32, 96, 0.7)
    assert load_config(run / "config.yml").metric.name == "accuracy"  # the task's own, where none is named
    images = [draw_row(text, height=height) for text in LINES for height in (32, 60)]
    ours = DirectionClassifier(task_for(card.spec).session(model), card.spec).classify(images)
    for engine in ("onnxruntime", "paddle"):
        theirs = DirectionClassifier.from_bundle(run / "export", engine).classify(images)
        assert [one.score for one in theirs] == pytest.approx([one.score for one in ours], abs=1e-3)
        assert [one.angle for one in theirs] == [one.angle for one in ours]


def test_lines_of_the_networks_own_height_are_evaluated(tmp_path, runs):
    """Lost otherwise: an evaluation would end in a stack trace on lines that need no resizing."""
    model, card = load_model(runs["cls"] / "run" / "train" / "best")
    (tmp_path / "val.txt").write_text("a.png\tHuế\n", encoding="utf-8")
    Image.fromarray(draw_row("a", height=32)).save(tmp_path / "a.png")
    task = task_for(card.spec)
    results = task.predict_and_score(model, read_label_file(tmp_path / "val.txt")[0], 4)
    assert [one[0] for one in results] == [False, True] and task.scores(results).pictures == 2


def test_a_detectors_bundle_starts_a_training(runs):
    """Lost otherwise: fine-tuning a shipped detector would be refused, lacking the layers that only training uses."""
    run = runs["det"] / "run"
    start = read_starting_weights(run / "export")
    best = read_arrays(run / "train" / "best" / "model.pdparams")
    model = start.card.build("here")
    only = training_only(model)
    fresh = {name: tensor.numpy().copy() for name, tensor in model_state(model).items() if name.startswith(only)}
    assert fresh and not any(name.startswith(only) for name in read_bundle_weights(run / "export"))
    load_starting_weights(model, start, start.card)
    for name, tensor in model_state(model).items():
        assert np.array_equal(tensor.numpy(), fresh[name] if name in fresh else best[name]), name


WRONG = [
    ("det", "Loss={name: ctc}", "Loss.name: 'ctc' is not for db_mv3_slim"),
    ("rec", "Loss={name: db}", "Loss.name: 'db' is not for crnn_mv3_slim"),
    ("cls", "PostProcess={name: db}", "PostProcess.name: 'db' is not for dir_cls_mv3_slim"),
    ("det", "Metric={name: cer}", "Metric.name: 'cer' is not for db_mv3_slim"),
    ("cls", "Metric={name: hmean}", "Metric.name: 'hmean' is not for dir_cls_mv3_slim"),
    ("det", "Train.augment=[{name: squeeze}]", "Train.augment.0.name"),
    ("cls", "Train.augment=[{name: blur}, {name: glue_words}]", "Train.augment.1.name"),
    ("rec", "Train.crop=64", "Train.crop: crnn_mv3_slim trains on whole text lines"),
    ("cls", "Train.crop=64", "Train.crop: dir_cls_mv3_slim trains on whole text lines"),
]


@pytest.mark.parametrize(("task", "override", "message"), WRONG)
def test_what_belongs_to_another_task_is_blamed_on_who_set_it(tmp_path, task, override, message):
    """Lost otherwise: a setting would be ignored silently, or end in a stack trace after hours."""
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(raw_config(tmp_path, task)), encoding="utf-8")
    check_config(load_config(path))
    with pytest.raises(SlimError) as caught:
        check_config(load_config(path, [override]))
    assert str(caught.value).startswith(f"-o {override}: {message}") and "\n" not in str(caught.value)
    key, _, value = override.partition("=")
    section, *inner = key.split(".")
    change = yaml.safe_load(value)
    raw = raw_config(tmp_path, task)
    raw[section] = {**raw[section], inner[0]: change} if inner else change
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(SlimError) as caught:
        check_config(load_config(path))
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("task", ["det", "cls"])
def test_a_network_of_another_task_cannot_read(runs, task):
    """Lost otherwise: a mistyped folder would be a stack trace, or nonsense that looks like a reading."""
    best, export = runs[task] / "run" / "train" / "best", runs[task] / "run" / "export"
    with pytest.raises(SlimError, match=f"holds a network of task {task}: reading text lines needs one of task rec"):
        open_recognizer(best)
    for reader in (Recognizer, Detector, DirectionClassifier):
        if reader is not (Detector if task == "det" else DirectionClassifier):
            with pytest.raises(SlimError, match=f"holds a {task} bundle"):
                reader.from_bundle(export)


@pytest.mark.parametrize(("task", "other"), [("det", "cls"), ("cls", "rec"), ("rec", "det"), ("det", "rec")])
def test_a_training_cannot_start_from_another_tasks_network(runs, tmp_path, task, other):
    """Lost otherwise: half of the weights would fit by chance, and a training would start from nonsense."""
    folder = runs[task]
    start = {"output_dir": str(tmp_path / "run"), "pretrained": str(runs[other] / "run" / "train" / "best")}
    with pytest.raises(SlimError) as caught:
        run_recipe(Config.model_validate(raw_config(folder, task, Global=start)))
    assert "Global.pretrained" in str(caught.value) and f"task {other}" in str(caught.value)


def test_a_recognizers_card_keeps_its_form(runs):
    """Lost otherwise: checkpoints of before there were tasks, and those of users, could not be read any more."""
    card = yaml.safe_load((runs["rec"] / "run" / "train" / "best" / "model.yml").read_text(encoding="utf-8"))
    assert list(card) == ["format", "task", "architecture", "height", "characters"]
    assert (card["format"], card["task"], card["height"]) == (1, "rec", 32)
    assert list(card["architecture"]) == ["name", "args", "transforms"]
