"""Filter pruning via geometric median (FPGM, He et al. 2019, arXiv:1811.00250) as a step of a training.

Filters that lie near the others' geometric median can be replaced by them, so they go. How many of each layer is found
from how much its loss suffers: the layers give up their cheapest multiply-adds first.
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
from ppocr_slim.slim.channels import Group, find_groups, joined, remove
from ppocr_slim.slim.sensitivity import loss_increase, measure_sensitivity, plot_sensitivity
from ppocr_slim.slim.technique import Context, Technique, Transform

FIGURES, SENSITIVITY, PLOT = "fpgm.json", "fpgm_sensitivity.json", "fpgm_sensitivity.png"
ROUNDS = 12  # of timing two networks in turns
LATENCY_TRIALS = 6  # each halves the range of FLOPs in which the answer lies
POLL_S = 0.2  # how often the other processes look for the plan
ANY_PRICE = 1e6  # loss for all multiply-adds; only what would break the network altogether is worth more

PruningPlan = dict[str, int]
"""Group's name -> channels that it loses, 1 or more."""


class FpgmPruning(Technique):
    """Prune once, before the training; the training then is the fine-tuning."""

    def __init__(self, settings: Fpgm):
        self.settings = settings

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Measure, decide, cut. The first process decides and leaves the plan in `fpgm.json`, which all follow.

        Raises SlimError if the target is out of reach, or a pattern of `skip` matches no layer.
        """
        groups = _left_alone(find_groups(model), self.settings.skip)
        path = context.folder / FIGURES
        if context.is_first:
            _remove(path)
        context.wait()  # no plan of an earlier run is left
        if context.is_first:
            write_json(path, self._decide(model, groups, context))
        while not path.exists():  # no collective waits as long as deciding may take; a failed process ends them all
            time.sleep(POLL_S)
        plan = json.loads(path.read_text(encoding="utf-8"))["removed"]
        widths = remove(model, joined(group.cut(plan[group.name]) for group in groups if group.name in plan))
        return [{"name": "widths", "layers": widths}] if widths else []

    def _decide(self, model: nn.Layer, groups: Sequence[Group], context: Context) -> dict[str, Any]:
        settings, folder = self.settings, context.folder
        batches = context.calibration(settings.calibration_samples)
        sensitivity = folder / SENSITIVITY
        losses = measure_sensitivity(model, groups, settings.max_ratio, context.task, batches, sensitivity)
        planner = Planner(model, groups, {name: loss_increase(found) for name, found in losses.items()})
        plan = planner.plan(settings.max_flops or 1.0)
        if settings.max_latency:
            plan = _plan_for_latency(planner, plan, settings.max_latency, context.card.spec)
        small = planner.pruned(plan)
        shape = list(model.typical_input)
        costs = {"before": measure_cost(model, shape), "after": measure_cost(small, shape)}
        ms = latencies(model, small, context.card.spec)
        share = costs["after"].flops / costs["before"].flops
        title = f"FPGM: {100 * share:.0f}% of the multiply-adds, {100 * ms['ratio']:.0f}% of the time are left"
        plot_sensitivity(groups, losses, plan, title, folder / PLOT)
        logger.info(
            "fpgm: %.2f of %.2f M parameters are left, %.1f of %.1f M multiply-adds, %.1f of %.1f ms an input",
            *(costs[when].parameters / 1e6 for when in ("after", "before")),
            *(costs[when].flops / 1e6 for when in ("after", "before")),
            ms["ms"],
            ms["base_ms"],
        )
        return {
            "target": {"max_flops": settings.max_flops, "max_latency": settings.max_latency},
            "input": shape,
            "parameters": {when: cost.parameters for when, cost in costs.items()},
            "flops": {**{when: cost.flops for when, cost in costs.items()}, "ratio": share},
            "onnxruntime_ms": ms,
            "channels": {group.name: group.size for group in groups},
            "removed": plan,
        }


def _left_alone(groups: Sequence[Group], skip: Sequence[str]) -> list[Group]:
    """The groups none of whose layers is named by a pattern of `skip`."""
    skipped = named([layer for group in groups for layer in group.layers], skip, "fpgm.skip")
    left = [group for group in groups if skipped.isdisjoint(group.layers)]
    if not left:
        raise SlimError("fpgm.skip leaves no layer to prune")
    return left


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SlimError(f"cannot replace {path}: {error.strerror}") from error


class Planner:
    """Finds what to remove of each group so that the loss suffers least.

    Args:
        harm: group's name -> channels removed -> growth of the loss.
    """

    def __init__(self, model: nn.Layer, groups: Sequence[Group], harm: Mapping[str, Mapping[int, float]]):
        self.model, self.groups, self.harm = model, groups, harm
        self._positions = matrix_positions(model, model.typical_input)
        self._shapes = {name: list(model_state(model)[name].shape) for name in self._positions}
        self._saved = {
            group.name: {number: 1 - self.share({group.name: number}) for number in harm[group.name] if number}
            for group in groups
        }

    @property
    def least_share(self) -> float:
        """The share of the multiply-adds that stays at any price."""
        return self.share(self._at(ANY_PRICE))

    def pruned(self, plan: PruningPlan) -> nn.Layer:
        """A copy without what the plan removes."""
        small = copy.deepcopy(self.model)
        remove(small, self._cut(plan))
        return small

    def share(self, plan: PruningPlan) -> float:
        """The share of the multiply-adds that the plan leaves."""
        cut = self._cut(plan)
        whole = left = 0
        for name, positions in self._positions.items():
            whole += positions * math.prod(self._shapes[name])
            kept = {axis: int(keep.sum()) for axis, keep in cut.get(name, {}).items()}
            left += positions * math.prod(kept.get(axis, size) for axis, size in enumerate(self._shapes[name]))
        return left / whole

    def _cut(self, plan: PruningPlan) -> Cut:
        return joined(group.cut(plan[group.name]) for group in self.groups if plan.get(group.name))

    def plan(self, max_share: float) -> PruningPlan:
        """The plan with the least sum of loss increases that leaves at most `max_share` of the multiply-adds.

        What a share of the multiply-adds may cost in loss is the same for all groups (a Lagrange multiplier), as low
        as it can be; then groups take back what the target does not need.

        Raises SlimError where the target is out of reach.
        """
        if max_share >= 1:
            return {}
        cheap, dear = 1e-6, ANY_PRICE
        best = self._at(dear)
        least = self.share(best)
        if least > max_share:
            raise SlimError(
                f"fpgm: pruned as far as it may be, the network keeps {least:.2f} of its multiply-adds, not "
                f"{max_share:g}: raise max_flops or max_ratio, or skip less"
            )
        for _ in range(24):
            price = math.sqrt(cheap * dear)
            plan = self._at(price)
            if self.share(plan) <= max_share:
                best, dear = plan, price
            else:
                cheap = price
        return self._take_back(best, max_share)

    def _at(self, price: float) -> PruningPlan:
        plan = {}
        for group in self.groups:
            harm, saved = self.harm[group.name], {0: 0.0, **self._saved[group.name]}
            number = min(saved, key=lambda n, harm=harm, saved=saved: (harm[n] - price * saved[n], n))
            if number:
                plan[group.name] = number
        return plan

    def _take_back(self, plan: PruningPlan, max_share: float) -> PruningPlan:
        for name in sorted(plan, key=lambda name: -self.harm[name][plan[name]]):
            for fewer in sorted(number for number in self.harm[name] if number < plan[name]):
                trial = {key: number for key, number in {**plan, name: fewer}.items() if number}
                if self.share(trial) <= max_share:
                    plan = trial
                    break
        return plan


def matrix_positions(model: nn.Layer, shape: Sequence[int]) -> dict[str, int]:
    """Name of a matrix or kernel -> at how many places of an input of `shape` it is applied: FLOPs for each number."""
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
    """The plan that removes least and whose network takes at most that share of the time; `plan`, if that will do.

    Which FLOPs to give up is the planner's; how many is found by timing.

    Raises SlimError where no plan is fast enough.
    """

    def ratio(plan: PruningPlan) -> float:
        found = latencies(planner.model, planner.pruned(plan), spec)["ratio"]
        logger.info("fpgm: %.2f of the multiply-adds take %.2f of the time", planner.share(plan), found)
        return found

    if plan and ratio(plan) <= max_latency:
        return plan
    most, least = planner.share(plan), planner.least_share
    best = planner.plan(least)
    reached = ratio(best)
    if reached > max_latency:
        raise SlimError(
            f"fpgm: pruned as far as it may be, the network takes {reached:.2f} of the time, not {max_latency:g}: "
            "raise max_latency or max_ratio, or skip less"
        )
    for _ in range(LATENCY_TRIALS):
        middle = (least + most) / 2
        trial = planner.plan(middle)
        if ratio(trial) <= max_latency:
            best, least = trial, middle
        else:
            most = middle
    return best


def latencies(before: nn.Layer, after: nn.Layer, spec: Spec) -> dict[str, float]:
    """Both networks in ONNX Runtime, in turns, one typical input at a time: {"ms": of `after`, "base_ms", "ratio"}."""
    image = np.zeros(before.typical_input, np.float32)
    times = time_in_turns({name: _onnx_run(m, spec, image) for name, m in (("base", before), ("own", after))}, ROUNDS)
    return compared(times["own"], times["base"])


def _onnx_run(model: nn.Layer, spec: Spec, image: np.ndarray) -> Callable[[], Any]:
    model = copy.deepcopy(model)  # which is trained after this: whatever exporting does to it
    name_parameters(model)
    with tempfile.TemporaryDirectory() as folder:
        save_inference_model(model, spec, Path(folder), onnx_too=True)
        content = (Path(folder) / ONNX).read_bytes()
    return partial(OnnxSession(content, usable_cores()), image)
