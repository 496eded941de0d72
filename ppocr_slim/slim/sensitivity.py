"""Sensitivity analysis: the loss of a network without some channels of one group, measured once and kept in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.data.lines import Batch
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import write_json
from ppocr_slim.models.state import model_state
from ppocr_slim.slim._paddleslim import Cut
from ppocr_slim.slim.channels import Group, apply_mask
from ppocr_slim.tasks.task import Task

ALIGNMENT = 8  # channels; what is left of a layer is a multiple of it, which suits SIMD kernels
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of a group's channels that are removed on trial

Losses = dict[str, dict[int, float]]
"""Group's name -> number of channels removed -> mean loss of a sample; 0 channels: the whole network's."""


def numbers_to_try(size: int, max_ratio: float) -> list[int]:
    """Return the numbers of channels to remove on trial: about `FRACTIONS` of them, aligned.

    Args:
        size: channels of the group.
        max_ratio: the largest fraction of them that may be removed.
    """
    kept = {max(ALIGNMENT, round(size * (1 - fraction) / ALIGNMENT) * ALIGNMENT) for fraction in FRACTIONS}
    return sorted(size - left for left in kept if 0 < size - left <= max_ratio * size)


def mean_loss(model: nn.Layer, task: Task, batches: Sequence[Batch]) -> float:
    """Return the task's loss in evaluation mode, averaged over the samples."""
    was_training, total = model.training, 0.0
    model.eval()
    try:
        with paddle.no_grad():
            for batch in batches:
                losses = task.loss(task.outputs(model, batch), batch)
                total += sum(float(loss) for loss in losses.values()) * len(batch.sources)
    finally:
        if was_training:
            model.train()
    return total / sum(len(batch.sources) for batch in batches)


def measure_sensitivity(
    model: nn.Layer,
    groups: Sequence[Group],
    max_ratio: float,
    task: Task,
    batches: Sequence[Batch],
    path: Path,
) -> Losses:
    """Measure the loss without some channels of one group, for every group by itself.

    Each measurement is in the file before the next begins; an interrupted analysis of the same weights and samples is
    continued.

    Args:
        model: the trained network, unchanged afterwards.
        groups: its groups.
        max_ratio: the largest fraction of a group's channels to remove.
        task: the network's.
        batches: the samples.
        path: JSON file of the measurements.

    Returns:
        The losses of every group, with and without some of its channels.

    Raises:
        SlimError: the unpruned network's loss is not finite, or the file cannot be written.
    """
    key = _digest(model, batches)
    kept = _read(path, key) or {"of": key, "whole": mean_loss(model, task, batches), "losses": {}}
    if not np.isfinite(kept["whole"]):
        raise SlimError(
            f"fpgm: the loss of the unpruned network is {kept['whole']} on the calibration samples "
            f"({batches[0].sources[0]} and others): start from a trained network"
        )
    for group in groups:
        _measure_group(model, group, max_ratio, task, batches, kept, path)
    return {
        group.name: {
            0: kept["whole"],
            **{n: kept["losses"][group.name][str(n)] for n in numbers_to_try(group.size, max_ratio)},
        }
        for group in groups
    }


def _measure_group(
    model: nn.Layer,
    group: Group,
    max_ratio: float,
    task: Task,
    batches: Sequence[Batch],
    kept: dict[str, Any],
    path: Path,
) -> None:
    """Add the measurements that `kept`, the content of the file, lacks of a group."""
    found = kept["losses"].setdefault(group.name, {})
    numbers = numbers_to_try(group.size, max_ratio)
    for number in numbers:
        if str(number) not in found:  # JSON's keys are strings
            found[str(number)] = _loss_without(model, group.cut(number), task, batches)
            write_json(path, kept)
    losses = ", ".join(f"{found[str(number)]:.3f} without {number}" for number in numbers)
    logger.info("fpgm: %s, %d channels: loss %.3f, %s", group.name, group.size, kept["whole"], losses or "not pruned")


def _loss_without(model: nn.Layer, cut: Cut, task: Task, batches: Sequence[Batch]) -> float:
    before = apply_mask(model, cut)
    try:
        return mean_loss(model, task, batches)
    finally:
        for name, tensor in model_state(model).items():
            if name in before:
                tensor.set_value(before[name])


def loss_increase(losses: Mapping[int, float]) -> dict[int, float]:
    """Return by how much the loss increases: never less for more channels, infinitely where it is NaN.

    Args:
        losses: number of channels removed -> loss, 0 among them.

    Returns:
        Number of channels removed -> increase.
    """
    numbers = sorted(losses)
    increases = np.maximum.accumulate(np.nan_to_num([losses[number] - losses[0] for number in numbers], nan=np.inf))
    return {number: float(increase) for number, increase in zip(numbers, increases)}


def _digest(model: nn.Layer, batches: Sequence[Batch]) -> str:
    digest = hashlib.sha256()
    for name, tensor in model_state(model).items():
        digest.update(f"{name} {tensor.shape}".encode() + tensor.numpy().tobytes())
    for batch in batches:
        digest.update("\n".join(batch.sources).encode() + batch.image.tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> dict[str, Any]:
    """Read an interrupted analysis; {} if there is none, it is damaged, or it is of other weights or samples."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if kept["of"] == key and {"whole", "losses"} <= set(kept) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%r): the sensitivity is measured anew", path, error)
        return {}
