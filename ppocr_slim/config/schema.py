"""Schema of config files, as typed and frozen objects. Section names are PaddleOCR's.

A key that is not listed here is an error; `config.loading` turns it into one line that names the file, the path of
the key and the nearest right one. Only a model's arguments stay a dict: the model's builder knows what they may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from ppocr_slim.folders import PRETRAINED


def _shipped(folder: Path) -> Path:
    """Return a folder as it is, or the installed package's where it names a bundle that ships and is not here."""
    parts = folder.parts
    is_named = len(parts) == 3 and parts[:2] == ("ppocr_slim", "pretrained")
    return PRETRAINED / parts[2] if is_named and not folder.exists() else folder


# A checkpoint folder or a bundle; "ppocr_slim/pretrained/rec" is found from any folder
ModelFolder = Annotated[Path, AfterValidator(_shipped)]


class Section(BaseModel):
    """Base of every section: no unknown keys, no changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Global(Section):
    """Settings of the whole run: its folder, the weights it starts from, how often it logs, evaluates and saves."""

    output_dir: Path
    seed: int = Field(1, ge=0)
    pretrained: ModelFolder | None = None  # checkpoint folder or exported bundle whose weights training starts from
    pretrained_layers: list[str] = Field(default_factory=list)  # names or patterns; none: all layers start from there
    teacher: ModelFolder | None = None  # of every distillation that names none of its own
    character_dict_path: Path | None = None  # one character per line; None: the characters of the training labels
    log_every_steps: int = Field(20, ge=1)
    eval_every_steps: int = Field(500, ge=1)
    save_every_steps: int = Field(200, ge=1)
    max_bad_fraction: float = Field(0.01, ge=0, le=1)  # the run stops if more of its samples are unusable
    # That train together, each with batches of Train.batch_size; None: one a core, which share a Train.batch_size
    processes: int | None = Field(None, ge=1)
    fast_cpu: bool = True  # this project's CPU kernels in training; False: Paddle's own


Argument = bool | int | float | str


class Architecture(Section):
    """Network: a name from `models.MODELS`, and arguments of its builder, checked against the builder's signature."""

    name: str
    args: dict[str, Argument | dict[str, Argument]] = Field(default_factory=dict)


class Ctc(Section):
    """CTC loss, for recognition."""

    name: Literal["ctc"]


class Db(Section):
    """DB loss, for detection; the names are PaddleOCR's."""

    name: Literal["db"]
    alpha: float = Field(5.0, gt=0)  # weight of the probability map's cross-entropy
    beta: float = Field(10.0, ge=0)  # weight of the threshold map's L1
    ohem_ratio: float = Field(3.0, gt=0)  # hard negatives: at most this many background pixels for each text pixel


class CrossEntropy(Section):
    """Cross-entropy, for direction classification."""

    name: Literal["cross_entropy"]


Loss = Annotated[Ctc | Db | CrossEntropy, Field(discriminator="name")]


class Optimizer(Section):
    """AdamW with linear warm-up and cosine decay to `final_lr_ratio * lr`."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    final_lr_ratio: float = Field(0.01, ge=0, le=1)
    warmup_steps: int = Field(200, ge=0)
    weight_decay: float = Field(0.02, ge=0)  # of all but biases and normalization
    clip_norm: float = Field(5.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)  # 0: evaluate and save the raw weights


class CtcGreedy(Section):
    """Greedy CTC decoding, for recognition."""

    name: Literal["ctc_greedy"]


class DbBoxes(Section):
    """Boxes from DB's probability map, for detection (see `runtime.boxes`); PaddleOCR's names where it has one."""

    name: Literal["db"]
    longer_side: int = Field(960, ge=32)  # pixels; larger pages are scaled down to it
    thresh: float = Field(0.3, gt=0, lt=1)  # of a text pixel's probability
    box_thresh: float = Field(0.6, ge=0, le=1)  # of a box's mean probability
    unclip_ratio: float | None = Field(None, ge=0)  # None: the one that undoes the shrinking exactly
    shrink_ratio: float = Field(0.6, gt=0, lt=1)  # of the training maps, too
    min_size: int = Field(3, ge=1)  # pixels of the map
    max_candidates: int = Field(1000, ge=1)
    polygons: bool = False  # boxes of any shape instead of rectangles


class DirectionThreshold(Section):
    """Decision of the direction classifier; the threshold is PaddleOCR's cls_thresh."""

    name: Literal["direction"]
    thresh: float = Field(0.9, ge=0.5, le=1)  # a crop is turned if upside down with at least this probability


