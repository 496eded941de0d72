"""Lists of augmentations that configs name in `Train.augment`, alone or among entries of their own."""

from __future__ import annotations

import difflib
from typing import Any

from ppocr_slim.errors import SlimError

Entry = dict[str, Any]  # as `config.schema.Augmentation` has it

# In the order in which they are applied
AUGMENTATIONS: dict[str, list[Entry]] = {
    # Recognition, on real lines mixed with synthetic ones, from random weights
    "line_strong": [
        {"name": "trim", "p": 0.2},
        {"name": "glue_words", "p": 0.3},
        {"name": "squeeze", "p": 0.4},
        {"name": "rescale", "p": 0.3},
        {"name": "perspective", "p": 0.4},
        {"name": "distort", "p": 0.3, "strength": 0.8},
        {"name": "color", "p": 0.3},
        {"name": "blur", "p": 0.15},
        {"name": "noise", "p": 0.15},
        {"name": "erase", "p": 0.1},
    ],
    # The same with a thicker or thinner pen and a stronger warp, for long trainings
    "line_strong_pen": [
        {"name": "trim", "p": 0.2},
        {"name": "glue_words", "p": 0.3},
        {"name": "squeeze", "p": 0.4},
        {"name": "rescale", "p": 0.3},
        {"name": "pen", "p": 0.3},
        {"name": "perspective", "p": 0.4},
        {"name": "distort", "p": 0.4},
        {"name": "color", "p": 0.3},
        {"name": "blur", "p": 0.15},
        {"name": "noise", "p": 0.15},
        {"name": "erase", "p": 0.1},
    ],
    # Mostly real lines, to go on from what stronger augmentation has taught
    "line_mild": [
        {"name": "trim", "p": 0.2},
        {"name": "glue_words", "p": 0.25},
        {"name": "squeeze", "p": 0.3, "strength": 0.6},
        {"name": "rescale", "p": 0.3, "strength": 0.7},
        {"name": "perspective", "p": 0.4, "strength": 0.8},
        {"name": "distort", "p": 0.3, "strength": 0.7},
        {"name": "color", "p": 0.3},
        {"name": "blur", "p": 0.1},
        {"name": "noise", "p": 0.1},
        {"name": "erase", "p": 0.05},
    ],
    # Synthetic lines alone, from random weights. glue_words makes short texts without sense of them: else the network
    # learns what addresses say before it learns to see.
    "line_synthetic": [
        {"name": "trim", "p": 0.2},
        {"name": "glue_words", "p": 0.3},
        {"name": "squeeze", "p": 0.4},
        {"name": "rescale", "p": 0.3},
        {"name": "perspective", "p": 0.3},
        {"name": "distort", "p": 0.3, "strength": 0.8},
        {"name": "color", "p": 0.3},
        {"name": "blur", "p": 0.1},
        {"name": "noise", "p": 0.1},
    ],
    # Synthetic lines alone, for a network that reads already
    "line_finetune": [
        {"name": "trim", "p": 0.3},
        {"name": "squeeze", "p": 0.5},
        {"name": "rescale", "p": 0.4},
        {"name": "perspective", "p": 0.5},
        {"name": "distort", "p": 0.5},
        {"name": "color", "p": 0.4},
        {"name": "blur", "p": 0.25},
        {"name": "noise", "p": 0.25},
        {"name": "erase", "p": 0.2},
    ],
    # PP-OCR's base data augmentation (BDA, arXiv:2009.09941: light, blur, noise, perspective), and widths and sizes
    "line_bda": [
        {"name": "trim", "p": 0.2},
        {"name": "squeeze", "p": 0.3},
        {"name": "rescale", "p": 0.3},
        {"name": "perspective", "p": 0.4},
        {"name": "color", "p": 0.3},
        {"name": "blur", "p": 0.1},
        {"name": "noise", "p": 0.1},
    ],
    # Direction: line crops, right way up or turned
    "direction": [
        {"name": "squeeze", "p": 0.3},
        {"name": "rescale", "p": 0.4},
        {"name": "rand_augment", "p": 0.7},
    ],
    # Detection: pages, whose geometry the cropping changes already
    "page": [
        {"name": "color", "p": 0.5},
        {"name": "blur", "p": 0.2},
        {"name": "noise", "p": 0.2},
    ],
}


def expand(augment: Any, origin: str) -> Any:
    """Return a raw `Train.augment` in which entries stand in place of the names of lists.

    Args:
        augment: a name, or a list of names and entries; anything else is returned as it is, for the schema to refuse.
        origin: name of the file or override that sets it, for the message.

    Raises:
        SlimError: no list has such a name.
    """
    if isinstance(augment, str):
        augment = [augment]
    if not isinstance(augment, list):
        return augment
    return [entry for item in augment for entry in (_named(item, origin) if isinstance(item, str) else [item])]


def _named(name: str, origin: str) -> list[Entry]:
    if name not in AUGMENTATIONS:
        near = difflib.get_close_matches(name, AUGMENTATIONS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(AUGMENTATIONS)}"
        single = f"a single augmentation is written {{name: {name}}}"
        raise SlimError(f"{origin}: Train.augment: no list of augmentations is called {name!r}: {hint} ({single})")
    return [dict(entry) for entry in AUGMENTATIONS[name]]
