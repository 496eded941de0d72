"""Options shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from ppocr_slim.engines.session import ENGINES
from ppocr_slim.runtime.sessions import PRECISIONS
from ppocr_slim.text.corrections import CORRECTIONS, correction_names
from ppocr_slim.text.decoders import DECODERS


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add -c and -o: a config file and overrides of single keys."""
    parser.add_argument("-c", "--config", type=Path, required=True, help="YAML file, see configs/")
    parser.add_argument(
        "-o",
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override single keys, e.g. Optimizer.lr=7e-4",
    )


def add_engine(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    """Add --engine, --precision and --threads: the inference engine of a bundle."""
    parser.add_argument(
        "--engine", "--backend", choices=sorted(ENGINES), default="onnxruntime", help="inference engine"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="auto: the faster one when the bundle was exported"
    )
    if threads:
        parser.add_argument("--threads", type=int, help="default: one per core")


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add --bundle: the exported network."""
    parser.add_argument("--bundle", type=Path, help="exported bundle (default: the pretrained one)")


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add --decode and --post: the decoder and the corrections of texts."""
    parser.add_argument(
        "--decode",
        choices=DECODERS,
        default="greedy",
        help="beam: with the bundle's language model; address: with place names, too (default: %(default)s)",
    )
    parser.add_argument(
        "--post",
        type=correction_names,
        default=(),
        metavar="NAMES",
        help=f"corrections of the texts, comma-separated, applied in this order: {', '.join(CORRECTIONS)}",
    )


def add_drop_score(parser: argparse.ArgumentParser, default: float, help: str) -> None:
    """Add --drop-score: the minimum confidence of a text."""
    parser.add_argument("--drop-score", type=_fraction, default=default, metavar="CONFIDENCE", help=help)


def add_batch_size(parser: argparse.ArgumentParser, default: int, help: str) -> None:
    """Add --batch-size: the number of samples per batch."""
    parser.add_argument("--batch-size", type=positive, default=default, help=f"{help} (default: %(default)s)")


def add_json(parser: argparse.ArgumentParser, thing: str) -> None:
    """Add --json: JSON output instead of a table."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON object per {thing} instead of a table")


def positive(text: str) -> int:
    """Return the positive integer that `text` is.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be a confidence from 0 to 1")
    return number
