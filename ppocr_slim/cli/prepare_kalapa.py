"""Command `ppocr-slim prepare-kalapa`: convert the Kalapa challenge's data to label files.

Example: ppocr-slim prepare-kalapa --source DIR --out dataset/kalapa
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.data.kalapa import prepare


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Convert the Kalapa challenge's data to train.txt, val.txt, fit.txt, dev.txt and characters.txt.",
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="folder with images/, annotations/ and val_writers.txt"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("dataset/kalapa"), help="folder to write (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    done = prepare(arguments.source, arguments.out)
    print(f"train.txt: {done.train_lines} lines by {done.train_writers} writers")
    print(f"val.txt: {done.val_lines} lines by {done.val_writers} other writers")
    if done.dev_writers:
        print(
            f"dev.txt and fit.txt: the lines of {done.dev_writers} of the training writers, to choose by, and the rest"
        )
    print(f"characters.txt: {done.characters} characters, from the training labels")
    for character, labels in done.unseen.items():
        print(f"note: {character!r} is in {labels} validation label(s) and in no training label")
    return 0
