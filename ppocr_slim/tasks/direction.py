"""The direction task: is a line upright, or upside down?"""

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
    """Two classes, upright and upside down. Label files are a recognizer's: their rows are upright, and the task turns
    them itself.
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
        arguments = bind_model(config.architecture.name, config.architecture.args).arguments
        threshold = (config.post_process or DirectionThreshold(name="direction")).thresh
        return Data(ClsSpec(arguments["height"], arguments["width"], threshold), *diagnose_crops(config, progress))

    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingCrops:
        return TrainingCrops(train.samples, self.spec, LoaderSettings.from_config(config, part))

    def outputs(self, model: nn.Layer, batch: CropBatch) -> Outputs:
        """ "features" [N, C] and "logits" [N, 2]."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: CropBatch) -> dict[str, paddle.Tensor]:
        """{"cross_entropy": mean over the crops}, float32."""
        return {"cross_entropy": self.criterion(outputs["logits"], paddle.to_tensor(batch.labels))}

    def predict_and_score(
        self, model: nn.Layer, samples: Sequence[Sample], batch_size: int
    ) -> list[tuple[bool, bool, float]]:
        """(is it upside down, was that told, with what probability) of each row as it is, and then turned."""
        classifier = DirectionClassifier(self.session(model), self.spec)
        samples = [sample for sample in samples if sample.text]  # which way up a blank row is, nobody can tell
        judged = []
        for start in range(0, len(samples), batch_size):
            images = [load_image(sample.path) for sample in samples[start : start + batch_size]]
            both = [picture for image in images for picture in (image, half_turned(image))]
            found = classifier.classify(both, batch_size)
            judged += [(bool(i % 2), one.angle == 180 * (i % 2), one.score) for i, one in enumerate(found)]
        return judged

    def scores(self, judged: Sequence[tuple[bool, bool, float]]) -> DirectionScores:
        return DirectionScores.of(judged, self.spec.threshold)

    @staticmethod
    def as_exported(model: nn.Layer) -> nn.Layer:
        return WithSoftmax(model)
