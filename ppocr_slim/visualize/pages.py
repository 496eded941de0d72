"""Visualization of pages with detected boxes and recognized text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import replacing
from ppocr_slim.runtime.boxes import UPRIGHT
from ppocr_slim.runtime.pipeline import PageReading
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.visualize.fonts import FONT_FILE

LONGER_SIDE = 1800  # pixels of a drawn page
TILE, COLUMNS = 640, 4  # of a contact sheet: pixels, tiles side by side
FOUND, EMPTY, PALE, INK = (40, 120, 20), (150, 150, 150), (215, 230, 210), (20, 20, 20)  # BGR


def reading_picture(image: np.ndarray, reading: PageReading) -> np.ndarray:
    """Draw a page with its boxes, and beside it the recognized texts at their places.

    Boxes without text are grey. A page with a side of more than 1800 pixels is scaled down.

    Args:
        image: [H, W, 3] uint8 BGR.

    Returns:
        Page and texts side by side, [H, W, 3] uint8 BGR.
    """
    page, scale = _drawable(image)
    texts = np.full_like(page, 255)
    for line in reading.dropped:
        _outline(page, _corners(line) * scale, EMPTY)
    for line in reading.lines:
        corners = _corners(line) * scale
        _outline(page, corners, FOUND)
        _outline(texts, corners, PALE)
        _write(texts, line, corners)
    gap = np.full((page.shape[0], 8, 3), 128, np.uint8)
    return np.hstack([page, gap, texts])


def boxes_picture(image: np.ndarray, outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Return the page [H, W, 3] uint8 BGR with outlines [P, 2] in its pixels drawn on it, numbered from 1."""
    page, scale = _drawable(image)
    for number, points in enumerate(outlines, 1):
        _outline(page, points * scale, FOUND)
        x, y = np.rint(points[0] * scale).astype(int)
        cv2.putText(page, str(number), (max(0, x - 4), max(10, y - 3)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, FOUND, 1)
    return page


def scale_to_fit(picture: np.ndarray, side: int = TILE) -> float:
    """Return the factor by which a picture [H, W, 3] fits into a square tile of `side` pixels with a narrow margin."""
    return (side - 8) / max(picture.shape[:2])


def tiled(pictures: Sequence[np.ndarray], side: int = TILE, columns: int = COLUMNS) -> np.ndarray:
    """Return a contact sheet: pictures scaled into square tiles on grey.

    Args:
        pictures: one or more, each [H, W, 3] uint8 BGR.
        side: of a tile, in pixels.
        columns: maximum number of tiles side by side.

    Returns:
        [H, W, 3] uint8 BGR.
    """
    tiles = []
    for picture in pictures:
        scale = scale_to_fit(picture, side)
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        below, right = side - picture.shape[0], side - picture.shape[1]
        tiles.append(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(90, 90, 90)))
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 90)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[at : at + columns]) for at in range(0, len(tiles), columns)])


class PictureFolder:
    """A folder of drawn pages with unique names, whatever folders and documents they come from.

    Args:
        folder: the folder.
        spared: files that are never overwritten, such as the inputs.
    """

    def __init__(self, folder: Path, spared: Sequence[Path] = ()):
        self.folder = folder
        self._taken: set[str] = {_same_name(path.resolve()) for path in spared}

    def save(self, source: Path, page: int | None, picture: np.ndarray) -> Path:
        """Write the drawing of a page as JPEG.

        page.jpg becomes page.jpg.read.jpg, page 3 of scan.pdf becomes scan.pdf.3.read.jpg, and page.jpg of another
        folder page.jpg-2.read.jpg.

        Args:
            source: the file that the page is from.
            page: its number in the document; None for an image.
            picture: [H, W, 3] uint8 BGR.

        Returns:
            The path.

        Raises:
            SlimError: the file cannot be written.
        """
        stem = source.name if page is None else f"{source.name}.{page}"
        path = self.folder / f"{stem}.read.jpg"
        number = 2
        while _same_name(path.resolve()) in self._taken:
            path = self.folder / f"{stem}-{number}.read.jpg"
            number += 1
        self._taken.add(_same_name(path.resolve()))
        with replacing(path) as new:
            Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).save(new, format="JPEG", quality=85)
        return path


def _same_name(path: Path) -> str:
    """Return a key that is equal for paths that are one file on case-insensitive file systems."""
    return str(path).lower()


def _drawable(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a copy of the page to draw on, and its scale."""
    height, width = image.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    if scale >= 1:
        return image.copy(), 1.0
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _corners(line: TextLine) -> np.ndarray:
    if line.box is None:
        raise SlimError(f"the line {line.text!r} has no box: it cannot be drawn")
    return np.array(line.box, np.float32)


def _outline(canvas: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    cv2.polylines(canvas, [np.rint(points).astype(np.int32)], True, colour, 2, cv2.LINE_AA)


def _write(canvas: np.ndarray, line: TextLine, corners: np.ndarray) -> None:
    """Draw the text of a line into its box: the inverse of the crop for recognition (`boxes.rectify`)."""
    quad = corners
    width, height = _sides(quad)
    if height >= UPRIGHT * width:  # vertical text
        quad = np.roll(quad, -1, axis=0)
        width, height = height, width
    if line.direction == 180:
        quad = np.roll(quad, -2, axis=0)
    tile = _tile(line.text, max(4, round(width)), max(4, round(height)))
    left, top = np.floor(quad.min(axis=0)).astype(int)
    right, bottom = np.ceil(quad.max(axis=0)).astype(int) + 1
    left, top = max(0, left), max(0, top)
    right, bottom = min(canvas.shape[1], right), min(canvas.shape[0], bottom)
    if right <= left or bottom <= top:
        return
    tile_height, tile_width = tile.shape
    place = np.array([[0, 0], [tile_width, 0], [tile_width, tile_height], [0, tile_height]], np.float32)
    warp = cv2.getPerspectiveTransform(place, (quad - [left, top]).astype(np.float32))
    ink = cv2.warpPerspective(tile, warp, (int(right - left), int(bottom - top)), flags=cv2.INTER_AREA)
    part = canvas[top:bottom, left:right]
    alpha = ink[:, :, None].astype(np.float32) / 255
    part[:] = np.rint(part * (1 - alpha) + np.array(INK, np.float32) * alpha).astype(np.uint8)


def _sides(quad: np.ndarray) -> list[float]:
    """Return [width, height] in pixels: the longer one of each two opposite sides."""
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    return [float(max(sides[i], sides[i + 2])) for i in (0, 1)]


def _tile(text: str, width: int, height: int) -> np.ndarray:
    """Return an image [height, width] uint8 of the text, as large as it fits; 255 is ink."""
    size = max(4, round(height * 0.72))
    long = _font(size).getlength(text)
    if long > width:
        size = max(4, int(size * width / long))
    tile = Image.new("L", (width, height))
    ImageDraw.Draw(tile).text((0, height / 2), text, fill=255, font=_font(size), anchor="lm")
    return np.asarray(tile)


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT_FILE), size)
