"""Command `ppocr-slim place-names`: write the place names that address decoding and correction use.

Example: ppocr-slim place-names [--out FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.synth.addresses import load_places
from ppocr_slim.text.vietnamese.place_names import PLACE_NAMES, save_place_names


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Write the place names of the package vietnamadminunits.")
    parser.add_argument(
        "--out", type=Path, default=PLACE_NAMES, help="file to write (default: where the runtime reads it)"
    )
    options = parser.parse_args(argv)
    places = [(place.province, place.district, place.ward) for place in load_places(all_letters=True)]
    size = save_place_names(places, options.out)
    print(f"wrote {options.out}: the names of {len(places)} wards, {size / 1000:.0f} kB")
    return 0
