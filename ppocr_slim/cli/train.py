"""Command `ppocr-slim train`: run a config's recipe.

Example: ppocr-slim train -c configs/rec_slim.yml [-o Section.key=value ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ppocr_slim.cli.options import add_config
from ppocr_slim.config.loading import config_text, load_config
from ppocr_slim.folders import PROGRAM
from ppocr_slim.training.launch import launch, launched, process_count
from ppocr_slim.training.teacher_configs import train_teachers, with_trained_teachers


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Train, slim and export a model as its config says.")
    add_config(parser)
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and train nothing")
    options = parser.parse_args(argv)
    config = load_config(options.config, options.override)
    if options.print_config:
        print(config_text(config), end="")
        return 0

    if not launched():
        status = train_teachers(config)
        if status:
            return status
    config = with_trained_teachers(config)
    count = 1 if launched() else process_count(config)
    if count > 1:
        command = [str(PROGRAM), "train", *(sys.argv[1:] if argv is None else argv)]
        return launch(count, command, config.run.output_dir / "processes")
    # Importing Paddle takes seconds: only after the config has been checked.
    from ppocr_slim.training.recipe import run_recipe

    run_recipe(config)
    return 0
