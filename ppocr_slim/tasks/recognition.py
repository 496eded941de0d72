"""The recognition task: text lines, CTC loss and error rates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import paddle
from paddle import nn

from ppocr_slim.config.schema import Config, Ctc
from ppocr_slim.data.augment import TRANSFORMS
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.doctor import Diagnosis, Read, config_charset, diagnose_lines, time_steps_for_height
from ppocr_slim.data.labels import Sample, read_label_file
from ppocr_slim.data.lines import Batch, TrainingLines
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.evaluation.metrics import Scores, score_lines
from ppocr_slim.models import bind_model
from ppocr_slim.runtime.preprocess import time_steps_for_width
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.task import Data, Outputs, Task, WithSoftmax


class RecognitionTask(Task[RecSpec]):
    """Text recognition with CTC (Graves et al. 2006); class 0 is the blank."""

    loss_name, post_process = "ctc", "ctc_greedy"
    metrics = ("cer", "wer", "line_accuracy", "edit_similarity", "kalapa_score")
    augmentations = tuple(TRANSFORMS)

    def __init__(self, spec: RecSpec, loss: Ctc | None = None):
        super().__init__(spec, loss)
        self.charset = Charset(spec.characters)
        self.criterion = nn.CTCLoss(blank=0)

    @staticmethod
    def prepare_data(config: Config, pretrained: Callable[[], RecSpec] | None, progress: bool = True) -> Data:
        """Check the text lines of a config, whose labels must fit into the time steps of its network."""
        height = bind_model(config.architecture.name, config.architecture.args).arguments["height"]
        read = functools.cache(read_label_file)  # for the characters, and for the samples
        charset = choose_charset(config, pretrained, read)
        found = diagnose_lines(config, charset, time_steps_for_height(height), progress, read)
        return Data(RecSpec(height, charset.classes), *found)

    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingLines:
        """Return the training lines of one process, in batches."""
        loader = LoaderSettings.from_config(config, part)
        return TrainingLines(train.samples, self.charset, self.spec.height, time_steps_for_width, loader)

    def outputs(self, model: nn.Layer, batch: Batch) -> Outputs:
        """Return "logits" [N, T, K] and the features that they are computed from (`CRNN.outputs`)."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return "ctc": the CTC loss per character, averaged over the text lines."""
        logits = outputs["logits"].transpose([1, 0, 2])  # [T, N, K]; ctc_loss applies the softmax
        time_steps = paddle.full([logits.shape[1]], logits.shape[0], dtype="int64")
        labels, lengths = paddle.to_tensor(batch.labels), paddle.to_tensor(batch.lengths)
        return {"ctc": self.criterion(logits, labels, time_steps, lengths)}

    def predict_and_score(self, model: nn.Layer, samples: Sequence[Sample], batch_size: int) -> list[tuple[str, str]]:
        """Return (reference, reading) of each text line."""
        lines = evaluate(self.recognizer(model), samples, batch_size).lines if samples else ()
        return [(line.reference, line.reading) for line in lines]

    def scores(self, results: Sequence[tuple[str, str]]) -> Scores:
        """Return the error rates of the readings."""
        return score_lines(*zip(*results))

    @staticmethod
    def as_exported(model: nn.Layer) -> nn.Layer:
        """Wrap the network so that it outputs probabilities, as in a bundle."""
        return WithSoftmax(model)

    def recognizer(self, model: nn.Layer) -> Recognizer:
        """Return a recognizer that runs the network, with the runtime's own pre- and post-processing."""
        return Recognizer(self.session(model), self.spec)


def choose_charset(
    config: Config, pretrained: Callable[[], RecSpec] | None = None, read: Read = read_label_file
) -> Charset:
    """Choose the dictionary: the config's; else that of Global.pretrained if it covers the labels; else the labels'.

    Args:
        config: of a training.
        pretrained: returns the spec of Global.pretrained; None without it.
        read: reads a label file.
    """
    charset = config_charset(config, read)
    if config.run.character_dict_path is not None or pretrained is None:
        return charset
    spec = pretrained()
    if not isinstance(spec, RecSpec):
        return charset  # the training reports that it cannot start from there
    known = Charset(spec.characters)
    return known if set(charset.characters) <= set(known.characters) else charset
