"""Trained networks that others learn from, run by ONNX Runtime, and their answers kept on disk.

Paddle's own evaluation on a CPU takes several times as long. A teacher only answers: it is no layer, has no
gradients, and is no part of what is saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paddle import nn

from ppocr_slim.engines.onnxruntime import OnnxSession
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.bundle import write_network
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.folders import readable_folder
from ppocr_slim.models.direction import CLASSES
from ppocr_slim.models.fake_quant import quantized_layers, strip
from ppocr_slim.models.state import model_state, with_training_only
from ppocr_slim.runtime.bundle import ONNX
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, time_steps_for_width
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec
from ppocr_slim.slim.losses import log_softmax
from ppocr_slim.tasks.checkpoint import ModelCard, load_model, load_weights
from ppocr_slim.tasks.checks import folder_card, is_bundle

WIDTHS = (320, 640)  # pixels; on images of these a teacher is tried before it teaches
COARSEST = 16  # input columns that one of its output steps may stand for
LEAST = 1e-30  # a probability below this counts as this


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher says of a batch, at the student's steps and in its order of classes.

    logits [N, T, K] float32, log-probabilities; features [N, T, C] float32 where they were asked for.
    """

    logits: np.ndarray
    features: np.ndarray | None = None


class Teacher:
    """A network in ONNX Runtime, on one thread: a training has one process for each core.

    Args:
        graph: an ONNX file, or its bytes. Input [N, 3, height, W]; output [N, T', K], probabilities or logits, and
            perhaps features [N, T', C] as a second one.
        classes: what the student's K outputs mean; the teacher must know the same ones, in any order.
        height: the student's.
        where: how messages call it.
        digest: tells its network from others.
        features: whether it answers with features; outputs that are not wanted are not computed.

    Raises:
        SlimError: it cannot be loaded, or its characters, its input or its output do not fit.
    """

    def __init__(
        self,
        graph: str | bytes,
        classes: Sequence[str],
        height: int,
        where: str,
        digest: str,
        features: bool = False,
    ):
        self._session = OnnxSession(graph, 1, name=f"the teacher {where}")
        self.where, self.digest, self.features = where, digest, features
        self._order = _class_order(self._session.metadata, classes, where)
        shape = self._session.inputs[0].shape
        if len(shape) != 4:
            raise SlimError(f"{where}: a teacher's input is [N, 3, height, W], this one's is {list(shape)}")
        self.height = shape[2] or height
        self._input = self._session.inputs[0].name
        self._outputs = [output.name for output in self._session.outputs][: 1 + features]
        self._gives_probabilities = self._try(len(classes))

    def _try(self, classes: int) -> bool:
        """Whether the outputs are probabilities: never negative, with the sum 1 at each step."""
        noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, self.height, max(WIDTHS))).astype(np.float32)
        outputs = [self._run(np.ascontiguousarray(noise[..., :width]))[0] for width in WIDTHS]
        if any(output.ndim != 3 or output.shape[2] != classes for output in outputs):
            raise SlimError(
                f"{self.where}: this teacher gives {list(outputs[0].shape)} where [N, T, {classes}] is wanted: "
                f"{classes - 2} characters, blank and space"
            )
        short, long = (output.shape[1] for output in outputs)
        if abs(long - 2 * short) > 1 or short * COARSEST < WIDTHS[0]:
            raise SlimError(
                f"{self.where}: {short} and {long} output steps for images of {WIDTHS[0]} and {WIDTHS[1]} pixels: "
                "a teacher of CTC gives a step for every so many columns; take another one"
            )
        sums = outputs[1].sum(axis=2)
        probabilities = outputs[1].min() >= 0 and np.abs(sums - 1).max() < 1e-3
        logger.info(
            "teacher %s: height %d, %d steps for %d columns, gives %s",
            self.where,
            self.height,
            long,
            WIDTHS[1],
            "probabilities" if probabilities else "logits",
        )
        return bool(probabilities)

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run [N, 3, height, W] float32; batch and width must be dynamic."""
        return list(self._session.run({self._input: image}, self._outputs).values())

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """What it says of image [N, 3, H, W] float32 in -1 to 1, which it sees at its own height."""
        steps = time_steps_for_width(image.shape[3])
        if image.shape[2] != self.height:
            rows = [resize_to_height(np.ascontiguousarray(row.transpose(1, 2, 0)), self.height) for row in image]
            image = np.ascontiguousarray(np.stack(rows).transpose(0, 3, 1, 2))
        given, *rest = self._run(image)
        logits = np.log(np.maximum(given, LEAST)) if self._gives_probabilities else log_softmax(given)
        if self._order is not None:
            logits = logits[:, :, self._order]
        return at_steps(TeacherOutput(logits, rest[0] if rest else None), steps)


def at_steps(answer: TeacherOutput, steps: int) -> TeacherOutput:
    """An answer for T' steps at T = `steps`: of the T' that a step covers the one least blank, their mean features.

    A mean of the logits would flatten a letter that stands on one step alone.
    """
    given = answer.logits.shape[1]
    if given == steps:
        return answer
    first = np.arange(steps) * given // steps
    last = np.maximum((np.arange(steps) + 1) * given // steps, first + 1)
    covered = first[:, None] + np.arange((last - first).max())  # [T, steps that one covers, at most]
    inside, covered = covered < last[:, None], np.minimum(covered, given - 1)
    chosen = first + np.where(inside, answer.logits[:, :, 0][:, covered], np.inf).argmin(axis=2)
    logits = np.take_along_axis(answer.logits, chosen[:, :, None], axis=1)
    if answer.features is None:
        return TeacherOutput(logits)
    shares = (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
    return TeacherOutput(logits, (answer.features[:, covered] * shares[:, :, None]).sum(axis=2))


def _class_order(metadata, classes: Sequence[str], where: str) -> np.ndarray | None:
    """The teacher's class for each of the student's; None where they are the same."""
    if "character" not in metadata:
        raise SlimError(f"{where} does not name its characters (metadata 'character'): it cannot be a teacher")
    theirs = ["", *metadata["character"].split("\n"), " "]
    if theirs == list(classes):
        return None
    lacking, foreign = sorted(set(classes) - set(theirs)), sorted(set(theirs) - set(classes))
    if lacking or foreign:
        raise SlimError(
            f"the teacher {where} has other characters than the student: it lacks {lacking[:5]} and has {foreign[:5]} "
            "besides; name its dictionary in Global.character_dict_path, or take another teacher"
        )
    return np.array([theirs.index(name) for name in classes])


class PlainTeacher:
    """A teacher of detectors or direction classifiers: its answers are [N, 1, H, W] probabilities, or [N, 2] logits.

    Args:
        graph: an ONNX file, or its bytes.
        spec: the student's.
        where, digest: as of `Teacher`.

    Raises:
        SlimError: it cannot be loaded, or its output does not fit.
    """

    def __init__(self, graph: str | bytes, spec: DetSpec | ClsSpec, where: str, digest: str):
        self._session = OnnxSession(graph, 1, name=f"the teacher {where}")
        self.where, self.digest = where, digest
        size = (64, 96) if isinstance(spec, DetSpec) else (spec.height, spec.width)
        given, wanted = self._session(np.zeros((1, 3, *size), np.float32)), (1, 1, *size)
        if isinstance(spec, ClsSpec):
            wanted = (1, CLASSES)
            self._gives_probabilities = given.min() >= 0 and abs(given.sum() - 1) < 1e-3
        if given.shape != wanted:
            raise SlimError(
                f"{where}: this teacher gives {list(given.shape)} for an image of {size[1]} x {size[0]} pixels, "
                f"{list(wanted)} is wanted: take a network of task {spec.task}"
            )
        self._is_classifier = isinstance(spec, ClsSpec)

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """What it says of image [N, 3, H, W] float32, normalized as the student sees it."""
        given = self._session(image)
        if self._is_classifier and self._gives_probabilities:
            given = np.log(np.maximum(given, LEAST))
        return TeacherOutput(given)


def open_plain_teacher(source: Path, spec: DetSpec | ClsSpec) -> PlainTeacher:
    """The teacher of a detector or direction classifier in a checkpoint folder, a bundle, or an ONNX file.

    Raises SlimError if there is none, it is damaged, or it does not fit `spec`, the student's.
    """
    source = readable_folder(Path(source))
    if source.is_file():
        return PlainTeacher(str(source), spec, str(source), hashlib.sha256(source.read_bytes()).hexdigest()[:16])
    model, card = _open_network(source, spec.task)
    digest = _digest(model, card)
    with tempfile.TemporaryDirectory() as folder:
        write_network(strip(model) if quantized_layers(model) else model, card.spec, Path(folder), onnx_too=True)
        graph = (Path(folder) / ONNX).read_bytes()
    return PlainTeacher(graph, spec, str(source), digest)


def open_teacher(source: Path, classes: Sequence[str], height: int, features: bool = False) -> Teacher:
    """The recognizer's teacher in a checkpoint folder, a bundle, or an ONNX file.

    Args:
        classes, height: the student's.
        features: whether its features are wanted, too; an ONNX file has none.

    Raises:
        SlimError: there is none, it is damaged, or it does not fit.
    """
    source = readable_folder(Path(source))
    if source.is_file():
        if features:
            raise SlimError(f"{source} has no features to learn from: name the teacher's checkpoint folder or bundle")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
        return Teacher(str(source), classes, height, str(source), digest)
    model, card = _open_network(source, RecSpec.task)
    digest = _digest(model, card)
    if quantized_layers(model):
        logger.info("the teacher %s is fake-quantized: it teaches with its float weights, without its grids", source)
        strip(model)
    graph = as_onnx(model, card.spec, features)
    return Teacher(graph, classes, height, str(source), digest, features)


def _open_network(source: Path, task: str) -> tuple[nn.Layer, ModelCard]:
    """The network in a checkpoint folder or a bundle. SlimError if there is none, or it is for another task."""
    if not source.is_dir():
        raise SlimError(f"there is no teacher {source}: name a checkpoint folder, a bundle or an ONNX file")
    if is_bundle(source):
        card = folder_card(source)
        model = card.build(str(source))
        load_weights(model, with_training_only(model, read_bundle_weights(source)), source)
        model.eval()
    else:
        model, card = load_model(source)
    if card.spec.task != task:
        raise SlimError(f"the teacher {source} is a network of task {card.spec.task}: it must be one of task {task}")
    return model, card


def _digest(model: nn.Layer, card: ModelCard) -> str:
    """Tells by structure, characters, height and named weights; when and where they were saved is nothing to it."""
    digest = hashlib.sha256(json.dumps(card.to_dict(), sort_keys=True).encode())
    for name, tensor in model_state(model).items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


class _ExportWrapper(nn.Layer):
    """A network that gives its logits, and its features where they are wanted."""

    def __init__(self, network: nn.Layer, features: bool):
        super().__init__()
        self.network, self.features = network, features

    def forward(self, x):
        outputs = self.network.outputs(x)
        return (outputs["logits"], outputs["features"]) if self.features else outputs["logits"]


def as_onnx(model: nn.Layer, spec: RecSpec, features: bool = False) -> bytes:
    """An ONNX graph of a network in evaluation mode: image -> logits (and features), batch and width dynamic."""
    with tempfile.TemporaryDirectory() as folder:
        write_network(_ExportWrapper(model, features), spec, Path(folder), onnx_too=True)
        return (Path(folder) / ONNX).read_bytes()


class CachedTeacher:
    """A teacher that answers for each row once; the answers lie in a folder, as float16, a file a row.

    A row is told by its pixels, and answered for by itself, padded as the runtime pads it: an answer depends neither
    on the neighbours in a batch nor on the process that asked, so that a killed run's files can be used, and two
    processes may write the same one.
    """

    def __init__(self, teacher: Teacher, folder: Path):
        self.teacher, self.digest = teacher, teacher.digest
        self._names = ["logits", "features"][: 1 + teacher.features]
        self.folder = folder / "-".join([teacher.digest, *self._names])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SlimError(f"cannot keep the teacher's answers in {self.folder}: {error.strerror}") from error

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """As a `Teacher`'s; a row's steps behind its end are certain blanks, its features there 0."""
        rows = [self._row(row[:, :, :width]) for row, width in zip(image, line_widths(image))]
        steps = time_steps_for_width(image.shape[3])
        logits = np.full((len(image), steps, rows[0]["logits"].shape[1]), np.log(LEAST), np.float32)
        logits[:, :, 0] = 0
        features = None
        if "features" in rows[0]:
            features = np.zeros((len(image), steps, rows[0]["features"].shape[1]), np.float32)
        for number, row in enumerate(rows):
            logits[number, : len(row["logits"])] = row["logits"]
            if features is not None:
                features[number, : len(row["features"])] = row["features"]
        return TeacherOutput(logits, features)

    def _row(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """The answer for a row [3, H, W] without padding, each array [T, ...] float16."""
        row = np.ascontiguousarray(row)
        path = self.folder / f"{hashlib.sha256(row.tobytes()).hexdigest()[:32]}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in self._names}
        except FileNotFoundError:
            pass
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): the teacher answers again", path, error)
        width = row.shape[2]
        padded = np.zeros((1, *row.shape[:2], padded_width(width)), np.float32)
        padded[0, :, :, :width] = row
        answer = self.teacher(padded)
        steps = time_steps_for_width(width)
        arrays = {"logits": answer.logits[0, :steps].astype(np.float16)}
        if answer.features is not None:
            arrays["features"] = answer.features[0, :steps].astype(np.float16)
        self._keep(path, arrays)
        return arrays

    def _keep(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        new = path.with_name(f"{path.stem}.{os.getpid()}.new")
        try:
            with open(new, "wb") as file:
                np.savez(file, **arrays)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise SlimError(f"cannot keep the teacher's answers in {self.folder}: {error.strerror}") from error


def line_widths(image: np.ndarray) -> np.ndarray:
    """The width of each row of a padded batch [N, 3, H, W]: padding is 0, which is no value of a pixel (127.5)."""
    return image.shape[3] - (image[:, 0, 0, ::-1] != 0).argmax(axis=1)