PostProcess = Annotated[CtcGreedy | DbBoxes | DirectionThreshold, Field(discriminator="name")]


class Metric(Section):
    """Metric by which the best checkpoint is chosen: lower is better for cer and wer, higher for the others.

    The first five are for recognition, the next three for detection, the last for direction.
    """

    name: Literal[
        "cer", "wer", "line_accuracy", "edit_similarity", "kalapa_score",
        "hmean", "precision", "recall",
        "accuracy",
    ]  # fmt: skip


class EvalFile(Section):
    """Label file, one image a line: `path<TAB>text` for text lines, `path<TAB>JSON` for pages (`data.page_labels`)."""

    path: Path
    image_root: Path | None = None  # None: the label file's folder


class TrainFile(EvalFile):
    """Label file for training."""

    ratio: float = Field(1.0, gt=0)  # of its samples in an epoch: 0.5 is a fresh half, 3 each of them three times
    writer_folders: bool = True  # the images of a folder are one writer's; False: each image is by a writer of its own


class Augmentation(Section):
    """Transform from `data.augment.TRANSFORMS`, applied with probability `p` at `strength` (1 is the usual one)."""

    name: str
    p: float = Field(0.5, ge=0, le=1)
    strength: float = Field(1.0, gt=0, le=3)


class TrainData(Section):
    """Training data and augmentation."""

    label_files: list[TrainFile] = Field(min_length=1)
    batch_size: int = Field(32, ge=1)
    workers: int = Field(1, ge=1)  # threads that decode and augment
    cache_mb: float = Field(1000, ge=0)  # memory for decoded text lines, of all processes together
    augment: list[Augmentation] = Field(default_factory=list)  # in a file also names of `config.augmentations`
    crop: int | None = Field(None, ge=64, multiple_of=32)  # pixels; for detection alone, None: 640


class EvalData(Section):
    """Evaluation data."""

    label_files: list[EvalFile] = Field(min_length=1)
    batch_size: int = Field(8, ge=1)


class DistillLoss(Section):
    """A distillation loss of `slim.losses`: a mean over characters, time steps, text lines or pixels.

    map_distillation is for detection, kl_div for direction, the others for recognition.
    """

    name: Literal[
        "aligned", "dkd", "frames", "mean_logits", "feature_mse", "pseudo_labels", "map_distillation", "kl_div"
    ]
    weight: float = Field(1.0, gt=0)
    temperature: float = Field(1.0, gt=0)  # not of feature_mse, pseudo_labels, map_distillation: no divergence
    beta: float = Field(2.0, ge=0)  # of dkd: weight of the non-target class loss


class Distill(Section):
    """Distillation from a teacher: a checkpoint folder, a bundle, or an ONNX file with the same characters.

    A config is a teacher, too: it is trained first, and the best checkpoint of its last training stage teaches.
    """

    teacher: ModelFolder | None = None  # None: Global.teacher
    losses: list[DistillLoss] = Field(min_length=1)
    supervised_weight: float = Field(1.0, ge=0)  # of the task's own loss
    cache: bool = False  # keep the teacher's outputs on disk; only where Train.augment is empty

    @model_validator(mode="after")
    def _losses_fit(self) -> Distill:
        names = [loss.name for loss in self.losses]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"the loss {twice} stands here twice")
        for loss in self.losses:
            if loss.beta != 2 and loss.name != "dkd":
                raise ValueError(f"beta belongs to dkd, not to {loss.name}")
            if loss.temperature != 1 and loss.name in ("feature_mse", "pseudo_labels", "map_distillation"):
                raise ValueError(f"the loss {loss.name} has no temperature")
        return self


class Mutual(Section):
    """Deep mutual learning of two students; the peer is not kept."""

    weight: float = Field(1.0, gt=0)
    temperature: float = Field(1.0, gt=0)
    peer: Architecture | None = None  # None: the student's own


class Guide(Section):
    """Guidance of CTC by an attention decoder that learns from the same features; it is not kept."""

    weight: float = Field(1.0, gt=0)
    width: int = Field(192, ge=48, multiple_of=48)
    layers: int = Field(1, ge=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)


class Tones(Section):
    """Auxiliary head that learns the tones of Vietnamese syllables from the same features; it is not kept."""

    weight: float = Field(0.1, gt=0)


