"""Command `ppocr-slim bench-pipeline`: end-to-end benchmark of reading pages.

Example: ppocr-slim bench-pipeline --pages LABEL_FILE --rivals rapidocr
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.benchmarks.pipeline import RIVALS, PipelineSettings, parse_range, run_pipeline_benchmark
from ppocr_slim.reports.pipeline import write_pipeline
from ppocr_slim.reports.provenance import shown_command
from ppocr_slim.runtime.bundle import shipped


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Benchmark detection, direction and recognition on labelled pages; compare with RapidOCR.",
    )
    parser.add_argument("--pages", type=Path, default=Path("dataset/kalapa_pages_val/train.txt"), metavar="LABEL_FILE")
    parser.add_argument("--det", type=Path, help="detector's bundle (default: the pretrained one)")
    parser.add_argument("--cls", type=Path, help="direction classifier's bundle (default: the pretrained one)")
    parser.add_argument("--rec", type=Path, help="recognizer's bundle (default: the pretrained one)")
    parser.add_argument(
        "--direction-lines",
        "--rows",
        type=Path,
        metavar="LABEL_FILE",
        help="text lines to evaluate the direction classifier on, besides the lines of the pages",
    )
    parser.add_argument(
        "--only-lines",
        "--only-rows",
        type=Path,
        metavar="LABEL_FILE",
        help="score only lines whose text is in this label file of text lines",
    )
    parser.add_argument("--rivals", default="", help=f"comma-separated names of: {', '.join(RIVALS)}")
    parser.add_argument(
        "--rival-python", metavar="PATH", help="Python interpreter in which they are installed (default: this one)"
    )
    parser.add_argument("--lines", default="8-12", help="number of lines of the pages to time (default: %(default)s)")
    parser.add_argument(
        "--timed-pages", type=int, default=10, help="maximum number of pages to time (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timing rounds (default: %(default)s; 0: no timing)")
    parser.add_argument("--limit", type=int, help="maximum number of pages and of text lines")
    parser.add_argument("--threads", type=int, default=2, help="threads per pipeline (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("output/pipeline"), help="write OUT.json and OUT.md")
    options = parser.parse_args(argv)
    rivals = [name.strip() for name in options.rivals.split(",") if name.strip()]
    if set(rivals) - set(RIVALS):
        parser.error(f"--rivals: choose from {', '.join(RIVALS)}")
    settings = PipelineSettings(
        pages=options.pages,
        det=options.det or shipped("det"),
        cls=options.cls or shipped("cls"),
        rec=options.rec or shipped("rec"),
        direction_lines=options.direction_lines,
        only_lines=options.only_lines,
        lines=parse_range(options.lines),
        limit=options.limit,
        rounds=options.rounds,
        timed_pages=options.timed_pages,
        threads=options.threads,
        rivals=rivals,
        rival_python=options.rival_python,
    )
    results = run_pipeline_benchmark(settings, shown_command())
    report = write_pipeline(options.out, results)
    print(report.read_text(encoding="utf-8"))
    print(f"wrote {options.out}.json and {report}")
    return 0
