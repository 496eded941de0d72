"""The report of an ablation: text, Markdown, CSV and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ppocr_slim.reports.plots import FAINT, INK, PALETTE, label_places, pareto_front, style
from ppocr_slim.reports.records import Ablation, AblationVariant
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import (
    markdown,
    metric_title,
    not_there,
    shortened,
    text_lines,
    time_cell,
    write_csv,
)

COUNTS = ("lines", "pages", "pictures", "characters")  # entries of the scores that are sizes of the evaluation data
MAX_NAME = 44  # characters of a name beside its bar
CUT = 0.6  # bars do not begin at zero if the shortest has more than this fraction of the longest


class MeanStd(NamedTuple):
    """The mean and the sample standard deviation of a score over seeds; of a single seed the deviation is None."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    def __str__(self) -> str:
        around = "" if self.deviation is None else f" ± {self.deviation:.4f}"
        return f"{self.mean:.4f}{around}"


def mean_std(variant: AblationVariant, name: str) -> MeanStd | None:
    """Return the mean and deviation of a score over the runs of a variant that have it; None if none has."""
    values = tuple(run.scores[name] for run in variant.runs if name in run.scores)
    if not values:
        return None
    return MeanStd(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, values)


def other_scores(record: Ablation) -> list[str]:
    """Return the names of all scores but the metric, in their order."""
    names = [name for variant in record.variants for run in variant.runs for name in run.scores]
    return [name for name in dict.fromkeys(names) if name not in (record.metric, *COUNTS)]


