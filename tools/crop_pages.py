#!/usr/bin/env python3
"""Cut the lines out of labelled pages: crop_pages.py LABEL_FILE --out dataset/lines"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.crop_pages import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
