"""Command `ppocr-slim classify`: classify the direction of cropped text lines.

Example: ppocr-slim classify [--bundle DIR] [--json] IMAGE_OR_FOLDER...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ppocr_slim.cli.options import add_batch_size, add_bundle, add_engine, add_json
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import find_images
from ppocr_slim.runtime.predict_pages import classify_files


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Classify cropped text lines as upright or upside down.")
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="image, or folder to search recursively")
    add_bundle(parser)
    add_json(parser, "line")
    add_engine(parser)
    add_batch_size(parser, 8, "crops per batch")
    options = parser.parse_args(argv)
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
