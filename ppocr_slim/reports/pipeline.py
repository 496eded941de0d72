"""The report of the end-to-end benchmark, without any label text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.reports.records import Pipeline
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown

TITLES = {"fp32": "this project, FP32", "int8": "this project, INT8", "rapidocr": "RapidOCR", "rapidocr3": "RapidOCR 3"}
OURS = ("fp32", "int8")
MEGABYTE = 1_000_000


def write_pipeline(out: Path, results: Mapping[str, Any]) -> Path:
    """Write OUT.json and OUT.md; return the path of the report."""
    return write_results(out, results, Pipeline, report)


def report(name: str, record: Pipeline) -> str:
    """Return the report in Markdown."""
    lines = [
        f"# {name}",
        "",
        "The whole pipeline: lines found on a page, turned upright, and read.",
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}, {record.date}",
        f"- {record.machine.processor}, {record.machine.cores} cores, {record.threads} threads a side",
        f"- {record.pages.count} pages of {record.pages.file}, {record.pages.lines} lines",
        *(
            f"- {_title(side)}: " + ", ".join(f"{package} {version}" for package, version in found.versions.items())
            for side, found in record.sides.items()
        ),
    ]
    sections = {
        "Found": _detection(record),
        "Turned": _direction(record),
        "Read": _reading(record),
        "Time and memory": _speed(record),
        "Size": _sizes(record),
    }
    for title, section in sections.items():
        if section:
            lines += ["", f"## {title}", "", *section]
    return "\n".join(lines) + "\n"


def _detection(record: Pipeline) -> list[str]:
    rows = []
    for side, found in record.sides.items():
        kinds = {"all": found.detection.all, **found.detection.by_kind}
        kinds.update({f"{count} lines": some for count, some in found.detection.by_lines.items()})
        for kind, some in kinds.items():
            scores = [f"{score:.4f}" for score in (some.hmean, some.precision, some.recall)]
            rows.append([_title(side), kind, str(some.pages), str(some.lines), *scores])
    note = "At an IoU of 0.5 (ICDAR 2015's protocol). Of other engines those boxes that their own limits leave."
    return [note, "", *markdown(["", "pages", "number", "lines", "hmean", "precision", "recall"], rows)]


def _direction(record: Pipeline) -> list[str]:
    titles = {"crops": "lines cut out of the pages", "rows": "text lines of the label file"}
    rows = [
        [titles[name], str(some.pictures)] + [f"{x:.4f}" for x in (some.accuracy, some.wrongly_turned, some.left)]
        for name, some in record.direction.items()
    ]
    headings = ["", "pictures", "right", "upright but turned", "upside down but left"]
    return ["Each line shown upright and upside down.", "", *markdown(headings, rows)]


def _reading(record: Pipeline) -> list[str]:
    rows = []
    for side, found in record.sides.items():
        parts = {"all": found.reading.all}
        parts.update({count: some for count, some in found.reading.by_lines.items() if some.lines})
        for part, reading in parts.items():
            fractions = [x / max(1, reading.characters) for x in (reading.wrong, reading.missed, reading.added)]
            row = [_title(side), part if part == "all" else f"{part} lines"]
            row += [f"{reading.found} of {reading.lines}", f"{reading.cer:.4f}", *(f"{x:.4f}" for x in fractions)]
            if side in record.true_boxes:
                alone = record.true_boxes[side]
                cer = (alone.all if part == "all" else alone.by_lines[part]).cer
                rows.append([*row, f"{cer:.4f}", f"{100 * (reading.cer - cer):+.1f}"])
            else:
                rows.append([*row, "-", "-"])
    notes = [
        "Character error rate over all true lines: a line that was not found is wrong in all its characters, what is "
        "read where there is no line is too much. Beside it that of the recognizer alone, on the true lines cut out."
    ]
    if record.only_rows:
        notes.append(f"Only lines that say what a line of {record.only_rows} says; the others count neither way.")
    headings = ["", "pages", "lines found", "CER", "misread", "missed", "too much", "CER on true boxes"]
    return [*notes, "", *markdown([*headings, "difference, points"], rows)]


def _speed(record: Pipeline) -> list[str]:
    speed = record.speed
    if speed is None:
        return []
    peers = [side for side in speed.sides if side not in OURS]
    rows = []
    for side, found in speed.sides.items():
        ratios = [found.against(peer) for peer in peers]
        rows.append(
            [_title(side), *(f"{found.ms[stage]:.0f}" for stage in ("det", "cls", "rec", "total"))]
            + [f"{ratio.ratio:.2f}" if ratio else "-" for ratio in ratios]
            + [f"{found.peak_mb:.0f}"]
        )
    note = (
        f"Milliseconds a page, without decoding its file: {speed.pages} pages of {speed.median_lines:g} "
        f"lines (median), all sides in turns, page by page, the median of {speed.rounds} rounds. The ratio is "
        "the median of the rounds' own."
    )
    ratios = [f"ratio to {_title(peer)}" for peer in peers]
    return [note, "", *markdown(["", "det", "cls", "rec", "page", *ratios, "peak memory, MB"], rows)]


def _sizes(record: Pipeline) -> list[str]:
    sizes = {f"{task}: {file}": size for task, files in record.bundles.items() for file, size in files.items()}
    for side, found in record.sides.items():
        if side not in OURS:
            sizes.update({f"{_title(side)}: {file}": size for file, size in found.sizes.items()})
    return markdown(["file", "MB"], [[file, f"{size / MEGABYTE:.2f}"] for file, size in sizes.items()])


def _title(side: str) -> str:
    return TITLES.get(side, side)
