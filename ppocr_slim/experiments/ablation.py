"""Ablations: the variants of one config, each trained with several seeds and compared.

The folder of a run is named by its variant, its seed and a digest of all that its results depend on
(`experiments.identity`): no run overwrites another, finished runs are found again, and interrupted ones resume.
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

from tqdm.contrib.logging import logging_redirect_tqdm

from ppocr_slim.config.ablation import Ablation, Experiment, load_ablation
from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Config, EvalFile
from ppocr_slim.data.page_labels import read_samples
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.verification import evenly_spaced
from ppocr_slim.experiments.executors import Executor
from ppocr_slim.experiments.identity import CODE, DigestCache, code_digest, identity, short_digest
from ppocr_slim.experiments.runs import Outcome, PreparedRun, derive, finish_run, prepare_run, read_outcome
from ppocr_slim.export.bundle import calibrate_on
from ppocr_slim.folders import LAST, write_json
from ppocr_slim.progress import progress_bar
from ppocr_slim.quantization.qdq_writer import write_int8
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.runtime.bundle import INT8
from ppocr_slim.tasks.checkpoint import read_states
from ppocr_slim.tasks.checks import check_config, folder_card
from ppocr_slim.training.footprint import measure, measure_stage, score_file, time_variants
from ppocr_slim.training.loop import StopSignals
from ppocr_slim.training.recipe import CALIBRATION_SAMPLES
from ppocr_slim.training.runlog import read_log
from ppocr_slim.training.teacher_configs import require_no_configs

ABLATIONS = Path("output") / "ablation"
IDENTITY, BUDGET, PROBE = "identity.json", "budget.json", "probe"
PROBE_STEPS, PROBE_LOG = 24, 8  # steps of a probe per stage, and its log_every_steps; the first record does not count
POLL = 0.2  # seconds
PACKAGES = ("paddlepaddle", "onnxruntime", "numpy")
STOPPED = "it was interrupted: the same command resumes it"


@dataclass(frozen=True)
class Run:
    """A variant with one seed.

    Attributes:
        variant: name of the variant.
        seed: the seed.
        config: config of the run; with a budget of minutes it does not have the lengths of its stages yet.
        minutes: a budget in minutes; None: the budget is in steps.
        digests: see `experiments.identity.identity`.
    """

    variant: str
    seed: int
    config: Config
    minutes: float | None
    digests: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.config.run.output_dir

    @property
    def title(self) -> str:
        """The variant and the seed, for messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def full_config(self) -> Config | None:
        """The config with the length of each stage; None until a probe has converted the minutes to steps."""
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
        """The outcome that its folder records."""
        try:
            config = self.full_config
        except SlimError as error:
            return Outcome(False, str(error))
        return read_outcome(config) if config else Outcome(False, f"{self.folder} holds no finished run")

    @property
    def steps_done(self) -> int:
        """The number of training steps that its checkpoints have."""
        return sum(int(read_states(folder / LAST)["step"]) for folder in self.stages if (folder / LAST).is_dir())

    @property
    def stages(self) -> list[Path]:
        """The folders of its training stages."""
        return _stages(self.config)


class AblationPlan(NamedTuple):
    """All runs of an ablation.

    Attributes:
        name: name of the ablation file without its suffix.
        ablation: the ablation file.
        experiments: the variants.
        runs: the runs of all variants with all seeds.
        metric: name of the metric by which the variants are compared.
    """

    name: str
    ablation: Ablation
    experiments: list[Experiment]
    runs: list[Run]
    metric: str

    def of(self, variant: str) -> list[Run]:
        """Return the runs of a variant."""
        return [run for run in self.runs if run.variant == variant]


def plan(path: Path, any_code: bool = False) -> AblationPlan:
    """Read an ablation file and plan its runs, without running any.

    Args:
        path: the ablation file.
        any_code: finished runs count whatever the code was that trained them.

    Returns:
        The plan.

    Raises:
        SlimError: the file or a variant is invalid, two variants are the same, or they have different metrics.
    """
    ablation, experiments = load_ablation(path)
    folder, code, cache = ABLATIONS / path.stem, code_digest(), {}
    variant_of_metric: dict[str, str] = {}
    variant_of_digest: dict[str, str] = {}
    runs: list[Run] = []
    for experiment in experiments:
        try:
            require_no_configs(experiment.config, "an ablation")
            variant_of_metric[check_config(experiment.config).metric.name] = experiment.name
            planned = [_plan_run(experiment, seed, ablation, folder, code, cache) for seed in ablation.seeds]
        except SlimError as error:
            raise SlimError(f"{path}: variant {experiment.name!r}: {error}") from error
        digest = short_digest(planned[0].digests)
        if digest in variant_of_digest:
            twins = f"{variant_of_digest[digest]!r} and {experiment.name!r}"
            raise SlimError(f"{path}: the variants {twins} train the same: remove one")
        variant_of_digest[digest] = experiment.name
        runs += [_finished_by_other_code(run, folder) or run if any_code else run for run in planned]
    if len(variant_of_metric) > 1:
        metrics = " and ".join(variant_of_metric)
        raise SlimError(f"{path}: its variants are scored by {metrics}: give all of them one Metric")
    return AblationPlan(path.stem, ablation, experiments, runs, next(iter(variant_of_metric)))


