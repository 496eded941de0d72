#!/usr/bin/env python3
"""Train all variants of a config and compare them: tools/ablate.py -c configs/ablation/rec_height.yml [--jobs 2]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.ablate import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
