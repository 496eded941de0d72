"""How much a network loses when channels of one group go: measured once, kept in a file, drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from paddle import nn

from ppocr_slim.data.lines import Batch
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import replacing, write_json
from ppocr_slim.models.state import model_state
from ppocr_slim.slim._paddleslim import Cut
from ppocr_slim.slim.channels import Group, apply_mask
from ppocr_slim.tasks.task import Task

ALIGNMENT = 8  # channels; what is left of a layer is a multiple of it, which kernels for vectors like
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of a group's channels that are tried

Losses = dict[str, dict[int, float]]
"""Group's name -> channels removed -> mean loss of a row; 0 channels: that of the whole network."""


def numbers_to_try(size: int, max_ratio: float) -> list[int]:
    """How many of `size` channels to remove: about the `SHARES`, never more than `max_ratio` of them."""
    kept = {max(ALIGNMENT, round(size * (1 - share) / ALIGNMENT) * ALIGNMENT) for share in SHARES}
    return sorted(size - left for left in kept if 0 < size - left <= max_ratio * size)


def mean_loss(model: nn.Layer, task: Task, batches: Sequence[Batch]) -> float:
    """The task's loss, mean over the rows, of the network in evaluation mode."""
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
    """The loss on `batches` when channels of one group alone are gone, for every group.

    Each measurement is in the file `path` before the next begins; one that was begun with the same weights and rows is
    continued.

    Raises SlimError if the network does not work as it is, or the file cannot be written.
    """
    key = _digest(model, batches)
    kept = _read(path, key) or {"of": key, "whole": mean_loss(model, task, batches), "losses": {}}
    if not np.isfinite(kept["whole"]):
        raise SlimError(f"fpgm: the unpruned network's loss is {kept['whole']} on {batches[0].sources[0]} and others")
    for group in groups:
        found = kept["losses"].setdefault(group.name, {})
        numbers = numbers_to_try(group.size, max_ratio)
        for number in numbers:
            if str(number) not in found:  # JSON's keys are strings
                found[str(number)] = _loss_without(model, group.cut(number), task, batches)
                write_json(path, kept)
        said = ", ".join(f"{found[str(number)]:.3f} without {number}" for number in numbers)
        logger.info("fpgm: %s, %d channels: loss %.3f, %s", group.name, group.size, kept["whole"], said or "untouched")
    return {
        group.name: {
            0: kept["whole"],
            **{n: kept["losses"][group.name][str(n)] for n in numbers_to_try(group.size, max_ratio)},
        }
        for group in groups
    }


def _loss_without(model: nn.Layer, cut: Cut, task: Task, batches: Sequence[Batch]) -> float:
    before = apply_mask(model, cut)
    try:
        return mean_loss(model, task, batches)
    finally:
        for name, tensor in model_state(model).items():
            if name in before:
                tensor.set_value(before[name])


def loss_increase(losses: Mapping[int, float]) -> dict[int, float]:
    """Channels removed -> by how much the loss grows; never less for more channels, infinite where it is no number."""
    numbers = sorted(losses)
    grown = np.maximum.accumulate(np.nan_to_num([losses[number] - losses[0] for number in numbers], nan=np.inf))
    return {number: float(harm) for number, harm in zip(numbers, grown)}


def _digest(model: nn.Layer, batches: Sequence[Batch]) -> str:
    digest = hashlib.sha256()
    for name, tensor in model_state(model).items():
        digest.update(f"{name} {tensor.shape}".encode() + tensor.numpy().tobytes())
    for batch in batches:
        digest.update("\n".join(batch.sources).encode() + batch.image.tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> dict[str, Any]:
    """What the file holds; {} if there is none, it is damaged, or it belongs to other weights or rows."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if kept["of"] == key and {"whole", "losses"} <= set(kept) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%r) and is made anew", path, error)
        return {}


def plot_sensitivity(
    groups: Sequence[Group], losses: Losses, removed: Mapping[str, int], title: str, path: Path
) -> None:
    """Draw the losses of all groups over the share of channels removed, and dots where the plan is.

    The file is written whole or not at all; SlimError if it cannot be.
    """
    measured: list[tuple[Group, dict[int, float]]] = [(g, losses[g.name]) for g in groups if len(losses[g.name]) > 1]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots()
    colors = colormaps["turbo"](np.linspace(0, 1, len(measured)))  # neighbouring layers look alike
    for (group, found), color in zip(measured, colors):
        numbers = sorted(found)
        label = f"{group.name} ({group.size - removed.get(group.name, 0)} of {group.size})"
        shares = [100 * number / group.size for number in numbers]
        axes.plot(shares, [found[number] for number in numbers], "-", color=color, label=label, linewidth=1.2)
        number = removed.get(group.name, 0)
        if number:
            axes.plot(100 * number / group.size, found[number], "o", color=color, markersize=6)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("channels of the group removed, the others untouched [%]")
    axes.set_ylabel("loss on training rows, before fine-tuning")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.25)
    if measured:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, title="layer (channels left)")
    with replacing(path) as new:
        figure.savefig(new, dpi=110, format="png")
