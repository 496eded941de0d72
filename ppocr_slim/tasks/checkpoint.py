"""Checkpoint folders: self-describing, written atomically, and read without executing anything.

model.yml        the card: architecture, transforms of its structure, input and output; enough to build the network
model.pdparams   the weights (the averaged ones where averaging is on), readable by `paddle.load`
model.pdopt      the optimizer's state and, where averaging is on, the raw weights; only needed to resume
model.states     step, best score and other state of the training, as JSON
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml
from paddle import nn

from ppocr_slim.data.charset import Charset
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import STATES, publish_folder, readable_folder
from ppocr_slim.models import MODELS, build_model
from ppocr_slim.models.state import model_state
from ppocr_slim.models.transforms import apply_transforms
from ppocr_slim.runtime.specs import SPECS, Spec

FORMAT = 1
CARD, WEIGHTS, OPTIMIZER = "model.yml", "model.pdparams", "model.pdopt"


@dataclass(frozen=True)
class ModelCard:
    """The description of a checkpoint's network.

    Attributes:
        name: of the builder in `models.MODELS`.
        args: of the builder.
        spec: input and output of the network.
        transforms: changes of the structure after it was built, see `models.transforms`.
    """

    name: str
    args: dict[str, Any]
    spec: Spec
    transforms: list[dict[str, Any]] = field(default_factory=list)

    @property
    def charset(self) -> Charset:
        """The characters of a recognizer."""
        return Charset(self.spec.characters)

    @property
    def architecture(self) -> dict[str, Any]:
        """Name, arguments and transforms, as cards and bundles store them."""
        return {"name": self.name, "args": dict(self.args), "transforms": list(self.transforms)}

    def build(self, where: str) -> nn.Layer:
        """Build the network with initial weights.

        Args:
            where: name of the card's origin in messages.

        Raises:
            SlimError: the architecture or a transform is wrong.
        """
        model = build_model(self.name, self.args, len(getattr(self.spec, "classes", ())), where)
        apply_transforms(model, self.transforms, where)
        return model

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any], spec: Spec) -> ModelCard:
        """Make a card from a stored architecture; those written before there were transforms have none.

        Args:
            architecture: name, arguments and transforms.
            spec: input and output of the network.

        Raises:
            KeyError: the architecture is damaged.
            TypeError: the architecture is damaged, or of another task than `spec`.
        """
        name, args, transforms = architecture["name"], architecture["args"], architecture.get("transforms", [])
        if not isinstance(name, str) or not isinstance(args, dict):
            raise TypeError("unusable architecture")
        if not isinstance(transforms, list) or not all(isinstance(transform, dict) for transform in transforms):
            raise TypeError("unusable transforms")
        if name in MODELS and MODELS[name].task != spec.task:
            raise TypeError(f"{name} is not a network of task {spec.task}")
        return cls(name, args, spec, transforms)

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values, for model.yml."""
        return {
            "format": FORMAT,
            "task": self.spec.task,
            "architecture": self.architecture,
            **self.spec.to_dict(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: Path) -> ModelCard:
        """Make a card from the result of `to_dict`.

        Args:
            raw: plain values.
            where: name of their origin in messages.

        Raises:
            SlimError: it is of an unknown format or task.
            KeyError: it is damaged.
            TypeError: it is damaged.
            ValueError: it is damaged.
        """
        if raw["format"] != FORMAT or raw["task"] not in SPECS:
            raise SlimError(
                f"{where} has format {raw['format']} and task {raw['task']!r}, which this version cannot read"
            )
        own = {key: value for key, value in raw.items() if key not in ("format", "task", "architecture")}
        try:
            spec = SPECS[raw["task"]].from_dict(own)
        except SlimError as error:
            raise ValueError(str(error)) from error
        return cls.from_architecture(raw["architecture"], spec)

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read the card of a checkpoint folder.

        Raises:
            SlimError: there is none, or it is damaged.
        """
        path = Path(folder) / CARD
        try:
            return cls.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")), path)
        except OSError as error:
            raise SlimError(f"{folder} is not a checkpoint folder: cannot read {CARD} ({error.strerror})") from error
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SlimError(f"{path} is damaged ({error!r}): use another checkpoint") from error


# All that paddle.save writes for a state of tensors: containers, tuples and numpy arrays. None of them runs code.
_HARMLESS = {
    ("builtins", "tuple"),
    ("collections", "OrderedDict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that refuses everything but containers and arrays."""

    def find_class(self, module, name):
        if (module, name) not in _HARMLESS:
            raise SlimError(f"it would run {module}.{name}")
        return super().find_class(module, name)


def read_arrays(path: Path) -> dict[str, Any]:
    """Read a file of `paddle.save` without executing anything from it.

    Args:
        path: model.pdparams or model.pdopt.

    Returns:
        Name -> numpy array, plain number, or a dict of them.

    Raises:
        SlimError: the file is missing or damaged, or contains anything that would run code.
    """
    try:
        state = _ArraysOnly(io.BytesIO(Path(path).read_bytes())).load()
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror}") from error
    except SlimError as error:
        raise SlimError(f"{path} is refused: {error}; it was not written by this project's training") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise SlimError(f"{path} is damaged ({type(error).__name__}): use another checkpoint") from error
    if not isinstance(state, dict):
        raise SlimError(f"{path} contains a {type(state).__name__}, not named arrays")
    return {name: _plain(value) for name, value in state.items() if name != "StructuredToParameterName@@"}


