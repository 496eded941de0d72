"""Records: the typed form of the JSON results of experiments and benchmarks, from which reports are made.

A missing or misspelt key, or one of another type, is an error when the record is read, and not a gap in a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ppocr_slim.errors import SlimError


class Record(BaseModel):
    """Base of all records: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


RecordT = TypeVar("RecordT", bound=Record)


def read_record(kind: type[RecordT], results: Mapping[str, Any], where: str) -> RecordT:
    """Return JSON as a record.

    Args:
        kind: type of the record.
        results: the JSON as plain dicts and lists.
        where: what it is or where it is from, for messages.

    Raises:
        SlimError: a key is missing, unknown or of another type.
    """
    try:
        return kind.model_validate(results)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise SlimError(f"{where} is no {kind.__name__}: {place}: {first['msg']}") from error


class Machine(Record):
    """The machine that something was measured on."""

    processor: str
    cores: int
    memory_gb: float


class Measured(Record):
    """Base of the results of a command: the command line, the date, the commit and the machine."""

    command: str
    date: str
    commit: str
    machine: Machine


class Versioned(Measured):
    """Results with the versions of Python and of the packages that matter."""

    versions: dict[str, str]

    @property
    def version_list(self) -> str:
        """The versions as text."""
        return ", ".join(f"{package} {version}" for package, version in self.versions.items())


class Timing(Record):
    """The latency of a network, in turns with a baseline: medians in ms, and the median of the rounds' ratios."""

    ms: float
    base_ms: float
    ratio: float


class LineScores(Record):
    """Metrics of a recognizer, see `evaluation.metrics.Scores`."""

    cer: float
    wer: float
    line_accuracy: float
    edit_similarity: float
    kalapa_score: float
    lines: int
    characters: int


class AblationRun(Record):
    """A run of a variant with one seed: its metrics, or the reason why there are none."""

    seed: int
    reason: str | None = None
    commit: str | None = None
    steps: list[int] = Field(default_factory=list)
    minutes: float | None = None
    scores: dict[str, float] = Field(default_factory=dict)


class AblationVariant(Record):
    """A variant of an ablation, with the footprint and the latency of its exported network if they were measured."""

    name: str
    changes: list[str]
    runs: list[AblationRun]
    parameters: int | None = None
    flops: int | None = None
    input: list[int] | None = None
    file: str | None = None
    bytes: int | None = None
    note: str | None = None
    ms: Timing | None = None
    int8_bytes: int | None = None
    int8_ms: Timing | None = None


class Ablation(Versioned):
    """An ablation: variants of one config, each with several seeds."""

    name: str
    threads: int
    metric: str
    higher_is_better: bool
    budget: str
    seeds: list[int]
    cumulative: bool
    reference: str | None
    variants: list[AblationVariant]


class Start(Record):
    """The pretrained weights of trainings, and their CER."""

    folder: str
    cer: float


class SlimRow(Record):
    """A row of the slim table: a recipe with some of its techniques, or the reason why it has failed."""

    name: str
    title: str
    run_commit: str | None = None
    reason: str | None = None
    parameters: int | None = None
    flops: int | None = None
    file: str | None = None
    bytes: int | None = None
    scores: LineScores | None = None
    checkpoint_cer: float | None = None
    openvino_cer: float | None = None
    ms: dict[str, Timing] = Field(default_factory=dict)


class BitRow(Record):
    """A row of the bit table: the CER with and without PACT's learned clip, beside published errors in %."""

    bits: int
    clip: float | None = None
    noclip: float | None = None
    clip_reason: str | None = None
    noclip_reason: str | None = None
    paper: float | None = None
    reproduction: float | None = None


class SlimTable(Versioned):
    """The slim table: an ablation of the techniques of a recipe, and of bit widths."""

    epochs: list[int]
    steps: int
    evaluation_rows: int
    start: Start | None
    teachers: list[str]
    engines: list[str]
    threads: int
    size: tuple[int, int]
    rows: list[SlimRow]
    fp32_checkpoint_cer: float
    bits: list[BitRow]
    note: str | None = None


class StageRow(Record):
    """A network of a recipe: its teacher, its start, or what a stage made of it. A note says what is missing."""

    name: str
    title: str
    steps: int | None = None
    minutes: float | None = None
    parameters: int | None = None
    flops: int | None = None
    file: str | None = None
    bytes: int | None = None
    score: float | None = None
    ms: Timing | None = None
    note: str | None = None


class StageTable(Versioned):
    """What each stage of a recipe gave and cost."""

    metric: str
    higher_is_better: bool
    samples: int
    threads: int
    rows: list[StageRow]


