"""The detection task: what DB's maps of a batch of pages cost, and how a network finds lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import paddle
from paddle import nn

from ppocr_slim.config.schema import Config, Db, DbBoxes
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.doctor import Diagnosis, diagnose_pages
from ppocr_slim.data.page_labels import PageSample
from ppocr_slim.data.pages import PageBatch, TrainingPages
from ppocr_slim.evaluation.hmean import Found, score_page
from ppocr_slim.evaluation.metrics import PageScores
from ppocr_slim.runtime.boxes import BoxSettings
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.specs import DetSpec, Spec
from ppocr_slim.tasks.db_loss import DBLoss
from ppocr_slim.tasks.task import Data, Outputs, Task

CROP = 640  # pixels; the side of what is trained on, unless the config says another


class DetectionTask(Task[DetSpec]):
    """Differentiable binarization (Liao et al. 2020, arXiv:1911.08947)."""

    loss_name, post_process = "db", "db"
    metrics = ("hmean", "precision", "recall")
    augmentations = ("color", "blur", "noise")

    def __init__(self, spec: DetSpec, loss: Db | None = None):
        super().__init__(spec, loss)
        loss = loss or Db(name="db")
        self.criterion = DBLoss(loss.alpha, loss.beta, loss.ohem_ratio)

    @staticmethod
    def prepare_data(config: Config, pretrained: Callable[[], Spec] | None, progress: bool = True) -> Data:
        boxes = config.post_process or DbBoxes(name="db")
        settings = BoxSettings(
            threshold=boxes.thresh,
            box_threshold=boxes.box_thresh,
            unclip_ratio=boxes.unclip_ratio,
            shrink_ratio=boxes.shrink_ratio,
            min_size=boxes.min_size,
            max_candidates=boxes.max_candidates,
            polygons=boxes.polygons,
        )
        return Data(DetSpec(boxes.longer_side, settings), *diagnose_pages(config, progress))

    def training_data(self, config: Config, train: Diagnosis, part: tuple[int, int]) -> TrainingPages:
        loader = LoaderSettings.from_config(config, part)
        return TrainingPages(train.samples, self.spec, config.train.crop or CROP, loader)

    def outputs(self, model: nn.Layer, batch: PageBatch) -> Outputs:
        """ "maps" [N, 3, H, W] and what they were made from (`DB.outputs`)."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: PageBatch) -> dict[str, paddle.Tensor]:
        """The three terms of `DBLoss`."""
        maps = (batch.shrink, batch.shrink_mask, batch.threshold, batch.threshold_mask)
        return self.criterion(outputs["maps"], *map(paddle.to_tensor, maps))

    def predict_and_score(
        self, model: nn.Layer, samples: Sequence[PageSample], batch_size: int
    ) -> list[tuple[int, int, int]]:
        """The numbers of `Found` of each page; pages have sizes of their own, so they come one by one."""
        detector = Detector(self.session(model), self.spec)
        judged = []
        for sample in samples:
            found = [box.points for box in detector.detect(load_image(sample.path))]
            page = score_page(sample.outlines, sample.ignored, found)
            judged.append((page.matched, page.truths, page.detections))
        return judged

    def scores(self, judged: Sequence[tuple[int, int, int]]) -> PageScores:
        return PageScores.of(sum((Found(*page) for page in judged), Found()), len(judged))
