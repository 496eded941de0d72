"""Teachers, the techniques that learn from them, and mutual learning: what is trained, saved and refused."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest
import yaml
from drawing import draw_row, write_rows
from exported import TEXTS, save_lively_checkpoint
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from trainings import assert_same, config_dict

from ppocr_slim.config.schema import Config, Distill, Guide, Mutual, Tones
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.lines import Batch, TrainingLines
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.models import build_model
from ppocr_slim.models.attention_reader import AttentionReader
from ppocr_slim.models.fake_quant import fake_quantize, quantized_layers
from ppocr_slim.models.state import model_state
from ppocr_slim.models.widths import widths_of
from ppocr_slim.runtime.preprocess import resize_to_height, time_steps_for_width, to_batch
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.slim import distill, teachers
from ppocr_slim.slim.branches import PAD, AttentionGuidance, ToneGuidance, teacher_forcing, tone_classes
from ppocr_slim.slim.distill import Distillation
from ppocr_slim.slim.mutual import MutualLearning
from ppocr_slim.slim.teachers import CachedTeacher, Teacher, TeacherOutput, line_widths, open_teacher, resample
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, read_arrays, save_checkpoint
from ppocr_slim.tasks.checks import check_config
from ppocr_slim.tasks.recognition import RecognitionTask
from ppocr_slim.training.kernels.accelerate import accelerated
from ppocr_slim.training.loop import Job, fit
from ppocr_slim.training.processes import Processes

CHARSET = Charset.from_texts(TEXTS)
HEIGHT = 32
ARGS = {"height": HEIGHT, "scale": 0.35, "hidden": 16, "layers": 1}
QUANT_PARAMS = {"inputs": [{"bits": 8, "zero_point": 128}], "weight_bits": 8}
QUANTIZED_HEAD = {"name": "fake_quant", "method": "max", "layers": {"head": QUANT_PARAMS, "encoder": {}}}
ALL_LOSSES = ["aligned", "dkd", "frames", "mean_logits", "feature_mse", "pseudo_labels"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The teacher's checkpoint folder; the texts' characters, height 32."""
    return save_lively_checkpoint(tmp_path_factory.mktemp("teacher") / "best")


@pytest.fixture(scope="module")
def teacher(checkpoint) -> Teacher:
    """The same, open and with features: exporting it takes seconds."""
    return open_teacher(checkpoint, CHARSET.classes, HEIGHT, features=True)


def images(texts: Sequence[str] = TEXTS, height: int = HEIGHT) -> np.ndarray:
    """The texts as a padded batch [N, 3, height, W]."""
    lines = [resize_to_height(draw_row(text), height) for text in texts]
    return to_batch(lines, max(line.shape[1] for line in lines))


def log_probabilities(model, image: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return paddle.nn.functional.log_softmax(model(paddle.to_tensor(image)), axis=-1).numpy()


def write_onnx(
    path: Path,
    characters: Sequence[str] = CHARSET.characters,
    softmax=True,
    stride: int = 4,
    steps: int = 0,
    scalar=False,
) -> Path:
    """Write a third party's network as ONNX: one convolution of full height, [N, 3, 32, W] -> [N, T, K].

    Args:
        path: file to write.
        characters: of its dictionary.
        softmax: whether it outputs probabilities.
        stride: columns per time step.
        steps: if not 0, it always outputs so many time steps.
        scalar: whether it has a second output, a scalar.
    """
    classes = len(characters) + 2
    weight = np.random.default_rng(3).normal(0, 0.3, (classes, 3, HEIGHT, stride)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["maps"], strides=[1, stride]),
        helper.make_node("Squeeze", ["maps", "axes"], ["lines"]),
        helper.make_node("Transpose", ["lines"], ["logits"], perm=[0, 2, 1]),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([2]), "axes")]
    if steps:
        constants += [numpy_helper.from_array(np.array(v), n) for n, v in (("a", [0]), ("b", [steps]), ("c", [1]))]
        nodes.append(helper.make_node("Slice", ["logits", "a", "b", "c"], ["cut"]))
    last = nodes[-1].output[0]
    if softmax:
        nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=2))
        last = "probabilities"
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", "T", classes])]
    if scalar:
        nodes.append(helper.make_node("ReduceMean", [last], ["mean"], keepdims=0))
        outputs.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "third party",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, HEIGHT, "W"])],
        outputs,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"character": "\n".join(characters)})
    onnx.save(model, str(path))
    return path


