"""Network architectures as plain Paddle layers, and the registry of their names."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ppocr_slim.errors import WrongKeyError
from ppocr_slim.models.crnn import LSTM, crnn_mv3_slim, crnn_teacher
from ppocr_slim.models.db import LEVELS, db_mv3_slim, db_teacher
from ppocr_slim.models.direction import dir_cls_mv3_slim
from ppocr_slim.models.mobilenet_v3 import TABLES
from ppocr_slim.models.necks import NECKS
from ppocr_slim.models.state import name_parameters


class Builder(NamedTuple):
    """An entry of the registry: the task ("det", "cls" or "rec") and the function that builds the network."""

    task: str
    build: Callable


MODELS: dict[str, Builder] = {
    "crnn_mv3_slim": Builder("rec", crnn_mv3_slim),
    "crnn_teacher": Builder("rec", crnn_teacher),
    "db_mv3_slim": Builder("det", db_mv3_slim),
    "db_teacher": Builder("det", db_teacher),
    "dir_cls_mv3_slim": Builder("cls", dir_cls_mv3_slim),
}

# Valid values of the builders' arguments: argument -> (predicate, the same in words)
ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "height": (lambda value: 32 <= value <= 64, "32 to 64"),
    "width": (lambda value: 64 <= value <= 640, "64 to 640"),
    "backbone": (lambda value: value in TABLES, " or ".join(TABLES)),
    "scale": (lambda value: 0 < value < math.inf, "more than 0"),
    "channels": (lambda value: value >= LEVELS and value % LEVELS == 0, f"a multiple of {LEVELS}"),
    "height_stride": (lambda value: value in (16, 32), "16 or 32"),
    "hidden": (lambda value: value >= 1, "1 or more"),
    "layers": (lambda value: value >= 1, "1 or more"),
    "depth": (lambda value: value >= 1, "1 or more"),
    "kernel": (lambda value: value >= 1 and value % 2 == 1, "an odd number"),
    "heads": (lambda value: value >= 1, "1 or more"),
    "dropout": (lambda value: 0 <= value < 1, "0 or more and less than 1"),
}
GIVEN = ("classes", "inputs")  # arguments that follow from what is around a network or a neck
LSTM_ARGUMENTS = {"hidden", "layers"}


def bind_model(name: str, args: Mapping, where: str = "Architecture") -> inspect.BoundArguments:
    """Check the name of a model and the names, types and values of its arguments, without building it.

    Args:
        where: the key of the model in the config, for messages.

    Returns:
        The bound arguments, with the builder's defaults filled in.

    Raises:
        WrongKeyError: one of them is wrong; the message names the closest match or the valid values.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODELS)}"
        raise WrongKeyError(f"{where}.name", f"no model is called {name!r}; {hint}")
    signature = inspect.signature(MODELS[name].build)
    if "neck" in args and "neck" in signature.parameters:
        args = _with_bound_neck(args, f"{where}.args")
    bound = _bind(name, signature, args, f"{where}.args")
    if bound.arguments.get("neck", LSTM) != LSTM:
        for key in LSTM_ARGUMENTS:
            del bound.arguments[key]
    return bound


def _with_bound_neck(args: Mapping, where: str) -> dict[str, Any]:
    """Check a recognizer's neck, and add its defaults.

    Returns:
        The recognizer's arguments; those of an LSTM stand beside the neck, as they did when there was no other.
    """
    neck = args["neck"]
    kind = neck.get("kind") if isinstance(neck, Mapping) else None
    if kind not in NECKS:
        raise WrongKeyError(f"{where}.neck", f"{neck!r} is no neck: it needs a kind, {' or '.join(NECKS)}")
    own = {key: value for key, value in neck.items() if key != "kind"}
    bound = dict(_bind(f"neck {kind}", inspect.signature(NECKS[kind]), own, f"{where}.neck").arguments)
    del bound["inputs"]
    if kind == "lstm":
        return {**args, **own, "neck": {"kind": kind}}
    for key in LSTM_ARGUMENTS & args.keys():
        raise WrongKeyError(f"{where}.{key}", f"it is for neck.kind lstm, and this is {kind}: take it out")
    if bound.get("heads") and bound["channels"] % bound["heads"]:
        problem = f"{bound['channels']} is no multiple of the {bound['heads']} heads"
        raise WrongKeyError(f"{where}.neck.channels", problem)
    return {**args, "neck": {"kind": kind, **bound}}


def _bind(name: str, signature: inspect.Signature, args: Mapping, where: str) -> inspect.BoundArguments:
    """Check arguments against a builder's signature, and add its defaults."""
    known = signature.parameters
    for key, value in args.items():
        if key not in known or key in GIVEN:
            options = [k for k in known if k not in GIVEN]
            near = difflib.get_close_matches(key, options, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(options)}"
            raise WrongKeyError(f"{where}.{key}", f"{name} has no such argument; {hint}")
        if key == "neck":
            continue
        wanted = type(known[key].default)
        right = isinstance(value, (int, float)) if wanted is float else type(value) is wanted
        if not right or (wanted is float and isinstance(value, bool)):
            raise WrongKeyError(f"{where}.{key}", f"{value!r} is not a {wanted.__name__}")
        if key in ALLOWED and not ALLOWED[key][0](value):
            raise WrongKeyError(f"{where}.{key}", f"{value!r} is not allowed; it may be {ALLOWED[key][1]}")
    bound = signature.bind(**{key: 0 for key in GIVEN if key in known}, **args)
    bound.apply_defaults()
    return bound


def build_model(name: str, args: Mapping, classes: int = 0, where: str = "Architecture"):
    """Build the network `name` with the arguments `args`.

    Args:
        classes: number of output classes of a recognizer; ignored for other networks.
        where: the key of the model in the config, for messages.

    Returns:
        The network, with structured parameter names.

    Raises:
        WrongKeyError: see `bind_model`.
    """
    bound = bind_model(name, args, where)
    if "classes" in bound.arguments:
        bound.arguments["classes"] = classes
    model = MODELS[name].build(**bound.arguments)
    name_parameters(model)
    return model
