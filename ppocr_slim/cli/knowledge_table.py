"""Command `ppocr-slim decoding-table`: compare greedy decoding with decoding by a language model.

Example: ppocr-slim decoding-table BUNDLE --data LABEL_FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.benchmarks.decoding import METHODS, compare_methods, worse_lines
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import logger
from ppocr_slim.reports.decoding import table, write_decoding
from ppocr_slim.reports.provenance import shown_command
from ppocr_slim.reports.records import Decoding, read_record
from ppocr_slim.runtime.sessions import PRECISIONS
from ppocr_slim.visualize.line_sheet import reading_sheet


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Decode labelled text lines greedily and with knowledge of addresses, and compare CER and time.",
    )
    parser.add_argument("bundle", type=Path, help="exported bundle with a language model")
    parser.add_argument("--data", type=Path, required=True, help="label file of text lines")
    parser.add_argument("--language", type=Path, metavar="FILE", help="language model (default: the bundle's)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="auto: the faster one when the bundle was exported"
    )
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md, e.g. docs/results/knowledge")
    parser.add_argument(
        "--worse-sheet", type=Path, metavar="PNG", help="draw the lines that the address search made worse"
    )
    options = parser.parse_args(argv)
    samples, findings = read_label_file(options.data)
    for finding in findings:
        logger.warning("left out: %s: %s", finding.where, finding.detail)
    command = shown_command()
    results, lines = compare_methods(options.bundle, samples, command, options.precision, options.language)
    print(table(read_record(Decoding, results, "the comparison")))
    if options.out:
        print(f"wrote {write_decoding(options.out, results)}")
    if options.worse_sheet:
        worse = worse_lines(lines, METHODS[-1].name)
        reading_sheet(worse, options.worse_sheet, f"{len(worse)} of {len(samples)} lines that knowledge made worse")
        print(f"wrote {options.worse_sheet}")
    return 0
