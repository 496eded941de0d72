"""Contact sheets of the worst pages of a detector and the worst crops of a direction classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.directions import EvaluatedDirection
from ppocr_slim.evaluation.pages import EvaluatedPage, match_lines
from ppocr_slim.folders import replacing
from ppocr_slim.runtime.direction import half_turned
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height
from ppocr_slim.visualize.pages import TILE, scale_to_fit, tiled

LINE_HEIGHT, LINE_WIDTH = 64, 900  # pixels
RED, ORANGE, GREEN, GREY = (30, 30, 220), (0, 140, 255), (60, 160, 40), (150, 150, 150)  # BGR


def page_sheet(pages: Sequence[EvaluatedPage], path: str | Path) -> None:
    """Draw pages side by side: found lines in green, missed in red, wrong boxes in orange, ignored in grey."""
    pictures = []
    for page in pages:
        try:
            picture = load_image(page.sample.path)
        except SlimError:
            picture = np.full((TILE, TILE, 3), 255, np.uint8)
        scale = scale_to_fit(picture)
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        truths, matches = page.sample.outlines, match_lines(page.sample.outlines, page.sample.ignored, page.found)
        ignored = [points for points, ignore in zip(truths, page.sample.ignored) if ignore]
        groups = (
            (GREY, ignored),
            (GREEN, [page.found[j] for _, j in matches.pairs]),
            (RED, [truths[i] for i in matches.missed]),
            (ORANGE, [page.found[j] for j in matches.wrong]),
        )
        for colour, outlines in groups:
            corners = [np.rint(points * scale).astype(np.int32) for points in outlines]
            cv2.polylines(picture, corners, True, colour, 2, cv2.LINE_AA)
        pictures.append(picture)
    _save(tiled(pictures or [np.full((TILE, TILE, 3), 255, np.uint8)]), path)


def direction_sheet(pictures: Sequence[EvaluatedDirection], path: str | Path) -> None:
    """Draw text lines as they were shown, with a red bar where a line would be read upside down, else an orange one."""
    rows = []
    for one in pictures:
        image = load_image(one.path)
        image = half_turned(image) if one.upside_down else image
        image = resize_to_height(image, LINE_HEIGHT, LINE_WIDTH)
        row = np.full((LINE_HEIGHT + 8, LINE_WIDTH + 90, 3), 255, np.uint8)
        row[4:-4, 4:12] = RED if one.harmful else ORANGE
        cv2.putText(row, f"{one.score:.2f}", (20, 44), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 1, cv2.LINE_AA)
        row[4:-4, 80 : 80 + image.shape[1]] = image
        rows.append(row)
    _save(np.vstack(rows or [np.full((LINE_HEIGHT, LINE_WIDTH, 3), 255, np.uint8)]), path)


def _save(picture: np.ndarray, path: str | Path) -> None:
    encoded = cv2.imencode(".png", picture)[1]
    try:
        with replacing(Path(path)) as new:
            new.write_bytes(encoded.tobytes())
    except OSError as error:
        raise SlimError(f"cannot write {path}: {error.strerror or error}") from error
