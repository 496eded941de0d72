"""The report of a finished training run: its metrics by writer, and its curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.reports.records import TrainingRun
from ppocr_slim.reports.results import write_results
from ppocr_slim.reports.tables import markdown

TITLES = {
    "cer": "CER",
    "wer": "WER",
    "line_accuracy": "exact lines",
    "edit_similarity": "edit similarity",
    "kalapa_score": "Kalapa score",
    "wrongly_turned": "upright ones turned",
    "left": "upside-down ones left",
}


def write_training_run(folder: Path, name: str, results: Mapping[str, Any]) -> Path:
    """Write NAME.json, NAME.png (the curve) and NAME.md; return the path of the report."""
    return write_results(folder / name, results, TrainingRun, report, png=_draw_curve)


def _draw_curve(path: Path, record: TrainingRun) -> None:
    figure = Figure(figsize=(7.5, 3.8))
    left = figure.add_subplot()
    right = left.twinx()
    evaluated = next(key for key in record.curve if key.startswith("eval_"))
    metric = evaluated[len("eval_") :]
    title, losses, values = TITLES.get(metric, metric), record.curve["train_loss"], record.curve[evaluated]
    left.plot(*zip(*losses), color="tab:blue", linewidth=0.8, label="training loss")
    right.plot(*zip(*values), color="tab:red", marker=".", label=f"{title}, evaluation data")
    left.set_xlabel("step")
    left.set_ylabel("training loss")
    # A first loss many times as large as the others would hide them.
    left.set_ylim(0, min(1.1 * max(loss for _, loss in losses), 6 * float(np.median([loss for _, loss in losses]))))
    right.set_ylabel(title)
    right.set_ylim(0, min(1, 1.5 * max(value for _, value in values)))
    right.grid(alpha=0.3)
    place = "center right" if HIGHER_IS_BETTER[metric] else "upper right"
    figure.legend(loc=place, bbox_to_anchor=(0, 0, 1, 1), bbox_transform=left.transAxes)
    figure.tight_layout()
    figure.savefig(path, dpi=100, format="png")


def report(name: str, record: TrainingRun) -> str:
    """Return the report in Markdown."""
    counted = next(key for key in ("lines", "pictures") if key in record.scores)
    columns = [key for key, value in record.scores.items() if isinstance(value, float)]
    rows = [
        [writer, str(scores[counted]), *(f"{scores[key]:.4f}" for key in columns)]
        for writer, scores in [("**all**", record.scores), *record.by_writer.items()]
    ]
    lines = [
        f"# {name}",
        "",
        record.note,
        "",
        f"- command: `{record.command}`",
        f"- commit: {record.commit}",
        f"- {record.steps} steps, {record.images_seen} images seen, "
        f"{record.training_minutes} minutes of training steps",
        *(f"- {key}: {value}" for key, value in record.checks.items()),
        "",
        f"![curve]({name}.png)",
        "",
        *markdown(["writer", counted, *(TITLES.get(key, key) for key in columns)], rows),
    ]
    return "\n".join(lines) + "\n"
