"""Lines cut out of labelled pages."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_row

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.data.line_crops import cut_lines
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.images import load_image


@pytest.fixture
def pages(tmp_path) -> Path:
    """A label file of two pages: two lines, one of which is drawn slanting, an ignored one and a number; and none."""
    row = draw_row("Hà Nội")
    height, width = row.shape[:2]
    page = np.full((400, 500, 3), 230, np.uint8)
    page[20 : 20 + height, 30 : 30 + width] = row
    quad = np.float32([[60, 150], [60 + 200, 130], [64 + 200, 170], [64, 190]])
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    warped = cv2.warpPerspective(row, cv2.getPerspectiveTransform(corners, quad), (500, 400), borderValue=(230,) * 3)
    page = np.minimum(page, warped)
    straight = [[30, 20], [30 + width, 20], [30 + width, 20 + height], [30, 20 + height]]
    boxes = [
        {"transcription": "Hà Nội", "points": straight},
        {"transcription": "Huế", "points": quad.tolist()},
        {"transcription": "###", "points": [[0, 300], [50, 300], [50, 330], [0, 330]]},
        {"transcription": "808", "points": [[0, 340], [50, 340], [50, 370], [0, 370]]},
    ]
    cv2.imwrite(str(tmp_path / "a.png"), page)
    cv2.imwrite(str(tmp_path / "b.png"), page)
    (tmp_path / "pages.txt").write_text(f"a.png\t{json.dumps(boxes)}\nb.png\t[]\n", encoding="utf-8")
    return tmp_path / "pages.txt"


def test_lines_are_cut_upright_and_labelled(pages, tmp_path):
    """Lost otherwise: a recognizer would learn texts from pictures of something else."""
    cut = cut_lines(pages, tmp_path / "lines", letters=1, progress=False)
    assert (cut.lines, cut.left_out) == (2, 2)
    samples, findings = read_label_file(tmp_path / "lines" / "lines.txt")
    assert not findings and [sample.text for sample in samples] == ["Hà Nội", "Huế"]
    row = draw_row("Hà Nội").astype(int)
    first, second = (load_image(sample.path).astype(int) for sample in samples)
    assert np.abs(first - row).mean() < 4  # JPEG
    upright = cv2.resize(second.astype(np.uint8), row.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(upright - row).mean() < 14  # seen through two warps, but nothing of the page around it
    assert cut_lines(pages, tmp_path / "all", progress=False).lines == 3


def test_what_cannot_be_cut_is_one_clear_line_and_leaves_nothing(pages, tmp_path):
    """Lost otherwise: half a set that looks like a whole one."""
    for problem, arguments in (
        ("no line to cut", {"letters": 50}),
        ("is not empty", {"out": tmp_path}),
    ):
        with pytest.raises(SlimError, match=problem):
            cut_lines(pages, arguments.pop("out", tmp_path / "lines"), **arguments, progress=False)
    pages.write_text(pages.read_text(encoding="utf-8") + "c.png\t{}\n", encoding="utf-8")
    with pytest.raises(SlimError, match=r"pages.txt:3: .*correct it"):
        cut_lines(pages, tmp_path / "lines", progress=False)
    pages.write_text(pages.read_text(encoding="utf-8").replace("a.png", "gone.png").rsplit("c.png", 1)[0], "utf-8")
    with pytest.raises(SlimError, match="gone.png"):
        cut_lines(pages, tmp_path / "lines", progress=False)
    assert not list(tmp_path.glob("lines*"))
