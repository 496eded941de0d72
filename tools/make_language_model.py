#!/usr/bin/env python3
"""Train a language model of addresses: tools/make_language_model.py --labels dataset/kalapa/train.txt --bundle DIR"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.make_language_model import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
