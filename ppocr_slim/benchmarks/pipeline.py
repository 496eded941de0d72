"""The end-to-end benchmark: lines found, turned, read, time and memory, beside RapidOCR's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ppocr_slim.benchmarks.worker import Worker
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.data.page_labels import PageSample, read_page_file
from ppocr_slim.engines.timing import PAUSE, compared
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.directions import evaluate_directions, score_directions
from ppocr_slim.evaluation.hmean import Found, score_page
from ppocr_slim.evaluation.metrics import PageScores, normal_form, score_lines
from ppocr_slim.evaluation.pages import ReadingErrors, score_reading
from ppocr_slim.reports.provenance import ROOT, commit, machine
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.boxes import rectify
from ppocr_slim.runtime.bundle import INT8, ONNX, Bundle, read_bundle
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer

FP32, INT8_SIDE, RAPIDOCR = "fp32", "int8", "rapidocr"
TASKS = ("det", "cls", "rec")
STAGES = (*TASKS, "total")
LINE_RANGES = ((0, 0), (1, 7), (8, 12), (13, 10**6))  # a page's true lines; pages are told apart by their number
_T = TypeVar("_T")
SETTLE, REPEATS = 1, 3  # readings of a page in a turn: those that do not count, and those of which the median does


@dataclass(frozen=True)
class PipelineSettings:
    """What to compare.

    Attributes:
        pages: PaddleOCR's detection label file.
        det, cls, rec: bundles.
        lines: a recognizer's label file, on which directions are told, too.
        only_rows: a recognizer's label file: only lines that say what a row of it says are read for the figures.
        lines: pages with so many true lines, from and to, are timed; None: all.
        limit: at most so many pages and lines are scored; None: all. Those that are timed are taken from all.
        rivals: of ("rapidocr",).
        rival_python: an interpreter that has them; None: this one.
    """

    pages: Path
    det: Path
    cls: Path
    rec: Path
    rows: Path | None = None
    only_rows: Path | None = None
    lines: tuple[int, int] | None = (8, 12)
    limit: int | None = None
    rounds: int = 5
    timed_pages: int = 10
    threads: int = 2
    rivals: Sequence[str] = (RAPIDOCR,)
    rival_python: str | None = None


def parse_range(text: str) -> tuple[int, int]:
    """Return "8-12" -> (8, 12), "8" -> (8, 8).

    Raises:
        SlimError: anything else.
    """
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high:
        raise SlimError(f"{text!r} is no range of lines: write 8-12")
    return low, high


def wanted_texts(path: Path) -> set[str]:
    """Return all texts of a recognizer's label file.

    Raises:
        SlimError: `read_label_file` does.
    """
    return {normal_form(sample.text) for sample in read_label_file(path)[0]}


def flags(page: PageSample, wanted: set[str] | None) -> list[bool]:
    """Return which lines of a page count neither way: those that are marked, and those whose text is not `wanted`."""
    return [
        ignore or (wanted is not None and normal_form(text) not in wanted)
        for text, ignore in zip(page.texts, page.ignored)
    ]


def run_pipeline_benchmark(settings: PipelineSettings, command: str) -> dict[str, Any]:
    """Return all figures, as plain dicts.

    Raises:
        SlimError: a label file, a bundle or a page cannot be read, no page is left, or a rival cannot be started.
    """
    labelled = read_page_file(settings.pages)[0]
    pages = labelled[: settings.limit]
    if not pages:
        raise SlimError(f"{settings.pages} has no page to read")
    wanted = wanted_texts(settings.only_rows) if settings.only_rows else None
    low, high = settings.lines or (0, 10**6)
    timed = [page for page in labelled if low <= line_count(page) <= high][: settings.timed_pages]
    if settings.rounds and not timed:
        raise SlimError(f"no page of {settings.pages} has {low} to {high} lines: nothing can be timed (--lines)")
    bundles = {task: read_bundle(getattr(settings, task)) for task in TASKS}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(side) for name, side in _sides(settings, bundles)}
        readings = {name: _read_all(name, side, pages) for name, side in sides.items()}
        quality = {name: score_side(pages, found, wanted) for name, found in readings.items()}
        speed = _speed(sides, timed, settings) if settings.rounds else {}
        hellos = {name: side.hello for name, side in sides.items()}
    truth = _true_boxes(settings, bundles, pages, wanted)
    return {
        "command": command,
        "commit": commit(),
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": settings.threads,
        "pages": {"file": _named(settings.pages), "count": len(pages), "lines": sum(map(line_count, pages))},
        "only_rows": _named(settings.only_rows) if settings.only_rows else None,
        "sides": {name: {**quality[name], **hello} for name, hello in hellos.items()},
        **truth,
        "speed": speed,
        "bundles": {task: dict(bundle.sizes) for task, bundle in bundles.items()},
    }


def line_count(page: PageSample) -> int:
    """True lines that are not marked to be ignored."""
    return page.ignored.count(False)


def _named(path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _sides(settings: PipelineSettings, bundles: Mapping[str, Bundle]) -> list[tuple[str, Worker]]:
    """Ours in FP32, in INT8 where every bundle has it or else FP32 in its place, and the rivals; started."""
    ours = {"engine": "ppocr_slim", "threads": settings.threads}
    ours.update({task: str(getattr(settings, task).absolute()) for task in TASKS})
    sides = []
    for precision in (FP32, INT8_SIDE):
        file = INT8 if precision == INT8_SIDE else ONNX
        if all(file in bundle.sizes for bundle in bundles.values()):
            sides.append((precision, Worker({**ours, "precision": precision})))
    for rival in settings.rivals:
        sides.append((rival, Worker({"engine": rival, "threads": settings.threads}, settings.rival_python)))
    if not sides:
        raise SlimError("the bundles have no precision in common: export all of them with onnx or onnx_int8")
    return sides


def _read_all(name: str, side: Worker, pages: Sequence[PageSample]) -> list[list[Any]]:
    return [
        side.ask(page=str(page.path), repeats=1)["lines"] for page in tqdm(pages, desc=name, unit="page", disable=None)
    ]


def score_side(
    pages: Sequence[PageSample], readings: Sequence[Sequence[Any]], wanted: set[str] | None
) -> dict[str, Any]:
    """Figures of one side's readings, [[quad, text], ...] a page; the text of a box that was dropped is "".

    "detection": of all boxes, over all pages, by folder where there are several, and by number of lines; "reading": of
    those with a text, over all pages and by number of lines; see `ReadingErrors`.
    """
    counts, errors = [], []
    for page, lines in zip(pages, readings):
        outlines = [np.array(quad, np.float32) for quad, _ in lines]
        counts.append(score_page(page.outlines, page.ignored, outlines))
        kept = [(outline, text) for outline, (_, text) in zip(outlines, lines) if text]
        errors.append(score_reading(page, flags(page, wanted), [outline for outline, _ in kept], [t for _, t in kept]))
    groups: dict[str, list[Found]] = {}
    for page, count in zip(pages, counts):
        groups.setdefault(page.group, []).append(count)
    return {
        "detection": {
            "all": _page_figures(counts),
            "by_kind": {name: _page_figures(some) for name, some in sorted(groups.items())} if len(groups) > 1 else {},
            "by_lines": {title: _page_figures(some) for title, some in by_line_count(pages, counts).items()},
        },
        "reading": {
            "all": _reading_figures(errors),
            "by_lines": {title: _reading_figures(some) for title, some in by_line_count(pages, errors).items()},
        },
    }


def by_line_count(pages: Sequence[PageSample], values: Sequence[_T]) -> dict[str, list[_T]]:
    """Return the values of the pages whose number of true lines is in one of `LINE_RANGES`, by the range in words."""
    found = {}
    for low, high in LINE_RANGES:
        some = [value for page, value in zip(pages, values) if low <= line_count(page) <= high]
        if some:
            title = str(low) if low == high else f"{low} or more" if high >= 10**6 else f"{low} to {high}"
            found[title] = some
    return found


def _reading_figures(errors: Sequence[ReadingErrors]) -> dict[str, Any]:
    whole = sum(errors, ReadingErrors())
    return {**asdict(whole), "cer": whole.cer}


def _page_figures(counts: Sequence[Found]) -> dict[str, Any]:
    return asdict(PageScores.of(sum(counts, Found()), len(counts)))


def _true_boxes(
    settings: PipelineSettings, bundles: Mapping[str, Bundle], pages: Sequence[PageSample], wanted: set[str] | None
) -> dict[str, Any]:
    """Return "true_boxes": the recognizer on the true lines cut out, in both precisions, over all pages and by number
    of lines; "direction": the classifier there and on lines, in FP32.
    """
    crops, texts, owners = [], [], []
    for page in pages:
        image = load_image(page.path)
        for outline, text, ignore in zip(page.outlines, page.texts, flags(page, wanted)):
            if not ignore:
                quad = outline if len(outline) == 4 else polygons.around(outline)
                crops.append(rectify(image, quad))
                texts.append(text)
                owners.append(page)
    if not crops:
        raise SlimError("no line of the pages is left to be read: choose other lines (--only-rows)")
    read = {}
    for precision, file in ((FP32, ONNX), (INT8_SIDE, INT8)):
        if file in bundles["rec"].sizes:
            recognizer = Recognizer.from_bundle(settings.rec, threads=settings.threads, precision=precision)
            both = list(zip(texts, [line.text for line in recognizer.read(crops)]))
            parts = {"all": both, **by_line_count(owners, both)}
            figures = {title: asdict(score_lines(*zip(*some))) for title, some in parts.items()}
            read[precision] = {"all": figures.pop("all"), "by_lines": figures}
    classifier = DirectionClassifier.from_bundle(settings.cls, threads=settings.threads)
    direction = {"crops": asdict(score_directions(classifier, crops))}
    if settings.rows:
        samples = read_label_file(settings.rows)[0][: settings.limit]
        direction["rows"] = asdict(evaluate_directions(classifier, samples).scores)
    return {"true_boxes": read, "direction": direction}


def _speed(sides: Mapping[str, Worker], pages: Sequence[PageSample], settings: PipelineSettings) -> dict[str, Any]:
    """Milliseconds a page by stage, and peak memory, of each side.

    Page by page all sides take turns, every other round the other way round. A round's figure is the mean over the
    pages of the medians of `REPEATS` readings; the figure is the median of the rounds, the ratio that of their ratios.
    """
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    peaks: dict[str, float] = {}
    total = settings.rounds * len(pages) * len(sides)
    with tqdm(total=total, desc="time", unit="turn", disable=None) as bar:
        for number in range(settings.rounds):
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for page in pages:
                for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
                    time.sleep(PAUSE)
                    answer = sides[name].ask(page=str(page.path), repeats=SETTLE + REPEATS)
                    turns[name].append({s: statistics.median(answer["stages"][s][SETTLE:]) for s in STAGES})
                    peaks[name] = answer["peak_mb"]
                    bar.update()
            for name, some in turns.items():
                rounds[name].append({stage: statistics.fmean(turn[stage] for turn in some) for stage in STAGES})
    figures: dict[str, Any] = {}
    for name, some in rounds.items():
        ms = {stage: round(statistics.median(one[stage] for one in some), 2) for stage in STAGES}
        figures[name] = {"ms": ms, "peak_mb": round(peaks[name], 1)}
        totals = [one["total"] for one in some]
        for rival in settings.rivals:
            if rival != name:
                figures[name][f"against_{rival}"] = compared(totals, [one["total"] for one in rounds[rival]])
    lines = statistics.median(map(line_count, pages))
    return {"pages": len(pages), "median_lines": lines, "rounds": settings.rounds, "sides": figures}
