"""Export a checkpoint, or a bundle with a new INT8 file: tools/export.py FOLDER --out DIR --data LABEL_FILE"""

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
from ppocr_slim.runtime.bundle import CARD, read_bundle
from ppocr_slim.tasks.checkpoint import ModelCard


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description="Export a checkpoint and prove that it reads the same.")
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder, or bundle for onnx_int8 alone")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="label file of the network's task: what is compared")
    parser.add_argument("--image-root", type=Path, help="what image paths are relative to; default: its folder")
    parser.add_argument(
        "--rows", type=int, default=32, help="lines or pages to compare on, spread evenly over the file (default 32)"
    )
    parser.add_argument("--budget-mb", type=float, default=50.0, help="most megabytes a format may have (default 50)")
    parser.add_argument("--formats", default="paddle,onnx", help=f"comma-separated, of {', '.join(FORMATS)}")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="label file of training samples: for onnx_int8 of a bundle or float network",
    )
    parser.add_argument("--calibration-rows", type=int, default=64, help="lines taken of it (default 64)")
    parser.add_argument(
        "--weight-bits", type=int, choices=WEIGHT_BITS, default=SAFE_BITS, help="8 needs VNNI (default 7)"
    )
    options = parser.parse_args(argv)
    if options.rows < 1 or options.calibration_rows < 1:
        parser.error("--rows and --calibration-rows must be at least 1")
    folder = readable_folder(options.checkpoint)
    is_bundle = (folder / CARD).is_file()
    formats = [name.strip() for name in options.formats.split(",") if name.strip()]
    if is_bundle and formats != ["onnx_int8"]:
        parser.error(f"{folder} is a bundle: of its formats only onnx_int8 can be made anew (--formats onnx_int8)")
    task = (read_bundle(folder) if is_bundle else ModelCard.read(folder)).spec.task
    samples, findings = read_samples(task, options.data, options.image_root)
    rows = evenly_spaced(samples, options.rows)
    calibration, more = read_samples(task, options.calibration) if options.calibration else ([], [])
    calibration, findings = evenly_spaced(calibration, options.calibration_rows), [*findings, *more]
    if is_bundle:
        report = requantize_bundle(folder, options.out, options.budget_mb, rows, calibration, options.weight_bits)
    else:
        report = export_bundle(folder, options.out, formats, options.budget_mb, rows, calibration, options.weight_bits)
    for finding in findings:
        print(f"left out: {finding.where}: {finding.detail}")
    print(report)
    return 0
