#!/usr/bin/env python3
"""Slim a recognizer by the whole chain on generated lines: tools/demo.py (what `make demo` runs)"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.demo import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