def _plain(value):
    """Return the array of a (name, array) pair, as which paddle.save stores a tensor in a nested dict."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray):
        return value[1]
    return {name: _plain(v) for name, v in value.items()} if isinstance(value, dict) else value


def read_states(folder: Path) -> dict[str, Any]:
    """Read model.states: step, best, best_step and whatever else `save_checkpoint` was given.

    Args:
        folder: of the checkpoint.

    Raises:
        SlimError: the file is missing or damaged.
    """
    path = Path(folder) / STATES
    try:
        states = json.loads(path.read_text(encoding="utf-8"))
        numbers = (states["step"], states["best_step"], 0 if states["best"] is None else states["best"])
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError("not a number")
        return states
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SlimError(f"{path} is damaged ({error!r}): use another checkpoint") from error


def load_weights(model: nn.Layer, weights: Mapping[str, np.ndarray], where) -> None:
    """Set every parameter and buffer of a network.

    Args:
        model: the network.
        weights: float arrays by name, neither more nor less than the network has.
        where: name of their origin in messages.

    Raises:
        SlimError: names or shapes do not match, or a value is no float array.
    """
    if not isinstance(weights, Mapping):
        raise SlimError(f"the weights in {where} are damaged: they are not named arrays; use another checkpoint")
    own = model_state(model)
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        parts = [f"lacks {missing[:3]}"] * bool(missing) + [f"has unknown {unknown[:3]}"] * bool(unknown)
        raise SlimError(f"the weights in {where} do not fit the architecture: {' and '.join(parts)}")
    for name, tensor in own.items():
        if not isinstance(weights[name], np.ndarray) or weights[name].dtype.kind != "f":
            raise SlimError(f"the weights in {where} are damaged: {name} is not a float array; use another checkpoint")
        found = list(weights[name].shape)
        if found != list(tensor.shape):
            raise SlimError(f"the weights in {where} do not fit: {name} is {found}, the network has {tensor.shape}")
        tensor.set_value(np.ascontiguousarray(weights[name], dtype=np.float32))


def require_finite(state: dict[str, np.ndarray]) -> None:
    """Check that no weight is NaN or infinite: such a state must never replace a good checkpoint.

    Args:
        state: weights by name.

    Raises:
        SlimError: a weight is not finite.
    """
    for name, value in state.items():
        if not np.isfinite(value).all():
            raise SlimError(f"{name} is not finite; the last good checkpoint is kept")


def save_checkpoint(
    folder: Path,
    card: ModelCard,
    weights: dict[str, np.ndarray],
    optimizer: dict[str, Any],
    states: dict[str, Any],
) -> None:
    """Write a checkpoint folder atomically.

    Args:
        folder: to write, or to replace.
        card: the network's.
        weights: by name.
        optimizer: content of model.pdopt.
        states: content of model.states.

    Raises:
        SlimError: a weight is not finite, or the disk is full; the previous checkpoint stays whole.
    """
    require_finite(weights)
    new = folder.with_name(folder.name + ".new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        paddle.save(weights, str(new / WEIGHTS))
        paddle.save(optimizer, str(new / OPTIMIZER))
        (new / STATES).write_text(json.dumps(states, indent=1), encoding="utf-8")
        (new / CARD).write_text(yaml.safe_dump(card.to_dict(), allow_unicode=True, sort_keys=False), encoding="utf-8")
        publish_folder(new, folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise SlimError(f"cannot write {folder}: {error.strerror}; the previous checkpoint is kept") from error


def load_model(folder) -> tuple[nn.Layer, ModelCard]:
    """Load the network of a checkpoint folder.

    Args:
        folder: of the checkpoint.

    Returns:
        The network in evaluation mode, and its card.

    Raises:
        SlimError: the folder is no checkpoint, or it is damaged.
    """
    folder = readable_folder(Path(folder))
    card = ModelCard.read(folder)
    model = card.build(str(folder / CARD))
    load_weights(model, read_arrays(folder / WEIGHTS), folder / WEIGHTS)
    model.eval()
    return model, card
