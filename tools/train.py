#!/usr/bin/env python3
"""Run a config's recipe: tools/train.py -c configs/rec_slim.yml [-o Section.key=value ...]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.config.loading import load_config
from ppocr_slim.errors import run_tool
from ppocr_slim.training.launch import launch, launched


def main() -> int:
    parser = argparse.ArgumentParser(description="Train and export a model as its config says.")
    parser.add_argument("-c", "--config", type=Path, required=True, help="YAML file, see configs/")
    parser.add_argument(
        "-o",
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. Optimizer.lr=7e-4",
    )
    options = parser.parse_args()
    config = load_config(options.config, options.override)

    if config.run.processes > 1 and not launched():
        return launch(config.run.processes, sys.argv, config.run.output_dir / "processes")
    # Paddle takes seconds to import: only once the config is known to be right.
    from ppocr_slim.training.recipe import run_recipe

    run_recipe(config)
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
