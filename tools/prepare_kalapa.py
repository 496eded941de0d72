#!/usr/bin/env python3
"""Turn the Kalapa challenge's layout into label files: prepare_kalapa.py --source DIR --out dataset/kalapa"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.prepare_kalapa import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