def _plan_run(
    experiment: Experiment, seed: int, ablation: Ablation, folder: Path, code: str, cache: DigestCache
) -> Run:
    budget = ablation.budget
    stages = experiment.config.training_stages
    # All variants are exported and measured alike, so that a poor one does not fail at the parity check of an export.
    recipe = [stage.model_dump(mode="json") for stage in stages]
    config = derive(experiment.config, folder, Global={"seed": seed}, Recipe=recipe)
    if budget.steps:
        config = _with_lengths(config, divide_steps(budget.steps, [stage.epochs for stage in stages]))
    digests = identity(config, budget.minutes, code, cache)
    output = folder / f"{slug(experiment.name)}-s{seed}-{short_digest(digests)}"
    return Run(experiment.name, seed, derive(config, output), budget.minutes, digests)


def divide_steps(total: int, weights: Sequence[float]) -> list[int]:
    """Return `total` divided into integers in proportion to `weights`, each at least 1."""
    ends = [round(total * sum(weights[: number + 1]) / sum(weights)) for number in range(len(weights))]
    return [max(1, end - start) for start, end in zip([0, *ends], ends)]


def _with_lengths(config: Config, steps: Sequence[int]) -> Config:
    """Return the config with stages of these lengths in steps; an epoch has at least one step."""
    if len(steps) != len(config.recipe):
        raise ValueError(f"{len(steps)} lengths for {len(config.recipe)} stages")
    lengths = [{**stage.model_dump(mode="json"), "epochs": n, "max_steps": n} for stage, n in zip(config.recipe, steps)]
    return derive(config, config.run.output_dir, Recipe=lengths)


