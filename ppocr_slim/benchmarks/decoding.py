"""Comparison of decoders: greedy and with knowledge of addresses, what each gains, costs and breaks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
WARM_UP = 10  # lines whose times do not count: tables fill up


@dataclass(frozen=True)
class Way:
    """A way of making a text of what the network saw."""

    name: str
    decode: str
    post: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # that it needs beside the network


WAYS = (
    Way("greedy", "greedy"),
    Way("greedy, lexicon and syllables", "greedy", ("lexicon", "syllables"), ("map",)),
    Way("beam search", "beam", (), ("language",)),
    Way("beam search, lexicon", "beam", ("lexicon",), ("language", "map")),
    Way("address search", "address", (), ("language", "map")),
)


def compare_ways(
    bundle: Path, samples: Sequence[Sample], command: str, precision: str = "auto", language: Path | None = None
) -> tuple[dict[str, Any], dict[str, list[EvaluatedLine]]]:
    """Decode every line in each of `WAYS`.

    A line's time is from pixels to text, one line at a time, the ways taking turns line by line.

    Args:
        language: the language model's file; None: the bundle's.

    Returns:
        The figures, ready for JSON and without any text, and each way's lines.

    Raises:
        SlimError: the bundle is damaged or has no language model, or there is no line that can be read.
    """
    if not samples:
        raise SlimError("there is nothing to compare: give at least one labelled line")
    recognizer = Recognizer.from_bundle(bundle, precision=precision)
    decoders = {name: open_bundle_decoder(name, bundle, language) for name in {way.decode for way in WAYS}}
    lines: dict[str, list[EvaluatedLine]] = {way.name: [] for way in WAYS}
    network_ms: list[float] = []
    whole_ms: dict[str, list[float]] = {way.name: [] for way in WAYS}
    for sample in samples:
        seen = _Recorder()
        recognizer.decode = seen
        try:
            image = load_image(sample.path)
            ms, (line,) = _timed(lambda image=image: recognizer.read([image]))
        except SlimError as error:
            logger.warning('counted as read "": %s', error)
            ms, line = None, None
        confidence = line.confidence if line else 0.0
        if ms is not None:
            network_ms.append(ms - seen.ms)
        for way in WAYS:
            way_ms, text = _timed(lambda way=way, seen=seen: _decoded(decoders[way.decode], seen, recognizer, way))
            if ms is not None:
                whole_ms[way.name].append(network_ms[-1] + way_ms)
            reference = normal_form(sample.text)
            distance = Levenshtein.distance(reference, text)
            lines[way.name].append(EvaluatedLine(reference, text, confidence, sample.path, sample.group, distance))
    sizes = read_bundle(bundle).sizes
    bytes_of = {
        "language": language.stat().st_size if language else sizes[LANGUAGE],
        "map": PLACE_NAMES.stat().st_size,
    }
    if not network_ms:
        raise SlimError(f"none of the {len(samples)} lines can be read: is the label file where its images are?")
    plain = lines[WAYS[0].name]
    first = WARM_UP if len(network_ms) > 2 * WARM_UP else 0
    return {
        **provenance(command, PACKAGES),
        "bundle": str(bundle),
        "precision": precision,
        "rows": len(samples),
        "network_ms": round(statistics.median(network_ms[first:]), 2),
        "ways": [
            {
                "name": way.name,
                "scores": asdict(scores_of(lines[way.name])),
                **_changes(plain, lines[way.name]),
                "bytes": sum(bytes_of[file] for file in way.files),
                "ms": round(statistics.median(whole_ms[way.name][first:]), 2),
                "ms_95": round(float(np.percentile(whole_ms[way.name][first:], 95)), 2),
            }
            for way in WAYS
        ],
    }, lines


class _Recorder:
    """Decodes greedily, and keeps what it was given."""

    def __init__(self) -> None:
        self.probabilities: np.ndarray | None = None  # of one line; None: it was blank
        self.ms = 0.0

    def __call__(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[tuple[str, float]]:
        self.probabilities = probabilities
        self.ms, decoded = _timed(lambda: greedy_decode(probabilities, classes))
        return decoded


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return 1000 * (time.perf_counter() - began), made


def _decoded(decode: Decode, seen: _Recorder, recognizer: Recognizer, way: Way) -> str:
    if seen.probabilities is None:
        return ""
    return correct(decode(seen.probabilities, recognizer.spec.classes)[0][0], way.post)


def _changes(plain: Sequence[EvaluatedLine], lines: Sequence[EvaluatedLine]) -> dict[str, int]:
    """Lines that are not as they were read plainly, those with fewer and with more errors, and numbers that changed."""
    pairs = list(zip(plain, lines))
    return {
        "changed": sum(one.reading != other.reading for one, other in pairs),
        "better": sum(other.distance < one.distance for one, other in pairs),
        "worse": sum(other.distance > one.distance for one, other in pairs),
        "numbers_changed": sum(_numbers(one.reading) != _numbers(other.reading) for one, other in pairs),
    }


def _numbers(text: str) -> list[str]:
    """Return the words that have a digit or a slash."""
    return [word for word in text.split(" ") if not KEPT.isdisjoint(word)]


def made_worse(lines: dict[str, list[EvaluatedLine]], name: str) -> list[EvaluatedLine]:
    """Return the lines of a way that have more errors than read plainly, the worst first."""
    pairs = zip(lines[WAYS[0].name], lines[name])
    worse = [(line.distance - plain.distance, line) for plain, line in pairs if line.distance > plain.distance]
    return [line for _, line in sorted(worse, key=lambda pair: -pair[0])]
