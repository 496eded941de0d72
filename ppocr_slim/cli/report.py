"""Command `ppocr-slim report`: write the report of a finished training run.

Example: ppocr-slim report RUN --command TEXT --eval JSON --name NAME [...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.experiments.training_run import collect
from ppocr_slim.reports.training_run import write_training_run


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Write the results, the report and the curve of a training run into docs/results."
    )
    parser.add_argument("run", type=Path, help="folder of a finished run, e.g. output/rec_slim")
    parser.add_argument("--command", required=True, help="the command that was run")
    parser.add_argument("--eval", type=Path, required=True, help="JSON file of eval --json")
    parser.add_argument("--eval-other", type=Path, help="the same by another engine, to compare the texts")
    parser.add_argument("--predictions", type=Path, help="output of read-lines --json")
    parser.add_argument("--commit", help="commit that the run was trained by (default: the working tree's)")
    parser.add_argument("--note", default="", help="paragraph for the report")
    parser.add_argument("--name", required=True, help="name of the report")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder to write (default: %(default)s)")
    options = parser.parse_args(argv)
    results = collect(
        options.run,
        options.command,
        options.note,
        options.eval,
        options.eval_other,
        options.predictions,
        options.commit,
    )
    print(f"wrote {write_training_run(options.out, options.name, results)}")
    return 0
