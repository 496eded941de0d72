"""Filter pruning via geometric median (FPGM, He et al. 2019, arXiv:1811.00250), applied before a training stage.

Filters near the geometric median of their layer can be replaced by the others, so they are removed. How many channels
each group loses follows from a sensitivity analysis: the FLOPs that cost the least increase of the loss go first. FLOPs
are counted as multiply-adds.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppocr_slim.config.schema import Fpgm
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.engines.onnxruntime import OnnxSession
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.bundle import save_inference_model
from ppocr_slim.folders import write_json
from ppocr_slim.layer_names import named
from ppocr_slim.models.cost import measure_cost, watch
from ppocr_slim.models.state import model_state, name_parameters
from ppocr_slim.models.widths import RESIZERS
from ppocr_slim.runtime.bundle import ONNX
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.slim._paddleslim import Cut
from ppocr_slim.slim.channels import Group, find_groups, merge_cuts, remove
from ppocr_slim.slim.sensitivity import Losses, loss_increase, measure_sensitivity
from ppocr_slim.slim.technique import Context, Technique, Transform

REPORT, SENSITIVITY, PLOT = "fpgm.json", "fpgm_sensitivity.json", "fpgm_sensitivity.png"  # in the stage's folder
TIMING_ROUNDS = 12  # in which two networks are timed by turns
LATENCY_TRIALS = 6  # each halves the range of FLOPs that is searched
POLL_S = 0.2  # how often the other processes look for the plan
# The loss increase that saving all FLOPs may be worth; a network that loses more than the maximum is broken.
MIN_MULTIPLIER, MAX_MULTIPLIER = 1e-6, 1e6
BISECTIONS = 24  # of that range

PruningPlan = dict[str, int]
"""Group's name -> number of channels to remove, 1 or more."""


