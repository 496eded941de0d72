"""The detection task: finding text lines on pages by differentiable binarization."""

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

CROP = 640  # pixels; side of the training crops, unless the config says otherwise


class DetectionTask(Task[DetSpec]):
    """Text detection by differentiable binarization (DB, Liao et al. 2020, arXiv:1911.08947)."""

    loss_name, post_process = "db", "db"
    metrics = ("hmean", "precision", "recall")
    augmentations = ("color", "blur", "noise")

    def __init__(self, spec: DetSpec, loss: Db | None = None):
        super().__init__(spec, loss)
        loss = loss or Db(name="db")
        self.criterion = DBLoss(loss.alpha, loss.beta, loss.ohem_ratio)

    @staticmethod
    def prepare_data(config: Config, pretrained: Callable[[], Spec] | None, progress: bool = True) -> Data:
        """Check the pages of a config."""
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
        """Return the training crops of one process, in batches."""
        loader = LoaderSettings.from_config(config, part)
        return TrainingPages(train.samples, self.spec, config.train.crop or CROP, loader)

    def outputs(self, model: nn.Layer, batch: PageBatch) -> Outputs:
        """Return "maps" [N, 3, H, W] and the features that they are computed from (`DB.outputs`)."""
        return model.outputs(paddle.to_tensor(batch.image))

    def loss(self, outputs: Outputs, batch: PageBatch) -> dict[str, paddle.Tensor]:
        """Return the three terms of `DBLoss`."""
        maps = (batch.shrink, batch.shrink_mask, batch.threshold, batch.threshold_mask)
        return self.criterion(outputs["maps"], *map(paddle.to_tensor, maps))

    def predict_and_score(
        self, model: nn.Layer, samples: Sequence[PageSample], batch_size: int
    ) -> list[tuple[int, int, int]]:
        """Return the counts of `Found` of each page; pages differ in size, so they are run one by one."""
        detector = Detector(self.session(model), self.spec)
        results = []
        for sample in samples:
            found = [box.points for box in detector.detect(load_image(sample.path))]
            page = score_page(sample.outlines, sample.ignored, found)
            results.append((page.matched, page.truths, page.detections))
        return results

    def scores(self, results: Sequence[tuple[int, int, int]]) -> PageScores:
        """Return precision, recall and H-mean of the pages."""
        return PageScores.of(sum((Found(*page) for page in results), Found()), len(results))