class Fpgm(Section):
    """Pruning of the filters nearest the geometric median until all targets are met, of which there is at least one."""

    max_flops: float | None = Field(None, gt=0, le=1)  # fraction of the unpruned network's multiply-adds
    max_latency: float | None = Field(None, gt=0, le=1)  # fraction of the unpruned network's time for its typical input
    max_ratio: float = Field(0.6, gt=0, lt=1)  # of the filters of any one layer that are removed
    skip: list[str] = Field(default_factory=list)  # layers not pruned: names or patterns such as backbone.blocks.0.*
    calibration_samples: int = Field(64, ge=1)  # training samples on whose loss the layers' sensitivity is measured

    @model_validator(mode="after")
    def _has_target(self) -> Fpgm:
        if self.max_flops is None and self.max_latency is None:
            raise ValueError("fpgm needs a target: max_flops or max_latency")
        return self


class Quantize(Section):
    """Settings that PACT and LSQ+ have in common."""

    weight_bits: int = Field(7, ge=2, le=8)  # as INT8 files have them: see int8_weight_bits
    activation_bits: int = Field(8, ge=2, le=8)
    # of the first and the last layer; their weights have 7 at most, unless all weights have 8; None: as all others
    edge_bits: int | None = Field(8, ge=2, le=8)
    float_layers: list[str] = Field(default_factory=list)  # layers not quantized: names or patterns
    calibration_samples: int = Field(64, ge=1)
    max_drop: float | None = Field(0.05, gt=0)  # of the task's first metric, by calibration alone; None: no limit
    sensitivity: bool = False  # measure it for each layer before training; always done where max_drop stops the run


class Pact(Quantize):
    """Quantization-aware training with PACT's learned clips."""

    clip: bool = True  # False: ranges follow the data, nothing is learned
    clip_lr: float = Field(1.0, gt=0)  # times the learning rate
    clip_decay: float = Field(1e-4, ge=0)


class Lsq(Quantize):
    """Quantization-aware training with LSQ+'s learned scales."""

    scale_lr: float = Field(1.0, gt=0)  # times the learning rate


class Share(Section):
    """Weight sharing: at most 2^bits values per tensor, found by k-means and then fine-tuned."""

    bits: int = Field(6, ge=1, le=8)
    skip: list[str] = Field(default_factory=list)  # layers whose weights are not shared: names or patterns


class TechniqueEntry(Section):
    """One slimming technique of a training stage with its settings: exactly one of these."""

    distill: Distill | None = None
    mutual: Mutual | None = None
    guide: Guide | None = None
    tones: Tones | None = None
    fpgm: Fpgm | None = None
    pact: Pact | None = None
    lsq: Lsq | None = None
    share: Share | None = None

    @model_validator(mode="after")
    def _one(self) -> TechniqueEntry:
        if len(self._set) != 1:
            raise ValueError(f"a technique is exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def _set(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @property
    def name(self) -> str:
        """The technique's name."""
        return self._set[0]

    @property
    def settings(self) -> Section:
        """The technique's settings."""
        return getattr(self, self.name)


NEEDED_TECHNIQUES = {"train": (), "prune": ("fpgm",), "quantize": ("pact", "lsq"), "share": ("share",)}


class TrainStage(Section):
    """Training stage, starting from the checkpoint of the stage before; its name says what it does to the network."""

    stage: Literal["train", "prune", "quantize", "share"]
    epochs: int = Field(ge=1)
    max_steps: int | None = Field(None, ge=1)  # the stage and its schedule end after this many steps at most
    techniques: list[TechniqueEntry] = Field(default_factory=list)
    lr: float | None = Field(None, gt=0)  # None: the Optimizer's
    warmup_steps: int | None = Field(None, ge=0)  # None: the Optimizer's

    def length(self, steps_an_epoch: int) -> int:
        """Return the optimizer steps of the whole stage."""
        length = self.epochs * steps_an_epoch
        return length if self.max_steps is None else min(length, self.max_steps)

    @model_validator(mode="after")
    def _techniques_fit(self) -> TrainStage:
        names = [technique.name for technique in self.techniques]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"the technique {twice} stands here twice")
        owner = {name: stage for stage, names in NEEDED_TECHNIQUES.items() for name in names}
        misplaced = next((name for name in names if owner.get(name, self.stage) != self.stage), None)
        if misplaced:
            raise ValueError(
                f"the technique {misplaced} belongs in a stage {owner[misplaced]!r}, this is {self.stage!r}"
            )
        needed = NEEDED_TECHNIQUES[self.stage]
        if needed and len(set(needed) & set(names)) != 1:
            raise ValueError(f"a stage {self.stage!r} needs one technique {' or '.join(needed)}")
        return self


Format = Literal["paddle", "onnx", "onnx_int8"]


