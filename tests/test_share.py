"""Weight sharing: the codebooks, what training may do to them, and the small file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest
from drawing import draw_row, write_rows
from exported import save_lively_checkpoint
from trainings import TEXTS, assert_same, config_dict, run, train_command, wait_for

from ppocr_slim.config.schema import Optimizer, Share
from ppocr_slim.errors import SlimError
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.preprocess import to_batch
from ppocr_slim.slim.share import WeightSharing, kmeans, nearest, shareable
from ppocr_slim.slim.shared_file import MAGIC, SHARED_FILE, codes_of, read_shared, write_shared
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, load_weights, read_arrays
from ppocr_slim.training.optim import AveragedWeights, build_optimizer


@pytest.fixture(scope="module")
def lively(tmp_path_factory) -> Path:
    return save_lively_checkpoint(tmp_path_factory.mktemp("share") / "start")


def shared_model(folder: Path, bits: int = 3):
    """Return the lively network with shared weights, ready to be trained, and its technique."""
    model, _ = load_model(folder)
    technique = WeightSharing(Share(bits=bits))
    technique.prepare(model, None)
    technique.attach(model, None)
    return model, technique


def backward(model, seed: int) -> None:
    """Gradients of some loss on noise."""
    model.train()
    image = np.random.default_rng(seed).normal(size=(2, 3, 32, 64)).astype(np.float32)
    (model(paddle.to_tensor(image)) ** 2).mean().backward()


def test_kmeans_equals_plain_iterations():
    """Lost otherwise: a fast k-means that finds other centroids than the method's would cost accuracy unseen."""
    values = np.random.default_rng(0).normal(size=400)
    centroids = np.linspace(values.min(), values.max(), 8)
    for _ in range(1000):
        owner = np.abs(values[:, None] - centroids).argmin(axis=1)
        centroids = np.array([values[owner == k].mean() if (owner == k).any() else centroids[k] for k in range(8)])
    found = kmeans(values, 8)
    assert found == pytest.approx(centroids, rel=1e-6) and found.dtype == np.float32
    expected = found[np.abs(values[:, None] - found).argmin(axis=1)]
    assert np.array_equal(nearest(values, found), expected)


def test_what_has_few_values_keeps_them():
    """Lost otherwise: sharing twice, or with many bits, would move weights for nothing."""
    values = np.array([[0.5, -1.25], [0.5, 3.0]], np.float32)
    assert kmeans(values, 4).tolist() == [-1.25, 0.5, 3.0]
    assert np.array_equal(nearest(values, kmeans(values, 4)), values)
    assert np.array_equal(nearest(np.zeros((3, 2)), kmeans(np.zeros((3, 2)), 1)), np.zeros((3, 2)))


def test_one_large_weight_leaves_values_for_the_others():
    """Lost otherwise: centroids spread up to it stay empty, and all other weights share one value at any bits."""
    values = np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)
    alone = np.square(nearest(values, kmeans(values, 16)) - values).mean()
    values[7, 7] = 1e4
    shared = nearest(values, kmeans(values, 16))
    assert np.unique(shared).size == 16 and shared[7, 7] == 1e4
    assert np.square(shared - values).mean() < 1.5 * alone


def test_as_many_values_as_there_may_be():
    """Lost otherwise: bits that are paid for in the file are not used; or few distinct values never end."""
    rng = np.random.default_rng(1)
    few = np.array([0] * 100 + [1e-30, 2e-30, 3e-30, 1e4])
    for values in (rng.standard_cauchy(3000), few, 10.0 ** np.arange(30)):
        values = values.astype(np.float32)
        assert np.unique(nearest(values, kmeans(values, 4))).size == 4


def test_matrices_and_kernels_are_shared_and_nothing_else(lively):
    """Lost otherwise: a batch norm of sixteen values reads nonsense, and a layer left out makes the file large."""
    before = {name: tensor.numpy() for name, tensor in model_state(load_model(lively)[0]).items()}
    model, _ = shared_model(lively, bits=2)
    shared = shareable(model)
    assert {"encoder.weight_hh_l0", "head.weight", "backbone.blocks.0.depthwise.0.weight"} <= shared.keys()
    for name, tensor in model_state(model).items():
        if name in shared:
            assert np.unique(tensor.numpy()).size <= 4
        else:
            assert np.array_equal(tensor.numpy(), before[name])


