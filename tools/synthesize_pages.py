#!/usr/bin/env python3
"""Generate photographed forms and sheets with the boxes of their lines, to train and evaluate a text detector."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.synthesize_pages import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
