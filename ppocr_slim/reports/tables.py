"""Tables for people: as text, in Markdown, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def text_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns that stand below each other."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines)


def shortened(text: str, length: int) -> str:
    """The text, or its beginning with three dots."""
    return text if len(text) <= length else text[: length - 3] + "..."


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], missing: Mapping[str, str]) -> list[str]:
    """The lines of a Markdown table, and below it why rows are not there, by title."""
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return lines + [line for title, reason in missing.items() for line in ("", f"Not there: {title}: {reason}")]


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]], last: str = "reason") -> None:
    """A line for each mapping, a column for each key; what a line has not is empty, and `last` is the last column."""
    columns = [key for key in dict.fromkeys(key for line in lines for key in line) if key != last]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*columns, last], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
