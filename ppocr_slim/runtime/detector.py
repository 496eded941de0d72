"""Finding the lines of text on a page."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Union

import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.backends import Session, open_session
from ppocr_slim.runtime.boxes import Box, find_boxes, reading_order
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.runtime.preprocess import pages_to_batch, resize_page
from ppocr_slim.runtime.specs import DetSpec


class Detector:
    """Finds text with any session that gives DB's probability map: an exported bundle's or a checkpoint's."""

    def __init__(self, session: Session, spec: DetSpec):
        self.session = session
        self.spec = spec

    @classmethod
    def from_bundle(
        cls,
        folder: Union[str, Path],
        backend: str = "onnxruntime",
        threads: Optional[int] = None,
        precision: str = "auto",
    ) -> Detector:
        """Open an exported bundle (see `open_session`); SlimError where it is damaged or not a detector's."""
        bundle = read_bundle(folder)
        if not isinstance(bundle.spec, DetSpec):
            raise SlimError(f"{folder} holds a {bundle.spec.task} bundle: text is found with a det one")
        return cls(open_session(bundle, backend, threads, precision), bundle.spec)

    def detect(self, image: np.ndarray) -> List[Box]:
        """The boxes of a page [H, W, 3] uint8 BGR, in its pixels and in reading order; empty where it has no text.

        The network sees the page at `spec.longer_side` at most; the boxes are scaled back, each side by itself.
        """
        probability = self.session(pages_to_batch([resize_page(image, self.spec.longer_side)]))[0, 0]
        height, width = image.shape[:2]
        return reading_order(find_boxes(probability, (height, width), self.spec.boxes))