def test_a_teacher_outputs_what_its_checkpoint_does(checkpoint, teacher, tmp_path):
    """Lost otherwise: the student would learn from another network than the one that was named."""
    model, card = load_model(checkpoint)
    write_rows(tmp_path, TEXTS[:2])
    samples, _ = read_label_file(tmp_path / "train.txt")
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint, bundle, ["paddle", "onnx"], 50, samples)
    expected = np.exp(log_probabilities(model, images()))
    features = model.outputs(paddle.to_tensor(images()))["features"].numpy()
    for opened in (teacher, open_teacher(bundle, card.charset.classes, HEIGHT, features=True)):
        output = opened(images())
        assert np.abs(np.exp(output.logits) - expected).max() < 1e-5
        assert np.abs(output.features - features).max() < 1e-3
    output = open_teacher(bundle / "model.onnx", card.charset.classes, HEIGHT)(images())
    assert np.abs(np.exp(output.logits) - expected).max() < 1e-5 and output.features is None
    with pytest.raises(SlimError, match="no features to learn from"):
        open_teacher(bundle / "model.onnx", card.charset.classes, HEIGHT, features=True)


def test_a_teacher_sees_lines_at_its_own_height(checkpoint):
    """Lost otherwise: a taller teacher would see squashed lines, or its characters be taken at wrong time steps."""
    model, card = load_model(checkpoint)
    teacher = open_teacher(checkpoint, card.charset.classes, 24)
    given = images(height=24)
    output = teacher(given)
    lines = [resize_to_height(np.ascontiguousarray(line.transpose(1, 2, 0)), HEIGHT) for line in given]
    full = log_probabilities(model, np.stack(lines).transpose(0, 3, 1, 2).copy())
    assert output.logits.shape[1] == time_steps_for_width(given.shape[3]) < full.shape[1]
    expected = resample(TeacherOutput(full), output.logits.shape[1]).logits
    differences = np.abs(np.exp(output.logits) - np.exp(expected)).max(axis=2)
    assert (differences < 1e-4).mean() > 0.98  # of two time steps that are equally blank either may be taken


