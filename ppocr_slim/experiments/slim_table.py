"""The slim table: an ablation of the slimming techniques of a recipe.

All rows train for the same epochs with the same learning rates on the same data from the same seed: where a row leaves
out a technique, the stage is a plain training of the same length. Leading stages that two rows share are trained once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppocr_slim.config.schema import (
    NEEDED_TECHNIQUES,
    Config,
    ExportStage,
    Fpgm,
    Pact,
    Quantize,
    Share,
    TechniqueEntry,
    TrainStage,
)
from ppocr_slim.data.labels import Sample, read_label_file
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.engines.session import ENGINES
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.experiments.runs import Outcome, derive, read_outcome, run_config
from ppocr_slim.folders import BEST
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.reports.slim_table import ENGINE_TITLES, FP32
from ppocr_slim.runtime.bundle import INT8, ONNX, read_bundle
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import line_input, median_line, resize_to_height
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.slim.shared_file import SHARED_FILE
from ppocr_slim.tasks.checkpoint import load_model, read_states
from ppocr_slim.tasks.checks import folder_card
from ppocr_slim.training.footprint import measure, score_file
from ppocr_slim.training.runlog import read_log
from ppocr_slim.training.teacher_configs import require_no_configs

TITLES = {
    FP32: "FP32",
    "distill": "+ distillation",
    "fpgm": "+ FPGM pruning",
    "pact": "+ PACT INT8",
    "share": "+ weight sharing",
    "all": "all together",
}
TECHNIQUES = {
    FP32: (),
    "distill": ("distill", "mutual"),
    "fpgm": ("fpgm",),
    "pact": ("pact", "lsq"),
    "share": ("share",),
    "all": ("distill", "mutual", "fpgm", "pact", "lsq"),
}
DEFAULTS = {
    "fpgm": TechniqueEntry(fpgm=Fpgm(max_flops=0.7)),
    "pact": TechniqueEntry(pact=Pact()),
}  # of a row whose technique the config does not have
BITS = (8, 5, 4, 3, 2)
REFERENCE = "onnxruntime"  # the engine whose predictions are scored
PACKAGES = ("paddlepaddle", "onnxruntime", "openvino", "numpy")
# Error in % of ResNet-20 on CIFAR-10 by bits of weights and activations: PACT's authors (arXiv:1805.06085) and a public
# reproduction.
PAPER = {"paper": {5: 8.4, 4: 9.2, 3: 9.4, 2: 11.1}, "reproduction": {5: 8.4, 4: 9.1, 3: 9.9, 2: 12.9}}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: key of the row.
        title: name in the report.
        stages: all its training stages.
        start: the row whose first stages it reuses, and their number; None: it starts as the config does.
        config: config of its run: the stages after the reused ones, and an export.
        problem: why it cannot run.
    """

    name: str
    title: str
    stages: tuple[TrainStage, ...] = ()
    start: tuple[str, int] | None = None
    config: Config | None = None
    problem: str = ""

    @property
    def quantized(self) -> bool:
        """Whether a stage quantizes the network."""
        return any(stage.stage == "quantize" for stage in self.stages)

    @property
    def folders(self) -> list[Path]:
        """The folders of the training stages of its own run."""
        return self.config.training_folders

    @property
    def export(self) -> Path:
        """The folder of the exported bundle."""
        return self.config.run.output_dir / "export"


def plan_rows(config: Config, names: Sequence[str]) -> dict[str, Row]:
    """Plan the rows and those that they start from, in the order in which they can run.

    Args:
        config: the config.
        names: names of rows: keys of `TECHNIQUES`, or names of `bit_row`.

    Returns:
        The rows by name.

    Raises:
        SlimError: a row is unknown, or the config has no training stage.
    """
    training = config.training_stages
    if not training:
        raise SlimError("the config's Recipe has no training stage to compare")
    wanted = list(dict.fromkeys([FP32, *(["distill"] if "all" in names else []), *names]))
    rows: dict[str, Row] = {}
    for name in wanted:
        title = TITLES.get(name, name)
        try:
            stages = _stages(training, name)
        except SlimError as error:
            rows[name] = Row(name, title, problem=str(error))
            continue
        twin = next((row for row in rows.values() if row.stages == stages), None)
        if twin:  # the same stages run once
            rows[name] = replace(twin, name=name, title=title)
            continue
        row = Row(name, title, stages, _start(stages, [rows[key] for key in (FP32, "distill") if key in rows]))
        rows[name] = replace(row, config=_config(config, row, rows))
    return rows


