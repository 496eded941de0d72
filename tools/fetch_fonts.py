#!/usr/bin/env python3
"""Fetch open fonts (npm packages @fontsource/<family>): handwriting for tools/synthesize.py, print for
tools/synthesize_pages.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.fetch_fonts import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
