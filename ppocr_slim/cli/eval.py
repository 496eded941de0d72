"""Command `ppocr-slim eval`: evaluate a checkpoint folder or an exported bundle.

Example: ppocr-slim eval FOLDER --data LABEL_FILE
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ppocr_slim.cli.options import add_decoding, add_engine
from ppocr_slim.data.page_labels import read_samples
from ppocr_slim.evaluation.directions import evaluate_directions
from ppocr_slim.evaluation.lines import evaluate, post_effects
from ppocr_slim.evaluation.pages import evaluate_pages
from ppocr_slim.evaluation.tables import direction_table, line_table, page_table, post_table
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.recognizer import Recognizer, open_bundle_decoder
from ppocr_slim.tasks.networks import open_network
from ppocr_slim.visualize.evaluation_sheets import direction_sheet, page_sheet
from ppocr_slim.visualize.line_sheet import reading_sheet


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Evaluate a network on labelled text lines, a detector on labelled pages."
    )
    parser.add_argument("folder", type=Path, help="checkpoint folder or exported bundle")
    parser.add_argument("--data", type=Path, required=True, help="label file of the network's task")
    parser.add_argument(
        "--image-root", type=Path, help="folder that image paths are relative to (default: the label file's)"
    )
    add_engine(parser, threads=False)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores and all lines to this file")
    parser.add_argument("--worst-sheet", type=Path, metavar="PNG", help="draw the worst lines (pages)")
    parser.add_argument(
        "--worst", type=int, default=24, help="number of lines (pages) on the sheet (default: %(default)s)"
    )
    add_decoding(parser)
    parser.add_argument("--language", type=Path, metavar="FILE", help="language model (default: the bundle's)")
    options = parser.parse_args(argv)
    network = open_network(options.folder, options.engine, options.precision)
    samples, findings = read_samples(network.spec.task, options.data, options.image_root)
    watched = sys.stderr.isatty()
    if isinstance(network, Recognizer):
        if options.language and options.decode == "greedy":
            parser.error("--language is for --decode beam and address")
        network.decode = open_bundle_decoder(options.decode, options.folder, options.language)
        result = evaluate(network, samples, progress=watched)
        count = result.scores.lines
        title = f"The {min(options.worst, count)} worst of {count} lines"
        table, draw = line_table(result), partial(reading_sheet, title=title)
    elif options.post or options.decode != "greedy":
        parser.error("--post and --decode are for recognizers")
    elif isinstance(network, Detector):
        result = evaluate_pages(network, samples, watched)
        table, draw = page_table(result), page_sheet
    else:
        result = evaluate_directions(network, samples, watched)
        table, draw = direction_table(result), direction_sheet
    print("\n".join(table + [f"left out: {finding.where}: {finding.detail}" for finding in findings]))
    record = result.to_json()
    if isinstance(network, Recognizer):
        for _, reason in result.unreadable:
            print(f'counted as read "": {reason}')
        if options.post:
            effects = post_effects(result, options.post)
            print("\n" + "\n".join(post_table(effects)))
            record["post"] = [asdict(effect) for effect in effects]
    if options.json:
        options.json.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {options.json}")
    if options.worst_sheet:
        draw(result.worst(options.worst), options.worst_sheet)
        print(f"wrote {options.worst_sheet}")
    return 0
