"""The end-to-end benchmark: accuracy, latency and memory of reading pages, beside RapidOCR."""

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

from ppocr_slim.benchmarks.worker import Worker
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.data.page_labels import PageSample, read_page_file
from ppocr_slim.engines.timing import PAUSE, compared
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.directions import evaluate_directions, score_directions
from ppocr_slim.evaluation.hmean import Found, score_page
from ppocr_slim.evaluation.metrics import PageScores, normal_form, score_lines
from ppocr_slim.evaluation.pages import ReadingErrors, score_reading
from ppocr_slim.folders import ROOT
from ppocr_slim.progress import progress_bar
from ppocr_slim.reports.provenance import commit, machine
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.boxes import rectify
from ppocr_slim.runtime.bundle import INT8, ONNX, Bundle, read_bundle
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer

FP32, INT8_SIDE, RAPIDOCR = "fp32", "int8", "rapidocr"
RIVALS = (RAPIDOCR, "rapidocr3")  # 1.4 with PP-OCRv4, and 3.10 with PP-OCRv6 small
TASKS = ("det", "cls", "rec")
STAGES = (*TASKS, "total")
LINE_RANGES = ((0, 0), (1, 7), (8, 12), (13, 10**6))  # pages are grouped by their number of labelled lines
_T = TypeVar("_T")
WARM_UP, REPEATS = 1, 3  # readings of a page in a turn: those that do not count, and those whose median does


@dataclass(frozen=True)
class PipelineSettings:
    """Settings of the end-to-end benchmark.

    Attributes:
        pages: label file of a detector.
        det, cls, rec: folders of bundles.
        direction_lines: label file of a recognizer on which the direction classifier is evaluated, too.
        only_lines: label file of a recognizer; if given, only lines with one of its texts are scored.
        lines: range of the number of labelled lines of the pages that are timed; None: all pages.
        limit: maximum number of pages and of text lines that are scored; None: all. Pages to time are taken from all.
        rounds: timing rounds; 0: no timing.
        timed_pages: maximum number of pages to time.
        threads: threads per engine.
        rivals: names of engines to compare with, of `RIVALS`.
        rival_python: Python interpreter in which they are installed; None: this one.
    """

    pages: Path
    det: Path
    cls: Path
    rec: Path
    direction_lines: Path | None = None
    only_lines: Path | None = None
    lines: tuple[int, int] | None = (8, 12)
    limit: int | None = None
    rounds: int = 5
    timed_pages: int = 10
    threads: int = 2
    rivals: Sequence[str] = (RAPIDOCR,)
    rival_python: str | None = None


def parse_range(text: str) -> tuple[int, int]:
    """Return the range that a text gives: (8, 12) for "8-12", (8, 8) for "8".

    Raises:
        SlimError: the text is not a range.
    """
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high:
        raise SlimError(f"{text!r} is not a range of lines: write 8-12, for example")
    return low, high


def wanted_texts(path: Path) -> set[str]:
    """Return all texts of a recognizer's label file.

    Raises:
        SlimError: see `read_label_file`.
    """
    return {normal_form(sample.text) for sample in read_label_file(path)[0]}


def flags(page: PageSample, wanted: set[str] | None) -> list[bool]:
    """Return for each line of a page whether scoring ignores it: it is marked so, or its text is not among `wanted`."""
    return [
        ignore or (wanted is not None and normal_form(text) not in wanted)
        for text, ignore in zip(page.texts, page.ignored)
    ]


