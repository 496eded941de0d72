#!/usr/bin/env python3
"""Write the place names that decoding and corrections use: tools/make_place_names.py [--out FILE]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.make_place_names import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
