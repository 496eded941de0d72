"""Fetch open fonts (npm packages @fontsource/<family>): handwriting for tools/synthesize.py, print for
tools/synthesize_pages.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.synth.fonts import fetch_families


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dataset/fonts"), help="folder to fill (default: %(default)s)")
    out = parser.parse_args(argv).out
    done = fetch_families(out)
    for reason in sorted(set(done.skipped.values())):
        print(f"skipped {', '.join(name for name in done.skipped if done.skipped[name] == reason)}: {reason}")
    fetched, kept, skipped = len(done.fetched), len(done.kept), len(done.skipped)
    print(f"{out}: {fetched} families fetched, {kept} were there, {skipped} skipped")
    if done.skipped:
        print("that is no obstacle: the tools that make data use what is there, and fonts that are always there")
    return 0