def run_pipeline_benchmark(settings: PipelineSettings, command: str) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        settings: what to compare.
        command: the command line, for the report.

    Returns:
        The results as plain dicts; see `reports.records.Pipeline`.

    Raises:
        SlimError: a label file, a bundle or a page cannot be read, no page is left, or an engine cannot be started.
    """
    labelled = read_page_file(settings.pages)[0]
    pages = labelled[: settings.limit]
    if not pages:
        raise SlimError(f"{settings.pages} has no page to read")
    wanted = wanted_texts(settings.only_lines) if settings.only_lines else None
    low, high = settings.lines or (0, 10**6)
    timed = [page for page in labelled if low <= line_count(page) <= high][: settings.timed_pages]
    if settings.rounds and not timed:
        raise SlimError(f"no page of {settings.pages} has {low} to {high} lines to time: change --lines")
    bundles = {task: read_bundle(getattr(settings, task)) for task in TASKS}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker) for name, worker in _start_workers(settings, bundles)}
        readings = {name: _read_all(name, worker, pages) for name, worker in workers.items()}
        scores = {name: score_side(pages, found, wanted) for name, found in readings.items()}
        speed = _measure_speed(workers, timed, settings) if settings.rounds else {}
        hellos = {name: worker.hello for name, worker in workers.items()}
    true_boxes = _score_true_boxes(settings, bundles, pages, wanted)
    return {
        "command": command,
        "commit": commit(),
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": settings.threads,
        "pages": {"file": _named(settings.pages), "count": len(pages), "lines": sum(map(line_count, pages))},
        "only_rows": _named(settings.only_lines) if settings.only_lines else None,
        "sides": {name: {**scores[name], **hello} for name, hello in hellos.items()},
        **true_boxes,
        "speed": speed,
        "bundles": {task: dict(bundle.sizes) for task, bundle in bundles.items()},
    }


def line_count(page: PageSample) -> int:
    """Return the number of labelled lines of a page that are not marked to be ignored."""
    return page.ignored.count(False)


def _named(path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _start_workers(settings: PipelineSettings, bundles: Mapping[str, Bundle]) -> list[tuple[str, Worker]]:
    """Start this project's engine in FP32 and in INT8, where all bundles have the file, and the rivals."""
    ours = {"engine": "ppocr_slim", "threads": settings.threads}
    ours.update({task: str(getattr(settings, task).absolute()) for task in TASKS})
    workers = []
    for precision in (FP32, INT8_SIDE):
        file = INT8 if precision == INT8_SIDE else ONNX
        if all(file in bundle.sizes for bundle in bundles.values()):
            workers.append((precision, Worker({**ours, "precision": precision})))
    for rival in settings.rivals:
        workers.append((rival, Worker({"engine": rival, "threads": settings.threads}, settings.rival_python)))
    if not workers:
        raise SlimError("the bundles have no precision in common: export all of them to onnx or onnx_int8")
    return workers


def _read_all(name: str, worker: Worker, pages: Sequence[PageSample]) -> list[list[Any]]:
    return [worker.ask(page=str(page.path), repeats=1)["lines"] for page in progress_bar(pages, desc=name, unit="page")]


