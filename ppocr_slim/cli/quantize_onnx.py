"""Make an INT8 file of a text line network: tools/quantize_onnx.py MODEL.onnx --out OUT.onnx --images FOLDER"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.evaluation.verification import evenly_spaced
from ppocr_slim.quantization.post_training import quantize_file
from ppocr_slim.quantization.qdq_writer import WEIGHT_BITS
from ppocr_slim.runtime.images import find_images


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description="Quantize an FP32 ONNX file after its training.")
    parser.add_argument("model", type=Path, help="FP32 file whose input is [N, 3, H, W] in -1 to 1, a recognizer's")
    parser.add_argument("--out", type=Path, required=True, help="INT8 file to write")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="lines it sees, or folders of them")
    parser.add_argument("--rows", type=int, default=64, help="number of images to use, evenly spaced (default 64)")
    parser.add_argument("--height", type=int, help="height of the input in pixels; default: the network's own")
    parser.add_argument(
        "--weight-bits", type=int, choices=WEIGHT_BITS, default=SAFE_BITS, help="8 needs VNNI (default 7)"
    )
    parser.add_argument(
        "--float-layers", nargs="+", default=[], metavar="PATTERN", help="layers left in float: names or patterns"
    )
    parser.add_argument("--time", action="store_true", help="time both files in turn, in each installed engine")
    options = parser.parse_args(argv)
    if options.rows < 1 or (options.height is not None and options.height < 1):
        parser.error("--rows and --height must be at least 1")
    images = evenly_spaced(find_images(options.images), options.rows)
    report = quantize_file(
        options.model,
        options.out,
        images,
        options.height,
        options.weight_bits,
        options.float_layers,
        options.time,
    )
    print(report)
    return 0
