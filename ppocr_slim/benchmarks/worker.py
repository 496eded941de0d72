"""The client of `page_worker`: starts the process of an OCR engine and sends it requests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import ROOT
from ppocr_slim.runtime.bundle import UNCLIP_RATIO, read_bundle
from ppocr_slim.runtime.preprocess import PAGE_MEAN, PAGE_STD
from ppocr_slim.training.launch import end_with_parent

SCRIPT = ROOT / "ppocr_slim" / "benchmarks" / "page_worker.py"


class Worker:
    """An OCR engine in a process of its own; close it, or use it as a context manager.

    Args:
        spec: the spec of `page_worker`.
        python: Python interpreter in which the engine is installed; None: this one.

    Raises:
        SlimError: the interpreter cannot be run, or the engine cannot be started.

    Attributes:
        name: name of the engine.
        hello: the first answer: {"versions", "sizes"}.
    """

    def __init__(self, spec: Mapping[str, Any], python: str | None = None):
        self.name = str(spec["engine"])
        command = [python or sys.executable, "-I", str(SCRIPT), json.dumps({"root": str(ROOT), **spec}, default=str)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise SlimError(f"{command[0]} cannot be run: {error.strerror}") from error
        self.hello = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; see `page_worker`.

        Raises:
            SlimError: the request failed, or the process has ended.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # the process has ended: `_answer` reports it
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SlimError(f"{self.name}: the process has ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise SlimError(f"{self.name}: {answer['error']}")
        return answer


def rapidocr_options(det: Path, cls: Path, rec: Path, height: int) -> dict[str, Any]:
    """Return the options by which RapidOCR 1.4 runs this project's ONNX files.

    Args:
        det, cls, rec: folders of bundles.
        height: height of the recognizer's input.
    """
    boxes = read_bundle(det).spec.boxes
    return {
        "det_model_path": str(det / "model.onnx"),
        "det_mean": list(PAGE_MEAN),
        "det_std": list(PAGE_STD),
        "det_limit_type": "max",
        "det_thresh": boxes.threshold,
        "det_box_thresh": boxes.box_threshold,
        "det_unclip_ratio": UNCLIP_RATIO,
        "det_donot_use_dilation": True,
        "det_score_mode": "slow",
        "cls_model_path": str(cls / "model.onnx"),
        "rec_model_path": str(rec / "model.onnx"),
        "rec_img_shape": [3, height, 320],
        "rec_batch_num": 1,
        "text_score": 0.0,
    }


def paddleocr_options(det: Path, cls: Path, rec: Path, height: int, dictionary: Path) -> dict[str, Any]:
    """Return the options by which the predictors of PaddleOCR 2.x run this project's Paddle files.

    Args:
        det, cls, rec: folders of bundles.
        height: height of the recognizer's input.
        dictionary: file with one character per line.
    """
    spec = read_bundle(det).spec
    return {
        "det_model_dir": str(det),
        "det_algorithm": "DB",
        "det_limit_side_len": spec.longer_side,
        "det_limit_type": "max",
        "det_db_thresh": spec.boxes.threshold,
        "det_db_box_thresh": spec.boxes.box_threshold,
        "det_db_unclip_ratio": UNCLIP_RATIO,
        "det_db_score_mode": "slow",
        "cls_model_dir": str(cls),
        "rec_model_dir": str(rec),
        "rec_algorithm": "CRNN",
        "rec_image_shape": f"3, {height}, 320",
        "rec_char_dict_path": str(dictionary),
        "use_space_char": True,
        "rec_batch_num": 1,
    }
