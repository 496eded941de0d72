"""Pre-processing: from pixels to the networks' inputs. Training and every runtime share these functions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

WIDTH_MULTIPLE = 32  # pixels; 8 time steps of the recognizer
WIDTH_STRIDE = 4  # input columns of one time step of a recognizer's output
PAGE_MULTIPLE = 32  # pixels; a detector halves its input five times


def resize_to_height(image: np.ndarray, height: int, max_width: int | None = None) -> np.ndarray:
    """Scale an image to a height and keep its aspect ratio.

    Args:
        image: [h, w, 3] uint8.
        height: of the result, pixels.
        max_width: pixels; a wider result is squeezed to it rather than cut, so that no text is lost.

    Returns:
        [height, w', 3] uint8 with w' = max(1, round(w * height / h)), at most `max_width`.
    """
    rows, columns = image.shape[:2]
    width = max(1, round(columns * height / rows))
    if max_width is not None:
        width = min(width, max_width)
    if (rows, columns) == (height, width):
        return image
    shrinks = height < rows or width < columns
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


# (x / 255 - 0.5) / 0.5 of every value, as PaddleOCR has it for text lines: a table is four times as fast as computing
NORMALIZED = np.arange(256, dtype=np.float32) * np.float32(1 / 127.5) - np.float32(1)

# (x / 255 - mean) / std for the planes B, G, R of a page. The numbers are ImageNet's for R, G, B: PaddleOCR's
# detectors take them in this order.
PAGE_MEAN, PAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAGE_NORMALIZED = tuple(
    ((np.arange(256) / 255 - mean) / std).astype(np.float32) for mean, std in zip(PAGE_MEAN, PAGE_STD)
)


def padded_width(width: int) -> int:
    """Return the next width in pixels that is a multiple of `WIDTH_MULTIPLE`."""
    return -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def time_steps_for_width(width: int) -> int:
    """Return the number T of time steps that a recognizer has for an image of `width` columns."""
    return -(-width // WIDTH_STRIDE)


def to_batch(images: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Normalize text lines or crops of one height and pad them to a batch.

    Args:
        images: [H, w_i, 3] uint8 each, w_i <= width.
        width: of the batch, pixels.

    Returns:
        [N, 3, H, width] float32 from -1 to 1, with zeros at the right.
    """
    height = images[0].shape[0]
    batch = np.zeros((len(images), 3, height, width), np.float32)
    for planes, image in zip(batch, images):
        for plane, channel in zip(planes, cv2.split(image)):
            plane[:, : image.shape[1]] = cv2.LUT(channel, NORMALIZED)
    return batch


def line_input(line: np.ndarray) -> np.ndarray:
    """Return a line [H, w, 3] uint8 as a batch of its own for the recognizer: [1, 3, H, `padded_width`] float32."""
    return to_batch([line], padded_width(line.shape[1]))


def median_line(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Return the line [H, w, 3] of median width, on which latencies are measured."""
    return sorted(lines, key=lambda line: line.shape[1])[len(lines) // 2]


def page_size(height: int, width: int, longer_side: int) -> tuple[int, int]:
    """Return the (height, width) at which a detector sees a page, as PaddleOCR computes it.

    The longer side is scaled down to `longer_side`, never up, and each side is rounded to a multiple of 32, at least
    32.
    """
    scale = min(1.0, longer_side / max(height, width))
    rows, columns = (
        max(PAGE_MULTIPLE, round(int(side * scale) / PAGE_MULTIPLE) * PAGE_MULTIPLE) for side in (height, width)
    )
    return rows, columns


def resize_page(image: np.ndarray, longer_side: int) -> np.ndarray:
    """Scale a page [h, w, 3] uint8 to its `page_size`, each side by itself, so that the map covers the whole page."""
    height, width = image.shape[:2]
    rows, columns = page_size(height, width, longer_side)
    if (rows, columns) == (height, width):
        return image
    # Photographs shrink several times: without the mean over an area, thin strokes would be lost.
    shrinks = rows * columns < height * width
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def pages_to_batch(pages: Sequence[np.ndarray]) -> np.ndarray:
    """Normalize pages of one size to a batch, as PaddleOCR's detectors expect it.

    Args:
        pages: [H, W, 3] uint8 BGR each.

    Returns:
        [N, 3, H, W] float32.
    """
    batch = np.empty((len(pages), 3, *pages[0].shape[:2]), np.float32)
    for planes, page in zip(batch, pages):
        for plane, channel, table in zip(planes, cv2.split(page), PAGE_NORMALIZED):
            plane[:] = cv2.LUT(channel, table)
    return batch