def slug(name: str) -> str:
    """Return a name as part of a folder's name: "pact-8-bits" for "+ PACT, 8 bits"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:48] or "variant"


def _finished_by_other_code(run: Run, folder: Path) -> Run | None:
    """Return the newest finished run of other code that is the same otherwise; None if there is none or none is needed.

    Args:
        run: the run.
        folder: folder of all runs of the ablation.
    """
    if run.outcome.done:
        return None
    for file in sorted(folder.glob(f"*/{IDENTITY}"), key=lambda file: -file.stat().st_mtime):
        try:
            digests = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if {**digests, CODE: ""} == {**run.digests, CODE: ""}:
            other = replace(run, config=derive(run.config, file.parent), digests=digests)
            if other.outcome.done:
                return other
    return None


class _Process(NamedTuple):
    """A process of a run: the run itself, or the probe before it."""

    run: Run
    prepared: PreparedRun
    handle: Any
    is_probe: bool


def run_all(runs: Sequence[Run], executor: Executor) -> tuple[dict[Path, Outcome], int]:
    """Run all runs that are not finished; a failing run does not stop the others.

    On SIGINT or SIGTERM the active runs save and end.

    Args:
        runs: the runs; of those with one folder only one runs.
        executor: runs them, at most `executor.jobs` at a time.

    Returns:
        The outcomes by the folder of the run, and the signal that was received, or 0.
    """
    with StopSignals() as stop, logging_redirect_tqdm([logger]):
        return _Scheduler(runs, executor, stop).run(), stop.received


class _Scheduler:
    """The loop of `run_all`: starts waiting runs, polls active ones, and records outcomes."""

    def __init__(self, runs: Sequence[Run], executor: Executor, stop: StopSignals):
        self._executor, self._stop = executor, stop
        self._outcomes = {run.folder: run.outcome for run in runs}
        unfinished = {run.folder: run for run in runs if not self._outcomes[run.folder].done}
        self._waiting: deque[Run] = deque(unfinished.values())
        self._active: list[_Process] = []
        self._is_stopping = False

    def run(self) -> dict[Path, Outcome]:
        """Run until no run is waiting or active, and return the outcomes by folder."""
        with progress_bar(total=len(self._waiting), unit="run") as self._bar:
            while self._waiting or self._active:
                if self._stop.received:
                    self._stop_all()
                while self._waiting and len(self._active) < self._executor.jobs:
                    self._start(self._waiting.popleft())
                titles = "; ".join(process.run.title for process in self._active)
                if titles != self._bar.postfix:
                    self._bar.set_postfix_str(titles)
                for process in list(self._active):
                    self._poll(process)
                if self._active:
                    time.sleep(POLL)
        return self._outcomes

    def _stop_all(self) -> None:
        """Cancel the waiting runs, and once ask the active ones to save and end."""
        self._outcomes.update({run.folder: Outcome(False, STOPPED) for run in self._waiting})
        self._waiting.clear()
        if not self._is_stopping:
            for process in self._active:
                self._executor.stop(process.handle)
        self._is_stopping = True

    def _start(self, run: Run) -> None:
        try:
            self._active.append(_start_process(run, self._executor))
        except SlimError as error:
            self._fail(run, str(error))

    def _poll(self, process: _Process) -> None:
        status = self._executor.poll(process.handle)
        if status is None:
            return
        self._active.remove(process)
        outcome = _process_outcome(process, status, bool(self._stop.received))
        if outcome is None:
            self._waiting.appendleft(process.run)
            return
        self._outcomes[process.run.folder] = outcome
        if outcome.done:
            self._bar.update()
        elif outcome.reason != STOPPED:
            self._fail(process.run, outcome.reason)

    def _fail(self, run: Run, reason: str) -> None:
        logger.warning("%s: failed: %s", run.title, reason)
        self._bar.update()
        self._outcomes[run.folder] = Outcome(False, reason)


def _start_process(run: Run, executor: Executor) -> _Process:
    """Start a run, or its probe if its length is not known yet.

    Raises:
        SlimError: code or data have changed since the plan, or the folder cannot be written.
    """
    # Hours may have passed since the plan, and the name of the folder states the code and data of the plan.
    if identity(run.config, run.minutes, code_digest(), {}) != dict(run.digests):
        raise SlimError("code or data have changed since the ablation began: start it again for the unfinished runs")
    config = run.full_config
    prepared = prepare_run(config or _probe_config(run))
    write_json(run.folder / IDENTITY, run.digests)
    logger.info("%s: %s, see %s", run.title, "running" if config else "measuring its speed", prepared.log)
    return _Process(run, prepared, executor.submit(prepared.command, prepared.log), config is None)


def _probe_config(run: Run) -> Config:
    """Return the config of a probe: a few steps of each stage, in a folder of their own."""
    config = _with_lengths(run.config, [PROBE_STEPS] * len(run.config.recipe))
    return derive(config, run.folder / PROBE, Global={"log_every_steps": PROBE_LOG})


def _process_outcome(process: _Process, status: int, is_stopping: bool) -> Outcome | None:
    """Return the outcome of an ended process; None for a probe after which its run can start.

    Args:
        process: the process.
        status: its exit status.
        is_stopping: a stop signal was received.
    """
    if is_stopping and (status < 0 or status > 128):  # ended by a signal
        return Outcome(False, STOPPED)
    try:
        outcome = finish_run(process.prepared, status)
        if not process.is_probe or not outcome.done:
            return outcome
        _write_budget(process.run, process.prepared.config)
    except SlimError as error:
        return Outcome(False, str(error))
    return Outcome(False, STOPPED) if is_stopping else None


def _write_budget(run: Run, probe: Config) -> None:
    """Convert the minutes of a run to steps of its stages, by the speed of its probe, and write them.

    Raises:
        SlimError: a log of the probe has no speed, or the file cannot be written.
    """
    seconds = [seconds_per_step(folder, probe) for folder in _stages(probe)]
    epochs = [stage.epochs for stage in run.config.recipe]
    budgets = [60 * run.minutes * count / sum(epochs) for count in epochs]
    steps = [max(1, round(budget / each)) for budget, each in zip(budgets, seconds)]
    write_json(run.folder / BUDGET, {"steps": steps, "seconds_a_step": seconds})


def _stages(config: Config) -> list[Path]:
    return [folder for _, folder in config.stage_folders()]


def images_per_s(folder: Path) -> float | None:
    """Return the median speed of a stage's training, without its first record; None if its log has none."""
    try:
        speeds = [record["images_per_s"] for record in read_log(folder) if "images_per_s" in record]
    except SlimError:
        return None
    return statistics.median(speeds[1:] or speeds) if speeds else None


def seconds_per_step(folder: Path, config: Config) -> float:
    """Return the median seconds of a training step.

    Args:
        folder: folder of the stage.
        config: config of the run.

    Raises:
        SlimError: the log of the stage has no speed.
    """
    speed = images_per_s(folder)
    if not speed:
        raise SlimError(f"{folder}: its log has no images_per_s")
    return config.step_batch / speed


