"""The direction task: classifying text lines as upright or upside down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import paddle
from paddle import nn

from ppocr_slim.config.schema import Config, CrossEntropy, DirectionThreshold
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.directions import CropBatch, TrainingCrops
from ppocr_slim.data.doctor import Diagnosis, diagnose_crops
from ppocr_slim.data.labels import Sample
from ppocr_slim.evaluation.metrics import DirectionScores
from ppocr_slim.models import bind_model
from ppocr_slim.runtime.direction import DirectionClassifier, half_turned
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.specs import ClsSpec, Spec
from ppocr_slim.tasks.task import Data, Outputs, Task, WithSoftmax


class DirectionTask(Task[ClsSpec]):
    """Classification of text lines: upright (0) and upside down (1).

    Label files are those of a recognizer: their lines are upright, and the task turns them itself.
    """

    loss_name, post_process = "cross_entropy", "direction"
    metrics = ("accuracy",)
    augmentations = (
        "color", "blur", "noise", "pen", "perspective", "distort", "squeeze", "rescale", "trim", "erase",
        "rand_augment",
    )  # fmt: skip

    def __init__(self, spec: ClsSpec, loss: CrossEntropy | None = None):
        super().__init__(spec, loss)
        self.criterion = nn.CrossEntropyLoss()

    @staticmethod
    def prepare_data(config: Config, pretrained: Callable[[], Spec] | None, progress: bool = True) -> Data:
        """Check the text lines of a config."""
        arguments = bind_model(config.architecture.name, config.architecture.args).arguments
        threshold = (config.post_process or DirectionThreshold(name="direction")).thresh
        return Data(ClsSpec(arguments["height"], arguments["width"], threshold), *diagnose_crops(config, progress))

    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingCrops:
        """Return the training crops of one process, in batches."""
        return TrainingCrops(train.samples, self.spec, LoaderSettings.from_config(config, part))

    def outputs(self, model: nn.Layer, batch: CropBatch) -> Outputs:
        """Return "features" [N, C] and "logits" [N, 2]."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: CropBatch) -> dict[str, paddle.Tensor]:
        """Return "cross_entropy", averaged over the crops."""
        return {"cross_entropy": self.criterion(outputs["logits"], paddle.to_tensor(batch.labels))}

    def predict_and_score(
        self, model: nn.Layer, samples: Sequence[Sample], batch_size: int
    ) -> list[tuple[bool, bool, float]]:
        """Return (is it upside down, is the prediction right, its score) of each line as it is, and then turned."""
        classifier = DirectionClassifier(self.session(model), self.spec)
        samples = [sample for sample in samples if sample.text]  # a blank line has no direction
        results = []
        for start in range(0, len(samples), batch_size):
            images = [load_image(sample.path) for sample in samples[start : start + batch_size]]
            both = [picture for image in images for picture in (image, half_turned(image))]
            found = classifier.classify(both, batch_size)
            results += [(bool(i % 2), one.angle == 180 * (i % 2), one.score) for i, one in enumerate(found)]
        return results

    def scores(self, results: Sequence[tuple[bool, bool, float]]) -> DirectionScores:
        """Return the accuracy, and the rates of both kinds of errors at the spec's threshold."""
        return DirectionScores.of(results, self.spec.threshold)

    @staticmethod
    def as_exported(model: nn.Layer) -> nn.Layer:
        """Wrap the network so that it outputs probabilities, as in a bundle."""
        return WithSoftmax(model)
