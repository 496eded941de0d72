"""The slim table: one config's recipe with some of its techniques taken out, side by side.

Every row trains for the same epochs at the same rates on the same data from the same seed: a stage whose technique a
row does without is a plain training of the same length. Leading stages that two rows have in common are trained once.
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
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.reports.provenance import provenance
from ppocr_slim.reports.slim_table import ENGINE_TITLES, FP32
from ppocr_slim.runtime.bundle import INT8, ONNX, read_bundle
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import line_input, median_line, resize_to_height
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.slim.shared_file import SHARED_FILE
from ppocr_slim.tasks.checkpoint import load_model, read_states
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.training.loop import BEST
from ppocr_slim.training.recipe import stage_folders
from ppocr_slim.training.runlog import read_log

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
USUAL = {
    "fpgm": TechniqueEntry(fpgm=Fpgm(max_flops=0.7)),
    "pact": TechniqueEntry(pact=Pact()),
}  # where the config names none
BITS = (8, 5, 4, 3, 2)
REFERENCE = "onnxruntime"  # the engine whose readings are scored
PACKAGES = ("paddlepaddle", "onnxruntime", "openvino", "numpy")
# Error in % on CIFAR-10, ResNet-20, weights and activations of so many bits: PACT's authors (arXiv:1805.06085) and a
# public reproduction.
PAPER = {"paper": {5: 8.4, 4: 9.2, 3: 9.4, 2: 11.1}, "reproduction": {5: 8.4, 4: 9.1, 3: 9.9, 2: 12.9}}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        stages: all its training stages.
        start: the row whose stages it begins with, and how many of them; None: it begins with the config's start.
        config: what it runs: the stages after those, and an export.
        problem: why it cannot be run.
    """

    name: str
    title: str
    stages: tuple[TrainStage, ...] = ()
    start: tuple[str, int] | None = None
    config: Config | None = None
    problem: str = ""

    @property
    def quantized(self) -> bool:
        return any(stage.stage == "quantize" for stage in self.stages)

    @property
    def folders(self) -> list[Path]:
        """Of its own training stages."""
        found = stage_folders(self.config.recipe, self.config.run.output_dir)
        return [folder for stage, folder in found if isinstance(stage, TrainStage)]

    @property
    def export(self) -> Path:
        return self.config.run.output_dir / "export"


def plan_rows(config: Config, names: Sequence[str]) -> dict[str, Row]:
    """Return the rows `names` and those that they start from, in the order in which they can run.

    Args:
        names: of `TECHNIQUES`, or `bit_row`'s.

    Raises:
        SlimError: an unknown row, or a config that trains nothing.
    """
    training = [stage for stage in config.recipe if isinstance(stage, TrainStage)]
    if not training:
        raise SlimError("the config's Recipe has no training stage, so there is nothing to take out of it")
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
        if twin:  # what is the same is run once
            rows[name] = replace(twin, name=name, title=title)
            continue
        row = Row(name, title, stages, _start(stages, [rows[key] for key in (FP32, "distill") if key in rows]))
        rows[name] = replace(row, config=_config(config, row, rows))
    return rows


def bit_row(bits: int, clip: bool) -> str:
    """Return the name of the row that is quantized to `bits`, with PACT's learned clip or without."""
    return f"bits{bits}" if clip else f"bits{bits}_noclip"


def _stages(training: Sequence[TrainStage], name: str) -> tuple[TrainStage, ...]:
    """Return the training stages with the techniques of row `name` alone."""
    bits = {bit_row(bits, clip): (bits, clip) for bits in range(2, 9) for clip in (True, False)}
    if name not in TECHNIQUES and name not in bits:
        raise SlimError(f"no row is called {name!r}; choose from {', '.join(TECHNIQUES)}")
    kept = TECHNIQUES["pact" if name in bits else name]
    if name == "share":  # the last thing that is done: a later stage would train equal weights apart
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
        if kept[0] not in USUAL:
            raise SlimError(f"the config's Recipe has no technique {' or '.join(kept)}")
        stages[-1] = _with_techniques(stages[-1], [USUAL[kept[0]]])
    if name in bits:
        stages = [_with_bits(stage, *bits[name]) for stage in stages]
    return tuple(stages)


