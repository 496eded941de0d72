"""Check a config's data: tools/doctor.py -c configs/rec_slim.yml [-o Section.key=value ...]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ppocr_slim.cli.options import add_config
from ppocr_slim.config.loading import load_config


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=prog, description="Check label files and images; status 1: something found.")
    add_config(parser)
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.override)
    # Paddle takes seconds to import: only once the config is known to be right.
    from ppocr_slim.tasks.checks import check_config, prepare_data

    _, train, evaluation = prepare_data(check_config(config))
    print(train.report("train", shown=None))
    print(evaluation.report("eval", shown=None))
    return 0 if train.is_clean and evaluation.is_clean else 1
