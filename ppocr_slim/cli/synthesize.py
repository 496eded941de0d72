"""Command `ppocr-slim synthesize`: generate labelled text lines for training a recognizer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.dataset import contact_sheet, synthesize

DEFAULT_FONTS = Path("dataset/fonts")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Generate handwritten Vietnamese address lines with their labels, to train a recognizer."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("dataset/synth"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=20000, help="training lines (default: %(default)s)")
    parser.add_argument("--val", type=int, help="validation lines (default: 200; with --words 0)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--fonts", type=Path, help=f"font folder (default: {DEFAULT_FONTS}, if it exists)")
    parser.add_argument(
        "--blank", type=float, default=0.0, help="fraction of blank lines, with an empty label (default: %(default)s)"
    )
    parser.add_argument(
        "--words",
        type=Path,
        metavar="LABEL_FILE",
        help="compose the lines of words cut out of these real lines (one folder per writer), not of fonts",
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of the first lines")
    parser.add_argument("--real", type=Path, metavar="LABEL_FILE", help="real lines to show between them on the sheet")
    arguments = parser.parse_args(argv)
    if arguments.real and not arguments.sheet:
        raise SlimError("--real has no effect without a contact sheet: give --sheet, too")

    fonts, val = arguments.fonts, arguments.val
    if not arguments.words:
        fonts = fonts or (DEFAULT_FONTS if DEFAULT_FONTS.is_dir() else None)
        if fonts is None:
            print("no fetched fonts: using stroke fonts only (ppocr-slim fetch-fonts fetches handwriting)")
    if val is None:
        val = 0 if arguments.words else 200
    summary = synthesize(
        arguments.out,
        arguments.count,
        val,
        arguments.seed,
        arguments.workers,
        fonts,
        arguments.blank,
        words=arguments.words,
    )
    speed = f"{summary.seconds:.1f} s, {summary.per_second:.0f} lines/s"
    print(f"{arguments.out}: {summary.pictures} lines in {speed}")
    if arguments.sheet:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(arguments.sheet), contact_sheet(arguments.out / "train.txt", arguments.real)):
            raise SlimError(f"{arguments.sheet}: cannot be written: give a .png file in a writable folder")
        print(f"contact sheet: {arguments.sheet}")
    return 0
