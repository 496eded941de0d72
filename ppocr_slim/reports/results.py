"""Results of an experiment or a benchmark in docs/results: a record as JSON, and a report with tables and plots.

The report is made from the record alone, never by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.folders import replacing
from ppocr_slim.reports.records import RecordT, read_record


def write_results(
    out: Path,
    figures: Mapping[str, Any],
    kind: type[RecordT],
    report: Callable[[str, RecordT], str],
    **others: Callable[[Path, RecordT], None],
) -> Path:
    """Write OUT.json, then OUT.md and what goes with it, made from the record that the JSON is.

    The JSON comes first: a report or a plot that fails takes nothing with it.

    Args:
        figures: the record as plain dicts and lists.
        kind: of record.
        report: makes the Markdown of OUT's name and the record.
        others: by ending, each writes a file OUT.<ending>.

    Returns:
        The path of the report.

    Raises:
        SlimError: a file cannot be written, or the figures are no such record.
    """
    _write(out, "json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    record = read_record(kind, figures, str(_named(out, "json")))
    for ending, write in others.items():
        with replacing(_named(out, ending)) as new:
            write(new, record)
    return _write(out, "md", report(out.name, record))


def _write(out: Path, ending: str, text: str) -> Path:
    with replacing(_named(out, ending)) as new:
        new.write_text(text, encoding="utf-8")
    return _named(out, ending)


def _named(out: Path, ending: str) -> Path:
    return out.with_name(f"{out.name}.{ending}")  # not with_suffix: the name may have a dot of its own