def score_side(
    pages: Sequence[PageSample], readings: Sequence[Sequence[Any]], wanted: set[str] | None
) -> dict[str, Any]:
    """Score the predictions of one engine.

    Args:
        pages: labelled pages.
        readings: for each page [[quad, text], ...]; the text of a dropped box is "".
        wanted: see `flags`.

    Returns:
        "detection": metrics of all boxes, over all pages, by folder if there are several, and by number of lines;
        "reading": errors of those with a text, over all pages and by number of lines, see `ReadingErrors`.
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
            "all": _detection_metrics(counts),
            "by_kind": {name: _detection_metrics(some) for name, some in sorted(groups.items())}
            if len(groups) > 1
            else {},
            "by_lines": {title: _detection_metrics(some) for title, some in by_line_count(pages, counts).items()},
        },
        "reading": {
            "all": _reading_metrics(errors),
            "by_lines": {title: _reading_metrics(some) for title, some in by_line_count(pages, errors).items()},
        },
    }


def by_line_count(pages: Sequence[PageSample], values: Sequence[_T]) -> dict[str, list[_T]]:
    """Group values of pages by their number of labelled lines.

    Args:
        pages: labelled pages.
        values: one for each page.

    Returns:
        title of a range of `LINE_RANGES` -> values, without ranges that no page is in.
    """
    found = {}
    for low, high in LINE_RANGES:
        some = [value for page, value in zip(pages, values) if low <= line_count(page) <= high]
        if some:
            title = str(low) if low == high else f"{low} or more" if high >= 10**6 else f"{low} to {high}"
            found[title] = some
    return found


def _reading_metrics(errors: Sequence[ReadingErrors]) -> dict[str, Any]:
    total = sum(errors, ReadingErrors())
    return {**asdict(total), "cer": total.cer}


def _detection_metrics(counts: Sequence[Found]) -> dict[str, Any]:
    return asdict(PageScores.of(sum(counts, Found()), len(counts)))


def _score_true_boxes(
    settings: PipelineSettings, bundles: Mapping[str, Bundle], pages: Sequence[PageSample], wanted: set[str] | None
) -> dict[str, Any]:
    """Score the recognizer and the direction classifier apart from the detector.

    Returns:
        "true_boxes": metrics of the recognizer on crops of the labelled lines, in both precisions, over all pages and
        by number of lines; "direction": metrics of the classifier on the crops and on `direction_lines`, in FP32.
    """
    crops, texts, pages_of_crops = [], [], []
    for page in pages:
        image = load_image(page.path)
        for outline, text, ignore in zip(page.outlines, page.texts, flags(page, wanted)):
            if not ignore:
                quad = outline if len(outline) == 4 else polygons.around(outline)
                crops.append(rectify(image, quad))
                texts.append(text)
                pages_of_crops.append(page)
    if not crops:
        raise SlimError("no line of the pages is left to read: give another label file to --only-lines")
    by_precision = {}
    for precision, file in ((FP32, ONNX), (INT8_SIDE, INT8)):
        if file in bundles["rec"].sizes:
            recognizer = Recognizer.from_bundle(settings.rec, threads=settings.threads, precision=precision)
            pairs = list(zip(texts, [line.text for line in recognizer.read(crops)]))
            groups = {"all": pairs, **by_line_count(pages_of_crops, pairs)}
            metrics = {title: asdict(score_lines(*zip(*some))) for title, some in groups.items()}
            by_precision[precision] = {"all": metrics.pop("all"), "by_lines": metrics}
    classifier = DirectionClassifier.from_bundle(settings.cls, threads=settings.threads)
    direction = {"crops": asdict(score_directions(classifier, crops))}
    if settings.direction_lines:
        samples = read_label_file(settings.direction_lines)[0][: settings.limit]
        direction["rows"] = asdict(evaluate_directions(classifier, samples).scores)
    return {"true_boxes": by_precision, "direction": direction}


def _measure_speed(
    workers: Mapping[str, Worker], pages: Sequence[PageSample], settings: PipelineSettings
) -> dict[str, Any]:
    """Measure the milliseconds per page of each stage, and the peak memory, of each engine.

    The engines take turns page by page, in reverse order in every other round. The time of a round is the mean over
    the pages of the medians of `REPEATS` readings; the result is the median of the rounds, and a ratio the median of
    the rounds' ratios.
    """
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    peaks: dict[str, float] = {}
    total = settings.rounds * len(pages) * len(workers)
    with progress_bar(total=total, desc="time", unit="turn") as bar:
        for number in range(settings.rounds):
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
            for page in pages:
                for name in list(workers) if number % 2 == 0 else list(workers)[::-1]:
                    time.sleep(PAUSE)
                    answer = workers[name].ask(page=str(page.path), repeats=WARM_UP + REPEATS)
                    turns[name].append({s: statistics.median(answer["stages"][s][WARM_UP:]) for s in STAGES})
                    peaks[name] = answer["peak_mb"]
                    bar.update()
            for name, some in turns.items():
                rounds[name].append({stage: statistics.fmean(turn[stage] for turn in some) for stage in STAGES})
    results: dict[str, Any] = {}
    for name, some in rounds.items():
        ms = {stage: round(statistics.median(times[stage] for times in some), 2) for stage in STAGES}
        results[name] = {"ms": ms, "peak_mb": round(peaks[name], 1)}
        totals = [times["total"] for times in some]
        for rival in settings.rivals:
            if rival != name:
                results[name][f"against_{rival}"] = compared(totals, [times["total"] for times in rounds[rival]])
    lines = statistics.median(map(line_count, pages))
    return {"pages": len(pages), "median_lines": lines, "rounds": settings.rounds, "sides": results}
