#!/usr/bin/env python3
"""Export a checkpoint, or a bundle with a new INT8 file: tools/export.py FOLDER --out DIR --data LABEL_FILE"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.export import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
