"""The demo: generate text lines, fine-tune the pretrained recognizer on them, export it, and read with it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.runtime.bundle import ONNX, shipped
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.visualize.line_sheet import reading_sheet

TRAIN_LINES, VAL_LINES, EPOCHS = 2400, 160, 4
SHEET_LINES = 16


def run_demo(data: Path, output: Path) -> str:
    """Run the demo; results of an earlier run are used again.

    Args:
        data: folder of the synthetic text lines.
        output: folder of the training run.

    Returns:
        The table to print.

    Raises:
        SlimError: a command fails.
    """
    if not (data / "train.txt").exists():
        _run(["tools/synthesize.py", "--out", data, "--count", TRAIN_LINES, "--val", VAL_LINES, "--seed", 1])
    overrides = [
        f"Global.output_dir={output}",
        f"Train.label_files.0.path={data / 'train.txt'}",
        f"Eval.label_files.0.path={data / 'val.txt'}",
        f"Recipe.0.epochs={EPOCHS}",
    ]
    _run(["tools/train.py", "-c", "configs/rec_slim.yml", "-o", *overrides])
    samples, _ = read_label_file(data / "val.txt")
    columns = {"shipped": shipped("rec"), "fine-tuned": output / "export"}
    recognizers = {name: Recognizer.from_bundle(folder) for name, folder in columns.items()}
    results = {name: evaluate(recognizer, samples) for name, recognizer in recognizers.items()}
    images = [load_image(sample.path) for sample in samples[:40]]
    milliseconds = {name: _median_ms(recognizer, images) for name, recognizer in recognizers.items()}
    sheet = output / "readings.png"
    reading_sheet(results["fine-tuned"].lines[:SHEET_LINES], sheet, "Synthetic lines of the demo and their predictions")
    return _table(columns, results, milliseconds) + f"\nlines and predictions: {sheet}"


def _run(arguments: list) -> None:
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + shlex.join(command[1:]), flush=True)
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait()  # the same Ctrl-C reached it: it saves and ends
    if status:
        raise SlimError(f"{arguments[0]} ended with status {status}: see its message above")


def _median_ms(recognizer: Recognizer, images: list[np.ndarray]) -> float:
    """Return the median milliseconds of reading one line, after three lines of warm-up."""
    times = []
    for image in images[:3] + images:
        start = time.perf_counter()
        recognizer.read([image])
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:])) * 1e3


def _table(columns, results, milliseconds) -> str:
    def row(label: str, cells: list[str]) -> str:
        return f"{label:<24}" + "".join(f"{cell:>12}" for cell in cells)

    def metric_row(name: str, pattern: str, value) -> str:
        return row(name, [pattern.format(value(results[key])) for key in columns])

    scores = [
        ("CER on synthetic lines", "{:.4f}", lambda e: e.scores.cer),
        ("lines read exactly", "{:.1%}", lambda e: e.scores.line_accuracy),
    ]
    lines = [row("", list(columns))]
    lines += [metric_row(name, pattern, value) for name, pattern, value in scores]
    lines.append(row("ONNX model, MB", [f"{(folder / ONNX).stat().st_size / 1e6:.2f}" for folder in columns.values()]))
    lines.append(row("ms a line", [f"{milliseconds[key]:.1f}" for key in columns]))
    return "\n".join(lines)
