"""The slim table, what each technique costs and saves: tools/slim_table.py -c configs/rec_slim.yml [--rows ...]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.cli.options import add_config, shown_command
from ppocr_slim.config.loading import load_config


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a config's recipe with and without each of its techniques, and compare size, CER and time. "
        "What is done is kept: a run that was stopped continues with the same command.",
    )
    add_config(parser)
    parser.add_argument("--rows", default="fp32,distill,fpgm,pact,share,all", help="default: %(default)s")
    bits = {"nargs": "*", "type": int, "default": [8, 5, 4, 3, 2]}
    parser.add_argument("--bits", **bits, help="of the bit table (default: 8 5 4 3 2); with no number there is none")
    parser.add_argument("--read-only", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--rounds", type=int, default=15, help="of timing (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write OUT.json, .csv, .md and .png, e.g. docs/results/slim_table")
    options = parser.parse_args(argv)
    config = load_config(options.config, options.override)
    rows = [name.strip() for name in options.rows.split(",") if name.strip()]
    # Paddle takes seconds to import: only once the config is known to be right.
    from ppocr_slim.experiments.slim_table import slim_table
    from ppocr_slim.reports.records import SlimTable, read_record
    from ppocr_slim.reports.slim_table import text_table, write_slim_table

    figures = slim_table(config, shown_command(), rows, options.bits, options.read_only, options.rounds)
    print(text_table(read_record(SlimTable, figures, "the slim table")))
    if options.out:
        print(f"wrote {write_slim_table(options.out, figures)}")
    return 0
