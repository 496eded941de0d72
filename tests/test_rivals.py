"""Other people's runtimes load our files and read what we read: RapidOCR our ONNX, PaddleOCR 2.x our Paddle files.

Both need packages that do not get along with ours, so they have an environment of their own; without it the tests are
skipped, and say how to make it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawing import draw_row

from ppocr_slim.benchmarks.worker import Worker, paddleocr_options, rapidocr_options
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import score_page
from ppocr_slim.folders import ROOT
from ppocr_slim.runtime.bundle import PRETRAINED, read_bundle, shipped

TEXTS = ("Số 15 Đường Nguyễn Huệ, Quận 1", "Thôn 7 Xã Ea Kar", "Ấp Mỹ Thạnh Tp Cần Thơ", "Tổ 3 Hải Dương")
PYTHON = os.environ.get("RIVALS_PYTHON", str(ROOT / ".venv-rivals" / "bin" / "python"))
HOW = "make rivals (or RIVALS_PYTHON=path/to/python of an environment that has requirements-rivals.txt)"
RIVALS = {"rapidocr": "rapidocr_onnxruntime", "paddleocr": "paddleocr"}
# Engines resize and pad by rules of their own; of boxes that both find nearly all have more than half in common.
LEAST_HMEAN = 0.9


def require_bundles() -> dict[str, Path]:
    try:
        return {task: shipped(task) for task in ("det", "cls", "rec")}
    except SlimError as error:
        pytest.skip(
            f"all three networks are needed: {error}; put a bundle there: tools/export.py ... --out {PRETRAINED}/"
        )


@pytest.fixture(scope="module", params=RIVALS)
def rival(request, tmp_path_factory) -> Iterator[Worker]:
    name = request.param
    probe = [PYTHON, "-c", f"import importlib.metadata as m; m.version({RIVALS[name]!r})"]
    if not Path(PYTHON).is_file() or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(f"{name} is not installed in {PYTHON}; to run this: {HOW}")
    folders = require_bundles()
    spec = read_bundle(folders["rec"]).spec
    if name == "rapidocr":
        options = rapidocr_options(**folders, height=spec.height)
    else:
        dictionary = tmp_path_factory.mktemp("rivals") / "dict.txt"
        dictionary.write_text("".join(f"{character}\n" for character in spec.characters), encoding="utf-8")
        options = paddleocr_options(**folders, height=spec.height, dictionary=dictionary)
    with Worker({"engine": name, "threads": 1, "options": options}, PYTHON) as worker:
        yield worker


@pytest.fixture(scope="module")
def ours() -> Iterator[Worker]:
    with Worker({"engine": "ppocr_slim", "threads": 1, "precision": "fp32", **require_bundles()}) as worker:
        yield worker


def write_rows(folder: Path) -> list[str]:
    """Rows of the recognizer's height that every engine leaves as they are: no resizing, 32 columns a multiple."""
    height = read_bundle(shipped("rec")).spec.height
    paths = []
    for number, text in enumerate(TEXTS):
        row = cv2.resize(draw_row(text), (640 if len(text) > 20 else 480, height), interpolation=cv2.INTER_AREA)
        paths.append(str(folder / f"{number}.png"))
        cv2.imwrite(paths[-1], row)
    return paths


def test_it_reads_the_same_texts_as_we_do(rival: Worker, ours: Worker, tmp_path: Path):
    """Users of that runtime would get wrong letters: a dictionary shifted by one, another normalization."""
    paths = write_rows(tmp_path)
    expected, found = ours.ask(crops=paths), rival.ask(crops=paths)
    assert len(set(expected["texts"])) == len(TEXTS)
    assert found["texts"] == expected["texts"]


def test_it_tells_the_same_directions(rival: Worker, ours: Worker, tmp_path: Path):
    """Classes swapped, or crops normalized in another way, would turn upright lines."""
    wide = tmp_path / "wide.png"  # as the classifier takes it: 48 x 192
    row = cv2.resize(draw_row(TEXTS[0]), (192, 48), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(wide), row)
    turned = tmp_path / "turned.png"
    cv2.imwrite(str(turned), np.ascontiguousarray(row[::-1, ::-1]))
    paths = [str(wide), str(turned)]
    expected, found = ours.ask(crops=paths), rival.ask(crops=paths)
    assert np.allclose(found["upside_down"], expected["upside_down"], atol=1e-3)


def test_it_finds_the_same_lines(rival: Worker, ours: Worker, tmp_path: Path):
    """Another order of colours, or boxes that are not grown, would be found only by looking."""
    path = str(tmp_path / "page.png")
    canvas = np.full((640, 800, 3), 235, np.uint8)
    for number, text in enumerate(TEXTS):
        row = draw_row(text)
        row = cv2.resize(row, (560, 60), interpolation=cv2.INTER_AREA)
        canvas[60 + 140 * number : 120 + 140 * number, 100:660] = row
    cv2.imwrite(path, canvas)
    expected, found = (as_outlines(side.ask(boxes=path)) for side in (ours, rival))
    assert expected, "our detector finds nothing on this page: it compares nothing"
    assert score_page(expected, [False] * len(expected), found).hmean >= LEAST_HMEAN


def as_outlines(answer: dict[str, Any]) -> list[np.ndarray]:
    return [np.array(quad, np.float32) for quad in answer["boxes"]]


def test_a_worker_that_cannot_start_says_why():
    """A comparison would hang, or end with a traceback of our own."""
    with pytest.raises(SlimError, match="cannot be run"):
        Worker({"engine": "ppocr_slim", "threads": 1}, "/nowhere/python")
    with pytest.raises(SlimError, match="ppocr_slim: KeyError"):
        Worker({"engine": "ppocr_slim", "threads": 1})
