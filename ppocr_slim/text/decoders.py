"""Decoders by name, from a recognizer's probabilities to texts. Each is loaded when it is asked for."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from ppocr_slim.errors import SlimError
from ppocr_slim.text.ctc import Decode, greedy_decode
from ppocr_slim.text.language_model import LanguageModel

GREEDY = "greedy"
DECODERS = {
    GREEDY: "ppocr_slim.text.ctc:greedy_decode",
    "beam": "ppocr_slim.text.beam:BeamSearch",
    "address": "ppocr_slim.text.vietnamese.address:AddressSearch",
}
"""Name -> "module:attribute": a function for greedy decoding, or a class that takes a `LanguageModel`."""


def check_decoder(name: str) -> None:
    """Raise SlimError unless `name` is one of `DECODERS`."""
    if name not in DECODERS:
        raise SlimError(f"no decoder is called {name!r}: known are {', '.join(DECODERS)}")


def open_decoder(name: str, language: Path | None = None) -> Decode:
    """Open one of `DECODERS`.

    Args:
        name: of the decoder.
        language: a language model's file, which all but "greedy" need.

    Raises:
        SlimError: an unknown name, or a language model that is missing or damaged.
    """
    check_decoder(name)
    if name == GREEDY:
        return greedy_decode
    if language is None:
        raise SlimError(f"the decoder {name!r} needs a language model")
    return pkgutil.resolve_name(DECODERS[name])(LanguageModel.load(language))
