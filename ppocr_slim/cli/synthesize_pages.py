"""Command `ppocr-slim synthesize-pages`: generate photographed pages with the boxes of their lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.layouts import PAGE_KINDS
from ppocr_slim.synth.page_dataset import PageRecipe, boxed_pages, synthesize_pages
from ppocr_slim.synth.pages import PageOptions
from ppocr_slim.visualize.pages import tiled

DEFAULT_FONTS = Path("dataset/fonts")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Generate photographed forms and sheets with the boxes of their text lines, "
        "to train and evaluate a text detector.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("dataset/pages"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=2000, help="training pages (default: %(default)s)")
    parser.add_argument("--val", type=int, default=100, help="validation pages (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--fonts", type=Path, help=f"font folder (default: {DEFAULT_FONTS}, if it exists)")
    parser.add_argument(
        "--lines",
        "--rows",
        type=Path,
        nargs="+",
        default=[],
        metavar="LABEL_FILE",
        help="label files of real text lines to place among the synthetic ones",
    )
    parser.add_argument(
        "--kinds", nargs="+", metavar="KIND", help=f"only these kinds of pages: {', '.join(PAGE_KINDS)}"
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet of the first pages with boxes")
    arguments = parser.parse_args(argv)

    fonts = arguments.fonts or (DEFAULT_FONTS if DEFAULT_FONTS.is_dir() else None)
    if fonts is None:
        print("no fetched fonts: using stroke fonts and DejaVu only (ppocr-slim fetch-fonts fetches more)")
    options = PageOptions(kinds=dict.fromkeys(arguments.kinds, 1.0)) if arguments.kinds else PageOptions()
    recipe = PageRecipe(arguments.seed, options, fonts, tuple(arguments.lines))
    summary = synthesize_pages(arguments.out, arguments.count, arguments.val, recipe, arguments.workers)
    speed = f"{summary.seconds:.1f} s, {summary.per_second:.1f} pages/s"
    print(f"{arguments.out}: {summary.pictures} pages with {summary.lines} lines in {speed}")
    if arguments.sheet:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(arguments.sheet), tiled(boxed_pages(recipe, min(12, arguments.count)))):
            raise SlimError(f"{arguments.sheet}: cannot be written: give a .png file in a writable folder")
        print(f"contact sheet: {arguments.sheet}")
    return 0
