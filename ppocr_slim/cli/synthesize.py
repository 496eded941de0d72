"""Make handwritten Vietnamese address lines with their labels, for training a recognizer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.dataset import contact_sheet, synthesize

DEFAULT_FONTS = Path("dataset/fonts")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("dataset/synth"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=20000, help="training lines (default: %(default)s)")
    parser.add_argument("--val", type=int, help="validation lines (default: 200; with --words 0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument("--fonts", type=Path, help=f"font folder (default: {DEFAULT_FONTS}, if it is there)")
    parser.add_argument(
        "--blank", type=float, default=0.0, help="share of lines with nothing written and an empty label"
    )
    parser.add_argument(
        "--words",
        type=Path,
        metavar="LABEL_FILE",
        help="glue the lines from words cut out of these real lines (a folder for each writer), not with fonts",
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of the first lines")
    parser.add_argument("--real", type=Path, metavar="LABEL_FILE", help="real lines to set between them on the sheet")
    arguments = parser.parse_args(argv)
    if arguments.real and not arguments.sheet:
        raise SlimError("--real: is for the contact sheet; give --sheet too")

    fonts, val = arguments.fonts, arguments.val
    if not arguments.words:
        fonts = fonts or (DEFAULT_FONTS if DEFAULT_FONTS.is_dir() else None)
        if fonts is None:
            print("no fetched fonts: writing with stroke fonts only (tools/fetch_fonts.py gets handwriting)")
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
            raise SlimError(f"{arguments.sheet}: cannot be written; give a .png in a folder that can be")
        print(f"contact sheet: {arguments.sheet}")
    return 0
