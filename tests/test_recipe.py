"""A whole recipe by its command line, and what training starts from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, assert_same, config_dict, run, train_command

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config
from ppocr_slim.data.charset import Charset
from ppocr_slim.errors import SlimError
from ppocr_slim.models import build_model
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.bundle import LANGUAGE, put_language, read_bundle, shipped
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.checks import check_config, folder_card
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.tasks.recognition import choose_charset
from ppocr_slim.text.language_model import LanguageModel
from ppocr_slim.training.recipe import locked, require_same_experiment
from ppocr_slim.training.starting import (
    load_starting_layers,
    load_starting_weights,
    read_starting_weights,
    require_same_network,
)

ARGS = {"height": 32, "scale": 0.35, "hidden": 16, "layers": 2}  # of the lively checkpoint
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def card_of(charset: Charset, **args) -> ModelCard:
    return ModelCard("crnn_mv3_slim", {**ARGS, **args}, RecSpec(ARGS["height"], charset.classes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with data and with run/, a finished recipe of one training and one export from lively weights."""
    folder = tmp_path_factory.mktemp("recipe")
    write_rows(folder, TEXTS, "train.txt")
    write_rows(folder, TEXTS, "val.txt")
    save_lively_checkpoint(folder / "start")
    raw = config_dict(
        folder,
        Global={"pretrained": str(folder / "start")},
        Architecture={"args": ARGS},
        Optimizer={"lr": 1e-6},
        Recipe=[{"stage": "train", "epochs": 3}, {"stage": "export", "budget_mb": 5}],
    )
    done = run(train_command(folder, raw))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_recipe_trains_exports_and_says_what_it_does(finished):
    """Lost otherwise: the one command that the project is used by."""
    images = [draw_row(text) for text in TEXTS]
    from_bundle = Recognizer.from_bundle(finished / "run" / "export").read(images)
    from_checkpoint = open_recognizer(finished / "run" / "train" / "best").read(images)
    assert all(line.text for line in from_bundle)  # random weights read nonsense, but not nothing
    assert [line.text for line in from_bundle] == [line.text for line in from_checkpoint]
    confidences = [line.confidence for line in from_bundle]
    assert confidences == pytest.approx([line.confidence for line in from_checkpoint], abs=1e-4)
    assert len({round(confidence, 3) for confidence in confidences}) > 2
    records = [json.loads(line) for line in (finished / "run" / "train" / "log.jsonl").read_text().splitlines()]
    assert {"loss", "lr", "images", "images_per_s", "waiting_share"} <= set(records[-2])
    assert records[-1]["step"] == 6 and 0 <= records[-1]["eval/line_accuracy"] <= 1
    assert list((finished / "run" / "train" / "curves").glob("events*"))
    saved = load_config(finished / "run" / "config.yml")
    assert saved.optimizer.lr == 1e-6 and saved.metric.name == "cer"  # what was set, and the defaults


def test_running_a_finished_recipe_again_trains_nothing(finished):
    """Lost otherwise: running a command twice would spend hours, or train on."""
    before = (finished / "run" / "train" / "last" / "model.pdparams").read_bytes()
    put_language(finished / "run" / "export", LanguageModel.load(shipped("rec") / LANGUAGE))
    config = yaml.safe_load((finished / "run.yml").read_text(encoding="utf-8"))
    done = run(train_command(finished, config))
    assert done.returncode == 0 and "trained already" in done.stderr, done.stderr
    assert (finished / "run" / "train" / "last" / "model.pdparams").read_bytes() == before
    assert LANGUAGE in read_bundle(finished / "run" / "export").sizes  # what somebody has put there stays


def test_another_config_cannot_continue_a_run(finished):
    """Lost otherwise: a run would silently go on with other settings than its saved config says."""
    saved = load_config(finished / "run" / "config.yml")
    with pytest.raises(SlimError, match="Optimizer.lr is another"):
        require_same_experiment(load_config(finished / "run" / "config.yml", ["Optimizer.lr=0.001"]))
    require_same_experiment(saved)
    require_same_experiment(load_config(finished / "run" / "config.yml", ["Global.log_every_steps=7"]))  # harmless
    more = ["Recipe=[{stage: train, epochs: 3}, {stage: prune, epochs: 1, techniques: [{fpgm: {max_flops: 0.7}}]}]"]
    require_same_experiment(load_config(finished / "run" / "config.yml", more))  # what has not begun may still change
    with pytest.raises(SlimError, match="Recipe is another"):
        require_same_experiment(load_config(finished / "run" / "config.yml", ["Recipe.0.epochs=4"]))


def test_two_trainings_cannot_share_a_folder(tmp_path):
    """Lost otherwise: a forgotten run and a new one would destroy each other's checkpoints."""
    with locked(tmp_path):
        with pytest.raises(SlimError, match="another process is training"):
            with locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("source", ["train/best", "export"])
def test_training_starts_from_a_checkpoint_or_from_a_bundle(finished, source):
    """Lost otherwise: fine-tuning would start from random weights, or from half of the right ones."""
    start = read_starting_weights(finished / "run" / source)
    model = build_model("crnn_mv3_slim", ARGS, len(start.card.charset.classes))
    load_starting_weights(model, start, card_of(start.card.charset))
    expected = read_starting_weights(finished / "run" / "train" / "best").state
    assert_same({name: tensor.numpy() for name, tensor in model_state(model).items()}, expected)


