"""The estimate of the training time of an ablation, before it runs."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ppocr_slim.config.schema import Architecture, Config
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.experiments.ablation import (
    ABLATIONS,
    PROBE,
    PROBE_LOG,
    PROBE_STEPS,
    AblationPlan,
    Run,
    images_per_s,
    slug,
)
from ppocr_slim.experiments.identity import code_digest, identity, short_digest
from ppocr_slim.experiments.runs import derive, run_config
from ppocr_slim.models import build_model
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.reports.tables import shortened, text_lines
from ppocr_slim.tasks.checks import folder_card
from ppocr_slim.training.runlog import LOG_FILE

CLASSES = 230  # of a recognizer, about: its characters are known only after the data have been read
BACKWARD = 2  # the backward pass takes twice as long as the forward pass


class Forecast(NamedTuple):
    """The estimate of a run.

    Attributes:
        run: the run.
        state: "done", "half done" or "to do".
        steps: training steps of all its stages; None if only a probe will determine them.
        seconds: training time that is left, without evaluations; None if its speed is unknown.
    """

    run: Run
    state: str
    steps: int | None
    seconds: float | None


def forecast(plan: AblationPlan, probe: bool = True) -> list[Forecast]:
    """Estimate the training time of each run.

    The speed of a run is the median of the runs of its variant; if there are none, it is derived from the speed of the
    other variants, or of a probe of the first run, by the multiply-adds per image.

    Args:
        plan: the plan.
        probe: run a probe if there is no log of any run.
    """
    states = [_state(run) for run in plan.runs]
    if plan.ablation.budget.minutes or all(state == "done" for state in states):
        return [_forecast_minutes(run, state) for run, state in zip(plan.runs, states)]
    folder = ABLATIONS / plan.name
    known = {one.name: _speed(folder, one.name) for one in plan.experiments}
    configs = {one.name: one.config for one in plan.experiments}
    costs = {name: multiply_adds(config) for name, config in configs.items()}
    rates = [speed * costs[name] for name, speed in known.items() if speed and costs[name]]
    if not rates and probe:
        rates = _probe(plan.runs[0], folder)
    forecasts = []
    for run, state in zip(plan.runs, states):
        steps = sum(stage.max_steps or 0 for stage in run.config.training_stages)
        speed = known[run.variant]
        if not speed and rates and costs[run.variant]:
            speed = statistics.median(rates) / costs[run.variant]
        images = (steps - run.steps_done) * run.config.step_batch
        seconds = 0.0 if state == "done" else images / speed if speed else None
        forecasts.append(Forecast(run, state, steps, seconds))
    return forecasts


def _state(run: Run) -> str:
    if run.outcome.done:
        return "done"
    return "half done" if run.steps_done else "to do"


def _forecast_minutes(run: Run, state: str) -> Forecast:
    config = run.full_config
    steps = sum(stage.max_steps or 0 for stage in config.recipe) if config else None
    remaining = 1 - run.steps_done / steps if steps else 1.0
    return Forecast(run, state, steps, 0.0 if state == "done" else 60 * (run.minutes or 0) * remaining)


def _speed(folder: Path, variant: str) -> float | None:
    """Return the median images per second of the runs of a variant; None if none of them has begun."""
    runs = re.compile(re.escape(slug(variant)) + r"-s\d+-[0-9a-f]{8}")
    outputs = [output for output in folder.glob("*") if runs.fullmatch(output.name)]
    speeds = [images_per_s(stage) for output in outputs for stage in output.iterdir() if (stage / LOG_FILE).is_file()]
    return statistics.median([speed for speed in speeds if speed] or [0]) or None


def _probe(run: Run, folder: Path) -> list[float]:
    """Return the multiply-adds per second of a few steps of a run's first stage, as a list; empty if they fail."""
    stage = {**run.config.recipe[0].model_dump(mode="json"), "epochs": PROBE_STEPS, "max_steps": PROBE_STEPS}
    config = derive(run.config, folder / "new", Recipe=[stage], Global={"log_every_steps": PROBE_LOG})
    config = derive(config, folder / f"{PROBE}-{short_digest(identity(config, None, code_digest(), {}))}")
    outcome = run_config(config, f"probe of {run.variant}")
    speed = images_per_s(config.run.output_dir / config.recipe[0].stage) if outcome.done else None
    cost = multiply_adds(config)
    return [speed * cost] if speed and cost else []


def multiply_adds(config: Config) -> float:
    """Return the multiply-adds of a training step per image: both passes of the network, forward passes of teachers.

    Teachers that are ONNX files or missing are left out, and so are branches, which are small beside a network.
    """
    entries = [entry for stage in config.training_stages for entry in stage.techniques]
    total = (1 + BACKWARD) * _network(config.architecture)
    for teacher in config.teachers:
        try:
            model = folder_card(teacher).build(str(teacher))
            total += measure_cost(model, model.typical_input).flops
        except SlimError as error:
            logger.warning("the estimate leaves a teacher out: %s", error)
    for mutual in (entry.mutual for entry in entries if entry.mutual):
        total += (1 + BACKWARD) * _network(mutual.peer or config.architecture)
    return total


def _network(architecture: Architecture) -> float:
    model = build_model(architecture.name, architecture.args, CLASSES)
    return float(measure_cost(model, model.typical_input).flops)


def plan_text(plan: AblationPlan, forecasts: Sequence[Forecast], jobs: int) -> str:
    """Return the plan as text: a table of the runs, and the totals.

    Args:
        plan: the plan.
        forecasts: the estimates of its runs.
        jobs: number of parallel runs.
    """
    changes = {one.name: "; ".join(one.changes) or "nothing" for one in plan.experiments}
    rows = []
    for run, state, steps, seconds in forecasts:
        time = "" if state == "done" else duration(seconds)
        rows.append([run.variant, str(run.seed), str(steps or "?"), state, time, shortened(changes[run.variant], 70)])
    heading = ["variant", "seed", "steps", "state", "time", "adds" if plan.ablation.cumulative else "changes"]
    counts: dict[str, int] = {}
    for one in forecasts:
        counts[one.state] = counts.get(one.state, 0) + 1
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [text_lines(heading, rows), "", f"{len(forecasts)} runs of {plan.ablation.budget}: {states}"]
    times = [one.seconds for one in forecasts]
    total = None if None in times else sum(times) / max(1, min(jobs, sum(time > 0 for time in times)))
    at_once = f", {jobs} at a time, if they do not slow each other down" if jobs > 1 else ""
    lines.append(f"about {duration(total)} of training, without evaluations{at_once}" if total else "")
    if total is None:
        lines[-1] = "the training time is unknown: no run has begun, and there was no probe"
    return "\n".join(lines).rstrip()


def duration(seconds: float | None) -> str:
    """Return a time as text, such as "2 h 05 min"."""
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
