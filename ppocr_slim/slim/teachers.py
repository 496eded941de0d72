"""Teachers: trained networks that ONNX Runtime runs, and the cache of their outputs on disk.

Paddle's own evaluation takes several times as long on a CPU. A teacher is no layer: it has no gradients and is no part
of what is saved.
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
from ppocr_slim.export.weights import load_network
from ppocr_slim.folders import readable_folder
from ppocr_slim.models.direction import CLASSES
from ppocr_slim.models.fake_quant import quantized_layers, strip
from ppocr_slim.models.state import model_state, training_only
from ppocr_slim.runtime.bundle import ONNX
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, time_steps_for_width
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec
from ppocr_slim.slim.losses import log_softmax
from ppocr_slim.tasks.checkpoint import ModelCard

WIDTHS = (320, 640)  # pixels of the images that a teacher is tested on before it teaches
COARSEST = 16  # most input columns per output time step
MIN_PROBABILITY = 1e-30  # smaller ones count as this


@dataclass(frozen=True)
class TeacherOutput:
    """Outputs of a teacher for a batch.

    Of a recognizer, they are at the student's time steps and in its order of classes.

    Attributes:
        logits: log-probabilities [N, T, K] float32 of a recognizer; logits [N, 2] of a direction classifier;
            probabilities [N, 1, H, W] of a detector.
        features: [N, T, C] float32, where they are asked for.
    """

    logits: np.ndarray
    features: np.ndarray | None = None


class Teacher:
    """A recognizer in ONNX Runtime, on one thread: a training has one process for each core.

    Args:
        graph: path of an ONNX file, or its bytes. Input [N, 3, height, W]; output [N, T', K], probabilities or logits;
            the features [N, T', C] may be a second output.
        classes: the student's K classes; the teacher must have the same ones, in any order.
        height: the student's image height.
        where: name of the teacher in messages.
        digest: identifies the network.
        features: whether to output the features; outputs that are not asked for are not computed.

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
            raise SlimError(f"{where}: a teacher's input must be [N, 3, height, W], this one's is {list(shape)}")
        self.height = shape[2] or height
        self._input = self._session.inputs[0].name
        self._outputs = [output.name for output in self._session.outputs][: 1 + features]
        self._outputs_probabilities = self._test(len(classes))

    def _test(self, classes: int) -> bool:
        """Return whether the network outputs probabilities rather than logits, by running it on noise.

        Raises:
            SlimError: the shape of the outputs does not fit.
        """
        noise = np.random.default_rng(0).uniform(-1, 1, (1, 3, self.height, max(WIDTHS))).astype(np.float32)
        outputs = [self._run(np.ascontiguousarray(noise[..., :width]))[0] for width in WIDTHS]
        if any(output.ndim != 3 or output.shape[2] != classes for output in outputs):
            raise SlimError(
                f"{self.where}: this teacher's output is {list(outputs[0].shape)}, but [N, T, {classes}] is needed: "
                f"{classes - 2} characters, blank and space"
            )
        short, long = (output.shape[1] for output in outputs)
        if abs(long - 2 * short) > 1 or short * COARSEST < WIDTHS[0]:
            raise SlimError(
                f"{self.where}: {short} and {long} time steps for images {WIDTHS[0]} and {WIDTHS[1]} pixels wide: a "
                f"CTC teacher must output a time step for every {COARSEST} columns at least; choose another teacher"
            )
        sums = outputs[1].sum(axis=2)
        probabilities = outputs[1].min() >= 0 and np.abs(sums - 1).max() < 1e-3
        logger.info(
            "teacher %s: height %d, %d time steps for %d columns, outputs %s",
            self.where,
            self.height,
            long,
            WIDTHS[1],
            "probabilities" if probabilities else "logits",
        )
        return bool(probabilities)

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run the network on [N, 3, height, W] float32."""
        return list(self._session.run({self._input: image}, self._outputs).values())

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """Return the teacher's output for a batch.

        Args:
            image: [N, 3, H, W] float32 in -1 to 1; resized to the teacher's own height.
        """
        time_steps = time_steps_for_width(image.shape[3])
        if image.shape[2] != self.height:
            lines = [resize_to_height(np.ascontiguousarray(line.transpose(1, 2, 0)), self.height) for line in image]
            image = np.ascontiguousarray(np.stack(lines).transpose(0, 3, 1, 2))
        output, *rest = self._run(image)
        logits = np.log(np.maximum(output, MIN_PROBABILITY)) if self._outputs_probabilities else log_softmax(output)
        if self._order is not None:
            logits = logits[:, :, self._order]
        return resample(TeacherOutput(logits, rest[0] if rest else None), time_steps)


def resample(output: TeacherOutput, time_steps: int) -> TeacherOutput:
    """Return a teacher's output over T' time steps resampled to T.

    Of the T' time steps that one of the T covers, the logits are those of the least blank one, and the features are
    averaged. A mean of the logits would flatten a character that stands on one time step alone.

    Args:
        output: logits [N, T', K] and features [N, T', C].
        time_steps: T.
    """
    given = output.logits.shape[1]
    if given == time_steps:
        return output
    first = np.arange(time_steps) * given // time_steps
    last = np.maximum((np.arange(time_steps) + 1) * given // time_steps, first + 1)
    covered = first[:, None] + np.arange((last - first).max())  # [T, most time steps that one covers]
    inside, covered = covered < last[:, None], np.minimum(covered, given - 1)
    chosen = first + np.where(inside, output.logits[:, :, 0][:, covered], np.inf).argmin(axis=2)
    logits = np.take_along_axis(output.logits, chosen[:, :, None], axis=1)
    if output.features is None:
        return TeacherOutput(logits)
    weights = (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
    return TeacherOutput(logits, (output.features[:, covered] * weights[:, :, None]).sum(axis=2))


def _class_order(metadata, classes: Sequence[str], where: str) -> np.ndarray | None:
    """Return the teacher's class for each of the student's; None where the order is the same."""
    if "character" not in metadata:
        raise SlimError(
            f"{where} does not name its characters (ONNX metadata 'character'): it cannot be used as a teacher"
        )
    theirs = ["", *metadata["character"].split("\n"), " "]
    if theirs == list(classes):
        return None
    missing, extra = sorted(set(classes) - set(theirs)), sorted(set(theirs) - set(classes))
    if missing or extra:
        raise SlimError(
            f"the teacher {where} has other characters than the student: it lacks {missing[:5]} and has {extra[:5]} "
            "in addition; set Global.character_dict_path to its dictionary, or choose another teacher"
        )
    return np.array([theirs.index(name) for name in classes])


class PlainTeacher:
    """A teacher of detectors or direction classifiers: outputs [N, 1, H, W] probabilities, or [N, 2] logits.

    Args:
        graph: path of an ONNX file, or its bytes.
        spec: the student's.
        where: name of the teacher in messages.
        digest: identifies the network.

    Raises:
        SlimError: it cannot be loaded, or its output does not fit.
    """

    def __init__(self, graph: str | bytes, spec: DetSpec | ClsSpec, where: str, digest: str):
        self._session = OnnxSession(graph, 1, name=f"the teacher {where}")
        self.where, self.digest = where, digest
        size = (64, 96) if isinstance(spec, DetSpec) else (spec.height, spec.width)
        output, expected = self._session(np.zeros((1, 3, *size), np.float32)), (1, 1, *size)
        if isinstance(spec, ClsSpec):
            expected = (1, CLASSES)
            self._outputs_probabilities = output.min() >= 0 and abs(output.sum() - 1) < 1e-3
        if output.shape != expected:
            raise SlimError(
                f"{where}: this teacher's output is {list(output.shape)} for an image of {size[1]} x {size[0]} pixels, "
                f"but {list(expected)} is needed: choose a network of task {spec.task}"
            )
        self._is_classifier = isinstance(spec, ClsSpec)

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """Return the teacher's output for a batch.

        Args:
            image: [N, 3, H, W] float32, normalized for the student.
        """
        output = self._session(image)
        if self._is_classifier and self._outputs_probabilities:
            output = np.log(np.maximum(output, MIN_PROBABILITY))
        return TeacherOutput(output)


def open_plain_teacher(source: Path, spec: DetSpec | ClsSpec) -> PlainTeacher:
    """Open a teacher for a detector or direction classifier.

    Args:
        source: checkpoint folder, bundle, or ONNX file.
        spec: the student's.

    Raises:
        SlimError: there is no network, it is damaged, or it does not fit the student.
    """
    source = readable_folder(Path(source))
    if source.is_file():
        return PlainTeacher(str(source), spec, str(source), hashlib.sha256(source.read_bytes()).hexdigest()[:16])
    model, card = _load_network(source, spec.task)
    digest = _digest(model, card)
    with tempfile.TemporaryDirectory() as folder:
        write_network(strip(model) if quantized_layers(model) else model, card.spec, Path(folder), onnx_too=True)
        graph = (Path(folder) / ONNX).read_bytes()
    return PlainTeacher(graph, spec, str(source), digest)


def open_teacher(source: Path, classes: Sequence[str], height: int, features: bool = False) -> Teacher:
    """Open a teacher for a recognizer.

    Args:
        source: checkpoint folder, bundle, or ONNX file.
        classes: the student's.
        height: the student's image height.
        features: whether to output the features too; an ONNX file has none.

    Raises:
        SlimError: there is no network, it is damaged, or it does not fit the student.
    """
    source = readable_folder(Path(source))
    if source.is_file():
        if features:
            raise SlimError(f"{source} has no features to learn from: name the teacher's checkpoint folder or bundle")
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
        return Teacher(str(source), classes, height, str(source), digest)
    model, card = _load_network(source, RecSpec.task)
    digest = _digest(model, card)
    if quantized_layers(model):
        logger.info("the teacher %s is fake-quantized: it teaches with its float weights", source)
        strip(model)
    graph = as_onnx(model, card.spec, features)
    return Teacher(graph, classes, height, str(source), digest, features)


def _load_network(source: Path, task: str) -> tuple[nn.Layer, ModelCard]:
    """Return the network in a checkpoint folder or a bundle, in evaluation mode, and its card.

    Raises:
        SlimError: there is none, or it is for another task.
    """
    if not source.is_dir():
        raise SlimError(f"there is no teacher {source}: name a checkpoint folder, a bundle or an ONNX file")
    model, card = load_network(source)
    if card.spec.task != task:
        raise SlimError(f"the teacher {source} is a network of task {card.spec.task}: choose one of task {task}")
    return model, card


def _digest(model: nn.Layer, card: ModelCard) -> str:
    """Return a digest of structure, characters, height and named weights, whenever and wherever they were saved.

    What only training uses is left out: a bundle does not have it, and its network has random weights there.
    """
    digest = hashlib.sha256(json.dumps(card.to_dict(), sort_keys=True).encode())
    for name, tensor in model_state(model).items():
        if not name.startswith(training_only(model)):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


class _ExportWrapper(nn.Layer):
    """A network whose forward returns the logits, and the features where they are asked for."""

    def __init__(self, network: nn.Layer, features: bool):
        super().__init__()
        self.network, self.features = network, features

    def forward(self, x):
        outputs = self.network.outputs(x)
        return (outputs["logits"], outputs["features"]) if self.features else outputs["logits"]


def as_onnx(model: nn.Layer, spec: RecSpec, features: bool = False) -> bytes:
    """Export a recognizer to ONNX: image -> logits (and features), batch and width dynamic.

    Args:
        model: in evaluation mode.
        spec: the model's.
        features: whether to output the features too.

    Returns:
        The content of the ONNX file.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_network(_ExportWrapper(model, features), spec, Path(folder), onnx_too=True)
        return (Path(folder) / ONNX).read_bytes()


class CachedTeacher:
    """A teacher that runs once for each text line; its outputs are cached in a folder as float16, one file a line.

    A line is identified by its pixels and run by itself, padded as the runtime pads it: an output depends neither on
    the other lines of a batch nor on the process, so that the files of a killed run can be used, and two processes may
    write the same one.

    Args:
        teacher: the teacher to cache.
        folder: folder of the cache.

    Raises:
        SlimError: the folder cannot be written.
    """

    def __init__(self, teacher: Teacher, folder: Path):
        self.teacher, self.digest = teacher, teacher.digest
        self._names = ["logits", "features"][: 1 + teacher.features]
        self.folder = folder / "-".join([teacher.digest, *self._names])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SlimError(f"cannot cache the teacher's outputs in {self.folder}: {error.strerror}") from error

    def __call__(self, image: np.ndarray) -> TeacherOutput:
        """Return the teacher's output for a batch, as a `Teacher` does.

        Behind the end of a line, its time steps are certain blanks and its features 0.

        Args:
            image: [N, 3, H, W] float32 in -1 to 1, padded with 0.
        """
        lines = [self._line(line[:, :, :width]) for line, width in zip(image, line_widths(image))]
        time_steps = time_steps_for_width(image.shape[3])
        shape = (len(image), time_steps, lines[0]["logits"].shape[1])
        logits = np.full(shape, np.log(MIN_PROBABILITY), np.float32)
        logits[:, :, 0] = 0
        features = None
        if "features" in lines[0]:
            features = np.zeros((len(image), time_steps, lines[0]["features"].shape[1]), np.float32)
        for number, line in enumerate(lines):
            logits[number, : len(line["logits"])] = line["logits"]
            if features is not None:
                features[number, : len(line["features"])] = line["features"]
        return TeacherOutput(logits, features)

    def _line(self, line: np.ndarray) -> dict[str, np.ndarray]:
        """Return the output for a text line [3, H, W] without padding, each array [T, ...] float16."""
        line = np.ascontiguousarray(line)
        path = self.folder / f"{hashlib.sha256(line.tobytes()).hexdigest()[:32]}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in self._names}
        except FileNotFoundError:
            pass
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            logger.warning("%s is damaged (%s): the teacher runs again", path, error)
        width = line.shape[2]
        padded = np.zeros((1, *line.shape[:2], padded_width(width)), np.float32)
        padded[0, :, :, :width] = line
        output = self.teacher(padded)
        time_steps = time_steps_for_width(width)
        arrays = {"logits": output.logits[0, :time_steps].astype(np.float16)}
        if output.features is not None:
            arrays["features"] = output.features[0, :time_steps].astype(np.float16)
        self._save(path, arrays)
        return arrays

    def _save(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        new = path.with_name(f"{path.stem}.{os.getpid()}.new")
        try:
            with open(new, "wb") as file:
                np.savez(file, **arrays)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise SlimError(f"cannot cache the teacher's outputs in {self.folder}: {error.strerror}") from error


def line_widths(image: np.ndarray) -> np.ndarray:
    """Return the width of each text line of a batch, [N].

    Args:
        image: [N, 3, H, W], padded with 0, which no pixel has (it would be 127.5 before normalization).
    """
    return image.shape[3] - (image[:, 0, 0, ::-1] != 0).argmax(axis=1)
