"""Command `ppocr-slim doctor`: check the data of a config.

Example: ppocr-slim doctor -c configs/rec_slim.yml [-o Section.key=value ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ppocr_slim.cli.options import add_config
from ppocr_slim.config.loading import load_config


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Check the label files and images of a config; exit with status 1 if there are problems."
    )
    add_config(parser)
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.override)
    # Importing Paddle takes seconds: only after the config has been checked.
    from ppocr_slim.tasks.checks import check_config, prepare_data

    _, train, evaluation = prepare_data(check_config(config))
    print(train.report("train", shown=None))
    print(evaluation.report("eval", shown=None))
    return 0 if train.is_clean and evaluation.is_clean else 1