class ExportStage(Section):
    """Export of the last checkpoint as a bundle."""

    stage: Literal["export"]
    formats: list[Format] = Field(["paddle", "onnx"], min_length=1)  # Pydantic copies a default
    budget_mb: float = Field(50.0, gt=0)  # a larger file fails the export
    language_model: Path | None = None  # of tools/make_language_model.py, for a recognizer's bundle
    int8_weight_bits: Literal[7, 8] = 7  # 8: for processors with VNNI alone; sums of products overflow on others
    int8_activations: bool = True  # False: only weights are integers, for networks that integers make no faster


class ReportStage(Section):
    """Table and picture of what each stage gave and cost: size, multiply-adds, latency, the metric."""

    stage: Literal["report"]
    rounds: int = Field(15, ge=1)  # of timing, in which all networks take turns


Stage = Annotated[TrainStage | ExportStage | ReportStage, Field(discriminator="stage")]


@dataclass(frozen=True)
class Origins:
    """Origins of a config's values. All are equal, so that comparing configs compares their values alone.

    Attributes:
        layers: (a file or "-o override", the tree of values that it sets); a later one wins over the earlier ones.
    """

    layers: tuple[tuple[str, Any], ...] = field(default=(), compare=False)


class Config(Section):
    """A whole config: `_BASE_` merged, overrides applied, types checked."""

    _origins: Origins = PrivateAttr(default_factory=Origins)  # for messages: see `loading.locate`

    run: Global = Field(alias="Global")
    architecture: Architecture = Field(alias="Architecture")
    loss: Loss | None = Field(None, alias="Loss")  # None, here and below: the default of the network's task
    optimizer: Optimizer = Field(default_factory=Optimizer, alias="Optimizer")
    post_process: PostProcess | None = Field(None, alias="PostProcess")
    metric: Metric | None = Field(None, alias="Metric")
    train: TrainData = Field(alias="Train")
    eval: EvalData = Field(alias="Eval")
    recipe: list[Stage] = Field(min_length=1, alias="Recipe")

    @property
    def training_stages(self) -> list[TrainStage]:
        """The stages that train."""
        return [stage for stage in self.recipe if isinstance(stage, TrainStage)]

    def with_teachers(self) -> Config:
        """Return the config with a teacher in each distillation, and none in Global."""
        run = self.run.model_copy(update={"teacher": None})
        return self._changed(run, lambda teacher: teacher or self.run.teacher)

    def with_trained(self, places: Mapping[Path, Path]) -> Config:
        """Return the config with other teachers.

        Args:
            places: teacher -> the one in its place.
        """

        def changed(teacher: Path | None) -> Path | None:
            return places.get(teacher, teacher) if teacher else None

        return self._changed(self.run.model_copy(update={"teacher": changed(self.run.teacher)}), changed)

    def _changed(self, run: Global, teacher_of: Callable[[Path | None], Path | None]) -> Config:
        def entry_of(entry: TechniqueEntry) -> TechniqueEntry:
            if entry.distill is None:
                return entry
            update = {"teacher": teacher_of(entry.distill.teacher)}
            return TechniqueEntry(distill=entry.distill.model_copy(update=update))

        recipe = [
            stage.model_copy(update={"techniques": [entry_of(entry) for entry in stage.techniques]})
            if isinstance(stage, TrainStage)
            else stage
            for stage in self.recipe
        ]
        return self.model_copy(update={"recipe": recipe, "run": run})

    @property
    def teachers(self) -> list[Path]:
        """The teachers of all distillations, each once, in their order."""
        entries = [entry for stage in self.with_teachers().training_stages for entry in stage.techniques]
        found = [entry.distill.teacher for entry in entries if entry.distill and entry.distill.teacher]
        return list(dict.fromkeys(found))

    @property
    def training_folders(self) -> list[Path]:
        """The folders of the stages that train."""
        return [folder for stage, folder in self.stage_folders() if isinstance(stage, TrainStage)]

    def stage_folders(self) -> Iterator[tuple[Stage, Path]]:
        """Yield each stage with its folder, named after it; a stage that comes again is train_2, and so on."""
        counts: Counter = Counter()
        for stage in self.recipe:
            counts[stage.stage] += 1
            number = counts[stage.stage]
            yield stage, self.run.output_dir / (stage.stage if number == 1 else f"{stage.stage}_{number}")

    @property
    def step_batch(self) -> int:
        """Number of samples of a training step, of all processes together."""
        return self.train.batch_size * (self.run.processes or 1)

    def with_shared_batch(self) -> Config:
        """Return the config; of a single process as one whose processes share a batch: it trains the same."""
        if self.run.processes != 1:
            return self
        return self.model_copy(update={"run": self.run.model_copy(update={"processes": None})})
