"""From a text row's pixels to the network's input; training and every runtime share these four functions."""

from __future__ import annotations

from typing import Optional, Sequence

import cv2
import numpy as np

WIDTH_MULTIPLE = 32  # pixels; 8 time steps of the recognizer
WIDTH_STRIDE = 4  # input columns that an output step of a recognizer stands for


def resize_to_height(image: np.ndarray, height: int, max_width: Optional[int] = None) -> np.ndarray:
    """Scale [h, w, 3] uint8 to [height, w', 3] uint8 with w' = max(1, round(w * height / h)).

    The aspect ratio is kept up to `max_width`; what is longer is squeezed rather than cut, so that no text is
    lost.
    """
    rows, columns = image.shape[:2]
    width = max(1, round(columns * height / rows))
    if max_width is not None:
        width = min(width, max_width)
    if (rows, columns) == (height, width):
        return image
    shrinks = height < rows or width < columns
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


# (x / 255 - 0.5) / 0.5, PaddleOCR's for text rows, of every value: looking up is four times as fast as computing
NORMALIZED = np.arange(256, dtype=np.float32) * np.float32(1 / 127.5) - np.float32(1)


def padded_width(width: int) -> int:
    """The next width in pixels that is a multiple of `WIDTH_MULTIPLE`."""
    return -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def steps_for_width(width: int) -> int:
    """Output steps T of a recognizer for an image of `width` columns."""
    return -(-width // WIDTH_STRIDE)


def to_batch(images: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Rows [H, w_i, 3] uint8 of one height, w_i <= width -> [N, 3, H, width] float32 in -1 to 1, zeros at the right."""
    height = images[0].shape[0]
    batch = np.zeros((len(images), 3, height, width), np.float32)
    for row, image in zip(batch, images):
        for plane, channel in zip(row, cv2.split(image)):
            plane[:, : image.shape[1]] = cv2.LUT(channel, NORMALIZED)
    return batch
