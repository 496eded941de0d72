"""Command `ppocr-slim fetch-fonts`: fetch open fonts for synthetic data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.synth.fonts import fetch_families


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Fetch open fonts (npm packages @fontsource/FAMILY): handwriting for synthesize, print for "
        "synthesize-pages.",
    )
    parser.add_argument("--out", type=Path, default=Path("dataset/fonts"), help="folder to fill (default: %(default)s)")
    out = parser.parse_args(argv).out
    done = fetch_families(out)
    for reason in sorted(set(done.skipped.values())):
        print(f"skipped {', '.join(name for name in done.skipped if done.skipped[name] == reason)}: {reason}")
    fetched, kept, skipped = len(done.fetched), len(done.kept), len(done.skipped)
    print(f"{out}: {fetched} families fetched, {kept} already there, {skipped} skipped")
    if done.skipped:
        print("note: synthetic data can still be generated, with the fonts that are there and the built-in ones")
    return 0
