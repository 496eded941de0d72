"""The main job from nothing, small: make lines, fine-tune the shipped recognizer on them, export it, read with it."""

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

TRAIN_ROWS, VAL_ROWS, EPOCHS = 2400, 160, 4
PICTURE_ROWS = 16


def run_demo(data: Path, output: Path) -> str:
    """Run the demo with its lines in `data` and its run in `output`.

    What an earlier run made is used again.

    Returns:
        The table to print.

    Raises:
        SlimError: a step fails.
    """
    if not (data / "train.txt").exists():
        _run(["tools/synthesize.py", "--out", data, "--count", TRAIN_ROWS, "--val", VAL_ROWS, "--seed", 1])
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
    picture = output / "readings.png"
    reading_sheet(results["fine-tuned"].lines[:PICTURE_ROWS], picture, "Lines made by the demo, and what was read")
    return _table(columns, results, milliseconds) + f"\nlines and what was read: {picture}"


def _run(arguments: list) -> None:
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + shlex.join(command[1:]), flush=True)
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait()  # it got the same Ctrl-C, and saves what it has
    if status:
        raise SlimError(f"{arguments[0]} ended with status {status}; its message is above")


def _median_ms(recognizer: Recognizer, images: list[np.ndarray]) -> float:
    """Return the median time of reading one line, after a few to warm up."""
    times = []
    for image in images[:3] + images:
        start = time.perf_counter()
        recognizer.read([image])
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:])) * 1e3


def _table(columns, results, milliseconds) -> str:
    def row(label: str, cells: list[str]) -> str:
        return f"{label:<24}" + "".join(f"{cell:>12}" for cell in cells)

    def figures(name: str, pattern: str, value) -> str:
        return row(name, [pattern.format(value(results[key])) for key in columns])

    scores = [
        ("CER on synthetic lines", "{:.4f}", lambda e: e.scores.cer),
        ("lines read exactly", "{:.1%}", lambda e: e.scores.line_accuracy),
    ]
    lines = [row("", list(columns))]
    lines += [figures(name, pattern, value) for name, pattern, value in scores]
    lines.append(row("ONNX model, MB", [f"{(folder / ONNX).stat().st_size / 1e6:.2f}" for folder in columns.values()]))
    lines.append(row("ms a line", [f"{milliseconds[key]:.1f}" for key in columns]))
    return "\n".join(lines)
