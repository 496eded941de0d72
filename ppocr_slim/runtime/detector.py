"""The detector: the text lines of a page."""

from __future__ import annotations

import numpy as np

from ppocr_slim.runtime.boxes import Box, find_boxes, reading_order
from ppocr_slim.runtime.network import Network
from ppocr_slim.runtime.preprocess import pages_to_batch, resize_page
from ppocr_slim.runtime.specs import DetSpec


class Detector(Network[DetSpec]):
    """A detector behind any session that returns DB's probability map: an exported bundle's or a checkpoint's."""

    spec_type, purpose = DetSpec, "text is found"

    def detect(self, image: np.ndarray) -> list[Box]:
        """Return the boxes of a page in reading order.

        The network sees the page scaled down to `spec.longer_side`; the boxes are scaled back, each side by itself.

        Args:
            image: [H, W, 3] uint8 BGR.

        Returns:
            Boxes in pixels of the page; none where it has no text.
        """
        probability = self.session(pages_to_batch([resize_page(image, self.spec.longer_side)]))[0, 0]
        height, width = image.shape[:2]
        return reading_order(find_boxes(probability, (height, width), self.spec.boxes))
