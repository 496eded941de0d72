"""The report of the training benchmark: a text table, Markdown and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ppocr_slim.reports.records import TrainingSpeed
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown, text_lines

HEADINGS = ("case", "contender", "processes x batch", "images/s", "ratio to stock", "peak MB", "waiting")


def table_rows(record: TrainingSpeed) -> list[list[str]]:
    """Return the rows of cells under `HEADINGS`, one for each contender of each case."""
    return [
        [
            case.name,
            found.name,
            f"{found.processes} x {found.batch}",
            f"{found.images_per_s:.1f}",
            f"{found.ratio:.2f}",
            f"{found.peak_mb:.0f}",
            "-" if found.waiting_share is None else f"{found.waiting_share:.1%}",
        ]
        for case in record.cases
        for found in case.contenders
    ]


def table(record: TrainingSpeed) -> str:
    """Return the table as text."""
    return text_lines(HEADINGS, table_rows(record), right_from=2)


def write_training_speed(path: Path, results: Mapping[str, Any]) -> Path:
    """Write NAME.json at `path`, and NAME.md with its plots beside it; return the path of the report."""

    def draw_and_report(name: str, record: TrainingSpeed) -> str:
        return report(name, record, _draw_plots(path.parent, name, record))

    return write_results(path.with_suffix(""), results, TrainingSpeed, draw_and_report)


def _draw_plots(folder: Path, name: str, record: TrainingSpeed) -> dict[str, str]:
    """Draw the curves of losses and memory; return caption -> file name."""
    plots = {}
    for case in record.cases:
        if case.curve is not None:
            curve, file = case.curve, f"{name}_curve_{case.name}.png"
            steps = range(1, curve.steps + 1)
            _draw(folder / file, "loss", {"stock": (steps, curve.stock), "fast": (steps, curve.fast)})
            caption = (
                f"{case.title}: loss of {curve.steps} steps from one seed; largest difference "
                f"{curve.largest_difference:.2g}, at the end {curve.final_difference:.2g}"
            )
            plots[caption] = file
        if case.memory is not None:
            file = f"{name}_memory_{case.name}.png"
            _draw(folder / file, "resident memory, MB", {"ours": tuple(zip(*case.memory.resident_mb))})
            plots[f"{case.title}: memory over {case.memory.steps} steps"] = file
    return plots


def _draw(path: Path, label: str, lines: Mapping[str, Any]) -> None:
    figure = Figure(figsize=(7.5, 3.4))
    axes = figure.add_subplot()
    for (name, points), style in zip(lines.items(), ("-", "--")):
        axes.plot(*points, style, linewidth=1.2, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def report(name: str, record: TrainingSpeed, plots: Mapping[str, str]) -> str:
    """Return the report in Markdown.

    Args:
        name: name of the report.
        record: the results.
        plots: caption -> file name.
    """
    machine = record.machine
    lines = [
        f"# {name}",
        "",
        "Images a second in training. The contenders take turns, round by round; a number is the median of the rounds, "
        "a ratio the median of the rounds' own ratios.",
        "",
        "- stock: Paddle in a single process with nothing set, through the same training loop and data",
        "- ours: this project's kernels, the same batch of a step shared out to the processes; also with the whole "
        "batch for each of them, and in one process",
        "- torch: the same network in PyTorch, channels_last, a thread a core, batches ready in memory",
        "- peak MB: the sum over all processes of a contender; waiting: for data, as a fraction of the time",
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}, {record.date}",
        f"- {machine.processor}, {machine.cores} cores, {machine.memory_gb} GB",
        f"- {record.version_list}",
        *([f"- {record.rounds} rounds of {record.steps} steps"] if record.rounds else []),
        "",
    ]
    for case in record.cases:
        height, width = case.size
        million = "" if case.parameters is None else f", {case.parameters / 1e6:.2f} M parameters"
        lines.append(f"- {case.name}: {case.title}, {height} x {width}, batch {case.batch}{million}")
    rows = table_rows(record)
    if rows:
        lines += ["", *markdown(HEADINGS, rows, texts=2)]
    for caption, file in plots.items():
        lines += ["", f"{caption}:", "", f"![{caption}]({file})"]
    if record.note:
        lines += ["", record.note]
    return "\n".join(lines) + "\n"
