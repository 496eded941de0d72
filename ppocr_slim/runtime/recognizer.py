"""The recognizer, which reads cropped text lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.blank import is_blank
from ppocr_slim.runtime.bundle import LANGUAGE, is_bundle, read_bundle
from ppocr_slim.runtime.network import Network
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.sessions import Predict
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.text.ctc import Decode, greedy_decode
from ppocr_slim.text.decoders import GREEDY, check_decoder, open_decoder


class Recognizer(Network[RecSpec]):
    """A recognizer behind any session: an exported bundle's or a checkpoint's.

    Args:
        session, spec: see `Network`.
        decode: the decoder, from probabilities to texts.
    """

    spec_type, purpose = RecSpec, "text lines are read"

    def __init__(self, session: Predict, spec: RecSpec, decode: Decode = greedy_decode):
        super().__init__(session, spec)
        self.decode = decode

    @classmethod
    def from_bundle(
        cls,
        folder: str | Path,
        engine: str = "onnxruntime",
        threads: int | None = None,
        precision: str = "auto",
        decode: str = "greedy",
    ) -> Recognizer:
        """Open an exported bundle.

        Args:
            folder, engine, threads, precision: see `Network.from_bundle`.
            decode: one of `text.decoders.DECODERS`.

        Raises:
            SlimError: as in `Network.from_bundle`, an unknown decoder, or one that needs a language model where the
                bundle has none.
        """
        recognizer = super().from_bundle(folder, engine, threads, precision)
        recognizer.decode = open_bundle_decoder(decode, folder)
        return recognizer

    def read(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[TextLine]:
        """Read cropped lines.

        Each line is padded to a multiple of 32 pixels and shares a batch with lines of that same padded width only: the
        network sees the padding, so a text must not depend on how wide its neighbours are. A blank line never reaches
        the network.

        Args:
            images: [h, w, 3] uint8 BGR each, of any size.
            batch_size: lines that go through the network together, at most.

        Returns:
            One `TextLine` for each image, in their order; "" for a blank line.
        """
        inputs = [resize_to_height(image, self.spec.height, self.spec.max_width) for image in images]
        by_width: dict[int, list[int]] = defaultdict(list)
        lines: dict[int, TextLine] = {}
        for index, line in enumerate(inputs):
            if is_blank(line):
                lines[index] = TextLine("", 0.0)
            else:
                by_width[padded_width(line.shape[1])].append(index)
        for width, indices in sorted(by_width.items()):
            for start in range(0, len(indices), batch_size):
                chunk = indices[start : start + batch_size]
                probabilities = self.session(to_batch([inputs[index] for index in chunk], width))
                for index, decoded in zip(chunk, self.decode(probabilities, self.spec.classes)):
                    lines[index] = TextLine(*decoded)
        return [lines[index] for index in range(len(inputs))]


def open_bundle_decoder(name: str, bundle: str | Path, language: Path | None = None) -> Decode:
    """Open a decoder with the language model of a bundle.

    Args:
        name: one of `text.decoders.DECODERS`.
        bundle: the folder of a recognizer's bundle.
        language: the file of another language model, to be used instead.

    Raises:
        SlimError: an unknown name, or the decoder needs a language model and there is none.
    """
    check_decoder(name)
    if language is None and name != GREEDY:
        if not is_bundle(bundle):
            raise SlimError(f"{bundle} is no bundle, which would have a language model: name one (--language FILE)")
        opened = read_bundle(bundle)
        if LANGUAGE not in opened.sizes:
            raise SlimError(f"{bundle} has no language model: make one with `ppocr-slim language-model`")
        language = opened.file(LANGUAGE)
    return open_decoder(name, language)
