"""The files of results: a record as JSON, and a report with tables and plots.

Reports are made from records alone, never by hand.
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
    results: Mapping[str, Any],
    kind: type[RecordT],
    report: Callable[[str, RecordT], str],
    **others: Callable[[Path, RecordT], None],
) -> Path:
    """Write OUT.json, then the files that are made from it: OUT.md and others.

    The JSON is written first, so that no results are lost where a report or a plot fails.

    Args:
        out: path without suffix.
        results: the record as plain dicts and lists.
        kind: type of the record.
        report: returns the Markdown of OUT's name and the record.
        others: suffix -> function that writes the file OUT.<suffix>.

    Returns:
        The path of the report.

    Raises:
        SlimError: a file cannot be written, or the results are not such a record.
    """
    _write(out, "json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    record = read_record(kind, results, str(_named(out, "json")))
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
