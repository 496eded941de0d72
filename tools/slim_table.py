#!/usr/bin/env python3
"""Train and measure what each technique costs and saves: tools/slim_table.py -c configs/kalapa/slim_table.yml"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.slim_table import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