def collect_results(
    plan: AblationPlan, outcomes: Mapping[Path, Outcome], command: str, rounds: int, measured: bool = True
) -> dict[str, Any]:
    """Return the results of an ablation, ready for JSON; see `reports.records.Ablation`.

    Args:
        plan: the plan.
        outcomes: the outcomes by the folder of the run.
        command: the command line, for the report.
        rounds: timing rounds, in each of which all variants take turns.
        measured: false: scores only, without exports and times.
    """
    variants = [_variant_results(plan, experiment, outcomes, measured) for experiment in plan.experiments]
    if measured:
        files = {(variant["name"], "ms"): variant for variant in variants if "file" in variant}
        files |= {
            (variant["name"], "int8_ms"): {**variant, "path": variant.pop("int8_path")}
            for variant in variants
            if "int8_path" in variant
        }
        times = time_variants(files, rounds)
        for variant in variants:
            variant.pop("path", None)
            variant.update({key: times[name, key] for name, key in times if name == variant["name"]})
    return {
        "name": plan.name,
        **provenance(command, PACKAGES),
        "threads": usable_cores(),
        "metric": plan.metric,
        "higher_is_better": HIGHER_IS_BETTER[plan.metric],
        "budget": str(plan.ablation.budget),
        "seeds": list(plan.ablation.seeds),
        "cumulative": plan.ablation.cumulative,
        "reference": next((variant["name"] for variant in variants if "ms" in variant), None),
        "variants": variants,
    }


def _variant_results(
    plan: AblationPlan, experiment: Experiment, outcomes: Mapping[Path, Outcome], measured: bool
) -> dict[str, Any]:
    runs = [(run, _run_results(run, outcomes[run.folder])) for run in plan.of(experiment.name)]
    int8: dict[str, Any] = {}
    if plan.ablation.int8 and measured:
        for run, results in reversed([one for one in runs if "scores" in one[1]]):  # the first seed's file is timed
            int8 = _measure_int8(run, plan.metric)
            results["scores"][f"int8_{plan.metric}"] = int8.pop("score")
    variant: dict[str, Any] = {
        "name": experiment.name,
        "changes": list(experiment.changes),
        "runs": [results for _, results in runs],
    }
    first = next((run for run, results in runs if "scores" in results), None)
    if first and measured:
        try:
            return {**variant, **measure_stage(first.stages[-1], first.folder / "measured"), **int8}
        except SlimError as error:
            logger.warning("%s: %s", experiment.name, error)
            variant["note"] = str(error)
    return variant


def _measure_int8(run: Run, metric: str) -> dict[str, Any]:
    """Return path, bytes and score of an INT8 file of a run's last checkpoint, which is the one that is scored."""
    last = run.stages[-1] / LAST
    spec = folder_card(last).spec

    def samples(files: Sequence[EvalFile]) -> list[Any]:
        return [one for file in files for one in read_samples(spec.task, file.path, file.image_root)[0]]

    fp32 = Path(measure(last, run.folder / "measured_last")["path"])
    file = fp32.with_name(INT8)
    calibration = evenly_spaced(samples(run.config.train.label_files), CALIBRATION_SAMPLES)
    write_int8(fp32, file, calibrate_on(fp32, spec, calibration))
    score = score_file(file, spec, samples(run.config.eval.label_files), metric)
    return {"int8_path": str(file), "int8_bytes": file.stat().st_size, "score": round(score, 6)}


def _run_results(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Return the results of a run at its last evaluation: the best of several would flatter."""
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
        return {"seed": run.seed, "reason": f"{run.folder}: its log has no final evaluation ({error})"}


def _minutes(log: Sequence[Mapping[str, Any]]) -> float:
    """Return the minutes of training, without evaluations."""
    seconds, before = 0.0, 0
    for record in log:
        if record.get("images_per_s"):
            seconds += (record["images"] - before) / record["images_per_s"]
            before = record["images"]
    return seconds / 60


def ablate(
    planned: AblationPlan, executor: Executor | None, command: str, rounds: int = 15
) -> tuple[dict[str, Any], int]:
    """Run the unfinished runs of an ablation and collect its results.

    Args:
        planned: the plan.
        executor: runs them; None: nothing is run.
        command: the command line, for the report.
        rounds: timing rounds.

    Returns:
        The results, ready for JSON, and the signal that stopped it, or 0.
    """
    stopped = 0
    if executor:
        try:
            outcomes, stopped = run_all(planned.runs, executor)
        finally:
            executor.close()
    else:
        outcomes = {run.folder: run.outcome for run in planned.runs}
    return collect_results(planned, outcomes, command, rounds, measured=not stopped), stopped
