"""What is wrong with a config's data: doctor.py -c configs/rec_slim.yml [-o Section.key=value ...]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.config.loading import load_config
from ppocr_slim.errors import run_tool


def main() -> int:
    parser = argparse.ArgumentParser(description="Check label files and images; status 1: something found.")
    parser.add_argument("-c", "--config", type=Path, required=True)
    parser.add_argument("-o", "--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.override)
    # Paddle takes seconds to import: only once the config is known to be right.
    from ppocr_slim.tasks.checks import diagnose

    _, train, evaluation = diagnose(config)
    print(train.report("train", shown=None))
    print(evaluation.report("eval", shown=None))
    return 0 if train.is_clean and evaluation.is_clean else 1


if __name__ == "__main__":
    sys.exit(run_tool(main))