def bit_row(bits: int, clip: bool) -> str:
    """Return the name of the row that is quantized to `bits` bits, with the learned clip of PACT or without it."""
    return f"bits{bits}" if clip else f"bits{bits}_noclip"


def _stages(training: Sequence[TrainStage], name: str) -> tuple[TrainStage, ...]:
    """Return the training stages with only the techniques of row `name`."""
    bits = {bit_row(bits, clip): (bits, clip) for bits in range(2, 9) for clip in (True, False)}
    if name not in TECHNIQUES and name not in bits:
        raise SlimError(f"no row is called {name!r}; known: {', '.join(TECHNIQUES)}")
    kept = TECHNIQUES["pact" if name in bits else name]
    if name == "share":  # in the last stage: a later one would train shared weights apart
        entry = next(
            (entry for stage in training for entry in stage.techniques if entry.share), TechniqueEntry(share=Share())
        )
        return tuple(
            [_with_techniques(stage, []) for stage in training[:-1]] + [_with_techniques(training[-1], [entry])]
        )
    stages = [
        _with_techniques(stage, [entry for entry in stage.techniques if entry.name in kept]) for stage in training
    ]
    if kept and not any(stage.techniques for stage in stages):
        if kept[0] not in DEFAULTS:
            raise SlimError(f"the config's Recipe has no technique {' or '.join(kept)}")
        stages[-1] = _with_techniques(stages[-1], [DEFAULTS[kept[0]]])
    if name in bits:
        stages = [_with_bits(stage, *bits[name]) for stage in stages]
    return tuple(stages)


def _with_techniques(stage: TrainStage, techniques: list[TechniqueEntry]) -> TrainStage:
    """Return the stage with these techniques, and the type of stage that they need."""
    names = {entry.name for entry in techniques}
    kind = next((kind for kind, needed in NEEDED_TECHNIQUES.items() if names & set(needed)), "train")
    return stage.model_copy(update={"stage": kind, "techniques": techniques})


def _with_bits(stage: TrainStage, bits: int, clip: bool) -> TrainStage:
    def changed(entry: TechniqueEntry) -> TechniqueEntry:
        if not isinstance(entry.settings, Quantize):
            return entry
        settings = entry.settings if isinstance(entry.settings, Pact) else Pact(**_quantize_fields(entry.settings))
        change: dict[str, Any] = {"weight_bits": bits, "activation_bits": bits, "clip": clip}
        if bits < 8:
            change["max_drop"] = None  # few bits may start with a useless network
        return TechniqueEntry(pact=settings.model_copy(update=change))

    return stage.model_copy(update={"techniques": [changed(entry) for entry in stage.techniques]})


def _quantize_fields(settings: Quantize) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Quantize.model_fields}


def _start(stages: Sequence[TrainStage], rows: Sequence[Row]) -> tuple[str, int] | None:
    """Return the row that shares the most leading stages, and their number; None if none shares any.

    Args:
        stages: stages of the new row, of which at least one remains to be trained.
        rows: candidates.
    """
    best: tuple[str, int] | None = None
    for row in rows:
        pairs = list(zip(stages[:-1], row.stages[:-1]))
        common = next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
        if common > (best[1] if best else 0):
            best = (row.name, common)
    return best


def _config(config: Config, row: Row, rows: Mapping[str, Row]) -> Config:
    reused = row.start[1] if row.start else 0
    recipe: list[Any] = [stage.model_dump(mode="json") for stage in row.stages[reused:]]
    if row.name in TECHNIQUES:
        budget = max([s.budget_mb for s in config.recipe if isinstance(s, ExportStage)], default=50.0)
        formats = ["paddle", "onnx", *(["onnx_int8"] if row.quantized else [])]
        recipe.append({"stage": "export", "formats": formats, "budget_mb": budget})
    changes: dict[str, Any] = {"Recipe": recipe}
    if row.start:
        changes["Global"] = {"pretrained": str(_checkpoint(rows, *row.start))}
    return derive(config, config.run.output_dir / "slim_table" / row.name, **changes)


def _checkpoint(rows: Mapping[str, Row], name: str, stages: int) -> Path:
    """Return the folder of the best checkpoint after the first `stages` stages of a row."""
    row = rows[name]
    reused = row.start[1] if row.start else 0
    if stages <= reused:
        return _checkpoint(rows, row.start[0], stages)
    return row.folders[stages - reused - 1] / BEST