def table(record: Ablation) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Return the headings, the rows of cells (one per variant), and by title why runs or measurements are missing."""
    metric, others = record.metric, other_scores(record)
    with_int8 = has_int8(record)
    headings = ["variant", metric_title(metric), "n", *map(metric_title, others), "parameters", "MFLOPs", "MB", "ms"]
    headings += ["INT8 MB", "INT8 ms"] if with_int8 else []
    rows, missing = [], {}
    for variant in record.variants:
        main = mean_std(variant, metric)
        more = [mean_std(variant, name) for name in others]
        cells = [variant.name, str(main or shortened(_reason(variant), MAX_NAME)), str(len(main.values) if main else 0)]
        cells += [f"{score.mean:.4f}" if score else "" for score in more]
        cells.append("" if variant.parameters is None else f"{variant.parameters / 1e6:.2f} M")
        cells.append("" if variant.flops is None else f"{variant.flops / 1e6:.0f}")
        cells.append("" if variant.bytes is None else f"{variant.bytes / 1e6:.2f}")
        cells.append(time_cell(variant.ms))
        if with_int8:
            cells += [
                "" if variant.int8_bytes is None else f"{variant.int8_bytes / 1e6:.2f}",
                time_cell(variant.int8_ms),
            ]
        rows.append(cells)
        for run in variant.runs:
            if run.reason is not None:
                missing[f"{variant.name}, seed {run.seed}"] = run.reason
        if variant.note is not None:
            missing[f"{variant.name}, MB and ms"] = variant.note
    return headings, rows, missing


def has_int8(record: Ablation) -> bool:
    """Return whether INT8 files were measured."""
    return any(variant.int8_ms is not None for variant in record.variants)


def _reason(variant: AblationVariant) -> str:
    """Return why a variant has no score: the reason of its first failed run."""
    return next((run.reason for run in variant.runs if run.reason is not None), "it has no score")


def failures(record: Ablation) -> dict[str, str]:
    """Return by title why runs have failed."""
    return {
        f"{variant.name}, seed {run.seed}": run.reason
        for variant in record.variants
        for run in variant.runs
        if run.reason is not None
    }


def text_table(record: Ablation) -> str:
    """Return the table as text."""
    headings, rows, missing = table(record)
    return "\n".join([text_lines(headings, rows), *(f"not there: {title}: {why}" for title, why in missing.items())])


def write_ablation(out: Path, results: Mapping[str, Any]) -> Path:
    """Write OUT.json, OUT.csv, OUT.png and OUT.md; return the path of the last."""
    return write_results(out, results, Ablation, report, csv=_write_csv, png=draw)


def _write_csv(path: Path, record: Ablation) -> None:
    """Write a line for each run; each has the measurements of its variant."""
    lines = []
    for variant in record.variants:
        measured = {key: getattr(variant, key) for key in ("parameters", "flops", "file", "bytes")}
        time, int8 = variant.ms, variant.int8_ms
        if int8:
            measured.update(int8_bytes=variant.int8_bytes, int8_ms=int8.ms, int8_ms_ratio=int8.ratio)
        for run in variant.runs:
            line = {"variant": variant.name, "seed": run.seed, **run.scores}
            line.update(steps=sum(run.steps) or None, minutes=run.minutes, commit=run.commit)
            line.update(measured, ms=time and time.ms, ms_ratio=time and time.ratio)
            lines.append({**line, "reason": run.reason})
    write_csv(path, lines)


def draw(path: Path, record: Ablation) -> None:
    """Draw three panels: a bar for each variant, and the metric against size and against latency."""
    variants = record.variants
    height = max(4.6, 1.6 + 0.42 * len(variants))
    figure = Figure(figsize=(16.5, height), facecolor="white", layout="constrained")
    bars, sizes, times = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    _draw_bars(bars, record)
    # in kilobytes: the names in ONNX files differ by some bytes
    sized = [_points(record, {str(n): v.bytes and round(v.bytes / 1e6, 3) for n, v in enumerate(variants, 1)})]
    timed = [_points(record, {str(n): v.ms and v.ms.ms for n, v in enumerate(variants, 1)})]
    note = ""
    if has_int8(record):
        metric, note = f"int8_{record.metric}", " (·8: INT8)"
        sizes_8 = {f"{n}·8": v.int8_bytes and round(v.int8_bytes / 1e6, 3) for n, v in enumerate(variants, 1)}
        sized.append(_points(record, sizes_8, metric))
        timed.append(_points(record, {f"{n}·8": v.int8_ms and v.int8_ms.ms for n, v in enumerate(variants, 1)}, metric))
    _draw_costs(sizes, record, "Against size", f"model file, MB{note}", sized)
    _draw_costs(times, record, "Against time", f"ONNX Runtime, ms{note}", timed)
    figure.savefig(path, dpi=120, format="png")


def _draw_bars(axes: Axes, record: Ablation) -> None:
    """Draw horizontal bars, so that long names can be read, with a dot for each seed."""
    variants, metric = record.variants, record.metric
    scores = [mean_std(variant, metric) for variant in variants]
    means = [100 * score.mean for score in scores if score]
    longest = max([100 * max(score.values) for score in scores if score], default=1.0)
    shortest = min([100 * min(score.values) for score in scores if score], default=0.0)
    is_close = means and longest > shortest > CUT * longest
    begin = max(0.0, shortest - 0.5 * (longest - shortest)) if is_close else 0.0
    cut = f"  (bars begin at {begin:.1f})" if begin else ""
    style(axes, f"{record.name}: {metric_title(metric)}", f"{metric_title(metric)}, %, {_direction(record)}{cut}", "")
    span = max(longest - begin, 1e-6)
    for place, score in enumerate(scores):
        color = PALETTE[place % len(PALETTE)]
        if not score:
            why = f"not there: {shortened(_reason(variants[place]), MAX_NAME)}"
            axes.annotate(why, (begin, place), (6, 0), textcoords="offset points", color=INK, va="center", fontsize=9)
            continue
        mean, deviation = 100 * score.mean, 100 * (score.deviation or 0)
        axes.barh(place, mean - begin, left=begin, height=0.62, color=color, alpha=0.85, zorder=2)
        if deviation:
            axes.errorbar(mean, place, xerr=deviation, color=INK, capsize=4, linewidth=1.4, zorder=3)
        dots = [100 * value for value in score.values]
        if len(dots) > 1:
            axes.scatter(dots, [place] * len(dots), s=16, color="white", edgecolor=INK, linewidth=0.9, zorder=4)
        end = max(mean + deviation, *dots, mean)
        around = f" ± {deviation:.2f}" if score.deviation is not None else ""
        label = {"textcoords": "offset points", "va": "center", "color": INK, "fontsize": 9}
        axes.annotate(f"{mean:.2f}{around}", (end, place), (7, 0), **label)
    names = [f"{shortened(variant.name, MAX_NAME)}   {number}" for number, variant in enumerate(variants, 1)]
    axes.set_yticks(range(len(variants)), names)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_xlim(begin, begin + 1.28 * span)
    axes.grid(visible=False, axis="y")


def _direction(record: Ablation) -> str:
    return "higher is better" if record.higher_is_better else "lower is better"


class _Point(NamedTuple):
    """A point of a panel: its place, and the deviation of the metric over seeds."""

    cost: float
    score: float
    deviation: float | None


def _points(record: Ablation, costs: Mapping[str, float | None], metric: str | None = None) -> dict[str, _Point]:
    """Return the points of the variants that have a score and a cost, by label.

    Args:
        record: the ablation.
        costs: label of each variant, in their order -> its cost.
        metric: name of the score; None: the ablation's.
    """
    points = {}
    for variant, (label, cost) in zip(record.variants, costs.items()):
        score = mean_std(variant, metric or record.metric)
        if score and cost is not None:
            points[label] = _Point(cost, 100 * score.mean, score.deviation and 100 * score.deviation)
    return points


def _draw_costs(axes: Axes, record: Ablation, title: str, cost: str, series: Sequence[Mapping[str, _Point]]) -> None:
    """Draw the metric against a cost, with the Pareto front.

    Args:
        axes: the panel.
        record: the ablation.
        title: title of the panel.
        cost: label of the cost.
        series: the points by label, a mapping for each kind of file; the first kind's are filled.
    """
    style(axes, title, cost, f"{metric_title(record.metric)}, %")
    points = {name: (point.cost, point.score) for some in series for name, point in some.items()}
    if not points:
        axes.annotate("nothing was measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK)
        return
    left, right = _limits([x for x, _ in points.values()])
    bottom, top = _limits([y for _, y in points.values()])
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    front = pareto_front(points, record.higher_is_better)
    corners = [points[name] for name in front]
    corners.append((right, corners[-1][1]))
    axes.step(*zip(*corners), where="post", color=FAINT, linewidth=2.2, zorder=1, label="Pareto front")
    axes.legend(frameon=False, loc="best", labelcolor=INK)
    places = label_places(points, 0.055 * (right - left), 0.025 * (right - left), 0.06 * (top - bottom))
    halo = [withStroke(linewidth=3, foreground="white")]
    for filled, some in zip((True, False), series):
        for name, (x, y, deviation) in some.items():
            color = PALETTE[(int(name.partition("·")[0]) - 1) % len(PALETTE)]
            axes.plot(*zip((x, y), places[name]), color=color, linewidth=0.8, zorder=2)
            if deviation:
                axes.errorbar(x, y, yerr=deviation, color=color, capsize=3, linewidth=1, zorder=2)
            face, edge = (color, "white") if filled else ("white", color)
            axes.scatter(x, y, s=85, color=face, edgecolor=edge, linewidth=1.3, zorder=3)
            weight = "bold" if name in front else "normal"
            label = {"va": "center", "path_effects": halo, "zorder": 4, "fontweight": weight}
            axes.annotate(name, places[name], color=color, fontsize=10.5, **label)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis with a margin at both ends; it begins at zero if the values are near it."""
    low, high = min(values), max(values)
    margin = 0.15 * ((high - low) or abs(high) or 1.0)
    return (0.0 if low - margin < 0.25 * high else low - margin), high + 1.4 * margin


