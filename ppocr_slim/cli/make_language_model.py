"""Command `ppocr-slim language-model`: train a character n-gram language model of addresses.

Example: ppocr-slim language-model --labels dataset/kalapa/train.txt --bundle DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.runtime.bundle import put_language
from ppocr_slim.synth.addresses import AddressBook
from ppocr_slim.text.language_training import build_language_model


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Train a character n-gram model on labels and on synthetic addresses."
    )
    parser.add_argument(
        "--labels", type=Path, nargs="*", default=[], help="label files of training lines (never of evaluation lines)"
    )
    parser.add_argument(
        "--synthetic", "--made", type=int, default=60_000, help="synthetic addresses (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic addresses (default: %(default)s)")
    parser.add_argument(
        "--order", type=int, default=5, help="order of the n-grams, in characters (default: %(default)s)"
    )
    parser.add_argument(
        "--least", type=int, default=3, help="leave out n-grams with a lower count (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--bundle", type=Path, help="recognizer's bundle to put the model into")
    options = parser.parse_args(argv)
    if not options.out and not options.bundle:
        parser.error("give a file (--out) or a bundle (--bundle) to write")
    labels = [sample.text for path in options.labels for sample in read_label_file(path)[0]]
    book, rng = AddressBook(), np.random.default_rng(options.seed)
    synthetic = [book.draw(rng).text for _ in range(options.synthetic)]
    model = build_language_model(labels, synthetic, options.order, options.least)
    if options.out:
        model.save(options.out)
    if options.bundle:
        put_language(options.bundle, model)
    counts = f"{len(labels)} labels and {len(synthetic)} synthetic addresses"
    print(f"{counts}: {len(model)} n-grams of up to {options.order} characters")
    return 0
