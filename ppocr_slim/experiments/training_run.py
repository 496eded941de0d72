"""The record of a finished training run, from the files of the run and its evaluations, without any label text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.config.loading import load_config
from ppocr_slim.errors import SlimError
from ppocr_slim.reports.provenance import commit as working_commit
from ppocr_slim.training.recipe import CONFIG_FILE
from ppocr_slim.training.runlog import read_log, training_progress

WARM_UP = 3  # predictions whose times do not count


def collect(
    run: Path,
    command: str,
    note: str,
    evaluation: Path,
    other_evaluation: Path | None = None,
    predictions: Path | None = None,
    commit: str | None = None,
) -> dict[str, Any]:
    """Return the results of a finished training run, ready for JSON; see `reports.records.TrainingRun`.

    Args:
        run: folder of the run, with config.yml and, in the folder of its last training stage, log.jsonl.
        command: the command line of the training.
        note: a paragraph for the report.
        evaluation: file of `eval --json`; its texts are left out.
        other_evaluation: the same by another engine, to count the texts that differ.
        predictions: output of `read-lines --json`, for the time per line.
        commit: commit of the code that the run was trained by; None: that of the working tree.

    Raises:
        SlimError: a file is missing or lacks a key, the two evaluations are of different lines, or there are too few
            predictions.
    """
    try:
        config = load_config(run / CONFIG_FILE)
        trained = [run / folder.name for folder in config.training_folders]
        records = read_log(trained[-1])
        scores = json.loads(evaluation.read_text(encoding="utf-8"))
        other = json.loads(other_evaluation.read_text(encoding="utf-8")) if other_evaluation else None
        lines = [json.loads(line) for line in _lines(predictions)] if predictions else None
        metric = config.metric.name if config.metric else "cer"  # older runs are all of recognizers
        checks: dict[str, Any] = {}
        if other is not None:
            checks.update(_compare(scores, other, evaluation, other_evaluation))
        if lines is not None:
            checks.update(_latency(lines, predictions))
        return {
            "command": command,
            "commit": commit or working_commit(),
            "note": note,
            **training_progress(records, config.step_batch),
            "scores": scores["scores"],
            "by_writer": scores.get("by_group", {}),
            "checks": checks,
            "curve": {
                "train_loss": [[r["step"], r["loss"]] for r in records if "loss" in r],
                f"eval_{metric}": [[r["step"], r[f"eval/{metric}"]] for r in records if f"eval/{metric}" in r],
            },
        }
    except (OSError, ValueError) as error:
        raise SlimError(f"cannot make the report of {run}: {error}") from error
    except (KeyError, TypeError) as error:
        raise SlimError(f"cannot make the report of {run}: one of its files lacks a key ({error!r})") from error


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _compare(scores: Mapping, other: Mapping, evaluation: Path, other_evaluation: Path) -> dict[str, Any]:
    pairs = list(zip(scores["lines"], other["lines"]))
    if len(scores["lines"]) != len(other["lines"]) or any(a["path"] != b["path"] for a, b in pairs):
        raise SlimError(f"{evaluation} and {other_evaluation} are of different lines: evaluate both on one label file")
    differing = sum(a["reading"] != b["reading"] for a, b in pairs)
    return {"texts that differ between engines": differing, "lines compared": len(pairs)}


def _latency(lines: list[Mapping[str, Any]], predictions: Path) -> dict[str, Any]:
    times = [line["ms"] for line in lines if "ms" in line][WARM_UP:]
    if not times:
        raise SlimError(f"{predictions} has at most {WARM_UP} lines that were read, which are left out as warm-up")
    median, high = np.percentile(times, [50, 95]).round(1).tolist()
    return {"median ms a line": median, "95th percentile, ms": high}
