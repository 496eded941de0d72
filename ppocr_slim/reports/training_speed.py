"""What the training benchmark found, for people: a table to print, a page, plots. All from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ppocr_slim.reports.results import write_results

HEADINGS = ("case", "contender", "processes x batch", "images/s", "ratio to stock", "peak MB", "waiting")


def table_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """A row of cells, under `HEADINGS`, for each contender of each case."""
    rows = []
    for case in figures["cases"]:
        for found in case.get("contenders", ()):
            waiting = found["waiting_share"]
            rows.append(
                [
                    case["name"],
                    found["name"],
                    f"{found['processes']} x {found['batch']}",
                    f"{found['images_per_s']:.1f}",
                    f"{found['ratio']:.2f}",
                    f"{found['peak_mb']:.0f}",
                    "-" if waiting is None else f"{waiting:.1%}",
                ]
            )
    return rows


def table(figures: Mapping[str, Any]) -> str:
    """The table as it is printed."""
    rows = [list(HEADINGS), *table_rows(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        words = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:])]
        lines.append("  ".join(words + numbers))
    return "\n".join(lines)


def write_figures(path: Path, figures: Mapping[str, Any]) -> Path:
    """Write NAME.json at `path`, and beside it NAME.md with its plots; gives the page."""
    draw = partial(_draw_plots, path.parent)
    return write_results(path.with_suffix(""), figures, lambda name, figures: _page(name, figures, draw(name, figures)))


def _draw_plots(folder: Path, page: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """Draw what there is; gives caption -> file name."""
    plots = {}
    for case in figures["cases"]:
        if "curve" in case:
            curve, name = case["curve"], f"{page}_curve_{case['name']}.png"
            steps = range(1, curve["steps"] + 1)
            _draw(folder / name, "loss", {key: (steps, curve[key]) for key in ("stock", "fast")})
            caption = (
                f"{case['title']}: loss of {curve['steps']} steps from one seed; largest difference "
                f"{curve['largest_difference']:.2g}, at the end {curve['final_difference']:.2g}"
            )
            plots[caption] = name
        if "memory" in case:
            held, name = case["memory"]["resident_mb"], f"{page}_memory_{case['name']}.png"
            _draw(folder / name, "resident memory, MB", {"ours": tuple(zip(*held))})
            plots[f"{case['title']}: memory over {case['memory']['steps']} steps"] = name
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


def _page(name: str, figures: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    machine = figures["machine"]
    lines = [
        f"# {name}",
        "",
        "Images a second in training. The contenders take turns, round by round; a figure is the median of the rounds, "
        "a ratio the median of the rounds' own ratios.",
        "",
        "- stock: Paddle in a single process with nothing set, through the same training loop and data",
        "- ours: this project's kernels, the same batch of a step shared out to the processes; also with the whole "
        "batch for each of them, and in one process",
        "- torch: the same network in PyTorch, channels_last, a thread a core, batches ready in memory",
        "- peak MB: the sum over all processes of a contender; waiting: for data, as a share of the time",
        "",
        f"- command: `{figures['command']}`",
        f"- commit: {figures['commit']}, {figures['date']}",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        "- " + ", ".join(f"{name} {version}" for name, version in figures["versions"].items()),
        *([f"- {figures['rounds']} rounds of {figures['steps']} steps"] if figures["rounds"] else []),
        "",
    ]
    for case in figures["cases"]:
        height, width = case["size"]
        million = f", {case['parameters'] / 1e6:.2f} M parameters" if "parameters" in case else ""
        lines.append(f"- {case['name']}: {case['title']}, {height} x {width}, batch {case['batch']}{million}")
    rows = table_rows(figures)
    if rows:
        lines += ["", "| " + " | ".join(HEADINGS) + " |", "|---|---|" + "---:|" * (len(HEADINGS) - 2)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    for caption, file in plots.items():
        lines += ["", f"{caption}:", "", f"![{caption}]({file})"]
    return "\n".join(lines) + "\n"
