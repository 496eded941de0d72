#!/usr/bin/env python3
"""Tell which crops of text stand upside down: tools/predict_cls.py [--bundle DIR] [--json] IMAGE_OR_FOLDER..."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.engines.session import ENGINES
from ppocr_slim.errors import run_tool
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import find_images
from ppocr_slim.runtime.predict_pages import classify_files
from ppocr_slim.runtime.sessions import PRECISIONS


def main() -> int:
    parser = argparse.ArgumentParser(description="Tell which crops of text stand upside down.")
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="a folder: all images in and below it")
    parser.add_argument("--bundle", type=Path, help="exported bundle; default: the one that comes with the project")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.add_argument("--engine", "--backend", choices=sorted(ENGINES), default="onnxruntime")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: what was faster at the export")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--batch-size", type=int, default=8, help="crops looked at together (default %(default)s)")
    options = parser.parse_args()
    if options.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    paths = find_images(options.images)
    bundle = options.bundle or shipped("cls")
    classifier = DirectionClassifier.from_bundle(bundle, options.engine, options.threads, options.precision)

    failed = 0
    name_width = max(len(str(path)) for path in paths)
    if not options.json:
        print(f"{'path':<{name_width}}  angle  score  turned")
    for crop in classify_files(classifier, paths, options.batch_size):
        failed += crop.error is not None
        if options.json:
            print(json.dumps(crop.to_json(), ensure_ascii=False), flush=True)
        elif crop.direction is None:
            print(f"{str(crop.path):<{name_width}}      -      -  error: {crop.error}")
        else:
            found = crop.direction
            turned = "yes" if found.turned else "no"
            print(f"{str(crop.path):<{name_width}}  {found.angle:>5}  {found.score:>5.2f}  {turned}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
