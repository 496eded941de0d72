"""The report of a recipe's stages: text, Markdown and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppocr_slim.reports.plots import INK, PALETTE, style
from ppocr_slim.reports.records import StageRow, StageTable
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown, metric_title, text_lines, time_cell

ROOM = 1.32  # of the longest bar, for the figures at the ends of the bars


class _Panel(NamedTuple):
    title: str
    value: Callable[[StageRow], float | None]
    form: str


def table(record: StageTable) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Return the headings, a row of cells for each network, and notes by title."""
    headings = ["network", "steps", "minutes", "parameters", "M multiply-adds", "file", "MB"]
    headings += [metric_title(record.metric), "ms"]
    rows = [
        [
            row.title,
            _cell(row.steps, "d"),
            _cell(row.minutes, ".1f"),
            _cell(row.parameters and row.parameters / 1e6, ".2f", " M"),
            _cell(row.flops and row.flops / 1e6, ".0f"),
            row.file or "",
            _cell(row.bytes and row.bytes / 1e6, ".2f"),
            _cell(row.score, ".4f"),
            time_cell(row.ms),
        ]
        for row in record.rows
    ]
    return headings, rows, {row.title: row.note for row in record.rows if row.note is not None}


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else format(value, form) + unit


def text_table(record: StageTable) -> str:
    """Return the table as text."""
    headings, rows, notes = table(record)
    lines = [text_lines(headings, rows, right_from=1)]
    return "\n".join([*lines, *(f"{title}: {note}" for title, note in notes.items())])


def write_stages(out: Path, results: Mapping[str, Any]) -> Path:
    """Write OUT.json, OUT.png and OUT.md; return the path of the last."""
    return write_results(out, results, StageTable, report, png=draw)


def draw(path: Path, record: StageTable) -> None:
    """Draw a panel of horizontal bars for size, multiply-adds, time and the metric; a bar for each network."""
    panels = [
        _Panel("model file, MB", lambda row: row.bytes and row.bytes / 1e6, ".2f"),
        _Panel("multiply-adds, M", lambda row: row.flops and row.flops / 1e6, ".0f"),
        _Panel("ONNX Runtime, ms", lambda row: row.ms and row.ms.ms, ".2f"),
        _Panel(
            f"{metric_title(record.metric)}, %, {'higher' if record.higher_is_better else 'lower'} is better",
            lambda row: None if row.score is None else 100 * row.score,
            ".2f",
        ),
    ]
    figure = Figure(figsize=(15, 1.5 + 0.5 * len(record.rows)), facecolor="white", layout="constrained")
    for number, (axes, panel) in enumerate(zip(figure.subplots(1, len(panels), sharey=True), panels)):
        _draw_panel(axes, record, panel)
        if not number:
            axes.set_yticks(range(len(record.rows)), [row.title for row in record.rows], fontsize=10)
            axes.invert_yaxis()
    figure.savefig(path, dpi=120, format="png")


def _draw_panel(axes: Axes, record: StageTable, panel: _Panel) -> None:
    style(axes, panel.title, "", "")
    values = [panel.value(row) for row in record.rows]
    for place, value in enumerate(values):
        if value is not None:
            axes.barh(place, value, height=0.6, color=PALETTE[place % len(PALETTE)], alpha=0.85, zorder=2)
        shown = "-" if value is None else format(value, panel.form)
        axes.annotate(
            shown, (value or 0, place), (5, 0), textcoords="offset points", va="center", color=INK, fontsize=10
        )
    axes.set_xlim(0, ROOM * max([value for value in values if value], default=1.0))


def report(name: str, record: StageTable) -> str:
    """Return the report in Markdown."""
    headings, rows, notes = table(record)
    first, metric = next((row.title for row in record.rows if row.ms), "none"), metric_title(record.metric)
    lines = [
        f"# {name}",
        "",
        f"What each stage gave and cost: {metric} of the exported file on {record.samples} evaluation "
        f"samples; milliseconds of a typical input in ONNX Runtime, {record.threads} threads, in turns, in "
        f'brackets the ratio to the first ("{first}").',
        "",
        *markdown(headings, rows),
        *(line for title, note in notes.items() for line in ("", f"{title}: {note}")),
        "",
        f"![What each stage gave and cost]({name}.png)",
        "",
        f"- command: `{record.command}`",
        f"- commit {record.commit}, {record.date}",
        f"- {record.machine.processor}, {record.machine.cores} cores; {record.version_list}",
    ]
    return "\n".join(lines) + "\n"
