"""Records: the typed form of the JSON that experiments and benchmarks leave behind, and that reports are made from.

A key that is missing, misspelt or of another type is an error where the record is read, not a hole in a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ppocr_slim.errors import SlimError


class Record(BaseModel):
    """Base of all records: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


RecordT = TypeVar("RecordT", bound=Record)


def read_record(kind: type[RecordT], figures: Mapping[str, Any], where: str) -> RecordT:
    """Return JSON as a record.

    Raises:
        SlimError: a key is missing, unknown or of another type.
    """
    try:
        return kind.model_validate(figures)
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
    """Base of what was measured by a command: which one, when, by which code and on what."""

    command: str
    date: str
    commit: str
    machine: Machine


class Versioned(Measured):
    """The same with the versions of Python and of the packages that matter."""

    versions: dict[str, str]

    @property
    def version_list(self) -> str:
        return ", ".join(f"{package} {version}" for package, version in self.versions.items())


class Timing(Record):
    """The time of a network, in turns with a baseline: medians in ms, and the median of the rounds' own ratios."""

    ms: float
    base_ms: float
    ratio: float


class LineScores(Record):
    """Scores of a recognizer: `evaluation.metrics.Scores`."""

    cer: float
    wer: float
    line_accuracy: float
    edit_similarity: float
    kalapa_score: float
    lines: int
    characters: int


class AblationRun(Record):
    """One seed of a variant: its scores, or the reason why there are none."""

    seed: int
    reason: str | None = None
    commit: str | None = None
    steps: list[int] = Field(default_factory=list)
    minutes: float | None = None
    scores: dict[str, float] = Field(default_factory=dict)


class AblationVariant(Record):
    """A variant of an ablation, with what its exported network weighs and takes where that was measured."""

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
    """The weights that trainings start from, and their CER."""

    folder: str
    cer: float


class SlimRow(Record):
    """A row of the slim table: a recipe with some of its techniques, or the reason why it is not there."""

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
    """A row of the bit table: CERs with and without PACT's learned clip, beside published errors in %."""

    bits: int
    clip: float | None = None
    noclip: float | None = None
    clip_reason: str | None = None
    noclip_reason: str | None = None
    paper: float | None = None
    reproduction: float | None = None


class SlimTable(Versioned):
    """One recipe taken apart by techniques, and by bits."""

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


class Contender(Record):
    """A way of training in the benchmark, and how fast it was."""

    name: str
    processes: int
    batch: int
    images_per_s: float
    ratio: float
    peak_mb: float
    waiting_share: float | None
    rounds: list[float]


class LossCurve(Record):
    """The losses of the same steps with Paddle's kernels and with ours; "shaken" ones start a rounding error apart."""

    steps: int
    stock: list[float]
    fast: list[float]
    largest_difference: float
    final_difference: float
    shaken: list[float] = Field(default_factory=list)
    shaken_largest_difference: float | None = None
    shaken_final_difference: float | None = None


class MemoryCurve(Record):
    """What a training holds: [step, megabytes]."""

    steps: int
    resident_mb: list[tuple[float, float]]


class TrainingCase(Record):
    """A network and its batch in the training benchmark."""

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
    """The training benchmark."""

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
    """Scores of a detector: `evaluation.metrics.PageScores`."""

    hmean: float
    precision: float
    recall: float
    pages: int
    lines: int


class Detection(Record):
    """Scores of a detector over all pages, by kind of page and by number of lines."""

    all: DetectionScores
    by_kind: dict[str, DetectionScores]
    by_lines: dict[str, DetectionScores]


class ReadingScores(Record):
    """Errors in characters of what was read on pages: `evaluation.pages.ReadingErrors`."""

    wrong: int
    missed: int
    added: int
    characters: int
    lines: int
    found: int
    cer: float


class Reading(Record):
    """Reading errors over all pages, and by number of lines."""

    all: ReadingScores
    by_lines: dict[str, ReadingScores]


class PipelineSide(Record):
    """One side of the end-to-end benchmark."""

    detection: Detection
    reading: Reading
    versions: dict[str, str]
    sizes: dict[str, int]


class TrueBoxes(Record):
    """A recognizer's scores on the true lines cut out."""

    all: LineScores
    by_lines: dict[str, LineScores]


class DirectionScores(Record):
    """Scores of a direction classifier: `evaluation.metrics.DirectionScores`."""

    accuracy: float
    wrongly_turned: float
    left: float
    pictures: int


class SideSpeed(Record):
    """The time a page of one side, by stage, and the most memory it held."""

    model_config = ConfigDict(extra="allow", frozen=True)

    ms: dict[str, float]
    peak_mb: float

    def against(self, peer: str) -> Timing | None:
        """Return the total time compared with that of another engine."""
        found = (self.model_extra or {}).get(f"against_{peer}")
        return None if found is None else Timing.model_validate(found)


class PipelineSpeed(Record):
    """Times of the end-to-end benchmark."""

    pages: int
    median_lines: float
    rounds: int
    sides: dict[str, SideSpeed]


class Pipeline(Measured):
    """The end-to-end benchmark: lines found on pages, turned upright, and read."""

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
    def _none_was_taken(cls, value: Any) -> Any:
        return value or None  # {} where no times were asked for


class DecodingWay(Record):
    """A way of decoding, and what it gains, costs and breaks against greedy decoding."""

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
    """The same lines and network, decoded in several ways."""

    bundle: str
    precision: str
    rows: int
    network_ms: float
    ways: list[DecodingWay]


class TrainingRun(Record):
    """A finished run: its scores by writer, and its curve."""

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
