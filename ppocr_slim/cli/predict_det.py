"""Command `ppocr-slim detect`: detect the text lines of pages.

Example: ppocr-slim detect [--json] [--draw DIR] IMAGE_OR_PDF_OR_FOLDER...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.cli.options import add_bundle, add_engine, add_json
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.documents import find_documents
from ppocr_slim.runtime.predict_pages import detect_documents, page_name


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Detect the text lines of pages, in reading order.")
    parser.add_argument(
        "pages", nargs="+", metavar="IMAGE_OR_PDF_OR_FOLDER", help="image, PDF, or folder to search recursively"
    )
    add_bundle(parser)
    add_json(parser, "page")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="draw each page with numbered boxes into this folder")
    add_engine(parser)
    options = parser.parse_args(argv)
    paths = find_documents(options.pages)
    bundle = options.bundle or shipped("det")
    detector = Detector.from_bundle(bundle, options.engine, options.threads, options.precision)
    pictures = None
    if options.draw is not None:
        from ppocr_slim.visualize.pages import PictureFolder, boxes_picture

        pictures = PictureFolder(options.draw, paths)

    failed = 0
    for page in detect_documents(detector, paths):
        source, boxes = page.source, page.boxes
        failed += boxes is None
        if options.json:
            print(json.dumps(page.to_json(), ensure_ascii=False), flush=True)
        elif boxes is None:
            print(f"{page_name(source)}  error: {source.error}")
        else:
            print(f"{page_name(source)}  {len(boxes)} boxes, {page.ms:.0f} ms")
            for box in boxes:
                print(f"  {box.score:.2f}  {'  '.join(f'{x:.0f},{y:.0f}' for x, y in box.points)}")
        if pictures is not None and boxes is not None:
            pictures.save(source.path, source.page, boxes_picture(source.image, [box.points for box in boxes]))
        del page, source  # a page must not stay in memory while the next one is decoded
    return 1 if failed else 0