def test_resampling_by_hand():
    """Lost otherwise: a character on a single time step would be averaged away, or doubled with a blank between."""
    blank = np.array([[9.0, 9, 1, 9, 9, 9, 2, 9, 1]], np.float32)
    logits = np.stack([blank, np.arange(9, dtype=np.float32)[None]], axis=2)
    features = np.arange(9, dtype=np.float32).reshape(1, 9, 1)
    fewer = resample(TeacherOutput(logits, features), 6)  # they cover 0, 1-2, 3, 4-5, 6, 7-8
    assert fewer.logits[0, :, 1].tolist() == [0, 2, 3, 4, 6, 8]
    assert fewer.features[0, :, 0].tolist() == [0, 1.5, 3, 4.5, 6, 7.5]
    more = resample(TeacherOutput(logits), 18)
    assert more.logits[0, :, 1].tolist() == [n // 2 for n in range(18)]


def test_a_teacher_may_output_logits_or_probabilities_in_any_order_of_classes(tmp_path):
    """Lost otherwise: softmax would be taken twice, or one character be taught for another, without a word."""
    image = images()
    a = Teacher(str(write_onnx(tmp_path / "a.onnx")), CHARSET.classes, HEIGHT, "a", "")(image).logits
    b = Teacher(str(write_onnx(tmp_path / "b.onnx", softmax=False)), CHARSET.classes, HEIGHT, "b", "")(image).logits
    assert np.exp(a).sum(axis=2) == pytest.approx(1, abs=1e-4) and np.abs(a - b).max() < 1e-3
    turned = CHARSET.characters[::-1]
    c = Teacher(str(write_onnx(tmp_path / "c.onnx", turned)), CHARSET.classes, HEIGHT, "c", "")(image).logits
    assert np.array_equal(c[:, :, 1:-1][:, :, ::-1], a[:, :, 1:-1]) and np.array_equal(c[:, :, 0], a[:, :, 0])


def test_an_output_that_is_not_asked_for_is_ignored(tmp_path):
    """Lost otherwise: a teacher's second output would be taken for features, or break the training."""
    plain, more = write_onnx(tmp_path / "plain.onnx"), write_onnx(tmp_path / "more.onnx", scalar=True)
    expected, output = (open_teacher(path, CHARSET.classes, HEIGHT)(images()) for path in (plain, more))
    assert output.features is None and np.array_equal(output.logits, expected.logits)


def save_network(folder: Path, model, card: ModelCard) -> Path:
    weights = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    save_checkpoint(folder, card, weights, {"step": 0}, {"step": 0, "best": None, "best_step": 0})
    return folder


def test_a_quantized_teacher_teaches_with_its_float_weights(checkpoint, teacher, tmp_path):
    """Lost otherwise: a quantize stage's checkpoint, named as teacher, would end in a stack trace from paddle."""
    model, card = load_model(checkpoint)
    fake_quantize(model, "max", QUANTIZED_HEAD["layers"])
    source = save_network(tmp_path / "quantized", model, replace(card, transforms=[QUANTIZED_HEAD]))
    assert set(quantized_layers(load_model(source)[0])) == {"head", "encoder"}
    opened = open_teacher(source, CHARSET.classes, HEIGHT)
    assert np.abs(opened(images()).logits - teacher(images()).logits).max() < 1e-3
    assert opened.digest != teacher.digest


def test_a_digest_identifies_a_teacher_by_all_that_its_outputs_depend_on(checkpoint, teacher, tmp_path, monkeypatch):
    """Lost otherwise: a cache would return the outputs of the teacher that was there before, for other characters."""
    monkeypatch.setattr(teachers, "as_onnx", lambda *given: write_onnx(tmp_path / "any.onnx").read_bytes())
    model, card = load_model(checkpoint)
    write_rows(tmp_path, TEXTS[:2])
    samples, _ = read_label_file(tmp_path / "train.txt")
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint, bundle, ["paddle"], 50, samples)

    def digest(source: Path) -> str:
        return open_teacher(source, CHARSET.classes, HEIGHT).digest

    assert digest(bundle) == digest(checkpoint) == teacher.digest  # the same network
    other = replace(card, spec=RecSpec(HEIGHT, Charset((*CHARSET.characters[:-1], "字")).classes))
    found = {teacher.digest, digest(save_network(tmp_path / "other", model, other))}
    found.add(digest(save_network(tmp_path / "taller", model, replace(card, spec=replace(card.spec, height=40)))))
    text = (bundle / "inference.yml").read_text(encoding="utf-8")
    for change in (
        lambda raw: raw["PostProcess"]["character_dict"].__setitem__(-1, "語"),
        lambda raw: raw["Bundle"]["input"].update(height=48),
    ):
        raw = yaml.safe_load(text)
        change(raw)
        (bundle / "inference.yml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
        found.add(digest(bundle))
    model.head.bias.set_value(model.head.bias + 1)
    found.add(digest(save_network(tmp_path / "moved", model, card)))
    assert len(found) == 6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: write_onnx(folder / "t.onnx", ("a", "b")), "other characters"),
        (lambda folder: write_onnx(folder / "t.onnx", steps=25), "25 and 25 time steps"),
        (lambda folder: write_onnx(folder / "t.onnx", stride=32), "choose another teacher"),
        (lambda folder: folder / "nowhere", "there is no teacher"),
        (lambda folder: folder, "not a checkpoint folder"),
    ],
)
def test_what_cannot_teach_is_refused(make, words, tmp_path):
    """Lost otherwise: hours of training towards another alphabet, or a stack trace from inside a library."""
    with pytest.raises(SlimError, match=words):
        open_teacher(make(tmp_path), CHARSET.classes, HEIGHT)


