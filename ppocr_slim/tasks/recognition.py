"""The recognition task: what a batch costs, and how a network reads rows."""

from __future__ import annotations

from typing import Dict

import numpy as np
import paddle
from paddle.nn import functional

from ppocr_slim.data.charset import Charset
from ppocr_slim.data.rows import Batch
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import RecSpec

Outputs = Dict[str, paddle.Tensor]


class RecognitionTask:
    """CTC (Graves et al. 2006) over the time steps of a text-line network, whose class 0 is the blank."""

    def __init__(self, charset: Charset, height: int):
        self.charset = charset
        self.spec = RecSpec(height=height, classes=charset.classes)
        self.criterion = paddle.nn.CTCLoss(blank=0)

    def outputs(self, model: paddle.nn.Layer, batch: Batch) -> Outputs:
        """What the network makes of a batch: "logits" [N, T, K] and what it made them from (`CRNN.outputs`)."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: Batch) -> Dict[str, paddle.Tensor]:
        """{"ctc": mean over rows of the CTC loss per character}, float32."""
        logits = outputs["logits"].transpose([1, 0, 2])  # [T, N, K]; ctc_loss applies the softmax
        steps = paddle.full([logits.shape[1]], logits.shape[0], dtype="int64")
        labels, lengths = paddle.to_tensor(batch.labels), paddle.to_tensor(batch.lengths)
        return {"ctc": self.criterion(logits, labels, steps, lengths)}

    def recognizer(self, model: paddle.nn.Layer) -> Recognizer:
        """`model`, in evaluation mode while it reads, behind the runtime's own pre- and post-processing."""

        def session(images: np.ndarray) -> np.ndarray:
            was_training = model.training
            model.eval()
            try:
                with paddle.no_grad():
                    return functional.softmax(model(paddle.to_tensor(images)), axis=-1).numpy()
            finally:
                if was_training:
                    model.train()

        return Recognizer(session, self.spec)
