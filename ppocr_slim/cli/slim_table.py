"""Command `ppocr-slim slim-table`: ablation of the slimming techniques of a recipe.

Example: ppocr-slim slim-table -c configs/kalapa/slim_table.yml [--rows ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.cli.options import add_config
from ppocr_slim.config.loading import load_config
from ppocr_slim.reports.provenance import shown_command


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a config's recipe with and without each of its techniques, and compare size, CER and "
        "latency. Finished runs are kept, and an interrupted one resumes with the same command.",
    )
    add_config(parser)
    parser.add_argument("--rows", default="fp32,distill,fpgm,pact,share,all", help="table rows (default: %(default)s)")
    bits = {"nargs": "*", "type": int, "default": [8, 5, 4, 3, 2]}
    parser.add_argument(
        "--bits", **bits, help="bit widths of the bit table (default: 8 5 4 3 2; no number: no bit table)"
    )
    parser.add_argument("--read-only", action="store_true", help="train nothing: report the runs that are finished")
    parser.add_argument("--rounds", type=int, default=15, help="timing rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write OUT.json, .csv, .md and .png, e.g. docs/results/slim_table")
    options = parser.parse_args(argv)
    config = load_config(options.config, options.override)
    rows = [name.strip() for name in options.rows.split(",") if name.strip()]
    # Importing Paddle takes seconds: only after the config has been checked.
    from ppocr_slim.experiments.slim_table import slim_table
    from ppocr_slim.reports.records import SlimTable, read_record
    from ppocr_slim.reports.slim_table import text_table, write_slim_table

    results = slim_table(config, shown_command(), rows, options.bits, options.read_only, options.rounds)
    print(text_table(read_record(SlimTable, results, "the slim table")))
    if options.out:
        print(f"wrote {write_slim_table(options.out, results)}")
    return 0
