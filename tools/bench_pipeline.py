#!/usr/bin/env python3
"""Benchmark the whole pipeline, beside RapidOCR: tools/bench_pipeline.py --pages LABEL_FILE --rivals rapidocr"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.bench_pipeline import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
