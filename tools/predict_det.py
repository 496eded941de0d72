#!/usr/bin/env python3
"""Detect the text lines of pages: tools/predict_det.py [--json] [--draw DIR] IMAGE_OR_PDF_OR_FOLDER..."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.predict_det import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