def run_rows(rows: Mapping[str, Row], read_only: bool = False) -> dict[str, Outcome]:
    """Run the unfinished rows one after the other.

    Args:
        rows: the rows by name.
        read_only: run nothing.

    Returns:
        The outcomes by name; those of failed rows, and of rows that start from them, have the reason.
    """
    outcomes: dict[str, Outcome] = {}
    for number, row in enumerate(rows.values(), 1):
        before = outcomes.get(row.start[0]) if row.start else None
        if row.problem:
            outcomes[row.name] = Outcome(False, row.problem)
        elif read_only:
            outcomes[row.name] = read_outcome(row.config)
        elif before and not before.done:
            outcomes[row.name] = Outcome(False, f"it starts from the row {row.start[0]}, which has failed")
        else:
            outcomes[row.name] = run_config(row.config, f"[{number}/{len(rows)}] {row.name}")
    return outcomes


def slim_table(
    config: Config,
    command: str,
    names: Sequence[str] = tuple(TECHNIQUES),
    bits: Sequence[int] = BITS,
    read_only: bool = False,
    rounds: int = 15,
) -> dict[str, Any]:
    """Run the unfinished rows and measure all rows.

    Args:
        config: the config.
        command: the command line, for the report.
        names: names of rows; FP32 is always one of them.
        bits: bit widths of the bit table.
        read_only: train nothing.
        rounds: timing rounds, in each of which all rows take turns in all engines.

    Returns:
        The results, ready for JSON and without any label text; see `reports.records.SlimTable`.

    Raises:
        SlimError: the config or a name is invalid, or the row FP32 has failed.
        KeyboardInterrupt: after the active run has saved.
    """
    unknown = [name for name in names if name not in TECHNIQUES]
    if unknown:
        raise SlimError(f"no row is called {unknown[0]!r}; known: {', '.join(TECHNIQUES)}")
    wrong = [number for number in bits if number not in range(2, 9)]
    if wrong:
        raise SlimError(f"{wrong[0]} bits cannot be trained: choose from 2 to 8")
    if rounds < 1:
        raise SlimError(f"{rounds} rounds: there must be at least 1")
    bit_names = [bit_row(number, clip) for number in bits for clip in (True, False)]
    require_no_configs(config, "a slim table")
    rows = plan_rows(config, [*names, *bit_names])
    samples = [s for file in config.eval.label_files for s in read_label_file(file.path, file.image_root)[0]]
    start = _start_results(config, samples)
    outcomes = run_rows(rows, read_only)
    if not outcomes[FP32].done:
        raise SlimError(f"the row {FP32}, which all others are compared with, is missing: {outcomes[FP32].reason}")
    entries = [entry for row in rows.values() for stage in row.stages for entry in stage.techniques]
    shown = [rows[name] for name in TECHNIQUES if name in (FP32, *names)]
    common, results = _measure([row for row in shown if outcomes[row.name].done], samples, rounds)
    return {
        **provenance(command, PACKAGES),
        "epochs": [stage.epochs for stage in rows[FP32].stages],
        "steps": _steps_trained(rows, FP32),
        "evaluation_rows": len(samples),
        "start": start,
        "teachers": sorted({str(entry.distill.teacher or config.run.teacher) for entry in entries if entry.distill}),
        **common,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "run_commit": outcomes[row.name].commit,
                **results.get(row.name, {"reason": outcomes[row.name].reason}),
            }
            for row in shown
        ],
        "fp32_checkpoint_cer": _log_results(rows[FP32].folders[-1])["cer"],
        "bits": [_bit_results(rows, outcomes, number) for number in bits],
    }