class Contender(Record):
    """A contender of the training benchmark, and its speed."""

    name: str
    processes: int
    batch: int
    images_per_s: float
    ratio: float
    peak_mb: float
    waiting_share: float | None
    rounds: list[float]


class LossCurve(Record):
    """The losses of the same steps with stock and fast kernels; "shaken" ones start a rounding error apart."""

    steps: int
    stock: list[float]
    fast: list[float]
    largest_difference: float
    final_difference: float
    shaken: list[float] = Field(default_factory=list)
    shaken_largest_difference: float | None = None
    shaken_final_difference: float | None = None


class MemoryCurve(Record):
    """The resident memory of a training: [step, megabytes]."""

    steps: int
    resident_mb: list[tuple[float, float]]


class TrainingCase(Record):
    """A case of the training benchmark: a network, its input size and batch size."""

    name: str
    title: str
    model: str
    args: dict[str, Any]
    size: tuple[int, int]
    batch: int
    parameters: int | None = None
    contenders: list[Contender] = Field(default_factory=list)
    curve: LossCurve | None = None
    memory: MemoryCurve | None = None


class TrainingSpeed(Versioned):
    """The results of the training benchmark."""

    rounds: int
    steps: int
    cases: list[TrainingCase]
    note: str | None = None


class PageSet(Record):
    """The labelled pages of a benchmark."""

    file: str
    count: int
    lines: int


class DetectionScores(Record):
    """Metrics of a detector, see `evaluation.metrics.PageScores`."""

    hmean: float
    precision: float
    recall: float
    pages: int
    lines: int


class Detection(Record):
    """Metrics of a detector over all pages, by kind of page and by number of lines."""

    all: DetectionScores
    by_kind: dict[str, DetectionScores]
    by_lines: dict[str, DetectionScores]


class ReadingScores(Record):
    """Errors of the texts of pages in characters, see `evaluation.pages.ReadingErrors`."""

    wrong: int
    missed: int
    added: int
    characters: int
    lines: int
    found: int
    cer: float


class Reading(Record):
    """Errors of the texts over all pages, and by number of lines."""

    all: ReadingScores
    by_lines: dict[str, ReadingScores]


class PipelineSide(Record):
    """An engine of the end-to-end benchmark."""

    detection: Detection
    reading: Reading
    versions: dict[str, str]
    sizes: dict[str, int]


class TrueBoxes(Record):
    """Metrics of a recognizer on crops of the labelled lines."""

    all: LineScores
    by_lines: dict[str, LineScores]


class DirectionScores(Record):
    """Metrics of a direction classifier, see `evaluation.metrics.DirectionScores`."""

    accuracy: float
    wrongly_turned: float
    left: float
    pictures: int


class SideSpeed(Record):
    """The time per page of an engine, by stage, and its peak memory."""

    model_config = ConfigDict(extra="allow", frozen=True)

    ms: dict[str, float]
    peak_mb: float

    def against(self, peer: str) -> Timing | None:
        """Return the total time compared with that of another engine, None if they were not compared."""
        timing = (self.model_extra or {}).get(f"against_{peer}")
        return None if timing is None else Timing.model_validate(timing)


class PipelineSpeed(Record):
    """The times of the end-to-end benchmark."""

    pages: int
    median_lines: float
    rounds: int
    sides: dict[str, SideSpeed]


class Pipeline(Measured):
    """The results of the end-to-end benchmark: detection, direction and recognition of the text lines of pages."""

    threads: int
    pages: PageSet
    only_rows: str | None
    sides: dict[str, PipelineSide]
    true_boxes: dict[str, TrueBoxes]
    direction: dict[str, DirectionScores]
    speed: PipelineSpeed | None = None
    bundles: dict[str, dict[str, int]]

    @field_validator("speed", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None  # {} without timing


class DecodingMethod(Record):
    """A method of decoding, compared with greedy decoding."""

    name: str
    scores: LineScores
    changed: int
    better: int
    worse: int
    numbers_changed: int
    bytes: int
    ms: float
    ms_95: float


class Decoding(Versioned):
    """The results of the decoding benchmark: the same lines and network by several methods of decoding."""

    bundle: str
    precision: str
    rows: int
    network_ms: float
    ways: list[DecodingMethod]


class TrainingRun(Record):
    """The results of a finished training run: its metrics by writer, and its curve."""

    command: str
    commit: str
    note: str
    steps: int
    images_seen: int
    training_minutes: float
    scores: dict[str, int | float]
    by_writer: dict[str, dict[str, int | float]]
    checks: dict[str, int | float]
    curve: dict[str, list[tuple[float, float]]]
