"""Tables as text, Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppocr_slim.reports.records import Timing


def text_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], right_from: int | None = None) -> str:
    """Return a table as text, its columns aligned.

    Args:
        headings: one for each column.
        rows: rows of cells.
        right_from: the first column that is aligned right; None: none is.
    """
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    is_left = [right_from is None or column < right_from for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if left else f"{cell:>{width}}" for cell, width, left in zip(line, widths, is_left)
        ).rstrip()
        for line in lines
    )


def metric_title(name: str) -> str:
    """Return the name of a metric as a heading."""
    return " ".join(part.upper() if part in ("cer", "wer", "int8") else part for part in name.split("_"))


def time_cell(timing: Timing | None) -> str:
    """Return a latency and its ratio to the baseline; "" without one."""
    return "" if timing is None else f"{timing.ms:.2f} ({timing.ratio:.2f}x)"


def shortened(text: str, length: int) -> str:
    """Return the text, cut to `length` characters that end in three dots if it is longer."""
    return text if len(text) <= length else text[: length - 3] + "..."


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        headings: one for each column.
        rows: rows of cells.
        texts: number of leading columns with text; the others, with numbers, are aligned right.
    """
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * texts + "---:|" * (len(headings) - texts)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def not_there(missing: Mapping[str, str]) -> list[str]:
    """Return the lines of Markdown that list by title why rows are missing in a table."""
    return [line for title, reason in missing.items() for line in ("", f"Not there: {title}: {reason}")]


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]], last: str = "reason") -> None:
    """Write a CSV file with a line for each mapping and a column for each key; missing values are empty.

    Args:
        path: the file.
        lines: key -> value of each line.
        last: the key of the last column.
    """
    columns = [key for key in dict.fromkeys(key for line in lines for key in line) if key != last]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*columns, last], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