def report(name: str, record: Ablation) -> str:
    """Return the report in Markdown."""
    headings, rows, missing = table(record)
    changes = "adds to the one before it" if record.cumulative else "changes"
    seeds = ", ".join(map(str, record.seeds))
    lines = [
        f"# {name}",
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}, {record.date}{_commits(record)}",
        f"- {record.machine.processor}, {record.machine.cores} cores, {record.threads} threads",
        f"- {record.version_list}",
        f"- every run: {record.budget}; seeds {seeds}",
        f"- {metric_title(record.metric)} ({_direction(record)}): of the last evaluation of a run, not of its best; "
        f"mean ± standard deviation over n seeds{_evaluated(record)}",
        "- parameters, MFLOPs (multiply-adds of the network's typical input), MB and ms: of the first seed's ONNX "
        "file, INT8 where a variant is quantized for it; ms in ONNX Runtime, all variants in turns, in brackets "
        f"the median of the rounds' own ratios to {record.reference or 'the first'}",
        *(["- INT8: of a file that was made by calibration on training samples"] if has_int8(record) else []),
        "",
        f"![{metric_title(record.metric)} of all variants, against size and against time]({name}.png)",
        "",
        *markdown(headings, rows),
        *not_there(missing),
        "",
        f"What each variant {changes}:",
        "",
    ]
    for number, variant in enumerate(record.variants, 1):
        listed = "; ".join(f"`{change}`" for change in variant.changes) or "nothing"
        lines.append(f"{number}. {variant.name}: {listed}")
    return "\n".join(lines) + "\n"


def _commits(record: Ablation) -> str:
    """Return which variants were trained by which commits; "" if all were by the commit of the report."""
    variants_of: dict[str, list[str]] = {}
    for variant in record.variants:
        for commit in dict.fromkeys(run.commit for run in variant.runs if run.commit is not None):
            variants_of.setdefault(commit, []).append(variant.name)
    if not variants_of or list(variants_of) == [record.commit]:
        return ""
    return "; trained by " + ", ".join(f"{commit} ({', '.join(names)})" for commit, names in variants_of.items())


def _evaluated(record: Ablation) -> str:
    scores = [run.scores for variant in record.variants for run in variant.runs if run.scores]
    counts = [f"{int(scores[0][name])} {name}" for name in COUNTS[:3] if scores and name in scores[0]]
    return f", on {' with '.join(counts)}" if counts else ""
