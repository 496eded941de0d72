"""Networks: plain paddle layers, and the table by which a config names them."""

from __future__ import annotations

import difflib
import inspect
from typing import Mapping

from ppocr_slim.errors import WrongKeyError
from ppocr_slim.models.crnn import ALLOWED, crnn_mv3_slim, crnn_teacher
from ppocr_slim.models.state import name_parameters

MODELS = {"crnn_mv3_slim": crnn_mv3_slim, "crnn_teacher": crnn_teacher}


def bind_model(name: str, args: Mapping, where: str = "Architecture") -> inspect.BoundArguments:
    """Check a model's name and arguments, their types and their values, without building it.

    Returns the bound arguments with the builder's defaults filled in.

    Raises:
        WrongKeyError: naming `where` and the nearest right name, or what the value may be.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MODELS)}"
        raise WrongKeyError(f"{where}.name", f"no model is called {name!r}; {hint}")
    known = inspect.signature(MODELS[name]).parameters
    for key, value in args.items():
        if key not in known or key == "classes":
            options = [k for k in known if k != "classes"]
            near = difflib.get_close_matches(key, options, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(options)}"
            raise WrongKeyError(f"{where}.args.{key}", f"{name} has no such argument; {hint}")
        wanted = type(known[key].default)
        right = isinstance(value, (int, float)) if wanted is float else type(value) is wanted
        if not right or (wanted is float and isinstance(value, bool)):
            raise WrongKeyError(f"{where}.args.{key}", f"{value!r} is not a {wanted.__name__}")
        if key in ALLOWED and not ALLOWED[key][0](value):
            raise WrongKeyError(f"{where}.args.{key}", f"{value!r} is not allowed; it may be {ALLOWED[key][1]}")
    bound = inspect.signature(MODELS[name]).bind(classes=0, **args)
    bound.apply_defaults()
    return bound


def build_model(name: str, args: Mapping, classes: int, where: str = "Architecture"):
    """The network `name` with `args` for `classes` output classes; bad values raise SlimError."""
    bound = bind_model(name, args, where)
    bound.arguments["classes"] = classes
    model = MODELS[name](**bound.arguments)
    name_parameters(model)
    return model
