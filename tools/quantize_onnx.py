#!/usr/bin/env python3
"""Quantize a recognizer's FP32 ONNX file to INT8: tools/quantize_onnx.py MODEL.onnx --out OUT.onnx --images FOLDER"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.cli.quantize_onnx import main
from ppocr_slim.errors import run_tool

if __name__ == "__main__":
    sys.exit(run_tool(main))
