"""Corrections of texts, by name. None is on by default, and each is loaded when it is asked for.

A correction takes any text and returns it in Unicode NFC: of a decomposed text (NFD) it would see letters without their
marks.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

from ppocr_slim.errors import SlimError

CORRECTIONS = {
    "lexicon": "ppocr_slim.text.vietnamese.corrections:correct_places",
    "syllables": "ppocr_slim.text.vietnamese.corrections:correct_syllables",
    "tone_marks": "ppocr_slim.text.vietnamese.corrections:place_tone_marks",
    "tone_marks_old": "ppocr_slim.text.vietnamese.corrections:place_tone_marks_old",
}
"""Name -> "module:function" from text to text."""


def check_corrections(names: Sequence[str]) -> None:
    """Raise SlimError unless all `names` are of `CORRECTIONS`."""
    for name in names:
        if name not in CORRECTIONS:
            raise SlimError(f"unknown correction {name!r}: known are {', '.join(CORRECTIONS)}")


def correction_names(text: str) -> tuple[str, ...]:
    """Split a list of corrections such as "lexicon,syllables" into their names.

    Raises:
        SlimError: an unknown or repeated name.
    """
    names = tuple(name.strip() for name in text.split(","))
    for index, name in enumerate(names):
        check_corrections([name])
        if name in names[:index]:
            raise SlimError(f"the correction {name!r} is named twice in {text!r}: once is enough")
    return names


def correct(text: str, names: Sequence[str]) -> str:
    """Apply corrections to a text.

    Args:
        text: any text.
        names: of `CORRECTIONS`, in the order in which they are applied.

    Returns:
        The corrected text; the same text without names.
    """
    for name in names:
        text = pkgutil.resolve_name(CORRECTIONS[name])(text)
    return text
