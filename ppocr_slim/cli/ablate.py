"""Command `ppocr-slim ablate`: train all variants of a config and compare them.

Example: ppocr-slim ablate -c configs/ablation/rec_height.yml [--jobs 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppocr_slim.config.ablation import load_ablation
from ppocr_slim.errors import SlimError
from ppocr_slim.reports.provenance import shown_command


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train all variants of a config with all seeds, and compare accuracy, size and latency. Finished "
        "runs are kept, interrupted ones resume with the same command, and a failing variant stops no other.",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="YAML file, see configs/ablation/")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of the training time")
    parser.add_argument(
        "--no-probe", action="store_true", help="with --dry-run: do not train a few steps to measure the speed"
    )
    parser.add_argument("--read-only", action="store_true", help="train nothing: report the runs that are finished")
    parser.add_argument("--any-code", action="store_true", help="accept finished runs of any version of the code")
    parser.add_argument("--jobs", type=int, help="parallel runs (default: 1; with --ray one per machine)")
    ray = {"nargs": "?", "const": "local", "metavar": "ADDRESS"}
    parser.add_argument("--ray", **ray, help="run on a Ray cluster ('auto' or HOST:PORT; default: this machine)")
    parser.add_argument("--rounds", type=int, default=15, help="timing rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write OUT.json, .csv, .md and .png, e.g. docs/results/rec_height")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        raise SlimError(f"--rounds is {options.rounds}; it must be at least 1")
    conflicts = [
        (options.no_probe and not options.dry_run, "--no-probe has no effect without --dry-run"),
        (options.dry_run and options.out, "--dry-run trains nothing that --out could report"),
        (
            options.read_only and (options.jobs or options.ray),
            "--read-only trains nothing, so --jobs and --ray have no effect",
        ),
    ]
    for is_conflict, problem in conflicts:
        if is_conflict:
            raise SlimError(f"{problem}: remove one of the two options")
    load_ablation(options.config)
    # Importing Paddle takes seconds: only after the file has been checked.
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
    results, stopped = ablate(planned, executor, command, options.rounds)
    record = read_record(Ablation, results, "the ablation")
    print(text_table(record))
    if options.out and not stopped:
        print(f"wrote {write_ablation(options.out, results)}")
    return 128 + stopped if stopped else int(bool(failures(record)))