def test_an_onnx_file_that_is_damaged_or_unlabelled_is_refused(tmp_path):
    """Lost otherwise: a graph without its characters would teach whatever its classes happen to be."""
    path = write_onnx(tmp_path / "t.onnx")
    graph = onnx.load(str(path))
    del graph.metadata_props[:]
    onnx.save(graph, str(path))
    with pytest.raises(SlimError, match="does not name its characters"):
        open_teacher(path, CHARSET.classes, HEIGHT)
    path.write_bytes(b"no graph")
    with pytest.raises(SlimError, match="the teacher .*cannot load it"):
        open_teacher(path, CHARSET.classes, HEIGHT)


def test_padding_is_distinguished_from_pixels():
    """Lost otherwise: padding would count as part of the line, or a gray column as its end."""
    lines = [np.full((4, width, 3), value, np.uint8) for width, value in ((5, 127), (9, 128), (1, 0), (12, 255))]
    assert line_widths(to_batch(lines, 12)).tolist() == [5, 9, 1, 12]


class Counting:
    """A teacher that counts the text lines it is run on."""

    def __init__(self, teacher: Teacher):
        self.teacher, self.digest, self.features, self.lines = teacher, teacher.digest, teacher.features, 0

    def __call__(self, image):
        self.lines += len(image)
        return self.teacher(image)