def test_layers_are_left_alone_by_name_and_a_wrong_name_is_an_error(lively):
    """Lost otherwise: a misspelt layer would be shared after all, silently."""
    model, _ = load_model(lively)
    everything = shareable(model)
    without = shareable(model, ["backbone.blocks.[1-9]*", "backbone.blocks.0", "head", "encoder.weight_hh_l0"])
    assert {name.split(".")[0] for name in everything.keys() - without.keys()} == {"backbone", "head", "encoder"}
    assert not any(name.startswith("backbone.blocks.") for name in without)
    assert "encoder.weight_ih_l0" in without and "encoder.weight_hh_l0" not in without
    with pytest.raises(SlimError, match="no layer is called 'haed'; there are backbone"):
        shareable(model, ["haed"])
    with pytest.raises(SlimError, match="leaves no layer"):
        shareable(model, ["*"])


def test_equal_weights_get_the_mean_of_their_gradients(lively):
    """Lost otherwise: the values of a codebook would not follow the gradient of the loss in them."""
    model, technique = shared_model(lively)
    backward(model, 0)
    plain = {name: tensor.grad.numpy() for name, tensor in shareable(model).items()}
    biases = model.head.bias.grad.numpy()
    technique.after_backward(model)
    for name, tensor in shareable(model).items():
        weights, pooled = tensor.numpy(), tensor.grad.numpy()
        for value in np.unique(weights):
            assert pooled[weights == value] == pytest.approx(plain[name][weights == value].mean(), rel=1e-4, abs=1e-9)
    assert np.array_equal(model.head.bias.grad.numpy(), biases)
    once = model.head.weight.grad.numpy()
    technique.after_backward(model)
    assert np.allclose(model.head.weight.grad.numpy(), once, rtol=1e-6)


@pytest.mark.parametrize("fast", [True, False])
def test_training_keeps_equal_weights_equal_to_the_bit(lively, fast):
    """Lost otherwise: after some steps there are a thousand values instead of eight, and the file is not small."""
    model, technique = shared_model(lively)
    start = {name: tensor.numpy() for name, tensor in shareable(model).items()}
    parameters = [tensor for tensor in model_state(model).values() if not tensor.stop_gradient]
    settings = Optimizer(lr=1e-3, weight_decay=0.1, clip_norm=0.01)  # so small that it clips
    optimizer = build_optimizer(parameters, settings, fast)
    average = AveragedWeights(model, 0.9, fast)
    for number in range(12):
        backward(model, number)
        technique.after_backward(model)
        optimizer.step()
        optimizer.clear_grad()
        average.update(number)
    for name, tensor in shareable(model).items():
        codes = codes_of(start[name])[1]
        for now in (tensor.numpy(), average.state[name].numpy()):
            assert not np.array_equal(now, start[name])
            assert np.unique(np.stack([codes, codes_of(now)[1]]), axis=1).shape[1] == codes.max() + 1, name


def test_weights_that_were_not_shared_are_refused(lively):
    """Lost otherwise: a stage that resumes with other weights would train a network that is not shared at all."""
    model, _ = load_model(lively)
    technique = WeightSharing(Share(bits=3))
    technique.attach(model, None)
    backward(model, 0)
    with pytest.raises(SlimError, match="more than 3 bits allow"):
        technique.after_backward(model)


def test_the_file_gives_every_number_back_to_the_bit(tmp_path, lively):
    """Lost otherwise: the small file would read other texts than the checkpoint that it was made from."""
    card = ModelCard.read(lively)
    random = np.random.default_rng(0)
    weights = {
        "shared": random.choice(np.float32([-0.0, 0.0, 1e-40, 0.1, -3.0]), (40, 7, 3)),
        "many values": random.normal(size=(20, 30)).astype(np.float32),
        "one value": np.full((5, 5), 0.25, np.float32),
        "few numbers": np.float32([1.5, -2.0, 1.5]),
        "a number": np.float32(7).reshape(()),
        "none": np.zeros((0, 4), np.float32),
    }
    size = write_shared(tmp_path / SHARED_FILE, card, weights)
    read_card, read = read_shared(tmp_path / SHARED_FILE)
    assert read_card == card and size == (tmp_path / SHARED_FILE).stat().st_size
    assert list(read) == list(weights)
    for name, array in weights.items():
        assert read[name].dtype == np.float32 and read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes(), name


