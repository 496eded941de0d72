"""Cut the lines out of labelled pages: crop_pages.py LABEL_FILE --out dataset/lines"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.data.line_crops import LABELS, cut_lines


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description="Make a recognition set of a detection set.")
    parser.add_argument("label_file", type=Path, help="path<TAB>[{transcription, points}, ...] a line")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--letters", type=int, default=0, help="leave out lines with fewer letters (default: none)")
    parser.add_argument("--limit", type=int, help="at most so many pages")
    options = parser.parse_args(argv)
    cut = cut_lines(options.label_file, options.out, options.letters, options.limit)
    print(f"{options.out / LABELS}: {cut.lines} lines; {cut.left_out} left out (ignored, or too few letters)")
    return 0
