"""What a kind of network is for. The recipe, the loop and the slimming steps know tasks by these methods alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import paddle
from paddle import nn

from ppocr_slim.config.schema import Config, Section
from ppocr_slim.data.batches import TrainingData
from ppocr_slim.data.doctor import Diagnosis
from ppocr_slim.runtime.specs import Spec

Outputs = dict[str, paddle.Tensor]
SpecT = TypeVar("SpecT", bound=Spec)


class Data(NamedTuple):
    """What a config's network takes and gives, and the diagnoses of its training and evaluation data."""

    spec: Any
    train: Diagnosis
    evaluation: Diagnosis


class Task(ABC, Generic[SpecT]):
    """Loss, data and figures of one kind of network.

    Attributes:
        loss_name, post_process, metrics: what a config's sections Loss, PostProcess and Metric may name; the first
            metric is the one that best/ is kept by unless the config names another.
        augmentations: of `data.augment.TRANSFORMS`, those that make sense here.
        spec: what the network takes and gives.
        criterion: the layer by which `loss` is computed.
    """

    loss_name: ClassVar[str]
    post_process: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    augmentations: ClassVar[tuple[str, ...]]
    criterion: nn.Layer

    def __init__(self, spec: SpecT, loss: Section | None = None):
        self.spec = spec

    @staticmethod
    @abstractmethod
    def prepare_data(config: Config, pretrained: Callable[[], Spec] | None, progress: bool = True) -> Data:
        """What a training will use; every image is decoded. `pretrained` gives the spec of Global.pretrained.

        Raises SlimError where a label file or the dictionary cannot be used.
        """

    @abstractmethod
    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingData:
        """The batches of the part (k, n) of n processes."""

    @abstractmethod
    def outputs(self, model: nn.Layer, batch: Any) -> Outputs:
        """What the network makes of a batch, by name."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """Losses by name, float32 scalars; their sum is trained."""

    @abstractmethod
    def predict_and_score(self, model: nn.Layer, samples: Sequence[Any], batch_size: int) -> list[Any]:
        """How the network does on each sample: plain values, which `scores` adds up in any number of processes."""

    @abstractmethod
    def scores(self, judged: Sequence[Any]) -> Any:
        """The figures (a dataclass) of all that was judged; `metrics` are among its fields."""

    def session(self, model: nn.Layer) -> Callable:
        """The network as the runtime sees it, float32 arrays in and out, in evaluation mode while it works."""

        def run(images):
            was_training = model.training
            model.eval()
            try:
                with paddle.no_grad():
                    return self.as_exported(model)(paddle.to_tensor(images)).numpy()
            finally:
                if was_training:
                    model.train()

        return run

    @staticmethod
    def as_exported(model: nn.Layer) -> nn.Layer:
        """A layer around the network whose output is what bundles give."""
        return model


class WithSoftmax(nn.Layer):
    """The network with probabilities as its output."""

    def __init__(self, network: nn.Layer):
        super().__init__()
        self.network = network

    def forward(self, x):
        return nn.functional.softmax(self.network(x), axis=-1)
