"""The pipeline's page for docs/results, made from its figures alone. No text of a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"fp32": "this project, FP32", "int8": "this project, INT8", "rapidocr": "RapidOCR"}
MEGABYTE = 1_000_000


def page_text(name: str, figures: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    pages, sides, machine = figures["pages"], figures["sides"], figures["machine"]
    lines = [
        f"# {name}",
        "",
        "The whole pipeline: lines found on a page, turned upright, and read.",
        "",
        f"- command: `{figures['command']}`",
        f"- commit: {figures['commit']}, {figures['date']}",
        f"- {machine['processor']}, {machine['cores']} cores, {figures['threads']} threads a side",
        f"- {pages['count']} pages of {pages['file']}, {pages['lines']} lines",
        *(
            f"- {_title(side)}: " + ", ".join(f"{package} {version}" for package, version in found["versions"].items())
            for side, found in sides.items()
        ),
        "",
        "## Found",
        "",
        "At an IoU of 0.5 (ICDAR 2015's protocol). Of other engines those boxes that their own limits leave.",
        "",
    ]
    rows = []
    for side, found in sides.items():
        kinds = [("all", found["detection"]["all"])]
        kinds += found["detection"]["by_kind"].items()
        kinds += [(f"{lines_} lines", some) for lines_, some in found["detection"]["by_lines"].items()]
        for kind, some in kinds:
            scores = [f"{some[key]:.4f}" for key in ("hmean", "precision", "recall")]
            rows.append([_title(side), kind, str(some["pages"]), str(some["lines"]), *scores])
    lines += _table(["", "pages", "number", "lines", "hmean", "precision", "recall"], rows)
    lines += ["", "## Turned", "", "Each line shown upright and upside down.", ""]
    rows = []
    for what, some in figures["direction"].items():
        title = {"crops": "lines cut out of the pages", "rows": "rows of the label file"}[what]
        shares = [f"{some[key]:.4f}" for key in ("accuracy", "wrongly_turned", "left")]
        rows.append([title, str(some["pictures"]), *shares])
    lines += _table(["", "pictures", "direction told", "upright but turned", "upside down but left"], rows)
    lines += ["", "## Read", ""]
    lines.append(
        "Character error rate over all true lines: a line that was not found is wrong in all its characters, what is "
        "read where there is no line is too much. Beside it that of the recognizer alone, on the true lines cut out."
    )
    if figures["only_rows"]:
        lines.append(f"Only lines that say what a row of {figures['only_rows']} says; the others count neither way.")
    lines.append("")
    rows = []
    for side, found in sides.items():
        parts = [("all", found["reading"]["all"])]
        parts += [(f"{count} lines", some) for count, some in found["reading"]["by_lines"].items() if some["lines"]]
        for kind, reading in parts:
            alone = figures["true_boxes"].get(side)
            if alone:
                alone = alone["all"] if kind == "all" else alone["by_lines"][kind[: -len(" lines")]]
            shares = [reading[key] / max(1, reading["characters"]) for key in ("wrong", "missed", "added")]
            rows.append(
                [_title(side), kind, f"{reading['found']} of {reading['lines']}", f"{reading['cer']:.4f}"]
                + [f"{share:.4f}" for share in shares]
                + ([f"{alone['cer']:.4f}", f"{100 * (reading['cer'] - alone['cer']):+.1f}"] if alone else ["-", "-"])
            )
    headings = [
        "",
        "pages",
        "lines found",
        "CER",
        "misread",
        "missed",
        "too much",
        "CER on true boxes",
        "difference, points",
    ]
    lines += _table(headings, rows)
    if figures["speed"]:
        speed = figures["speed"]
        lines += ["", "## Time and memory", ""]
        lines.append(
            f"Milliseconds a page, without decoding its file: {speed['pages']} pages of {speed['median_lines']:g} "
            f"lines (median), all sides in turns, page by page, the median of {speed['rounds']} rounds. The ratio is "
            "the median of the rounds' own."
        )
        lines.append("")
        rivals = [side for side in speed["sides"] if side not in ("fp32", "int8")]
        rows = []
        for side, found in speed["sides"].items():
            row = [_title(side), *(f"{found['ms'][stage]:.0f}" for stage in ("det", "cls", "rec", "total"))]
            ratios = [found.get(f"against_{rival}") for rival in rivals]
            row += [f"{ratio['ratio']:.2f}" if ratio else "-" for ratio in ratios]
            rows.append(row + [f"{found['peak_mb']:.0f}"])
        ratios = [f"ratio to {_title(rival)}" for rival in rivals]
        lines += _table(["", "det", "cls", "rec", "page", *ratios, "peak memory, MB"], rows)
    lines += ["", "## Size", ""]
    rows = []
    for task, sizes in figures["bundles"].items():
        rows += [[f"{task}: {file}", f"{size / MEGABYTE:.2f}"] for file, size in sizes.items()]
    for side, found in sides.items():
        if side not in ("fp32", "int8"):
            rows += [[f"{_title(side)}: {file}", f"{size / MEGABYTE:.2f}"] for file, size in found["sizes"].items()]
    lines += _table(["file", "MB"], rows)
    return "\n".join(lines) + "\n"


def _title(side: str) -> str:
    return TITLES.get(side, side)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
