#!/usr/bin/env python3
"""Read images of cropped text rows: tools/predict_rec.py [--bundle DIR] [--json] IMAGE_OR_FOLDER..."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.engines.session import ENGINES
from ppocr_slim.errors import run_tool
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.images import find_images
from ppocr_slim.runtime.predict import read_files
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.sessions import PRECISIONS
from ppocr_slim.text.corrections import CORRECTIONS, correction_names
from ppocr_slim.text.decoders import DECODE_HELP, DECODERS


def main() -> int:
    parser = argparse.ArgumentParser(description="Read images of cropped text rows.")
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="a folder: all images in and below it")
    parser.add_argument("--bundle", type=Path, help="exported bundle; default: the one that comes with the project")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--engine", "--backend", choices=sorted(ENGINES), default="onnxruntime")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: what was faster at the export")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--batch-size", type=int, default=1, help="rows that are read together (default 1)")
    parser.add_argument(
        "--decode",
        choices=DECODERS,
        default="greedy",
        help=DECODE_HELP,
    )
    parser.add_argument(
        "--post", metavar="NAMES", help=f"correct the texts; comma-separated, in order: {', '.join(CORRECTIONS)}"
    )
    parser.add_argument(
        "--drop-score", type=float, default=0.0, metavar="SHARE", help="of less confidence no text is given (try 0.5)"
    )
    options = parser.parse_args()
    post = correction_names(options.post) if options.post is not None else ()
    if options.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    if not 0 <= options.drop_score <= 1:
        parser.error("--drop-score is a confidence, 0 to 1")
    paths = find_images(options.images)
    bundle = options.bundle or shipped("rec")
    recognizer = Recognizer.from_bundle(bundle, options.engine, options.threads, options.precision, options.decode)

    failed = 0
    name_width = max(len(str(path)) for path in paths)
    if not options.json:
        print(f"{'path':<{name_width}}  {'conf':>5}  {'ms':>7}  text")
    for reading in read_files(recognizer, paths, options.batch_size, post, options.drop_score):
        failed += reading.error is not None
        if options.json:
            print(json.dumps(reading.to_json(), ensure_ascii=False), flush=True)
        elif reading.line is None:
            print(f"{str(reading.path):<{name_width}}  {'-':>5}  {'-':>7}  error: {reading.error}")
        else:
            line = reading.line
            print(f"{str(reading.path):<{name_width}}  {line.confidence:>5.2f}  {reading.ms:>7.1f}  {line.text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
