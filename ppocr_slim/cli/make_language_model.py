"""Make a language model of addresses: tools/make_language_model.py --labels dataset/kalapa/train.txt --bundle DIR"""

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
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Count which letters follow which, in labels and in made addresses."
    )
    parser.add_argument("--labels", type=Path, nargs="*", default=[], help="label files, of training lines alone")
    parser.add_argument("--made", type=int, default=60_000, help="addresses to make (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of those (default %(default)s)")
    parser.add_argument("--order", type=int, default=5, help="letters that are looked at (default %(default)s)")
    parser.add_argument("--least", type=int, default=3, help="leave out what is rarer (default %(default)s)")
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--bundle", type=Path, help="recognizer's bundle to put it into")
    options = parser.parse_args(argv)
    if not options.out and not options.bundle:
        parser.error("name a file (--out) or a bundle (--bundle) for it")
    labels = [sample.text for path in options.labels for sample in read_label_file(path)[0]]
    book, rng = AddressBook(), np.random.default_rng(options.seed)
    made = [book.draw(rng).text for _ in range(options.made)]
    model = build_language_model(labels, made, options.order, options.least)
    if options.out:
        model.save(options.out)
    if options.bundle:
        put_language(options.bundle, model)
    print(f"{len(labels)} labels and {len(made)} made addresses: {len(model)} n-grams of up to {options.order} letters")
    return 0
