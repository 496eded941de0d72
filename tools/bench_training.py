#!/usr/bin/env python3
"""Benchmark training speed against stock Paddle: tools/bench_training.py [--cases crnn_x05,shipped] [--rounds N]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.bench_training import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
