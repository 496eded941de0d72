"""Command `ppocr-slim demo`: generate data, slim a recognizer by the whole chain, and read with it (`make demo`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import ROOT


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Generate text lines, slim a recognizer on them by the whole chain, and read with it.",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("dataset/demo"), help="folder of the generated lines (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), help="folder of the training run (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if not (ROOT / "configs").is_dir():
        raise SlimError(
            "the demo needs configs/rec_slim.yml of a checkout of the project: clone it and run `make demo` there"
        )
    from ppocr_slim.experiments.demo import run_demo

    os.chdir(ROOT)  # paths in configs are relative to the project's root
    print("\n" + run_demo(options.data, options.output))
    return 0
