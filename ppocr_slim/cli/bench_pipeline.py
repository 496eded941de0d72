"""End-to-end benchmark, beside RapidOCR: tools/bench_pipeline.py --pages LABEL_FILE --rivals rapidocr"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.benchmarks.pipeline import RAPIDOCR, PipelineSettings, parse_range, run_pipeline_benchmark
from ppocr_slim.cli.options import shown_command
from ppocr_slim.reports.pipeline import write_pipeline
from ppocr_slim.runtime.bundle import shipped


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Find, turn and read labelled pages; compare with RapidOCR."
    )
    parser.add_argument("--pages", type=Path, default=Path("dataset/kalapa_pages_val/train.txt"), metavar="LABEL_FILE")
    parser.add_argument("--det", type=Path, help="bundle (default: the one that comes with the project)")
    parser.add_argument("--cls", type=Path, help="the same")
    parser.add_argument("--rec", type=Path, help="the same")
    parser.add_argument("--rows", type=Path, metavar="LABEL_FILE", help="a recognizer's: tell directions there, too")
    parser.add_argument("--only-rows", type=Path, metavar="LABEL_FILE", help="read only lines with a text of that file")
    parser.add_argument("--rivals", default="", help=f"comma-separated, of: {RAPIDOCR}")
    parser.add_argument("--rival-python", metavar="PATH", help="an interpreter that has them (default: this one)")
    parser.add_argument("--lines", default="8-12", help="pages of so many lines are timed (default: %(default)s)")
    parser.add_argument("--timed-pages", type=int, default=10, help="at most (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s; 0: no times")
    parser.add_argument("--limit", type=int, help="at most so many pages and lines")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("output/pipeline"), help="OUT.json and OUT.md")
    options = parser.parse_args(argv)
    rivals = [name.strip() for name in options.rivals.split(",") if name.strip()]
    if set(rivals) - {RAPIDOCR}:
        parser.error(f"--rivals: choose from {RAPIDOCR}")
    settings = PipelineSettings(
        pages=options.pages,
        det=options.det or shipped("det"),
        cls=options.cls or shipped("cls"),
        rec=options.rec or shipped("rec"),
        rows=options.rows,
        only_rows=options.only_rows,
        lines=parse_range(options.lines),
        limit=options.limit,
        rounds=options.rounds,
        timed_pages=options.timed_pages,
        threads=options.threads,
        rivals=rivals,
        rival_python=options.rival_python,
    )
    figures = run_pipeline_benchmark(settings, shown_command())
    report = write_pipeline(options.out, figures)
    print(report.read_text(encoding="utf-8"))
    print(f"wrote {options.out}.json and {report}")
    return 0