def test_a_cached_output_is_computed_once_and_depends_on_the_line_alone(teacher, tmp_path):
    """Lost otherwise: a resumed run would learn from other outputs than one that was never interrupted."""
    counting = Counting(teacher)
    cached, image = CachedTeacher(counting, tmp_path), images()
    first = cached(image)
    assert counting.lines == len(TEXTS)
    again = CachedTeacher(counting, tmp_path)(image[::-1].copy())
    assert counting.lines == len(TEXTS)
    assert np.array_equal(again.logits[::-1], first.logits) and np.array_equal(again.features[::-1], first.features)
    width, steps = line_widths(image[1:2])[0], time_steps_for_width(line_widths(image[1:2])[0])
    alone = np.zeros((1, 3, HEIGHT, -(-width // 32) * 32), np.float32)
    alone[..., :width] = image[1, :, :, :width]
    plain = counting.teacher(alone)
    assert np.abs(plain.logits[0, :steps] - first.logits[1, :steps]).max() < 0.02
    assert (first.logits[1, steps:].argmax(axis=1) == 0).all() and not first.features[1, steps:].any()
    files = sorted(tmp_path.glob("*/*"))
    assert len(files) == len(TEXTS)
    half = io.BytesIO()
    np.savez(half, logits=first.logits[0])
    for damaged in (b"half a file", b"", half.getvalue()):
        files[0].write_bytes(damaged)
        again = cached(image)
        assert np.array_equal(again.logits, first.logits) and np.array_equal(again.features, first.features)
        assert len(sorted(tmp_path.glob("*/*"))) == len(TEXTS)


def test_a_cache_without_features_is_not_one_with_them(teacher, tmp_path):
    """Lost otherwise: a run that was killed, and goes on with `feature_mse`, would find outputs without them."""
    plain = Teacher(str(write_onnx(tmp_path / "t.onnx")), CHARSET.classes, HEIGHT, "without", teacher.digest)
    assert CachedTeacher(plain, tmp_path)(images()).features is None
    assert CachedTeacher(teacher, tmp_path)(images()).features is not None
    assert CachedTeacher(plain, tmp_path)(images()).features is None


def context_of(folder: Path, card: ModelCard, augmented: bool = False) -> Context:
    task = RecognitionTask(card.spec)
    return Context(folder, card, task, lambda n: [], lambda m: None, augmented, 3, True, lambda: None)


def student_card(**args) -> ModelCard:
    return ModelCard("crnn_mv3_slim", {**ARGS, **args}, RecSpec(HEIGHT, CHARSET.classes))


def distillation(teacher: Path, *losses: str, **keys) -> Distillation:
    return Distillation(Distill(teacher=teacher, losses=[{"name": name} for name in losses], **keys))


@pytest.fixture
def data(tmp_path) -> Path:
    write_rows(tmp_path, TEXTS, "train.txt")
    return tmp_path


class Killer(Technique):
    """Ends a training at a step."""

    def __init__(self, at: int):
        self.at, self.calls = at, 0

    def after_backward(self, model):
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("killed")


def train(folder: Path, name: str, *techniques: Technique) -> dict:
    """Train the student for eight steps on the folder's lines; return all that its last checkpoint holds."""
    raw = config_dict(folder, Global={"output_dir": str(folder / name)}, Train={"augment": []})
    config, card = check_config(Config.model_validate(raw)), student_card()
    samples, _ = read_label_file(folder / "train.txt")
    checked = [CheckedSample(sample) for sample in samples]
    lines = TrainingLines(checked, CHARSET, HEIGHT, time_steps_for_width, LoaderSettings(4, seed=3))
    paddle.seed(3)
    model, task = card.build("Architecture"), RecognitionTask(RecSpec(HEIGHT, CHARSET.classes))
    stage = folder / name / "train"
    for technique in techniques:
        technique.attach(model, context_of(stage, card))
    length = 4 * len(lines)
    job = Job(
        stage, config, length, model, card, task, lines, lambda m: score_lines(["a"], ["b"]), Processes(), techniques
    )
    fit(job)
    last = stage / "last"
    return {"weights": read_arrays(last / "model.pdparams"), **read_arrays(last / "model.pdopt")}


EXTRAS = {"distill": "extra adapter", "mutual": "extra peer", "guide": "extra guide", "tones": "extra tones"}


@pytest.mark.parametrize(("kind", "extra"), EXTRAS.items())
def test_a_resumed_training_is_the_uninterrupted_one_and_saves_the_student_alone(
    kind, extra, checkpoint, teacher, data, monkeypatch
):
    """Lost otherwise: nobody would know which of the networks is in a checkpoint (PaddleOCR#4347, #11457), or a
    resumed run would start its adapter or peer anew.
    """
    monkeypatch.setattr(distill, "open_teacher", lambda *given: teacher)
    files = {path: path.read_bytes() for path in checkpoint.iterdir()}

    def technique() -> Technique:
        kinds = {
            "mutual": MutualLearning(Mutual()),
            "guide": AttentionGuidance(Guide(width=48)),
            "tones": ToneGuidance(Tones()),
        }
        return kinds.get(kind) or distillation(checkpoint, *ALL_LOSSES, cache=True)

    whole = train(data, "whole", technique())
    with pytest.raises(RuntimeError, match="killed"):
        train(data, "parts", technique(), Killer(at=6))  # saved at step 3
    assert_same(train(data, "parts", technique()), whole)
    assert whole.keys() == {"weights", "optimizer", "model", extra}
    assert whole["weights"].keys() == model_state(student_card().build("Architecture")).keys()
    load_model(data / "whole" / "train" / "last")
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == files


def test_every_loss_reaches_the_student_and_its_adapter(checkpoint, teacher, tmp_path, monkeypatch):
    """Lost otherwise: a loss that a config names would be a constant, and its weight tuned in vain."""
    monkeypatch.setattr(distill, "open_teacher", lambda *given: teacher)
    technique, card = distillation(checkpoint, *ALL_LOSSES), student_card()
    model = card.build("Architecture")
    technique.attach(model, context_of(tmp_path, card))
    assert technique.digest() == teacher.digest
    task = RecognitionTask(RecSpec(HEIGHT, CHARSET.classes))
    model.train()
    with accelerated(model, task.criterion, *technique.extras().values()):
        batch = batch_of(TEXTS)
        outputs = task.outputs(model, batch)
        terms = technique.terms(model, outputs, batch)
        assert list(terms) == [f"distill_{name}" for name in ALL_LOSSES]
        assert all(np.isfinite(float(term)) and float(term) > 0 for term in terms.values())
        sum(terms.values()).backward()
    assert all(
        p.grad is not None for p in [*model.parameters(), *technique.adapter.parameters()] if not p.stop_gradient
    )


def batch_of(texts: Sequence[str]):
    labels = [CHARSET.encode(text) for text in texts]
    lengths = np.array([len(label) for label in labels], np.int64)
    padded = np.array([[*label, *[0] * (lengths.max() - len(label))] for label in labels], np.int32)
    return Batch(images(texts), padded, lengths, tuple(texts))


def test_weights_in_the_config_weigh(tmp_path):
    """Lost otherwise: a weight in a config would do nothing, and an ablation show noise."""
    card, teacher = student_card(), write_onnx(tmp_path / "teacher.onnx")
    model, batch = card.build("Architecture"), batch_of(TEXTS)
    outputs = model.outputs(paddle.to_tensor(batch.image))
    values = []
    for weight in (1.0, 2.5):
        loss = {"name": "aligned", "weight": weight, "temperature": 2.0}
        technique = Distillation(Distill(teacher=teacher, losses=[loss], supervised_weight=0.5))
        technique.attach(model, context_of(tmp_path, card))
        values.append(float(technique.terms(model, outputs, batch)["distill_aligned"]))
        assert technique.supervised_weight == 0.5
    assert values[1] == pytest.approx(2.5 * values[0])


def test_caching_augmented_lines_is_refused(checkpoint, tmp_path):
    """Lost otherwise: the disk would fill with outputs that are never used again."""
    technique, card = distillation(checkpoint, "aligned", cache=True), student_card()
    with pytest.raises(SlimError, match="Train.augment"):
        technique.attach(card.build("Architecture"), context_of(tmp_path, card, augmented=True))


@pytest.mark.parametrize(
    "losses",
    [
        [{"name": "aligned"}, {"name": "aligned", "weight": 2}],
        [{"name": "aligned", "beta": 1}],
        [{"name": "feature_mse", "temperature": 2}],
        [],
    ],
)
def test_losses_that_mean_nothing_are_refused(losses):
    """Lost otherwise: a key that has no effect would be tuned for days."""
    with pytest.raises(ValidationError):
        Distill(teacher=Path("teacher"), losses=losses)


def test_a_teacher_that_reads_nothing_gives_no_pseudo_labels(tmp_path):
    """Lost otherwise: the CTC loss of an empty text is infinite here, and the training would stop."""
    technique, card = distillation(tmp_path, "pseudo_labels"), student_card()
    technique.task = RecognitionTask(RecSpec(HEIGHT, CHARSET.classes))
    model, batch = card.build("Architecture"), batch_of(TEXTS)
    outputs = model.outputs(paddle.to_tensor(batch.image))
    silent = np.full(outputs["logits"].shape, -50, np.float32)
    silent[:, :, 0] = 0
    assert float(technique.pseudo_label_loss(outputs["logits"], TeacherOutput(silent), batch)) == 0
    some = silent.copy()
    some[0, 3, 2], some[2, 5, 1] = 9, 9
    expected = technique.task.loss(
        {"logits": outputs["logits"][[0, 2]]},
        Batch(batch.image, np.array([[2], [1]], np.int32), np.array([1, 1]), ()),
    )["ctc"]
    value = float(technique.pseudo_label_loss(outputs["logits"], TeacherOutput(some), batch))
    assert value == pytest.approx(float(expected) * 2 / len(TEXTS), rel=1e-5)


@pytest.mark.parametrize(
    "technique", [AttentionGuidance(Guide(width=48)), ToneGuidance(Tones())], ids=["guide", "tones"]
)
def test_a_branch_teaches_the_convolutions(technique, tmp_path):
    """Lost otherwise: a branch would cost its time in every step, and the network that is kept would learn nothing."""
    card, batch = student_card(dropout=0.0), batch_of(TEXTS)
    model = card.build("Architecture")
    technique.attach(model, context_of(tmp_path, card))
    terms = technique.terms(model, model.outputs(paddle.to_tensor(batch.image)), batch)
    assert (
        list(terms) == [technique.name]
        and np.isfinite(float(terms[technique.name]))
        and float(terms[technique.name]) > 0
    )
    terms[technique.name].backward()
    assert model.collapse[0].weight.grad is not None and model.head.weight.grad is None
    assert all(p.grad is not None for p in technique.branch.parameters())


def test_the_guide_never_sees_the_character_that_it_is_to_predict():
    """Lost otherwise: it would copy its input, lose nothing and teach nothing."""
    inputs, targets = teacher_forcing(np.array([[5, 7, 0], [4, 4, 6]], np.int32), np.array([2, 3]))
    assert inputs.tolist() == [[0, 5, 7, 0], [0, 4, 4, 6]]
    assert targets.tolist() == [[5, 7, 0, PAD], [4, 4, 6, 0]]
    paddle.seed(1)
    reader = AttentionReader(8, 10, 48, 2)
    reader.eval()
    features = paddle.randn([1, 5, 8])
    predicted = reader(features, paddle.to_tensor([[0, 5, 7, 3]])).numpy()
    changed = reader(features, paddle.to_tensor([[0, 5, 7, 9]])).numpy()
    assert np.allclose(predicted[:, :3], changed[:, :3], atol=1e-5)
    assert not np.allclose(predicted[:, 3], changed[:, 3], atol=1e-3)


def test_each_word_has_its_tone():
    """Lost otherwise: the branch would learn other marks than those that distinguish syllables."""
    classes = ["", *"1Naàáạảãđấệ", " "]
    technique = ToneGuidance(Tones())
    technique._tones, technique._space = tone_classes(classes), classes.index(" ")
    labels = np.array([classes.index(character) for character in "1 Na Nà ấ ả ã Nạ đ ệ"])
    assert technique._tones_of(labels) == [1, 1, 3, 2, 4, 5, 6, 1, 6]


def test_two_students_start_apart_and_teach_each_other(tmp_path):
    """Lost otherwise: two equal students would say the same for ever, and neither learn from the other."""
    card, batch = student_card(dropout=0.0), batch_of(TEXTS)
    paddle.seed(3)
    model = card.build("Architecture")
    technique = MutualLearning(Mutual(weight=2.0))
    technique.attach(model, context_of(tmp_path, card))
    assert not np.array_equal(technique.peer.head.weight.numpy(), model.head.weight.numpy())
    terms = technique.terms(model, model.outputs(paddle.to_tensor(batch.image)), batch)
    assert list(terms) == ["peer_ctc", "mutual", "peer_mutual"] and float(terms["mutual"]) > 0
    terms["mutual"].backward()
    assert model.head.weight.grad is not None and technique.peer.head.weight.grad is None
    terms["peer_mutual"].backward()
    assert technique.peer.head.weight.grad is not None


def test_the_peer_of_a_slimmed_student_has_its_widths_and_computes_in_float(tmp_path):
    """Lost otherwise: a pruned student would train beside the unpruned network, at several times the cost."""
    plain = student_card()
    before = widths_of(plain.build("Architecture"))
    narrow = {"encoder": [before["encoder"][0], 8], "head": [16, len(CHARSET.classes)]}
    card = replace(plain, transforms=[{"name": "widths", "layers": narrow}, QUANTIZED_HEAD])
    technique = MutualLearning(Mutual())
    technique.attach(card.build("Architecture"), context_of(tmp_path, card))
    assert widths_of(technique.peer) == {**before, **narrow} != before and not quantized_layers(technique.peer)


def test_a_peer_may_be_another_network_of_the_same_height(tmp_path):
    """Lost otherwise: the peer's time steps would not be the student's, or a typing error show as a stack trace."""
    card = student_card()
    model = card.build("Architecture")
    larger = {"name": "crnn_mv3_slim", "args": {"scale": 0.5, "hidden": 24, "layers": 1}}
    technique = MutualLearning(Mutual(peer=larger))
    technique.attach(model, context_of(tmp_path, card))
    assert technique.peer.height == HEIGHT and technique.peer.head.weight.shape[0] == 48
    for wrong, words in (({"height": 48}, "has height 48"), ({"hiden": 24}, "did you mean hidden")):
        with pytest.raises(SlimError, match=words):
            MutualLearning(Mutual(peer={"name": "crnn_mv3_slim", "args": wrong})).attach(
                model, context_of(tmp_path, card)
            )


def test_the_peer_trains_under_the_fast_kernels(tmp_path):
    """Lost otherwise: mutual learning would take several times as long as two trainings."""
    card, batch = student_card(), batch_of(TEXTS[:2])
    model = build_model("crnn_mv3_slim", ARGS, len(CHARSET.classes))
    technique = MutualLearning(Mutual())
    technique.attach(model, context_of(tmp_path, card))
    with accelerated(technique.peer) as count:
        assert count["LSTMs"] == 1 and count["inverted residuals"] > 5
        technique.terms(model, model.outputs(paddle.to_tensor(batch.image)), batch)["peer_ctc"].backward()
