"""The main job from nothing, small: tools/demo.py (what `make demo` runs)"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.errors import SlimError
from ppocr_slim.reports.provenance import ROOT


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Generate text lines, fine-tune the shipped recognizer on them, export it, read."
    )
    parser.add_argument("--data", type=Path, default=Path("dataset/demo"), help="default: dataset/demo")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="default: output/demo")
    options = parser.parse_args(argv)
    if not (ROOT / "configs").is_dir():
        raise SlimError("the demo runs configs/rec_slim.yml of a checkout of the project: clone it, and run make demo")
    from ppocr_slim.experiments.demo import run_demo

    os.chdir(ROOT)  # configs name their files from the project's root
    print("\n" + run_demo(options.data, options.output))
    return 0
