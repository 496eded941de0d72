"""Command `ppocr-slim read`: read whole pages.

Example: ppocr-slim read [--json] [--draw DIR] IMAGE_OR_PDF_OR_FOLDER...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.cli.options import add_batch_size, add_decoding, add_drop_score, add_engine, add_json
from ppocr_slim.runtime.documents import find_documents
from ppocr_slim.runtime.pipeline import BATCH_SIZE, DROP_SCORE, Pipeline
from ppocr_slim.runtime.predict_pages import page_name, read_documents


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Detect and recognize the text lines of pages: images, multi-page TIFF files, PDF documents.",
    )
    parser.add_argument(
        "pages", nargs="+", metavar="IMAGE_OR_PDF_OR_FOLDER", help="image, PDF, or folder to search recursively"
    )
    parser.add_argument("--det", type=Path, metavar="DIR", help="detector's bundle (default: the pretrained one)")
    parser.add_argument(
        "--cls",
        metavar="DIR|none",
        help="direction classifier's bundle (default: the pretrained one; none: lines are not turned)",
    )
    parser.add_argument("--rec", type=Path, metavar="DIR", help="recognizer's bundle (default: the pretrained one)")
    add_json(parser, "page")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="draw each page with boxes and texts into this folder")
    add_engine(parser)
    add_batch_size(parser, BATCH_SIZE, "text lines per batch")
    add_drop_score(
        parser, DROP_SCORE, "drop lines of lower confidence (default: %(default)s; 0: only those without text)"
    )
    add_decoding(parser)
    options = parser.parse_args(argv)
    paths = find_documents(options.pages)
    pipeline = Pipeline.from_bundles(
        options.rec,
        options.det,
        None if options.cls == "none" else options.cls,
        with_direction=options.cls != "none",
        post=options.post,
        batch_size=options.batch_size,
        drop_score=options.drop_score,
        engine=options.engine,
        threads=options.threads,
        precision=options.precision,
        decode=options.decode,
    )
    pictures = None
    if options.draw is not None:
        from ppocr_slim.visualize.pages import PictureFolder, reading_picture

        pictures = PictureFolder(options.draw, paths)

    failed = 0
    for page in read_documents(pipeline, paths):
        source, reading = page.source, page.reading
        failed += reading is None
        if options.json:
            print(json.dumps(page.to_json(), ensure_ascii=False), flush=True)
        elif reading is None:
            print(f"{page_name(source)}  error: {source.error}")
        else:
            print(
                f"{page_name(source)}  {reading.width} x {reading.height}, {len(reading.lines)} lines, "
                f"{len(reading.dropped)} boxes dropped, {reading.ms['total']:.0f} ms"
            )
            for line in reading.lines:
                print(f"  {line.confidence:.2f}  {line.text}")
        if pictures is not None and reading is not None:
            pictures.save(source.path, source.page, reading_picture(source.image, reading))
        del page, source  # a page must not stay in memory while the next one is decoded
    return 1 if failed else 0
