#!/usr/bin/env python3
"""Evaluate a checkpoint folder or an exported bundle: tools/eval.py FOLDER --data LABEL_FILE"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.eval import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