def test_the_file_is_as_small_as_the_entropy_of_its_weights(tmp_path, lively):
    """Lost otherwise: sharing would cost accuracy and save less than it could."""
    values = np.random.default_rng(0).normal(size=(300, 400))
    weights = nearest(values, kmeans(values, 32))
    fractions = np.unique(weights, return_counts=True)[1] / weights.size
    entropy = -(fractions * np.log2(fractions)).sum() * weights.size / 8
    card = ModelCard.read(lively)
    size = write_shared(tmp_path / "a", card, {"w": weights}) - write_shared(tmp_path / "b", card, {})
    assert entropy < size < 1.02 * entropy + 250  # and the codebook and the tensor's line in the header


def test_a_damaged_file_is_one_clear_line(tmp_path, lively):
    """Lost otherwise: a download cut short ends in a stack trace, or reads nonsense."""
    path = tmp_path / SHARED_FILE
    write_shared(path, ModelCard.read(lively), {"w": np.ones((9, 9), np.float32)})
    good = path.read_bytes()
    damaged = [good[:size] for size in (0, 7, 10, 60, len(good) - 1)]
    damaged += [good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :] for at in (3, 9, 40, len(good) - 3)]
    for content in [*damaged, b"", MAGIC, MAGIC + b"\xff" * 40, b"PK\x03\x04" + good]:
        path.write_bytes(content)
        with pytest.raises(SlimError):
            read_shared(path)
    with pytest.raises(SlimError, match="cannot read"):
        read_shared(tmp_path / "nowhere")


def test_a_killed_sharing_stage_ends_with_the_very_same_file(tmp_path):
    """Lost otherwise: an interruption would make another network, or one whose weights are no longer shared."""
    write_rows(tmp_path, TEXTS, "train.txt")
    write_rows(tmp_path, TEXTS, "val.txt")
    start = save_lively_checkpoint(tmp_path / "start")
    args = {"height": 32, "scale": 0.35, "hidden": 16, "layers": 2}
    recipe = [{"stage": "share", "epochs": 12, "lr": 1e-3, "warmup_steps": 2, "techniques": [{"share": {"bits": 4}}]}]
    common = {"pretrained": str(start)}
    raw = config_dict(tmp_path, Global=common, Architecture={"args": args}, Recipe=recipe)
    whole = {**raw, "Global": {**raw["Global"], "output_dir": str(tmp_path / "whole")}}
    done = run(train_command(tmp_path, whole))
    assert done.returncode == 0 and "of the float32 weights" in done.stderr, done.stderr
    stage = tmp_path / "run" / "share"
    process = subprocess.Popen(train_command(tmp_path, raw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(stage / "last" / "model.yml", process)
    process.kill()
    process.communicate()
    assert not (stage / SHARED_FILE).exists()
    resumed = run(train_command(tmp_path, raw))
    assert resumed.returncode == 0 and "continuing from" in resumed.stderr, resumed.stderr
    assert (stage / SHARED_FILE).read_bytes() == (tmp_path / "whole" / "share" / SHARED_FILE).read_bytes()

    card, weights = read_shared(stage / SHARED_FILE)
    assert_same(weights, read_arrays(stage / "best" / "model.pdparams"))
    assert all(np.unique(weights[name]).size <= 16 for name in shareable(load_model(stage / "best")[0]))
    rebuilt = card.build("here")
    load_weights(rebuilt, weights, "here")
    rebuilt.eval()
    image = paddle.to_tensor(to_batch([draw_row("Huế", height=32)], 160))
    assert np.array_equal(rebuilt(image).numpy(), load_model(stage / "best")[0](image).numpy())
