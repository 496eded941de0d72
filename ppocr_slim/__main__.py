"""`python -m ppocr_slim` is the command `ppocr-slim`. Processes that the project starts run this very file."""

import sys
from pathlib import Path

if not __package__:  # run as a file: the package's own folder is no place to import from
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ppocr_slim.cli.main import run

if __name__ == "__main__":
    run()
