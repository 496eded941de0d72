"""Labelled pages for tests: white paper, black rectangles, and their label file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np


def box(x: float, y: float, width: float, height: float, text: str = "a") -> dict:
    return {"transcription": text, "points": [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]}


def write_page(path: Path, boxes: list[dict], size=(200, 160)) -> None:
    """A white page of `size` (width, height) with black rectangles for the boxes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = np.full((size[1], size[0], 3), 255, np.uint8)
    for one in boxes:
        cv2.fillPoly(page, [np.rint(one["points"]).astype(np.int32)], (0, 0, 0))
    assert cv2.imwrite(str(path), page)


def write_pages(folder: Path, pages: list[list[dict]], name: str = "train.txt", size=(200, 160)) -> Path:
    lines = []
    for number, boxes in enumerate(pages):
        relative = Path("images") / Path(name).stem / f"{number}.png"
        write_page(folder / relative, boxes, size)
        lines.append(f"{relative}\t{json.dumps(boxes)}\n")
    (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder / name


PAGES = [
    [box(20, 20, 90, 24), box(30, 70, 120, 30)],
    [box(10, 100, 150, 28, "b"), box(40, 20, 60, 30, "###")],
    [box(60, 60, 100, 40)],
    [],
    [box(15, 30, 170, 40), box(15, 100, 80, 26)],
]
