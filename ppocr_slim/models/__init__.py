"""Networks: plain paddle layers, and the table by which a config names them."""

from __future__ import annotations

import difflib
import inspect
from typing import Mapping

from ppocr_slim.errors import SlimError
from ppocr_slim.models.crnn import crnn_mv3_slim, crnn_teacher

MODELS = {"crnn_mv3_slim": crnn_mv3_slim, "crnn_teacher": crnn_teacher}


def bind_model(name: str, args: Mapping, where: str = "Architecture") -> inspect.BoundArguments:
    """Check a model's name and arguments against its builder's signature without building it.

    Returns the bound arguments with the builder's defaults filled in.

    Raises:
        SlimError: naming `where` and the nearest right name.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODELS)}"
        raise SlimError(f"{where}.name: no model is called {name!r}; {hint}")
    known = inspect.signature(MODELS[name]).parameters
    for key, value in args.items():
        if key not in known or key == "classes":
            options = [k for k in known if k != "classes"]
            near = difflib.get_close_matches(key, options, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(options)}"
            raise SlimError(f"{where}.args.{key}: {name} has no such argument; {hint}")
        wanted = type(known[key].default)
        right = isinstance(value, (int, float)) if wanted is float else type(value) is wanted
        if not right or (wanted is float and isinstance(value, bool)):
            raise SlimError(f"{where}.args.{key}: {value!r} is not a {wanted.__name__}")
    bound = inspect.signature(MODELS[name]).bind(classes=0, **args)
    bound.apply_defaults()
    return bound


def build_model(name: str, args: Mapping, classes: int, where: str = "Architecture"):
    """The network `name` with `args` for `classes` output classes; bad values raise SlimError."""
    bound = bind_model(name, args, where)
    bound.arguments["classes"] = classes
    try:
        return MODELS[name](**bound.arguments)
    except ValueError as error:
        raise SlimError(f"{where}.args: {error}") from error
