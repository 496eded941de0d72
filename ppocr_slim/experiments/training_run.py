"""The record of a finished run, from what the run and its evaluations left behind. No text of a label is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import Config, TrainStage
from ppocr_slim.errors import SlimError
from ppocr_slim.reports.provenance import commit as working_commit
from ppocr_slim.training.recipe import CONFIG_FILE, stage_folders
from ppocr_slim.training.runlog import LOG_FILE, read_log

WARM_UP_ROWS = 3  # of predictions, whose times do not count


def collect(
    run: Path,
    command: str,
    note: str,
    evaluation: Path,
    other_evaluation: Path | None = None,
    predictions: Path | None = None,
    commit: str | None = None,
) -> dict[str, Any]:
    """Return the figures of a finished run.

    Args:
        run: the run's folder, with config.yml and, in the folder of its last training stage, log.jsonl.
        command: what was run.
        evaluation: a file that `tools/eval.py --json` wrote; its texts are left behind.
        other_evaluation: the same lines with another engine: how many texts differ is counted.
        predictions: what `tools/predict_rec.py --json` printed for the lines, for the time a line.
        commit: what the run was made from; by default the working tree's.

    Raises:
        SlimError: a file is missing or has no such figures, the two evaluations are of different lines, or there
            are too few predictions.
    """
    try:
        config = load_config(run / CONFIG_FILE)
        trained = [folder for stage, folder in stage_folders(config.recipe, run) if isinstance(stage, TrainStage)]
        records = read_log(trained[-1])
        scored = json.loads(evaluation.read_text(encoding="utf-8"))
        other = json.loads(other_evaluation.read_text(encoding="utf-8")) if other_evaluation else None
        rows = [json.loads(line) for line in _lines(predictions)] if predictions else None
        metric = config.metric.name if config.metric else "cer"  # older runs had no other task
        checks: dict[str, Any] = {}
        if other is not None:
            checks.update(_compared(scored, other, evaluation, other_evaluation))
        if rows is not None:
            checks.update(_times(rows, predictions))
        return {
            "command": command,
            "commit": commit or working_commit(),
            "note": note,
            **_progress(records, config),
            "scores": scored["scores"],
            "by_writer": scored.get("by_group", {}),
            "checks": checks,
            "curve": {
                "train_loss": [[r["step"], r["loss"]] for r in records if "loss" in r],
                f"eval_{metric}": [[r["step"], r[f"eval/{metric}"]] for r in records if f"eval/{metric}" in r],
            },
        }
    except (OSError, ValueError) as error:
        raise SlimError(f"the report of {run} cannot be made: {error}") from error
    except (KeyError, TypeError) as error:
        raise SlimError(f"the report of {run} cannot be made: a file of it is of another kind ({error!r})") from error


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _progress(records: list[Mapping[str, Any]], config: Config) -> dict[str, Any]:
    """Steps, lines seen and minutes of training. A log that does not count lines is taken to have had full batches."""
    batch = config.train.batch_size * config.run.processes
    step, images, seconds = 0, 0, 0.0
    for record in records:
        if "loss" in record:
            seen = record.get("images", images + (record["step"] - step) * batch)
            seconds += (seen - images) / record["images_per_s"]
            step, images = record["step"], seen
    if not step:
        raise ValueError(f"its {LOG_FILE} has no training step")
    return {"steps": step, "images_seen": images, "training_minutes": round(seconds / 60, 1)}


def _compared(scored: Mapping, other: Mapping, evaluation: Path, other_evaluation: Path) -> dict[str, Any]:
    pairs = list(zip(scored["lines"], other["lines"]))
    if len(scored["lines"]) != len(other["lines"]) or any(a["path"] != b["path"] for a, b in pairs):
        raise SlimError(f"{evaluation} and {other_evaluation} are of different lines: evaluate both on one label file")
    differing = sum(a["reading"] != b["reading"] for a, b in pairs)
    return {"texts that differ between backends": differing, "rows compared": len(pairs)}


def _times(rows: list[Mapping[str, Any]], predictions: Path) -> dict[str, Any]:
    times = [row["ms"] for row in rows if "ms" in row][WARM_UP_ROWS:]
    if not times:
        raise SlimError(f"{predictions} has no more than {WARM_UP_ROWS} lines that were read: the first ones warm up")
    median, high = np.percentile(times, [50, 95]).round(1).tolist()
    return {"median ms a row": median, "95th percentile, ms": high}
