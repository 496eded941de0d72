#!/usr/bin/env python3
"""Write the report of a finished training run: tools/report.py RUN --command TEXT --eval JSON --name NAME [...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.report import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
