#!/usr/bin/env python3
"""The main job from nothing, small: tools/demo.py (what `make demo` runs)"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppocr_slim.cli.demo import run_demo
from ppocr_slim.errors import run_tool


def main() -> int:
    parser = argparse.ArgumentParser(description="Make rows, fine-tune the shipped recognizer, export it, read.")
    parser.add_argument("--data", type=Path, default=Path("dataset/demo"), help="default: dataset/demo")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="default: output/demo")
    options = parser.parse_args()
    os.chdir(ROOT)  # configs name their files from the project's root
    print("\n" + run_demo(options.data, options.output))
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
