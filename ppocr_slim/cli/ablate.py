"""One config turned into a table of experiments: tools/ablate.py -c configs/ablation/rec_height.yml [--jobs 2]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.cli.options import shown_command
from ppocr_slim.config.ablation import load_ablation
from ppocr_slim.errors import SlimError


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train all variants of a config with all seeds, and compare accuracy, size and time. What is done "
        "is kept, what was stopped goes on with the same command, and a variant that fails takes no other with it.",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="YAML file, see configs/ablation/")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of the time")
    parser.add_argument("--no-probe", action="store_true", help="with --dry-run: train not even a few steps for it")
    parser.add_argument("--read-only", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--any-code", action="store_true", help="what is done counts, whatever the code was then")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: 1; with --ray one for each machine)")
    ray = {"nargs": "?", "const": "local", "metavar": "ADDRESS"}
    parser.add_argument("--ray", **ray, help="run over a Ray cluster ('auto', HOST:PORT; alone: Ray on this machine)")
    parser.add_argument("--rounds", type=int, default=15, help="of timing (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write OUT.json, .csv, .md and .png, e.g. docs/results/rec_height")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        raise SlimError(f"{options.rounds} rounds measure nothing; give 1 or more")
    ignored = [
        (options.no_probe and not options.dry_run, "--no-probe is for --dry-run"),
        (options.dry_run and options.out, "--dry-run writes no --out"),
        (options.read_only and (options.jobs or options.ray), "--read-only runs nothing: no --jobs, no --ray"),
    ]
    for is_given, problem in ignored:
        if is_given:
            raise SlimError(f"{problem}; leave one of the two out")
    load_ablation(options.config)
    # Paddle takes seconds to import: only once the file is known to be right.
    from ppocr_slim.experiments.ablation import ablate, plan
    from ppocr_slim.experiments.estimates import forecast, plan_text
    from ppocr_slim.experiments.executors import open_executor
    from ppocr_slim.reports.ablation import failures, text_table, write_ablation
    from ppocr_slim.reports.records import Ablation, read_record

    planned = plan(options.config, options.any_code)
    if options.dry_run:
        print(plan_text(planned, forecast(planned, not options.no_probe), options.jobs or 1))
        return 0
    executor = None if options.read_only else open_executor(options.jobs, options.ray)
    command = shown_command()
    figures, stopped = ablate(planned, executor, command, options.rounds)
    record = read_record(Ablation, figures, "the ablation")
    print(text_table(record))
    if options.out and not stopped:
        print(f"wrote {write_ablation(options.out, figures)}")
    return 128 + stopped if stopped else int(bool(failures(record)))
