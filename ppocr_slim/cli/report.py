"""Make a run's page: tools/report.py RUN --command TEXT --eval JSON --name NAME [...]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.experiments.training_run import collect
from ppocr_slim.reports.training_run import write_training_run


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description="Write a run's figures, page and curve into docs/results.")
    parser.add_argument("run", type=Path, help="folder of a finished run, e.g. output/rec_slim")
    parser.add_argument("--command", required=True, help="the command that was run")
    parser.add_argument("--eval", type=Path, required=True, help="what tools/eval.py --json wrote")
    parser.add_argument("--eval-other", type=Path, help="the same with another engine, to compare the texts")
    parser.add_argument("--predictions", type=Path, help="what tools/predict_rec.py --json printed")
    parser.add_argument("--commit", help="what the run was made from; default: the working tree's")
    parser.add_argument("--note", default="", help="a paragraph for the page")
    parser.add_argument("--name", required=True, help="of the page")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: docs/results")
    options = parser.parse_args(argv)
    figures = collect(
        options.run,
        options.command,
        options.note,
        options.eval,
        options.eval_other,
        options.predictions,
        options.commit,
    )
    print(f"wrote {write_training_run(options.out, options.name, figures)}")
    return 0
