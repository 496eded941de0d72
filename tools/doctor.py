#!/usr/bin/env python3
"""Check a config's data: tools/doctor.py -c configs/rec_slim.yml [-o Section.key=value ...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.doctor import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