def test_another_dictionary_keeps_what_it_shares(finished):
    """Lost otherwise: adding one character to a dictionary would shuffle all others' weights."""
    start = read_starting_weights(finished / "run" / "export")
    other = Charset(tuple(sorted({*start.card.charset.characters[3:], "€", "*"})))
    model = build_model("crnn_mv3_slim", ARGS, len(other.classes))
    fresh = model.head.weight.numpy().copy()
    load_starting_weights(model, start, card_of(other))
    for index, character in enumerate(other.classes):
        column = model.head.weight.numpy()[:, index]
        if character in start.card.charset.classes:
            old = start.card.charset.classes.index(character)
            assert np.array_equal(column, start.state["head.weight"][:, old])
        else:
            assert np.array_equal(column, fresh[:, index])


@pytest.mark.parametrize("source", ["train/best", "export"])
def test_a_larger_network_starts_from_the_layers_that_it_has_in_common(finished, source):
    """Lost otherwise: a teacher would learn anew what a slim network sees already, or start from other layers."""
    start = read_starting_weights(finished / "run" / source)
    larger = {**ARGS, "hidden": 24, "height_stride": 16}
    model = build_model("crnn_mv3_slim", larger, len(start.card.charset.classes))
    fresh = {name: tensor.numpy().copy() for name, tensor in model_state(model).items()}
    load_starting_layers(model, start, card_of(start.card.charset, **larger), ["backbone", "collapse.1"])
    for name, tensor in model_state(model).items():
        of_both = name.startswith(("backbone.", "collapse.1."))
        assert np.array_equal(tensor.numpy(), start.state[name] if of_both else fresh[name]), name


def test_layers_that_another_network_does_not_have_are_refused(finished):
    """Lost otherwise: a training would start from layers of the same shapes that compute something else."""
    start = read_starting_weights(finished / "run" / "train" / "best")

    def load(patterns, **args):
        card = card_of(start.card.charset, **args)
        model = build_model("crnn_mv3_slim", {**ARGS, **args}, len(start.card.charset.classes))
        load_starting_layers(model, start, card, patterns)

    with pytest.raises(SlimError, match="no layer is called 'backbon'"):
        load(["backbon"])
    with pytest.raises(SlimError, match="is another layer"):
        load(["backbone"], hard_swish=True)
    with pytest.raises(SlimError, match="has no backbone.*se"):
        load(["backbone"], se=True)
    with pytest.raises(SlimError, match="do not fit|is another layer"):
        load(["encoder"], hidden=24)
    start = start._replace(card=replace(start.card, transforms=[{"name": "widths", "layers": {}}]))
    with pytest.raises(SlimError, match="was slimmed"):
        load(["backbone"])


def test_weights_of_another_architecture_are_refused(finished):
    """Lost otherwise: pre-trained weights that do not fit would be skipped with a warning nobody reads."""
    start = read_starting_weights(finished / "run" / "train" / "best")
    model = build_model("crnn_mv3_slim", ARGS, len(start.card.charset.classes))
    for args in ({"hidden": 24}, {"hard_swish": True}):  # other shapes; the same shapes, but another network
        with pytest.raises(SlimError, match=f"of a network with {next(iter(args))}"):
            require_same_network(start, card_of(start.card.charset, **args))
    slimmed = replace(start.card, transforms=[{"name": "widths", "layers": {}}])
    with pytest.raises(SlimError, match="was pruned or quantized for its"):
        require_same_network(start._replace(card=slimmed), card_of(Charset(("a", "b"))))
    state = {**start.state, "head.bias": start.state["head.bias"][:-1]}
    with pytest.raises(SlimError, match="do not fit"):
        load_starting_weights(model, start._replace(state=state), card_of(start.card.charset))
    with pytest.raises(SlimError, match="no folder"):
        read_starting_weights(finished / "nowhere")


def test_the_starting_weights_dictionary_is_kept_where_it_covers_the_labels(finished):
    """Lost otherwise: fine-tuning on few rows would forget the characters that those rows happen to lack."""

    def charset_for(text):
        (finished / "few.txt").write_text(f"images/train/0.png\t{text}\n", encoding="utf-8")
        few = {"label_files": [{"path": str(finished / "few.txt")}]}
        start = {"pretrained": str(finished / "run" / "export")}
        config = Config.model_validate(config_dict(finished, Global=start, Train=few))
        return choose_charset(config, lambda: folder_card(config.run.pretrained).spec)

    assert charset_for("Hà Nội") == folder_card(finished / "start").charset
    assert charset_for("Hà Nội €") == Charset.from_texts(["Hà Nội €"])


def test_data_that_is_too_bad_stops_the_run_before_its_first_step(tmp_path):
    """Lost otherwise: rows would vanish from training, and the figures would be of other data than one thinks."""
    labels = write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    labels.write_text(labels.read_text(encoding="utf-8") + "\nimages/train/0.png no tab\n", encoding="utf-8")
    done = run(train_command(tmp_path, config_dict(tmp_path)))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "train.txt:9" in done.stderr and "max_bad_fraction" in done.stderr
    assert not (tmp_path / "run" / "train").exists()


def test_every_shipped_config_is_right():
    """Lost otherwise: a config that we ship would fail on a user's machine."""
    paths = sorted(path for path in CONFIGS.rglob("*.yml") if path.parent.name != "ablation")
    assert len(paths) >= 3
    for path in paths:
        check_config(load_config(path))
