"""Estimates of an ablation: what it would do and how long that takes, before any of it is done."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ppocr_slim.config.schema import Architecture, Config, TrainStage
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.experiments.ablation import (
    PLACE,
    PROBE,
    PROBE_LOG,
    PROBE_STEPS,
    AblationPlan,
    Run,
    images_per_s,
    slug,
)
from ppocr_slim.experiments.identity import code_digest, identity, short
from ppocr_slim.experiments.runs import derive, run_config
from ppocr_slim.models import build_model
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.reports.tables import shortened, text_lines
from ppocr_slim.tasks.checks import folder_card
from ppocr_slim.training.runlog import LOG_FILE

CLASSES = 230  # of a recognizer, about: characters are known only when the data are read
BACKWARD = 2  # a step's way back takes twice as long as its way forward


class Forecast(NamedTuple):
    """What is left of a run.

    Attributes:
        state: "done", "half done" or "to do".
        steps: of all its stages; None where a probe is yet to say.
        seconds: of the steps that are left, evaluations not counted; None where nothing says how fast it will be.
    """

    run: Run
    state: str
    steps: int | None
    seconds: float | None


def forecast(plan: AblationPlan, probe: bool = True) -> list[Forecast]:
    """Return what is left of each run. A run's speed is that of runs of its variant; else that of other variants, or of
    a few steps of the base config, by the multiply-adds of a step.

    Args:
        probe: run these few steps where no log says anything.
    """
    states = [_state(run) for run in plan.runs]
    if plan.ablation.budget.minutes or all(state == "done" for state in states):
        return [_of_minutes(run, state) for run, state in zip(plan.runs, states)]
    place = PLACE / plan.name
    known = {one.name: _speed(place, one.name) for one in plan.experiments}
    configs = {one.name: one.config for one in plan.experiments}
    works = {name: multiply_adds(config) for name, config in configs.items()}
    usual = [speed * works[name] for name, speed in known.items() if speed and works[name]]
    if not usual and probe:
        usual = _probed(plan.runs[0], place)
    found = []
    for run, state in zip(plan.runs, states):
        steps = sum(stage.max_steps or 0 for stage in run.config.recipe if isinstance(stage, TrainStage))
        speed = known[run.variant]
        if not speed and usual and works[run.variant]:
            speed = statistics.median(usual) / works[run.variant]
        images = (steps - run.steps_done) * run.config.train.batch_size * run.config.run.processes
        seconds = 0.0 if state == "done" else images / speed if speed else None
        found.append(Forecast(run, state, steps, seconds))
    return found


def _state(run: Run) -> str:
    if run.outcome.done:
        return "done"
    return "half done" if run.steps_done else "to do"


def _of_minutes(run: Run, state: str) -> Forecast:
    config = run.whole
    steps = sum(stage.max_steps or 0 for stage in config.recipe) if config else None
    share = 1 - run.steps_done / steps if steps else 1.0
    return Forecast(run, state, steps, 0.0 if state == "done" else 60 * (run.minutes or 0) * share)


def _speed(place: Path, variant: str) -> float | None:
    """Images a second over the runs of a variant that are there; None where none of them has begun."""
    runs = re.compile(re.escape(slug(variant)) + r"-s\d+-[0-9a-f]{8}")
    folders = [folder for folder in place.glob("*") if runs.fullmatch(folder.name)]
    found = [images_per_s(stage) for folder in folders for stage in folder.iterdir() if (stage / LOG_FILE).is_file()]
    return statistics.median([speed for speed in found if speed] or [0]) or None


def _probed(run: Run, place: Path) -> list[float]:
    """Multiply-adds a second of a few steps of a run's first stage; empty where they fail."""
    stage = {**run.config.recipe[0].model_dump(mode="json"), "epochs": PROBE_STEPS, "max_steps": PROBE_STEPS}
    config = derive(run.config, place / "new", Recipe=[stage], Global={"log_every_steps": PROBE_LOG})
    config = derive(config, place / f"{PROBE}-{short(identity(config, None, code_digest(), {}))}")
    outcome = run_config(config, f"a probe of {run.variant}")
    speed = images_per_s(config.run.output_dir / config.recipe[0].stage) if outcome.done else None
    work = multiply_adds(config)
    return [speed * work] if speed and work else []


def multiply_adds(config: Config) -> float:
    """Return, of a training step for an image: the network there and back, its teachers there.

    A teacher that is an ONNX file, or is not there, counts nothing, nor does a branch: it is small beside a network.
    """
    stages = [stage for stage in config.recipe if isinstance(stage, TrainStage)]
    steps = [step for stage in stages for step in stage.techniques]
    total = (1 + BACKWARD) * _network(config.architecture)
    for teacher in {step.distill.teacher for step in steps if step.distill}:
        try:
            model = folder_card(teacher).build(str(teacher))
            total += measure_cost(model, model.typical_input).flops
        except SlimError as error:
            logger.warning("the estimate leaves a teacher out: %s", error)
    for mutual in (step.mutual for step in steps if step.mutual):
        total += (1 + BACKWARD) * _network(mutual.peer or config.architecture)
    return total


def _network(architecture: Architecture) -> float:
    model = build_model(architecture.name, architecture.args, CLASSES)
    return float(measure_cost(model, model.typical_input).flops)


def plan_text(plan: AblationPlan, forecasts: Sequence[Forecast], jobs: int) -> str:
    """Return the plan as it is printed: a line for each run, and the sums."""
    changes = {one.name: "; ".join(one.changes) or "nothing" for one in plan.experiments}
    rows = []
    for run, state, steps, seconds in forecasts:
        time = "" if state == "done" else duration(seconds)
        rows.append([run.variant, str(run.seed), str(steps or "?"), state, time, shortened(changes[run.variant], 70)])
    heading = ["variant", "seed", "steps", "state", "time", "adds" if plan.ablation.cumulative else "changes"]
    counts: dict[str, int] = {}
    for one in forecasts:
        counts[one.state] = counts.get(one.state, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [text_lines(heading, rows), "", f"{len(forecasts)} runs of {plan.ablation.budget}: {told}"]
    times = [one.seconds for one in forecasts]
    total = None if None in times else sum(times) / max(1, min(jobs, sum(time > 0 for time in times)))
    at_once = f", {jobs} at a time, if they do not slow each other down" if jobs > 1 else ""
    lines.append(f"about {duration(total)} of training, evaluations not counted{at_once}" if total else "")
    if total is None:
        lines[-1] = "how long that takes is unknown: no run has begun, and there was no probe"
    return "\n".join(lines).rstrip()


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