def _with_techniques(stage: TrainStage, techniques: list[TechniqueEntry]) -> TrainStage:
    """Return the stage with these techniques, called by what they do to the network."""
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
            change["max_drop"] = None  # few bits start from nonsense, and may
        return TechniqueEntry(pact=settings.model_copy(update=change))

    return stage.model_copy(update={"techniques": [changed(entry) for entry in stage.techniques]})


def _quantize_fields(settings: Quantize) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Quantize.model_fields}


def _start(stages: Sequence[TrainStage], rows: Sequence[Row]) -> tuple[str, int] | None:
    """Return, of `rows` the one that has the most leading stages in common with `stages`; at least one stays to be
    trained.
    """
    best: tuple[str, int] | None = None
    for row in rows:
        pairs = list(zip(stages[:-1], row.stages[:-1]))
        common = next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
        if common > (best[1] if best else 0):
            best = (row.name, common)
    return best


def _config(config: Config, row: Row, rows: Mapping[str, Row]) -> Config:
    begun = row.start[1] if row.start else 0
    recipe: list[Any] = [stage.model_dump(mode="json") for stage in row.stages[begun:]]
    if row.name in TECHNIQUES:
        budget = max([s.budget_mb for s in config.recipe if isinstance(s, ExportStage)], default=50.0)
        formats = ["paddle", "onnx", *(["onnx_int8"] if row.quantized else [])]
        recipe.append({"stage": "export", "formats": formats, "budget_mb": budget})
    changes: dict[str, Any] = {"Recipe": recipe}
    if row.start:
        changes["Global"] = {"pretrained": str(_checkpoint(rows, *row.start))}
    return derive(config, config.run.output_dir / "slim_table" / row.name, **changes)


def _checkpoint(rows: Mapping[str, Row], name: str, stages: int) -> Path:
    """Return where the best checkpoint after the first `stages` of a row lies."""
    row = rows[name]
    begun = row.start[1] if row.start else 0
    if stages <= begun:
        return _checkpoint(rows, row.start[0], stages)
    return row.folders[stages - begun - 1] / BEST


def run_rows(rows: Mapping[str, Row], read_only: bool = False) -> dict[str, Outcome]:
    """Run what is not done yet, one row after the other. A row that fails, and those that start from it, say why."""
    outcomes: dict[str, Outcome] = {}
    for number, row in enumerate(rows.values(), 1):
        before = outcomes.get(row.start[0]) if row.start else None
        if row.problem:
            outcomes[row.name] = Outcome(False, row.problem)
        elif read_only:
            outcomes[row.name] = read_outcome(row.config)
        elif before and not before.done:
            outcomes[row.name] = Outcome(False, f"it starts from the row {row.start[0]}, which is not there")
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
    """Train what is missing, measure all rows, and give the figures, ready for JSON; no text of a row is in them.

    Args:
        names: rows of the table; FP32 is always one of them.
        bits: of the bit table.
        read_only: train nothing.
        rounds: of timing, in each of which every row has its turn with every engine.

    Raises:
        SlimError: the config or a name is not right, or FP32 is not there.
        KeyboardInterrupt: after the run that was going on has saved.
    """
    unknown = [name for name in names if name not in TECHNIQUES]
    if unknown:
        raise SlimError(f"no row is called {unknown[0]!r}; choose from {', '.join(TECHNIQUES)}")
    wrong = [number for number in bits if number not in range(2, 9)]
    if wrong:
        raise SlimError(f"{wrong[0]} bits cannot be trained; choose 2 to 8")
    if rounds < 1:
        raise SlimError(f"{rounds} rounds measure nothing; give 1 or more")
    bit_names = [bit_row(number, clip) for number in bits for clip in (True, False)]
    rows = plan_rows(config, [*names, *bit_names])
    outcomes = run_rows(rows, read_only)
    if not outcomes[FP32].done:
        raise SlimError(f"the row {FP32}, which all others are compared with, is not there: {outcomes[FP32].reason}")
    entries = [entry for row in rows.values() for stage in row.stages for entry in stage.techniques]
    shown = [rows[name] for name in TECHNIQUES if name in (FP32, *names)]
    samples = [s for file in config.eval.label_files for s in read_label_file(file.path, file.image_root)[0]]
    common, found = _measure([row for row in shown if outcomes[row.name].done], samples, rounds)
    return {
        **provenance(command, PACKAGES),
        "epochs": [stage.epochs for stage in rows[FP32].stages],
        "steps": _steps_trained(rows, FP32),
        "evaluation_rows": len(samples),
        "start": _start_figures(config, samples),
        "teachers": sorted({str(entry.distill.teacher) for entry in entries if entry.distill}),
        **common,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "run_commit": outcomes[row.name].commit,
                **found.get(row.name, {"reason": outcomes[row.name].reason}),
            }
            for row in shown
        ],
        "fp32_checkpoint_cer": _log_figures(rows[FP32].folders[-1])["cer"],
        "bits": [_bit_figures(rows, outcomes, number) for number in bits],
    }


