"""Command `ppocr-slim crop-pages`: crop the text lines of labelled pages.

Example: ppocr-slim crop-pages LABEL_FILE --out dataset/lines
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.data.line_crops import LABELS, cut_lines


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Crop the text lines of a detection data set to make a recognition data set."
    )
    parser.add_argument(
        "label_file", type=Path, help="detection label file: path<TAB>[{transcription, points}, ...] per line"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder to write")
    parser.add_argument(
        "--letters", type=int, default=0, help="leave out lines with fewer letters (default: %(default)s)"
    )
    parser.add_argument("--limit", type=int, help="maximum number of pages")
    options = parser.parse_args(argv)
    cut = cut_lines(options.label_file, options.out, options.letters, options.limit)
    print(f"{options.out / LABELS}: {cut.lines} lines; {cut.left_out} left out (ignored, or too few letters)")
    return 0
