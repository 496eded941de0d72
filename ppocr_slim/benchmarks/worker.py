"""Our end of `page_worker`'s pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.errors import SlimError
from ppocr_slim.reports.provenance import ROOT
from ppocr_slim.runtime.bundle import UNCLIP_RATIO, read_bundle
from ppocr_slim.runtime.preprocess import PAGE_MEAN, PAGE_STD
from ppocr_slim.training.launch import end_with_parent

SCRIPT = ROOT / "ppocr_slim" / "benchmarks" / "page_worker.py"


class Worker:
    """An engine in a process of its own; close it, or use it with `with`.

    Args:
        spec: `page_worker`'s.
        python: an interpreter that has the engine; this one by default.

    Raises:
        SlimError: the interpreter cannot be run, or the engine not be started.
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
        """Return one request of `page_worker`.

        Raises:
            SlimError: it fails.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has died: the missing answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SlimError(f"{self.name} has ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise SlimError(f"{self.name}: {answer['error']}")
        return answer


def rapidocr_options(det: Path, cls: Path, rec: Path, height: int) -> dict[str, Any]:
    """Return how RapidOCR 1.4 runs our ONNX files (folders of bundles); `height` is that of the recognizer's input."""
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
    """Return how PaddleOCR 2.x's predictors run our Paddle files; `dictionary` has a character a line."""
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