def _start_figures(config: Config, samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Return what the rows start from, and its CER by the reference engine; None: from random weights."""
    if config.run.pretrained is None:
        return None
    recognizer = open_recognizer(config.run.pretrained, REFERENCE, "fp32")
    return {"folder": str(config.run.pretrained), "cer": evaluate(recognizer, samples).scores.cer}


def _measure(rows: Sequence[Row], samples: Sequence[Sample], rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what holds for all rows, and by row: cost, bytes, scores and times, or the "reason" why not."""
    engines = [name for name in ENGINE_TITLES if name in ENGINES and importlib.util.find_spec(name)]
    x = typical_line(samples, read_bundle(rows[0].export).spec.height)
    size = [int(side) for side in x.shape[2:]]
    found: dict[str, Any] = {}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for row in rows:
        logger.info("%s: reading %d rows", row.name, len(samples))
        try:
            found[row.name] = _row_figures(row, _recognizer(row, REFERENCE), samples, size)
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


def _row_figures(row: Row, recognizer: Recognizer, samples: Sequence[Sample], size: Sequence[int]) -> dict[str, Any]:
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
        "checkpoint_cer": _log_figures(last)["cer"],
    }


def typical_line(samples: Sequence[Sample], height: int) -> np.ndarray:
    """Return the line of median width as a network of this height gets it: [1, 3, height, W] float32."""
    rows = []
    for sample in samples:
        try:
            rows.append(resize_to_height(load_image(sample.path), height))
        except SlimError:
            continue  # it counts as read "" where rows are scored
    if not rows:
        raise SlimError("none of the evaluation rows can be read, so there is nothing to measure on")
    return line_input(median_line(rows))


def _bit_figures(rows: Mapping[str, Row], outcomes: Mapping[str, Outcome], bits: int) -> dict[str, Any]:
    """CER of the checkpoints of `bits` bits, as their training measured it: no engine computes on 2 to 7 bits."""
    found: dict[str, Any] = {"bits": bits}
    for key, clip in (("clip", True), ("noclip", False)):
        row = rows[bit_row(bits, clip)]
        try:
            if not outcomes[row.name].done:
                raise SlimError(outcomes[row.name].reason)
            found[key] = _log_figures(row.folders[-1])["cer"]
        except SlimError as error:
            found[f"{key}_reason"] = str(error)
    return {**found, **{name: values[bits] for name, values in PAPER.items() if bits in values}}


def _log_figures(folder: Path) -> dict[str, float]:
    """CER of a stage's best checkpoint and the stage's steps, from what it left behind.

    Raises:
        SlimError: it is gone.
    """
    try:
        best = read_states(folder / BEST)["step"]
        records = read_log(folder)
        cer = next(record["eval/cer"] for record in records if record["step"] == best and "eval/cer" in record)
        return {"cer": cer, "steps": records[-1]["step"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise SlimError(f"{folder}: its log does not say how its best checkpoint reads ({error!r})") from error


def _steps_trained(rows: Mapping[str, Row], name: str) -> int:
    """Optimizer steps of a row, those of the stages that it starts from among them."""
    folders = [_checkpoint(rows, name, number).parent for number in range(1, len(rows[name].stages) + 1)]
    return sum(int(_log_figures(folder)["steps"]) for folder in folders)
