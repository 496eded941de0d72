"""Command `ppocr-slim bench-training`: training speed compared with stock Paddle and PyTorch.

Example: ppocr-slim bench-training [--cases crnn_x05,shipped] [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ppocr_slim.benchmarks.training_speed import CASES, TrainingSpeedSettings, run_contender, run_training_benchmark
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.reports.provenance import shown_command
from ppocr_slim.reports.records import TrainingSpeed, read_record
from ppocr_slim.reports.training_speed import table, write_training_speed


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Compare the training speed of stock Paddle, this project and PyTorch."
    )
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=4, help="timing rounds (default: %(default)s; 0: only --curve and --memory)"
    )
    parser.add_argument("--steps", type=int, default=5, help="steps per contender and round (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="batch size (default: the case's own)")
    parser.add_argument(
        "--processes",
        type=int,
        default=usable_cores(),
        help="processes of this project's training (default: one per core)",
    )
    parser.add_argument(
        "--curve",
        type=int,
        default=0,
        metavar="STEPS",
        help="compare the losses of stock and fast kernels over this many steps",
    )
    parser.add_argument(
        "--memory",
        type=int,
        default=0,
        metavar="STEPS",
        help="record the memory of this project's training over this many steps",
    )
    parser.add_argument(
        "--torch-python", metavar="PATH", help="Python interpreter in which torch is installed (default: this one)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("output/bench_training.json"),
        help="JSON file of the results; the report is written beside it (default: %(default)s)",
    )
    # Internal: the benchmark starts its processes with it
    parser.add_argument("--contender", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.contender:
        return run_contender(options.contender)
    names = [name.strip() for name in options.cases.split(",") if name.strip()]
    unknown = [name for name in names if name not in CASES]
    if unknown or not names:
        parser.error(f"--cases: choose from {', '.join(CASES)}")
    changes = {} if options.batch is None else {"batch": options.batch}
    cases = [replace(CASES[name], **changes) for name in names]
    settings = TrainingSpeedSettings(
        cases=cases,
        rounds=options.rounds,
        steps=options.steps,
        processes=options.processes,
        curve=options.curve,
        memory=options.memory,
        torch_python=options.torch_python,
    )
    report = None
    for results in run_training_benchmark(settings, shown_command()):
        report = write_training_speed(options.out, results)
    if options.rounds:
        print(table(read_record(TrainingSpeed, results, "the benchmark")))
    print(f"wrote {options.out} and {report}")
    return 0
