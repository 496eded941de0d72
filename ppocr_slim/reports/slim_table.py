"""The report of a slim table: text, Markdown, CSV and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ppocr_slim.reports.plots import FAINT, INK, label_places, style
from ppocr_slim.reports.records import BitRow, SlimRow, SlimTable
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown, not_there, text_lines, write_csv

FP32 = "fp32"  # the row that all others are compared with
ENGINE_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PUBLISHED = ("paper", "reproduction")
COLORS = {
    FP32: "#4a5568",
    "distill": "#2b6cb0",
    "fpgm": "#2f855a",
    "pact": "#c05621",
    "share": "#6b46c1",
    "all": "#c53030",
}

Table = tuple[list[str], list[list[str]], dict[str, str]]
"""Headings, rows of cells, and by title why other rows are missing."""


def table(record: SlimTable) -> Table:
    """Return the table of techniques."""
    engines = [ENGINE_TITLES[name] for name in record.engines]
    headings = ["row", "parameters", "MFLOPs", "file", "MB", "CER", *(f"ms, {name}" for name in engines)]
    rows, missing = [], {}
    for row in record.rows:
        if row.reason is not None:
            missing[row.title] = row.reason
            continue
        cells = [row.title, f"{row.parameters / 1e6:.2f} M", f"{row.flops / 1e6:.0f}", row.file]
        cells += [f"{row.bytes / 1e6:.2f}", f"{row.scores.cer:.4f}"]
        times = [row.ms.get(name) for name in record.engines]
        rows.append(cells + [f"{time.ms:.2f} ({time.ratio:.2f}x)" if time else "-" for time in times])
    return headings, rows, missing


def bit_table(record: SlimTable) -> Table:
    """Return the table of bits, whose first row is FP32."""
    headings = [
        "bits",
        "CER, learned clip",
        "CER, no learned clip",
        "PACT's paper, error %",
        "its reproduction, error %",
    ]
    if not record.bits:
        return headings, [], {}
    rows, missing = [["FP32", f"{record.fp32_checkpoint_cer:.4f}", "", "", ""]], {}
    for row in record.bits:
        cers = [_or_dash(cer, ".4f") for cer in (row.clip, row.noclip)]
        rows.append([str(row.bits), *cers, *(_or_dash(getattr(row, name), ".1f") for name in PUBLISHED)])
        for reason, kind in ((row.clip_reason, "with PACT's clip"), (row.noclip_reason, "without a clip")):
            if reason is not None:
                missing[f"{row.bits} bits {kind}"] = reason
    return headings, rows, missing


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def text_table(record: SlimTable) -> str:
    """Return both tables as text."""
    parts = []
    for headings, rows, missing in (table(record), bit_table(record)):
        if rows:
            parts.append(text_lines(headings, rows))
        parts += [f"not there: {title}: {reason}" for title, reason in missing.items()]
    return "\n".join(parts)


def write_slim_table(out: Path, results: Mapping[str, Any]) -> Path:
    """Write OUT.json, OUT.csv, OUT.png and OUT.md; return the path of the last."""
    return write_results(out, results, SlimTable, report, csv=_write_csv, png=draw)


def _write_csv(path: Path, record: SlimTable) -> None:
    """Write a line for each row of the table of techniques, then for each row of the bit table."""
    lines = []
    for row in record.rows:
        line = {key: getattr(row, key) for key in ("name", "parameters", "flops", "file", "bytes", "checkpoint_cer")}
        line.update(row.scores.model_dump() if row.scores else {})
        for engine, time in row.ms.items():
            line.update({f"{engine}_ms": time.ms, f"{engine}_ratio": time.ratio})
        lines.append({**line, "reason": row.reason})
    for row in record.bits:
        for cer, reason, suffix in ((row.clip, row.clip_reason, ""), (row.noclip, row.noclip_reason, "_noclip")):
            lines.append({"name": f"bits{row.bits}{suffix}", "checkpoint_cer": cer, "reason": reason})
    write_csv(path, lines)


def draw(path: Path, record: SlimTable) -> None:
    """Draw the CER against size and, if there is a bit table, against bits."""
    shown = [row for row in record.rows if row.reason is None]
    bits = [row for row in record.bits if row.clip is not None or row.noclip is not None]
    figure = Figure(figsize=(12.5 if bits else 7.8, 5.2), facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(3, 2)) if bits else [figure.subplots()]
    _draw_sizes(panels[0], shown)
    if bits:
        _draw_bits(panels[1], bits, record.fp32_checkpoint_cer)
    figure.savefig(path, dpi=130, format="png")


def _draw_sizes(axes: Axes, rows: Sequence[SlimRow]) -> None:
    style(axes, "What slimming costs and saves", "model file, MB", "character error rate, %")
    points = {row.name: (row.bytes / 1e6, 100 * row.scores.cer) for row in rows}
    sizes, cers = zip(*points.values())
    span = max(max(cers) - min(cers), 0.5)
    axes.set_xlim(0, 1.62 * max(sizes))  # room for the labels, right of their points
    axes.set_ylim(max(0, min(cers) - 0.4 * span), max(cers) + 0.5 * span)
    places = label_places(points, width=0.52 * max(sizes), away=0.06 * max(sizes), gap=0.2 * span)
    for row in rows:
        name, point = row.name, points[row.name]
        color, time = COLORS[name], next(iter(row.ms.values()))
        if name != FP32:
            axes.plot(*zip(points[FP32], point), color=FAINT, linewidth=1.2, linestyle=(0, (2, 3)), zorder=1)
        axes.plot(*zip(point, places[name]), color=color, linewidth=1, zorder=2)
        axes.scatter(*point, s=190, color=color, edgecolor="white", linewidth=1.6, zorder=3)
        halo = [withStroke(linewidth=3, foreground="white")]  # lines may run behind a label
        label = {"xytext": (4, 0), "textcoords": "offset points", "zorder": 4, "path_effects": halo}
        axes.annotate(row.title, places[name], color=color, fontsize=10.5, fontweight="bold", va="bottom", **label)
        saved = f"{point[0]:.2f} MB  ·  CER {point[1]:.2f}%  ·  {time.ratio:.2f}x time"
        axes.annotate(saved, places[name], color=INK, fontsize=8.5, va="top", **label)


def _draw_bits(axes: Axes, rows: Sequence[BitRow], fp32: float) -> None:
    style(axes, "Bits of weights and activations", "bits", "character error rate, %")
    order = sorted((row.bits for row in rows), reverse=True)
    axes.axhline(100 * fp32, color=COLORS[FP32], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate("FP32", (len(order) - 1, 100 * fp32), (4, 4), textcoords="offset points", color=COLORS[FP32])
    kinds = (("clip", COLORS["pact"], "PACT's learned clip", "o"), ("noclip", "#a0aec0", "no clip", "s"))
    for key, color, label, marker in kinds:
        cers = {row.bits: getattr(row, key) for row in rows if getattr(row, key) is not None}
        points = sorted((order.index(bits), 100 * cer) for bits, cer in cers.items())
        if points:
            axes.plot(*zip(*points), color=color, marker=marker, markersize=8, linewidth=2, label=label)
    axes.set_xticks(range(len(order)), [str(bits) for bits in order])
    axes.set_xlim(-0.3, len(order) - 0.5)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")


def report(name: str, record: SlimTable) -> str:
    """Return the report in Markdown."""
    height, width = record.size
    epochs, start = " + ".join(map(str, record.epochs)), record.start
    headings, rows, missing = table(record)
    lines = [
        f"# {name}",
        "",
        "What each slimming technique costs and saves. Every row trained for the same epochs at the same rates on the "
        "same data from the same seed; in place of a technique that a row does without stands a plain training.",
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}, {record.date}",
        f"- {record.machine.processor}, {record.machine.cores} cores, {record.threads} threads an engine",
        f"- {record.version_list}",
        f"- {epochs} epochs, {record.steps} steps a row, "
        + (f"from {start.folder} (CER {start.cer:.4f})" if start else "from random weights"),
        *(
            f"- teacher: {teacher}" + (", which is the start itself" if start and teacher == start.folder else "")
            for teacher in record.teachers
        ),
        f"- CER: of the file that the row names, by ONNX Runtime, on {record.evaluation_rows} text lines; for weight "
        "sharing of the same weights in model.onnx",
        f"- ms: of a line of {height} x {width} pixels; all rows and engines take turns, the median of all rounds; in "
        "brackets the median of the rounds' own ratios to FP32 with that engine",
        "",
        f"![accuracy against size]({name}.png)",
        "",
        *markdown(headings, rows),
        *not_there(missing),
    ]
    if record.bits:
        headings, rows, missing = bit_table(record)
        lines += [
            "",
            "Weights and activations of so many bits, in the checkpoint's own fake-quantized arithmetic. The first "
            "and the last layer keep 8 bits, their weights 7 (unless all have 8), as the LSTM's weights; the LSTM's "
            "inputs stay in float. Beside it, for the shape of the curve alone: the error of ResNet-20 on CIFAR-10, as "
            "PACT's authors (arXiv:1805.06085) and a public reproduction give it.",
            "",
            *markdown(headings, rows),
            *not_there(missing),
        ]
    if record.note:
        lines += ["", record.note]
    return "\n".join(lines) + "\n"
