"""Command `ppocr-slim read-lines`: recognize cropped text lines.

Example: ppocr-slim read-lines [--bundle DIR] [--json] IMAGE_OR_FOLDER...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ppocr_slim.cli.options import add_batch_size, add_bundle, add_decoding, add_drop_score, add_engine, add_json
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.images import find_images
from ppocr_slim.runtime.predict import read_files
from ppocr_slim.runtime.recognizer import Recognizer


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Recognize the text of cropped text lines.")
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="image, or folder to search recursively")
    add_bundle(parser)
    add_json(parser, "line")
    add_engine(parser)
    add_batch_size(parser, 1, "text lines per batch")
    add_decoding(parser)
    add_drop_score(parser, 0.0, "return no text of lower confidence (try 0.5)")
    options = parser.parse_args(argv)
    paths = find_images(options.images)
    bundle = options.bundle or shipped("rec")
    recognizer = Recognizer.from_bundle(bundle, options.engine, options.threads, options.precision, options.decode)

    failed = 0
    name_width = max(len(str(path)) for path in paths)
    if not options.json:
        print(f"{'path':<{name_width}}  {'conf':>5}  {'ms':>7}  text")
    for reading in read_files(recognizer, paths, options.batch_size, options.post, options.drop_score):
        failed += reading.error is not None
        if options.json:
            print(json.dumps(reading.to_json(), ensure_ascii=False), flush=True)
        elif reading.line is None:
            print(f"{str(reading.path):<{name_width}}  {'-':>5}  {'-':>7}  error: {reading.error}")
        else:
            line = reading.line
            print(f"{str(reading.path):<{name_width}}  {line.confidence:>5.2f}  {reading.ms:>7.1f}  {line.text}")
    return 1 if failed else 0