def _start_results(config: Config, samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Return the pretrained weights and their CER by the reference engine; None for random weights."""
    start = config.run.pretrained
    if start is None:
        return None
    measured = measure(start, config.run.output_dir / "slim_table" / "start")
    if "path" not in measured:
        raise SlimError(f"Global.pretrained {start}: {measured['note']}")
    return {"folder": str(start), "cer": score_file(Path(measured["path"]), folder_card(start).spec, samples, "cer")}


def _measure(rows: Sequence[Row], samples: Sequence[Sample], rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure rows.

    Returns:
        Values of all rows (engines, threads, input size), and by name the cost, bytes, scores and latency of a row, or
        the "reason" why it has none.
    """
    engines = [name for name in ENGINE_TITLES if name in ENGINES and importlib.util.find_spec(name)]
    x = typical_line(samples, read_bundle(rows[0].export).spec.height)
    size = [int(side) for side in x.shape[2:]]
    found: dict[str, Any] = {}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for row in rows:
        logger.info("%s: reading %d lines", row.name, len(samples))
        try:
            found[row.name] = _row_results(row, _recognizer(row, REFERENCE), samples, size)
        except SlimError as error:
            if row.name == FP32:  # all others are compared with it
                raise
            logger.warning("%s: %s", row.name, error)
            found[row.name] = {"reason": str(error)}
            continue
        for engine in engines:
            try:
                recognizer = _recognizer(row, engine)
            except SlimError as error:
                logger.warning("%s: %s", row.name, error)
                continue
            calls[row.name, engine] = partial(recognizer.session, x)
            if engine != REFERENCE:
                found[row.name][f"{engine}_cer"] = evaluate(recognizer, samples).scores.cer
    times = time_in_turns(calls, rounds)
    for name, engine in calls:
        if (FP32, engine) in times:
            found[name].setdefault("ms", {})[engine] = compared(times[name, engine], times[FP32, engine])
    return {"engines": engines, "threads": usable_cores(), "size": size}, found


def _recognizer(row: Row, engine: str) -> Recognizer:
    options = {"precision": "int8"} if row.quantized else {}
    return Recognizer.from_bundle(row.export, engine, **options)


def _row_results(row: Row, recognizer: Recognizer, samples: Sequence[Sample], size: Sequence[int]) -> dict[str, Any]:
    last = row.folders[-1]
    cost = measure_cost(load_model(last / BEST)[0], [1, 3, *size])
    file = row.export / (INT8 if row.quantized else ONNX)
    if row.stages[-1].stage == "share":
        file = last / SHARED_FILE
    if not file.is_file():
        raise SlimError(f"there is no {file}")
    return {
        "parameters": cost.parameters,
        "flops": cost.flops,
        "file": file.name,
        "bytes": file.stat().st_size,
        "scores": asdict(evaluate(recognizer, samples).scores),
        "checkpoint_cer": _log_results(last)["cer"],
    }


def typical_line(samples: Sequence[Sample], height: int) -> np.ndarray:
    """Return the text line of median width as the input of a network.

    Args:
        samples: text lines.
        height: height of the network's input.

    Returns:
        [1, 3, height, W] float32.

    Raises:
        SlimError: no image can be read.
    """
    lines = []
    for sample in samples:
        try:
            lines.append(resize_to_height(load_image(sample.path), height))
        except SlimError:
            continue  # scored as read ""
    if not lines:
        raise SlimError("none of the evaluation lines can be read, so that nothing can be timed")
    return line_input(median_line(lines))


def _bit_results(rows: Mapping[str, Row], outcomes: Mapping[str, Outcome], bits: int) -> dict[str, Any]:
    """Return the CER of the checkpoints of `bits` bits from their trainings: engines compute with 8 bits only."""
    found: dict[str, Any] = {"bits": bits}
    for key, clip in (("clip", True), ("noclip", False)):
        row = rows[bit_row(bits, clip)]
        try:
            if not outcomes[row.name].done:
                raise SlimError(outcomes[row.name].reason)
            found[key] = _log_results(row.folders[-1])["cer"]
        except SlimError as error:
            found[f"{key}_reason"] = str(error)
    return {**found, **{name: values[bits] for name, values in PAPER.items() if bits in values}}


def _log_results(folder: Path) -> dict[str, float]:
    """Return the CER of a stage's best checkpoint and the steps of the stage.

    Raises:
        SlimError: the checkpoint or the log cannot be read.
    """
    try:
        best = read_states(folder / BEST)["step"]
        records = read_log(folder)
        cer = next(record["eval/cer"] for record in records if record["step"] == best and "eval/cer" in record)
        return {"cer": cer, "steps": records[-1]["step"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise SlimError(f"{folder}: its log has no CER of its best checkpoint ({error!r})") from error


def _steps_trained(rows: Mapping[str, Row], name: str) -> int:
    """Return the training steps of a row, with those of the stages that it reuses."""
    folders = [_checkpoint(rows, name, number).parent for number in range(1, len(rows[name].stages) + 1)]
    return sum(int(_log_results(folder)["steps"]) for folder in folders)
