"""Command `ppocr-slim quantize`: quantize an FP32 ONNX file to INT8 after training.

Example: ppocr-slim quantize MODEL.onnx --out OUT.onnx --images FOLDER
"""

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
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Quantize a recognizer's FP32 ONNX file to INT8 after training."
    )
    parser.add_argument("model", type=Path, help="FP32 file of a recognizer with the input [N, 3, H, W] in -1 to 1")
    parser.add_argument("--out", type=Path, required=True, help="INT8 file to write")
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="images of text lines to calibrate on, or folders of them"
    )
    parser.add_argument(
        "--samples",
        "--rows",
        type=int,
        default=64,
        help="number of images to calibrate on, evenly spaced (default: %(default)s)",
    )
    parser.add_argument("--height", type=int, help="height of the input in pixels (default: the network's own)")
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=WEIGHT_BITS,
        default=SAFE_BITS,
        help="8 needs a CPU with VNNI (default: %(default)s)",
    )
    parser.add_argument(
        "--weights-only", action="store_true", help="only the weights are integers: as fast as the FP32 file"
    )
    parser.add_argument(
        "--float-layers",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="names or patterns of layers that stay in float",
    )
    parser.add_argument(
        "--time", action="store_true", help="compare the latency of both files in each installed engine"
    )
    options = parser.parse_args(argv)
    if options.samples < 1 or (options.height is not None and options.height < 1):
        parser.error("--samples and --height must be at least 1")
    images = evenly_spaced(find_images(options.images), options.samples)
    report = quantize_file(
        options.model,
        options.out,
        images,
        options.height,
        options.weight_bits,
        options.float_layers,
        options.time,
        not options.weights_only,
    )
    print(report)
    return 0
