"""One config turned into a table of experiments: what is run, in which folders, and what comes of it.

A run's folder is named by its variant, its seed and a digest of all that its results depend on
(`experiments.identity`). So nothing is ever overwritten, what is done is found again, and what was stopped goes on.
"""

from __future__ import annotations

import json
import re
import statistics
import time
import unicodedata
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ppocr_slim.config.ablation import Ablation, Experiment, load_ablation
from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Config, TrainStage
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.experiments.executors import Executor
from ppocr_slim.experiments.footprint import measure, times_of
from ppocr_slim.experiments.identity import CODE, Seen, code_digest, identity, short
from ppocr_slim.experiments.runs import Begun, Outcome, begin, derive, finish, read_outcome
from ppocr_slim.folders import write_json
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.tasks.checkpoint import read_states
from ppocr_slim.tasks.checks import check_config
from ppocr_slim.training.loop import LAST, StopSignals
from ppocr_slim.training.recipe import stage_folders
from ppocr_slim.training.runlog import read_log

PLACE = Path("output") / "ablation"
IDENTITY, BUDGET, PROBE = "identity.json", "budget.json", "probe"
PROBE_STEPS, PROBE_LOG = 24, 8  # a probe's steps a stage, and after how many it logs: the first of these do not count
POLL = 0.2  # seconds
PACKAGES = ("paddlepaddle", "onnxruntime", "numpy")
STOPPED = "it was stopped: the same command goes on with it"


