"""What a config file may say, as typed and frozen objects. Section names are PaddleOCR's.

A key that is not listed here is an error; `config.loading` turns it into one line that names the file, the path of
the key and the nearest right one. Only a model's arguments stay a dict: the model's builder knows what they may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from typing_extensions import Annotated, Literal


class Section(BaseModel):
    """Base of every section: no unknown keys, no changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Global(Section):
    """Where a run lives, what it starts from and how often it reports."""

    output_dir: Path
    seed: int = Field(1, ge=0)
    pretrained: Optional[Path] = None  # checkpoint folder or exported bundle whose weights training starts from
    character_dict_path: Optional[Path] = None  # a character a line; None: the characters of the training labels
    log_every_steps: int = Field(20, ge=1)
    eval_every_steps: int = Field(500, ge=1)
    save_every_steps: int = Field(200, ge=1)
    max_bad_fraction: float = Field(0.01, ge=0, le=1)  # more unusable samples than this stop the run
    processes: int = Field(1, ge=1)  # of one training; the batch of a step is so many times Train.batch_size
    fast_cpu: bool = True  # this project's CPU kernels in training; False: Paddle's own


class Architecture(Section):
    """A name from `models.MODELS` and the arguments of that builder, which checks them by its signature."""

    name: str
    args: Dict[str, Union[bool, int, float, str]] = Field(default_factory=dict)


class Loss(Section):
    name: Literal["ctc"] = "ctc"


class Optimizer(Section):
    """AdamW with linear warm-up and cosine decay to `final_lr_ratio * lr`."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    final_lr_ratio: float = Field(0.01, ge=0, le=1)
    warmup_steps: int = Field(200, ge=0)
    weight_decay: float = Field(0.02, ge=0)  # never on biases and normalisation
    clip_norm: float = Field(5.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)  # 0: evaluate and save the raw weights


class PostProcess(Section):
    name: Literal["ctc_greedy"] = "ctc_greedy"


class Metric(Section):
    """The figure by which best/ is kept; lower is better for cer and wer, higher for the others."""

    name: Literal["cer", "wer", "line_accuracy", "edit_similarity", "kalapa_score"] = "cer"


class EvalFile(Section):
    """A label file: a `path<TAB>text` line for each image."""

    path: Path
    image_root: Optional[Path] = None  # None: the label file's folder


class TrainFile(EvalFile):
    """`ratio` of the file's samples are seen in an epoch: 0.5 a fresh half, 3 every one three times."""

    ratio: float = Field(1.0, gt=0)
    writer_folders: bool = True  # the images of a folder are one writer's; False: each image is by a writer of its own


class Augmentation(Section):
    """A transform from `data.augment.TRANSFORMS`, applied with probability `p` at `strength` (1 is the usual)."""

    name: str
    p: float = Field(0.5, ge=0, le=1)
    strength: float = Field(1.0, gt=0, le=3)


class TrainData(Section):
    label_files: List[TrainFile] = Field(min_length=1)
    batch_size: int = Field(32, ge=1)
    workers: int = Field(1, ge=1)  # threads that decode and augment
    cache_mb: float = Field(1000, ge=0)  # memory, of all processes together, for decoded rows
    augment: List[Augmentation] = Field(default_factory=list)


class EvalData(Section):
    label_files: List[EvalFile] = Field(min_length=1)
    batch_size: int = Field(8, ge=1)


class TrainStage(Section):
    stage: Literal["train"]
    epochs: int = Field(ge=1)


class ExportStage(Section):
    stage: Literal["export"]
    formats: List[Literal["paddle", "onnx"]] = Field(default_factory=lambda: ["paddle", "onnx"], min_length=1)
    budget_mb: float = Field(50.0, gt=0)


Stage = Annotated[Union[TrainStage, ExportStage], Field(discriminator="stage")]


@dataclass(frozen=True)
class Origins:
    """Who set what in a config; any two are equal, so that configs are compared by what they say alone.

    Attributes:
        layers: (a file or "-o override", the tree of what it sets); a later one wins over the earlier ones.
    """

    layers: Tuple[Tuple[str, Any], ...] = field(default=(), compare=False)


class Config(Section):
    """One whole config file, resolved: `_BASE_` merged, overrides applied, types checked."""

    _origins: Origins = PrivateAttr(default_factory=Origins)  # for messages: see `loading.locate`

    run: Global = Field(alias="Global")
    architecture: Architecture = Field(alias="Architecture")
    loss: Loss = Field(default_factory=Loss, alias="Loss")
    optimizer: Optimizer = Field(default_factory=Optimizer, alias="Optimizer")
    post_process: PostProcess = Field(default_factory=PostProcess, alias="PostProcess")
    metric: Metric = Field(default_factory=Metric, alias="Metric")
    train: TrainData = Field(alias="Train")
    eval: EvalData = Field(alias="Eval")
    recipe: List[Stage] = Field(min_length=1, alias="Recipe")
