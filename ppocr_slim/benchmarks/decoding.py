"""The decoding benchmark: greedy decoding compared with beam search, a language model and place names."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.lines import EvaluatedLine, scores_of
from ppocr_slim.evaluation.metrics import normal_form
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.runtime.bundle import LANGUAGE, read_bundle
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer, open_bundle_decoder
from ppocr_slim.text.beam import KEPT
from ppocr_slim.text.corrections import correct
from ppocr_slim.text.ctc import Decode, greedy_decode
from ppocr_slim.text.vietnamese.place_names import PLACE_NAMES

PACKAGES = ("onnxruntime", "numpy", "rapidfuzz")
WARM_UP = 10  # lines whose times do not count: caches fill up


@dataclass(frozen=True)
class Method:
    """A decoder with corrections.

    Attributes:
        name: name in the report.
        decode: name of the decoder.
        post: names of the corrections.
        files: the files that it needs beside the network.
    """

    name: str
    decode: str
    post: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


METHODS = (
    Method("greedy", "greedy"),
    Method("greedy, lexicon and syllables", "greedy", ("lexicon", "syllables"), ("map",)),
    Method("beam search", "beam", (), ("language",)),
    Method("beam search, lexicon", "beam", ("lexicon",), ("language", "map")),
    Method("address search", "address", (), ("language", "map")),
)


def compare_methods(
    bundle: Path, samples: Sequence[Sample], command: str, precision: str = "auto", language: Path | None = None
) -> tuple[dict[str, Any], dict[str, list[EvaluatedLine]]]:
    """Decode all samples by each of `METHODS`.

    The time of a line is from pixels to text, one line at a time; the methods take turns line by line.

    Args:
        bundle: a recognizer's bundle.
        samples: labelled text lines.
        command: the command line, for the report.
        language: file of the language model; None: the bundle's.

    Returns:
        The results, ready for JSON and without any text; and by the method's name its evaluated lines.

    Raises:
        SlimError: the bundle is damaged or has no language model, or no sample can be read.
    """
    if not samples:
        raise SlimError("there is nothing to compare: give at least one labelled text line")
    recognizer = Recognizer.from_bundle(bundle, precision=precision)
    decoders = {name: open_bundle_decoder(name, bundle, language) for name in {method.decode for method in METHODS}}
    lines: dict[str, list[EvaluatedLine]] = {method.name: [] for method in METHODS}
    total_ms: dict[str, list[float]] = {method.name: [] for method in METHODS}
    network_ms: list[float] = []
    for sample in samples:
        ms, decoded = _decode_sample(recognizer, decoders, sample)
        for name, (decode_ms, line) in decoded.items():
            lines[name].append(line)
            if ms is not None:
                total_ms[name].append(ms + decode_ms)
        if ms is not None:
            network_ms.append(ms)
    if not network_ms:
        raise SlimError(
            f"none of the {len(samples)} lines can be read: check that the label file is where its images are"
        )
    sizes = read_bundle(bundle).sizes
    bytes_of = {
        "language": language.stat().st_size if language else sizes[LANGUAGE],
        "map": PLACE_NAMES.stat().st_size,
    }
    greedy = lines[METHODS[0].name]
    first = WARM_UP if len(network_ms) > 2 * WARM_UP else 0
    return {
        **provenance(command, PACKAGES),
        "bundle": str(bundle),
        "precision": precision,
        "rows": len(samples),
        "network_ms": round(statistics.median(network_ms[first:]), 2),
        "ways": [
            {
                "name": method.name,
                "scores": asdict(scores_of(lines[method.name])),
                **_changes(greedy, lines[method.name]),
                "bytes": sum(bytes_of[file] for file in method.files),
                "ms": round(statistics.median(total_ms[method.name][first:]), 2),
                "ms_95": round(float(np.percentile(total_ms[method.name][first:], 95)), 2),
            }
            for method in METHODS
        ],
    }, lines


def _decode_sample(
    recognizer: Recognizer, decoders: Mapping[str, Decode], sample: Sample
) -> tuple[float | None, dict[str, tuple[float, EvaluatedLine]]]:
    """Run the network on a line once, and decode its probabilities by each of `METHODS`.

    Returns:
        Milliseconds up to the probabilities, None for an image that cannot be read; and by the method's name the
        milliseconds of decoding and the evaluated line.
    """
    recorder = _Recorder()
    recognizer.decode = recorder
    network_ms, confidence = None, 0.0
    try:
        image = load_image(sample.path)
        ms, (line,) = _timed(lambda: recognizer.read([image]))
        network_ms, confidence = ms - recorder.ms, line.confidence
    except SlimError as error:
        logger.warning('counted as read "": %s', error)
    reference = normal_form(sample.text)
    decoded = {}
    for method in METHODS:
        decode = partial(_decode, decoders[method.decode], recorder, recognizer.spec.classes, method)
        ms, text = _timed(decode)
        distance = Levenshtein.distance(reference, text)
        decoded[method.name] = (ms, EvaluatedLine(reference, text, confidence, sample.path, sample.group, distance))
    return network_ms, decoded


class _Recorder:
    """A greedy decoder that keeps the probabilities that it decodes, and the time that it takes.

    Attributes:
        probabilities: of one text line; None: it was blank.
    """

    def __init__(self) -> None:
        self.probabilities: np.ndarray | None = None
        self.ms = 0.0

    def __call__(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[tuple[str, float]]:
        self.probabilities = probabilities
        self.ms, decoded = _timed(lambda: greedy_decode(probabilities, classes))
        return decoded


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the milliseconds of a call and its result."""
    began = time.perf_counter()
    result = work()
    return 1000 * (time.perf_counter() - began), result


def _decode(decode: Decode, recorder: _Recorder, classes: Sequence[str], method: Method) -> str:
    if recorder.probabilities is None:
        return ""
    return correct(decode(recorder.probabilities, classes)[0][0], method.post)


def _changes(greedy: Sequence[EvaluatedLine], lines: Sequence[EvaluatedLine]) -> dict[str, int]:
    """Count the lines that differ from greedy decoding, with fewer errors, with more, and with other numbers."""
    pairs = list(zip(greedy, lines))
    return {
        "changed": sum(one.reading != other.reading for one, other in pairs),
        "better": sum(other.distance < one.distance for one, other in pairs),
        "worse": sum(other.distance > one.distance for one, other in pairs),
        "numbers_changed": sum(_numbers(one.reading) != _numbers(other.reading) for one, other in pairs),
    }


def _numbers(text: str) -> list[str]:
    """Return the words with a digit or a slash."""
    return [word for word in text.split(" ") if not KEPT.isdisjoint(word)]


def worse_lines(lines: Mapping[str, Sequence[EvaluatedLine]], name: str) -> list[EvaluatedLine]:
    """Return the lines with more errors than by greedy decoding, worst first.

    Args:
        lines: lines by method, as of `compare_methods`.
        name: name of the method.
    """
    pairs = zip(lines[METHODS[0].name], lines[name])
    worse = [(line.distance - greedy.distance, line) for greedy, line in pairs if line.distance > greedy.distance]
    return [line for _, line in sorted(worse, key=lambda pair: -pair[0])]