@dataclass(frozen=True)
class Run:
    """A variant with one seed.

    Attributes:
        config: what is run, in its output_dir; with a budget of minutes its stages' lengths are not yet in it.
        minutes: such a budget.
        parts: `experiments.identity.identity`.
    """

    variant: str
    seed: int
    config: Config
    minutes: float | None
    parts: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.config.run.output_dir

    @property
    def title(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def whole(self) -> Config | None:
        """The config with the length of each stage; None as long as no probe has turned minutes into steps."""
        if self.minutes is None:
            return self.config
        try:
            steps = json.loads((self.folder / BUDGET).read_text(encoding="utf-8"))["steps"]
            return _with_lengths(self.config, steps)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SlimError(f"{self.folder / BUDGET} is damaged ({error!r}): remove it") from error

    @property
    def outcome(self) -> Outcome:
        try:
            config = self.whole
        except SlimError as error:
            return Outcome(False, str(error))
        return read_outcome(config) if config else Outcome(False, f"{self.folder} holds no finished run")

    @property
    def steps_done(self) -> int:
        """Optimizer steps that its checkpoints hold."""
        return sum(int(read_states(folder / LAST)["step"]) for folder in self.stages if (folder / LAST).is_dir())

    @property
    def stages(self) -> list[Path]:
        """The folders of its training stages."""
        return _stages(self.config)


class AblationPlan(NamedTuple):
    """All runs of an ablation.

    Attributes:
        name: the file's, without its ending.
        metric: that the variants are compared by.
    """

    name: str
    ablation: Ablation
    experiments: list[Experiment]
    runs: list[Run]
    metric: str

    def of(self, variant: str) -> list[Run]:
        return [run for run in self.runs if run.variant == variant]


def plan(path: Path, any_code: bool = False) -> AblationPlan:
    """Read an ablation file and lay out its runs; nothing is run.

    Args:
        any_code: what is done counts as done, whatever the code was then.

    Raises:
        SlimError: the file or a variant is not right, or the variants have different metrics.
    """
    ablation, experiments = load_ablation(path)
    place, code, seen = PLACE / path.stem, code_digest(), {}
    metrics: dict[str, str] = {}
    trained: dict[str, str] = {}
    runs: list[Run] = []
    for experiment in experiments:
        try:
            metrics[check_config(experiment.config).metric.name] = experiment.name
            made = [_run(experiment, seed, ablation, place, code, seen) for seed in ablation.seeds]
        except SlimError as error:
            raise SlimError(f"{path}: variant {experiment.name!r}: {error}") from error
        digest = short(made[0].parts)
        if digest in trained:
            twins = f"{trained[digest]!r} and {experiment.name!r}"
            raise SlimError(f"{path}: the variants {twins} train the same: leave one out")
        trained[digest] = experiment.name
        runs += [_done_elsewhere(run, place) or run if any_code else run for run in made]
    if len(metrics) > 1:
        raise SlimError(f"{path}: its variants are scored by {' and '.join(metrics)}: give all of them one Metric")
    return AblationPlan(path.stem, ablation, experiments, runs, next(iter(metrics)))


def _run(experiment: Experiment, seed: int, ablation: Ablation, place: Path, code: str, seen: Seen) -> Run:
    budget = ablation.budget
    stages = [stage for stage in experiment.config.recipe if isinstance(stage, TrainStage)]
    # What is exported and measured is the same for all variants, and a poor one must not fail for an export's exam.
    recipe = [stage.model_dump(mode="json") for stage in stages]
    config = derive(experiment.config, place, Global={"seed": seed}, Recipe=recipe)
    if budget.steps:
        config = _with_lengths(config, shared_out(budget.steps, [stage.epochs for stage in stages]))
    parts = identity(config, budget.minutes, code, seen)
    folder = place / f"{slug(experiment.name)}-s{seed}-{short(parts)}"
    return Run(experiment.name, seed, derive(config, folder), budget.minutes, parts)


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """Return `total` in whole parts like `weights`, each 1 or more."""
    ends = [round(total * sum(weights[: number + 1]) / sum(weights)) for number in range(len(weights))]
    return [max(1, end - start) for start, end in zip([0, *ends], ends)]


def _with_lengths(config: Config, steps: Sequence[int]) -> Config:
    """Return the config with stages of so many steps; their epochs are as many as that can take."""
    if len(steps) != len(config.recipe):
        raise ValueError(f"{len(steps)} lengths for {len(config.recipe)} stages")
    lengths = [{**stage.model_dump(mode="json"), "epochs": n, "max_steps": n} for stage, n in zip(config.recipe, steps)]
    return derive(config, config.run.output_dir, Recipe=lengths)


def slug(name: str) -> str:
    """Return a name as part of a folder's: "+ PACT, 8 bits" is "pact-8-bits"."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", letters).strip("-.")[:48] or "variant"


def _done_elsewhere(run: Run, place: Path) -> Run | None:
    """Return the same run by other code, where that is done and this is not."""
    if run.outcome.done:
        return None
    for file in sorted(place.glob(f"*/{IDENTITY}"), key=lambda file: -file.stat().st_mtime):  # the newest first
        try:
            parts = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if {**parts, CODE: ""} == {**run.parts, CODE: ""}:
            other = replace(run, config=derive(run.config, file.parent), parts=parts)
            if other.outcome.done:
                return other
    return None


class _Work(NamedTuple):
    """A process that is running for a run: the run itself, or the probe before it."""

    run: Run
    begun: Begun
    handle: Any
    is_probe: bool


def run_all(runs: Sequence[Run], executor: Executor) -> tuple[dict[Path, Outcome], int]:
    """Run what is not done, as many at a time as the executor takes; a run that fails takes no other with it.

    SIGINT and SIGTERM let those that are going on save and end. Gives what came of each run, by folder, and that
    signal, or 0.
    """
    outcomes = {run.folder: run.outcome for run in runs}
    waiting: deque[Run] = deque({run.folder: run for run in runs if not outcomes[run.folder].done}.values())
    active: list[_Work] = []
    with StopSignals() as stop, logging_redirect_tqdm([logger]), tqdm(total=len(waiting), unit="run") as bar:
        told = False
        while waiting or active:
            if stop.received:
                outcomes.update({run.folder: Outcome(False, STOPPED) for run in waiting})
                waiting.clear()
                for work in () if told else active:
                    executor.stop(work.handle)
                told = True
            while waiting and len(active) < executor.jobs:
                run = waiting.popleft()
                try:
                    active.append(_start(run, executor))
                except SlimError as error:
                    outcomes[run.folder] = _failed(run, str(error), bar)
            going_on = "; ".join(work.run.title for work in active)
            if going_on != bar.postfix:
                bar.set_postfix_str(going_on)
            for work in list(active):
                status = executor.poll(work.handle)
                if status is None:
                    continue
                active.remove(work)
                outcome = _ended(work, status, bool(stop.received))
                if outcome is None:
                    waiting.appendleft(work.run)
                    continue
                outcomes[work.run.folder] = outcome
                if outcome.done:
                    bar.update()
                elif outcome.reason != STOPPED:
                    _failed(work.run, outcome.reason, bar)
            if active:
                time.sleep(POLL)
    return outcomes, stop.received


def _failed(run: Run, reason: str, bar: tqdm) -> Outcome:
    logger.warning("%s: failed: %s", run.title, reason)
    bar.update()
    return Outcome(False, reason)


def _start(run: Run, executor: Executor) -> _Work:
    # Hours may have passed since the plan was made; the folder's name says what it was made for.
    if identity(run.config, run.minutes, code_digest(), {}) != dict(run.parts):
        raise SlimError("code or data have changed since the ablation began: start it again for the runs that are left")
    config = run.whole
    begun = begin(config or _probe(run))
    write_json(run.folder / IDENTITY, run.parts)
    logger.info("%s: %s, see %s", run.title, "running" if config else "measuring its speed", begun.log)
    return _Work(run, begun, executor.submit(begun.command, begun.log), config is None)


def _probe(run: Run) -> Config:
    """Return a few steps of each stage, in a folder of their own."""
    config = _with_lengths(run.config, [PROBE_STEPS] * len(run.config.recipe))
    return derive(config, run.folder / PROBE, Global={"log_every_steps": PROBE_LOG})


def _ended(work: _Work, status: int, stopping: bool) -> Outcome | None:
    """Return what came of a process; None where its run can be started now."""
    if stopping and (status < 0 or status > 128):  # by a signal
        return Outcome(False, STOPPED)
    try:
        outcome = finish(work.begun, status)
    except SlimError as error:
        return Outcome(False, str(error))
    if not work.is_probe or not outcome.done:
        return outcome
    try:
        seconds = [seconds_a_step(folder, work.begun.config) for folder in _stages(work.begun.config)]
        epochs = [stage.epochs for stage in work.run.config.recipe]
        shares = [60 * work.run.minutes * share / sum(epochs) for share in epochs]
        steps = [max(1, round(share / each)) for share, each in zip(shares, seconds)]
        write_json(work.run.folder / BUDGET, {"steps": steps, "seconds_a_step": seconds})
    except SlimError as error:
        return Outcome(False, str(error))
    return Outcome(False, STOPPED) if stopping else None


def _stages(config: Config) -> list[Path]:
    return [folder for _, folder in stage_folders(config.recipe, config.run.output_dir)]


def images_per_s(folder: Path) -> float | None:
    """Return the median speed of a stage's training, its first records left out; None where its log does not say."""
    try:
        speeds = [record["images_per_s"] for record in read_log(folder) if "images_per_s" in record]
    except SlimError:
        return None
    return statistics.median(speeds[1:] or speeds) if speeds else None


def seconds_a_step(folder: Path, config: Config) -> float:
    """.

    Raises:
        SlimError: the stage's log does not say it.
    """
    speed = images_per_s(folder)
    if not speed:
        raise SlimError(f"{folder}: its log does not say how fast it was")
    return config.train.batch_size * config.run.processes / speed


def figures_of(
    plan: AblationPlan, outcomes: Mapping[Path, Outcome], command: str, rounds: int, measured: bool = True
) -> dict[str, Any]:
    """Return all figures, ready for JSON.

    Args:
        rounds: of timing, in each of which every variant has its turn.
        measured: False: scores alone, with no exports and no times.
    """
    variants = [_variant_figures(plan, experiment, outcomes, measured) for experiment in plan.experiments]
    if measured:
        times = times_of({one["name"]: one for one in variants if "file" in one}, rounds)
        for variant in variants:
            variant.pop("path", None)
            if variant["name"] in times:
                variant["ms"] = times[variant["name"]]
    return {
        "name": plan.name,
        **provenance(command, PACKAGES),
        "threads": usable_cores(),
        "metric": plan.metric,
        "higher_is_better": HIGHER_IS_BETTER[plan.metric],
        "budget": str(plan.ablation.budget),
        "seeds": list(plan.ablation.seeds),
        "cumulative": plan.ablation.cumulative,
        "reference": next((one["name"] for one in variants if "ms" in one), None),
        "variants": variants,
    }


def _variant_figures(
    plan: AblationPlan, experiment: Experiment, outcomes: Mapping[Path, Outcome], measured: bool
) -> dict[str, Any]:
    runs = [(run, _run_figures(run, outcomes[run.folder])) for run in plan.of(experiment.name)]
    found: dict[str, Any] = {
        "name": experiment.name,
        "changes": list(experiment.changes),
        "runs": [figures for _, figures in runs],
    }
    first = next((run for run, figures in runs if "scores" in figures), None)
    if first and measured:
        try:
            return {**found, **measure(first.stages[-1], first.folder / "measured")}
        except SlimError as error:
            logger.warning("%s: %s", experiment.name, error)
            found["note"] = str(error)
    return found


def _run_figures(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Return, of its last evaluation: the best of several would flatter."""
    if not outcome.done:
        return {"seed": run.seed, "reason": outcome.reason}
    try:
        logs = [read_log(folder) for folder in run.stages]
        last = [record for record in logs[-1] if any(key.startswith("eval/") for key in record)][-1]
        return {
            "seed": run.seed,
            "commit": outcome.commit,
            "steps": [int(log[-1]["step"]) for log in logs],
            "minutes": round(sum(map(_minutes, logs)), 2),
            "scores": {key.partition("/")[2]: value for key, value in last.items() if key.startswith("eval/")},
        }
    except SlimError as error:
        return {"seed": run.seed, "reason": str(error)}
    except (KeyError, IndexError) as error:
        return {"seed": run.seed, "reason": f"{run.folder}: its log does not say how it ended ({error})"}


def _minutes(log: Sequence[Mapping[str, Any]]) -> float:
    """Return, of training, evaluations not counted."""
    seconds, before = 0.0, 0
    for record in log:
        if record.get("images_per_s"):
            seconds += (record["images"] - before) / record["images_per_s"]
            before = record["images"]
    return seconds / 60


def ablate(
    planned: AblationPlan, executor: Executor | None, command: str, rounds: int = 15
) -> tuple[dict[str, Any], int]:
    """Run what is missing of an ablation (nothing without an executor), and give its figures and a signal or 0."""
    stopped = 0
    if executor:
        try:
            outcomes, stopped = run_all(planned.runs, executor)
        finally:
            executor.close()
    else:
        outcomes = {run.folder: run.outcome for run in planned.runs}
    return figures_of(planned, outcomes, command, rounds, measured=not stopped), stopped
