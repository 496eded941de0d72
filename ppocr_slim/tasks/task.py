"""The interface of a task: all that the recipe, the training loop and the slimming techniques know of one."""

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
    """The data of a config.

    Attributes:
        spec: input and output of the config's network.
        train: diagnosis of the training data.
        evaluation: diagnosis of the evaluation data.
    """

    spec: Any
    train: Diagnosis
    evaluation: Diagnosis


class Task(ABC, Generic[SpecT]):
    """Loss, data and metrics of one kind of network.

    Args:
        spec: the network's.
        loss: the config's section Loss; None for its defaults.

    Attributes:
        loss_name: allowed in a config's section Loss.
        post_process: allowed in a config's section PostProcess.
        metrics: allowed in a config's section Metric; the first is the one that selects best/ by default.
        augmentations: those of `data.augment.TRANSFORMS` that suit the task.
        spec: input and output of the network.
        criterion: the layer that computes the loss.
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
        """Check the data of a config; every image is decoded.

        Args:
            config: of a training.
            pretrained: returns the spec of Global.pretrained; None without it.
            progress: whether to show a progress bar.

        Returns:
            The network's spec and the diagnoses of the data.

        Raises:
            SlimError: a label file or the dictionary cannot be used.
        """

    @abstractmethod
    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingData:
        """Return the training batches of one process.

        Args:
            config: of a training.
            train: diagnosis of the training data.
            part: the process's number and the number of processes.
        """

    @abstractmethod
    def outputs(self, model: nn.Layer, batch: Any) -> Outputs:
        """Run the network on a batch and return its outputs by name."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """Return the losses by name, float32 scalars; their sum is minimized."""

    @abstractmethod
    def predict_and_score(self, model: nn.Layer, samples: Sequence[Any], batch_size: int) -> list[Any]:
        """Run the network on samples and score each prediction.

        Args:
            model: the network.
            samples: evaluation samples of the task.
            batch_size: how many are run at once.

        Returns:
            One or more results for each sample: plain values, which can be collected from several processes, and which
            `scores` adds up.
        """

    @abstractmethod
    def scores(self, results: Sequence[Any]) -> Any:
        """Return the metrics, a dataclass, of the results of `predict_and_score`; `metrics` are among its fields."""

    def session(self, model: nn.Layer) -> Callable:
        """Return a function that runs the network as a bundle's engine does.

        It takes and returns float32 arrays, and the network is in evaluation mode while it runs.
        """

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
        """Wrap the network so that its output is that of a bundle."""
        return model


class WithSoftmax(nn.Layer):
    """A network followed by a softmax: outputs probabilities."""

    def __init__(self, network: nn.Layer):
        super().__init__()
        self.network = network

    def forward(self, x):
        return nn.functional.softmax(self.network(x), axis=-1)