class FpgmPruning(Technique):
    """Filter pruning, once before the training, which thereby becomes the fine-tuning."""

    folds = True

    def __init__(self, settings: Fpgm):
        self.settings = settings

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Analyse the sensitivity, choose a plan and prune the network in place.

        The first process chooses; the plan is written to `fpgm.json`, and all processes follow it.

        Args:
            model: the trained network.
            context: the stage's.

        Returns:
            The transform "widths"; nothing where no channel is removed.

        Raises:
            SlimError: the target is out of reach, or a pattern of `skip` matches no layer.
        """
        groups = _without_skipped(find_groups(model), self.settings.skip)
        path = context.folder / REPORT
        if context.is_first:
            _delete(path)
        context.wait()  # no plan of an earlier run is left
        if context.is_first:
            write_json(path, self._decide(model, groups, context))
        while not path.exists():  # no collective waits as long as deciding may take; a failed process ends them all
            time.sleep(POLL_S)
        plan = json.loads(path.read_text(encoding="utf-8"))["removed"]
        widths = remove(model, merge_cuts(group.cut(plan[group.name]) for group in groups if group.name in plan))
        return [{"name": "widths", "layers": widths}] if widths else []

    def _decide(self, model: nn.Layer, groups: Sequence[Group], context: Context) -> dict[str, Any]:
        """Return the report: the plan ("removed") and what it does to the network."""
        settings, spec = self.settings, context.card.spec
        batches = context.calibration(settings.calibration_samples)
        path = context.folder / SENSITIVITY
        losses = measure_sensitivity(model, groups, settings.max_ratio, context.task, batches, path)
        planner = Planner(model, groups, {name: loss_increase(found) for name, found in losses.items()})
        plan = planner.plan(settings.max_flops or 1.0)
        if settings.max_latency:
            plan = _plan_for_latency(planner, plan, settings.max_latency, spec)
        report = self._report(model, planner.pruned(plan), spec)
        _plot(groups, losses, plan, report, context.folder / PLOT)
        return {**report, "channels": {group.name: group.size for group in groups}, "removed": plan}

    def _report(self, model: nn.Layer, pruned: nn.Layer, spec: Spec) -> dict[str, Any]:
        """Return size, FLOPs and latency before and after pruning, and log them."""
        shape = list(model.typical_input)
        costs = {"before": measure_cost(model, shape), "after": measure_cost(pruned, shape)}
        ms = latencies(model, pruned, spec)
        logger.info(
            "fpgm: %.2f of %.2f M parameters are left, %.1f of %.1f M FLOPs, %.1f of %.1f ms an input",
            *(costs[when].parameters / 1e6 for when in ("after", "before")),
            *(costs[when].flops / 1e6 for when in ("after", "before")),
            ms["ms"],
            ms["base_ms"],
        )
        ratio = costs["after"].flops / costs["before"].flops
        return {
            "target": {"max_flops": self.settings.max_flops, "max_latency": self.settings.max_latency},
            "input": shape,
            "parameters": {when: cost.parameters for when, cost in costs.items()},
            "flops": {**{when: cost.flops for when, cost in costs.items()}, "ratio": ratio},
            "onnxruntime_ms": ms,
        }


def _plot(groups: Sequence[Group], losses: Losses, plan: PruningPlan, report: Mapping[str, Any], path: Path) -> None:
    from ppocr_slim.reports.sensitivity import plot_sensitivity  # loads matplotlib, which no other technique needs

    flops, latency = report["flops"]["ratio"], report["onnxruntime_ms"]["ratio"]
    title = f"FPGM: {100 * flops:.0f}% of the FLOPs, {100 * latency:.0f}% of the latency are left"
    plot_sensitivity(path, {group.name: group.size for group in groups}, losses, plan, title)


def _without_skipped(groups: Sequence[Group], skip: Sequence[str]) -> list[Group]:
    """Return the groups that have no layer named by a pattern of `skip`."""
    skipped = named([layer for group in groups for layer in group.layers], skip, "fpgm.skip")
    left = [group for group in groups if skipped.isdisjoint(group.layers)]
    if not left:
        raise SlimError("fpgm.skip leaves no layer to prune")
    return left


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SlimError(f"cannot replace {path}: {error.strerror}") from error


class Planner:
    """Chooses how many channels each group loses, so that the loss increases least.

    Args:
        model: the network to be pruned.
        groups: its groups that may be pruned.
        loss_increases: group's name -> number of channels removed -> increase of the loss.
    """

    def __init__(self, model: nn.Layer, groups: Sequence[Group], loss_increases: Mapping[str, Mapping[int, float]]):
        self.model, self.groups, self.loss_increases = model, groups, loss_increases
        self._positions = matrix_positions(model, model.typical_input)
        self._shapes = {name: list(model_state(model)[name].shape) for name in self._positions}
        self._saved_flops = {
            group.name: {
                number: 1 - self.remaining_flops({group.name: number})
                for number in loss_increases[group.name]
                if number
            }
            for group in groups
        }

    @property
    def min_remaining_flops(self) -> float:
        """The fraction of the FLOPs that remains however much the loss may increase."""
        return self.remaining_flops(self._plan_at(MAX_MULTIPLIER))

    def pruned(self, plan: PruningPlan) -> nn.Layer:
        """Return a pruned copy of the network."""
        small = copy.deepcopy(self.model)
        remove(small, self._cut(plan))
        return small

    def remaining_flops(self, plan: PruningPlan) -> float:
        """Return the fraction of the FLOPs that the plan leaves, 0 to 1."""
        cut = self._cut(plan)
        whole = left = 0
        for name, positions in self._positions.items():
            whole += positions * math.prod(self._shapes[name])
            kept = {axis: int(keep.sum()) for axis, keep in cut.get(name, {}).items()}
            left += positions * math.prod(kept.get(axis, size) for axis, size in enumerate(self._shapes[name]))
        return left / whole

    def _cut(self, plan: PruningPlan) -> Cut:
        return merge_cuts(group.cut(plan[group.name]) for group in self.groups if plan.get(group.name))

    def plan(self, max_flops: float) -> PruningPlan:
        """Return the plan with the least sum of loss increases that leaves at most `max_flops` of the FLOPs.

        All groups may pay the same increase of the loss for the same FLOPs (a Lagrange multiplier), which is chosen as
        low as the target allows; then groups take back channels that need not go.

        Args:
            max_flops: the fraction of the FLOPs that may remain, 0 to 1.

        Raises:
            SlimError: the target is out of reach.
        """
        if max_flops >= 1:
            return {}
        low, high = MIN_MULTIPLIER, MAX_MULTIPLIER
        best = self._plan_at(high)
        least = self.remaining_flops(best)
        if least > max_flops:
            raise SlimError(
                f"fpgm: pruned as far as possible, the network keeps {least:.2f} of its FLOPs, which is more than "
                f"max_flops {max_flops:g}: raise max_flops or max_ratio, or skip fewer layers"
            )
        for _ in range(BISECTIONS):
            multiplier = math.sqrt(low * high)
            plan = self._plan_at(multiplier)
            if self.remaining_flops(plan) <= max_flops:
                best, high = plan, multiplier
            else:
                low = multiplier
        return self._take_back(best, max_flops)

    def _plan_at(self, multiplier: float) -> PruningPlan:
        """Return the plan with the least loss increase - multiplier * FLOPs saved, group by group."""
        plan = {}
        for group in self.groups:
            increase, saved = self.loss_increases[group.name], {0: 0.0, **self._saved_flops[group.name]}
            costs = {number: (increase[number] - multiplier * saved[number], number) for number in saved}
            number = min(costs, key=costs.__getitem__)
            if number:
                plan[group.name] = number
        return plan

    def _take_back(self, plan: PruningPlan, max_flops: float) -> PruningPlan:
        """Let the groups that cost most lose as few channels as the target allows."""
        for name in sorted(plan, key=lambda name: -self.loss_increases[name][plan[name]]):
            for fewer in sorted(number for number in self.loss_increases[name] if number < plan[name]):
                trial = {key: number for key, number in {**plan, name: fewer}.items() if number}
                if self.remaining_flops(trial) <= max_flops:
                    plan = trial
                    break
        return plan


def matrix_positions(model: nn.Layer, shape: Sequence[int]) -> dict[str, int]:
    """Count at how many positions of an input each matrix or kernel is applied: the FLOPs of each of its elements.

    Args:
        model: a network.
        shape: shape of the input.

    Returns:
        Weight's name -> number of positions.
    """
    positions = {}

    def count(path, layer, inputs, output):
        if type(layer) in RESIZERS:
            # A transposed convolution is applied at each pixel of its input.
            seen = inputs[0] if isinstance(layer, nn.Conv2DTranspose) else output
            places = int(seen.size) // int(seen.shape[1 if len(seen.shape) == 4 else -1])
            own = model_state(layer).items()
            positions.update({f"{path}.{name}": places for name, tensor in own if len(tensor.shape) > 1})

    watch(model, shape, count)
    return positions


def _plan_for_latency(planner: Planner, plan: PruningPlan, max_latency: float, spec: Spec) -> PruningPlan:
    """Return the plan that removes least and reaches the latency: `plan` itself if it does.

    The planner chooses a plan for each number of FLOPs; how many FLOPs may remain is found by timing.

    Args:
        planner: the network's.
        plan: the plan for `max_flops`; empty without such a target.
        max_latency: fraction of the network's latency, 0 to 1.
        spec: the network's.

    Raises:
        SlimError: no plan is fast enough.
    """

    def latency_ratio(plan: PruningPlan) -> float:
        ratio = latencies(planner.model, planner.pruned(plan), spec)["ratio"]
        logger.info("fpgm: %.2f of the FLOPs take %.2f of the time", planner.remaining_flops(plan), ratio)
        return ratio

    if plan and latency_ratio(plan) <= max_latency:
        return plan
    most, least = planner.remaining_flops(plan), planner.min_remaining_flops
    best = planner.plan(least)
    reached = latency_ratio(best)
    if reached > max_latency:
        raise SlimError(
            f"fpgm: pruned as far as possible, the network takes {reached:.2f} of its time, which is more than "
            f"max_latency {max_latency:g}: raise max_latency or max_ratio, or skip fewer layers"
        )
    for _ in range(LATENCY_TRIALS):
        middle = (least + most) / 2
        trial = planner.plan(middle)
        if latency_ratio(trial) <= max_latency:
            best, least = trial, middle
        else:
            most = middle
    return best


def latencies(before: nn.Layer, after: nn.Layer, spec: Spec) -> dict[str, float]:
    """Time both networks in ONNX Runtime, by turns, on one typical input.

    Args:
        before: the network.
        after: the pruned network.
        spec: of both.

    Returns:
        "ms" of `after`, "base_ms" of `before`, and their "ratio".
    """
    image = np.zeros(before.typical_input, np.float32)
    networks = {"base": before, "own": after}
    calls = {name: _onnx_call(network, spec, image) for name, network in networks.items()}
    times = time_in_turns(calls, TIMING_ROUNDS)
    return compared(times["own"], times["base"])


def _onnx_call(model: nn.Layer, spec: Spec, image: np.ndarray) -> Callable[[], Any]:
    model = copy.deepcopy(model)  # the network is trained after this: exporting must not change it
    name_parameters(model)
    with tempfile.TemporaryDirectory() as folder:
        save_inference_model(model, spec, Path(folder), onnx_too=True)
        content = (Path(folder) / ONNX).read_bytes()
    return partial(OnnxSession(content, usable_cores()), image)
