"""The report of the decoding benchmark: greedy decoding compared with a language model and place names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.reports.records import Decoding
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown, text_lines

HEADINGS = (
    "decoding",
    "CER",
    "WER",
    "exact",
    "Kalapa",
    "changed",
    "better",
    "worse",
    "numbers changed",
    "kB",
    "ms a line",
)


def table_rows(record: Decoding) -> list[list[str]]:
    """Return the rows of cells under `HEADINGS`, one for each method of decoding."""
    rows = []
    for method in record.ways:
        scores = method.scores
        metrics = (scores.cer, scores.wer, scores.line_accuracy, scores.kalapa_score)
        counts = (method.changed, method.better, method.worse, method.numbers_changed)
        rows.append(
            [method.name, *(f"{metric:.4f}" for metric in metrics), *map(str, counts)]
            + [f"{method.bytes / 1000:.0f}", f"{method.ms:.1f} ({method.ms_95:.1f})"]
        )
    return rows


def table(record: Decoding) -> str:
    """Return the table as text."""
    return text_lines(HEADINGS, table_rows(record))


def write_decoding(out: Path, results: Mapping[str, Any]) -> Path:
    """Write OUT.json and OUT.md; return the path of the report."""
    return write_results(out, results, Decoding, report)


def report(name: str, record: Decoding) -> str:
    """Return the report in Markdown."""
    lines = [
        f"# {name}",
        "",
        "Greedy decoding beside knowledge of addresses: the same text lines and the same network, decoded in several "
        "ways. Changed, better and worse are lines, against greedy decoding. Words with a digit or a slash are never "
        "rewritten: the column counts the lines in which they are not as they were read.",
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}, {record.date}",
        f"- {record.machine.processor}, {record.machine.cores} cores",
        f"- {record.version_list}",
        f"- {record.bundle}, {record.rows} lines; of a line's time {record.network_ms:.1f} ms are the "
        "network and the picture; in brackets the 95th percentile",
        "- kB: of the language model and of the map",
        "",
        *markdown(HEADINGS, table_rows(record)),
    ]
    return "\n".join(lines) + "\n"
