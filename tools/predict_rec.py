#!/usr/bin/env python3
"""Recognize cropped text lines: tools/predict_rec.py [--bundle DIR] [--json] IMAGE_OR_FOLDER..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.predict_rec import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
