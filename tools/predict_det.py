#!/usr/bin/env python3
"""Find the lines of text on pages: tools/predict_det.py [--json] [--draw DIR] IMAGE_OR_PDF_OR_FOLDER..."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.engines.session import ENGINES
from ppocr_slim.errors import run_tool
from ppocr_slim.runtime.bundle import shipped
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.documents import find_documents
from ppocr_slim.runtime.predict_pages import detect_documents, page_name
from ppocr_slim.runtime.sessions import PRECISIONS


def main() -> int:
    parser = argparse.ArgumentParser(description="Find the lines of text on pages, in reading order.")
    parser.add_argument(
        "pages", nargs="+", metavar="IMAGE_OR_PDF_OR_FOLDER", help="a folder: all images and PDFs in and below it"
    )
    parser.add_argument("--bundle", type=Path, help="exported bundle; default: the one that comes with the project")
    parser.add_argument("--json", action="store_true", help="one JSON object a page instead of a table")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="draw each page there, with numbered boxes")
    parser.add_argument("--engine", "--backend", choices=sorted(ENGINES), default="onnxruntime")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: what was faster at the export")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    options = parser.parse_args()
    paths = find_documents(options.pages)
    bundle = options.bundle or shipped("det")
    detector = Detector.from_bundle(bundle, options.engine, options.threads, options.precision)
    pictures = None
    if options.draw is not None:
        from ppocr_slim.visualize.pages import PictureFolder, boxes_picture  # needs matplotlib's font

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
        del page, source  # or it would stay in memory while the next one is decoded
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
