"""The demo: the flagship config in a short form, on few lines, and what the slim recognizer reads."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.reports.records import StageTable, read_record
from ppocr_slim.reports.stages import text_table
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.training.launch import run_command
from ppocr_slim.visualize.line_sheet import reading_sheet

TRAIN_LINES, VAL_LINES = 2400, 160
EPOCHS = (1, 3, 2)  # of the stages of rec_slim.yml: with a teacher, FPGM, PACT
SHEET_LINES = 16


def run_demo(data: Path, output: Path) -> str:
    """Run the demo; results of an earlier run are used again.

    Args:
        data: folder of the synthetic text lines.
        output: folder of the run.

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
        *(f"Recipe.{number}.epochs={epochs}" for number, epochs in enumerate(EPOCHS)),
    ]
    _run(["tools/train.py", "-c", "configs/rec_slim.yml", "-o", *overrides])
    samples, _ = read_label_file(data / "val.txt")
    read = evaluate(Recognizer.from_bundle(output / "export", precision="int8"), samples)
    sheet = output / "readings.png"
    reading_sheet(read.lines[:SHEET_LINES], sheet, "Synthetic lines of the demo, and what the slim recognizer reads")
    stages = output / "report" / "stages.json"
    record = read_record(StageTable, json.loads(stages.read_text(encoding="utf-8")), str(stages))
    return f"{text_table(record)}\nas a picture: {stages.with_suffix('.png')}\nlines and predictions: {sheet}"


def _run(arguments: list) -> None:
    command = list(map(str, arguments))
    print("$ python " + shlex.join(command), flush=True)
    status = run_command(command)
    if status:
        raise SlimError(f"{arguments[0]} ended with status {status}: see its message above")
