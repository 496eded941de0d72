#!/usr/bin/env python3
"""Read whole pages: tools/predict_system.py [--json] [--draw DIR] IMAGE_OR_PDF_OR_FOLDER..."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.engines.session import ENGINES
from ppocr_slim.errors import run_tool
from ppocr_slim.runtime.documents import find_documents
from ppocr_slim.runtime.pipeline import BATCH_SIZE, DROP_SCORE, Pipeline
from ppocr_slim.runtime.predict_pages import page_name, read_documents
from ppocr_slim.runtime.sessions import PRECISIONS
from ppocr_slim.text.corrections import CORRECTIONS, correction_names
from ppocr_slim.text.decoders import DECODE_HELP, DECODERS


def main() -> int:
    parser = argparse.ArgumentParser(description="Read whole pages: images, TIFF files of several, PDF documents.")
    parser.add_argument(
        "pages", nargs="+", metavar="IMAGE_OR_PDF_OR_FOLDER", help="a folder: all images and PDFs in and below it"
    )
    parser.add_argument("--det", type=Path, metavar="DIR", help="detector's bundle; default: the project's own")
    parser.add_argument(
        "--cls", metavar="DIR|none", help="direction classifier's bundle; default: the project's own; none: no turning"
    )
    parser.add_argument("--rec", type=Path, metavar="DIR", help="recognizer's bundle; default: the project's own")
    parser.add_argument("--json", action="store_true", help="one JSON object a page instead of text")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="draw each page there, with boxes and texts")
    parser.add_argument("--engine", "--backend", choices=sorted(ENGINES), default="onnxruntime")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: what was faster at the export")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="lines read together (default %(default)s)")
    parser.add_argument(
        "--drop-score",
        type=float,
        default=DROP_SCORE,
        metavar="SHARE",
        help="drop lines of less confidence (default %(default)s; 0: those without text alone)",
    )
    parser.add_argument(
        "--decode",
        choices=DECODERS,
        default="greedy",
        help=DECODE_HELP,
    )
    parser.add_argument(
        "--post", metavar="NAMES", help=f"correct the texts; comma-separated, in order: {', '.join(CORRECTIONS)}"
    )
    options = parser.parse_args()
    post = correction_names(options.post) if options.post is not None else ()
    paths = find_documents(options.pages)
    pipeline = Pipeline.from_bundles(
        options.rec,
        options.det,
        None if options.cls == "none" else options.cls,
        with_direction=options.cls != "none",
        post=post,
        batch_size=options.batch_size,
        drop_score=options.drop_score,
        engine=options.engine,
        threads=options.threads,
        precision=options.precision,
        decode=options.decode,
    )
    pictures = None
    if options.draw is not None:
        from ppocr_slim.visualize.pages import PictureFolder, reading_picture  # needs matplotlib's font

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
        del page, source  # or it would stay in memory while the next one is decoded
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
