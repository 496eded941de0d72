"""Command `ppocr-slim export`: export a checkpoint, or quantize the network of a bundle again.

Example: ppocr-slim export FOLDER --out DIR --data LABEL_FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.data.page_labels import read_samples
from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.evaluation.verification import evenly_spaced
from ppocr_slim.export.bundle import FORMATS, export_bundle, requantize_bundle
from ppocr_slim.folders import readable_folder
from ppocr_slim.quantization.qdq_writer import WEIGHT_BITS
from ppocr_slim.runtime.bundle import is_bundle, read_bundle
from ppocr_slim.tasks.checkpoint import ModelCard


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Export a checkpoint and verify that the exported files predict the same."
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder, or bundle (onnx_int8 only)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument(
        "--data", type=Path, required=True, help="label file of the network's task, for the parity check"
    )
    parser.add_argument(
        "--image-root", type=Path, help="folder that image paths are relative to (default: the label file's)"
    )
    parser.add_argument(
        "--samples",
        "--rows",
        type=int,
        default=32,
        help="lines or pages of the parity check, evenly spaced over the file (default: %(default)s)",
    )
    parser.add_argument(
        "--budget-mb", type=float, default=50.0, help="maximum megabytes of each format (default: %(default)s)"
    )
    parser.add_argument("--formats", default="paddle,onnx", help=f"comma-separated names of: {', '.join(FORMATS)}")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="label file of training samples, to calibrate onnx_int8 of a bundle or a float network",
    )
    parser.add_argument(
        "--calibration-samples",
        "--calibration-rows",
        type=int,
        default=64,
        help="samples to calibrate on, evenly spaced over the file (default: %(default)s)",
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=WEIGHT_BITS,
        default=SAFE_BITS,
        help="8 needs a CPU with VNNI (default: %(default)s)",
    )
    parser.add_argument(
        "--weights-only", action="store_true", help="only the weights of onnx_int8 are integers: as fast as FP32"
    )
    options = parser.parse_args(argv)
    if options.samples < 1 or options.calibration_samples < 1:
        parser.error("--samples and --calibration-samples must be at least 1")
    folder = readable_folder(options.checkpoint)
    from_bundle = is_bundle(folder)
    formats = [name.strip() for name in options.formats.split(",") if name.strip()]
    if from_bundle and formats != ["onnx_int8"]:
        parser.error(f"{folder} is a bundle, from which only onnx_int8 can be exported: give --formats onnx_int8")
    task = (read_bundle(folder) if from_bundle else ModelCard.read(folder)).spec.task
    samples, findings = read_samples(task, options.data, options.image_root)
    samples = evenly_spaced(samples, options.samples)
    calibration, more = read_samples(task, options.calibration) if options.calibration else ([], [])
    calibration, findings = evenly_spaced(calibration, options.calibration_samples), [*findings, *more]
    int8 = options.weight_bits, not options.weights_only
    if from_bundle:
        report = requantize_bundle(folder, options.out, options.budget_mb, samples, calibration, *int8)
    else:
        report = export_bundle(folder, options.out, formats, options.budget_mb, samples, calibration, *int8)
    for finding in findings:
        print(f"left out: {finding.where}: {finding.detail}")
    print(report)
    return 0
