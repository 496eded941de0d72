"""Score a checkpoint folder or an exported bundle: tools/eval.py FOLDER --data LABEL_FILE"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ppocr_slim.cli.options import add_decoding, add_engine
from ppocr_slim.data.page_labels import read_samples
from ppocr_slim.evaluation.directions import evaluate_directions
from ppocr_slim.evaluation.lines import evaluate, post_effects
from ppocr_slim.evaluation.pages import evaluate_pages
from ppocr_slim.evaluation.tables import direction_table, page_table
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.recognizer import Recognizer, open_bundle_decoder
from ppocr_slim.tasks.networks import open_network
from ppocr_slim.visualize.evaluation_sheets import direction_sheet, page_sheet
from ppocr_slim.visualize.line_sheet import reading_sheet


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Score a network on labelled lines, a detector on labelled pages."
    )
    parser.add_argument("folder", type=Path, help="checkpoint folder or exported bundle")
    parser.add_argument("--data", type=Path, required=True, help="label file; of a detector one of pages with boxes")
    parser.add_argument("--image-root", type=Path, help="folder that image paths start from")
    add_engine(parser, threads=False)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write scores and all lines here")
    parser.add_argument("--worst-sheet", type=Path, metavar="PNG", help="draw the worst lines (pages) here")
    parser.add_argument("--worst", type=int, default=24, help="lines (pages) on the sheet (default 24)")
    add_decoding(parser)
    parser.add_argument("--language", type=Path, metavar="FILE", help="the language model; default: the bundle's")
    options = parser.parse_args(argv)
    network = open_network(options.folder, options.engine, options.precision)
    samples, findings = read_samples(network.spec.task, options.data, options.image_root)
    watched = sys.stderr.isatty()
    if not isinstance(network, Recognizer):
        if options.post or options.decode != "greedy":
            parser.error("--post and --decode are for recognizers")
        if isinstance(network, Detector):
            result = evaluate_pages(network, samples, watched)
            table, draw = page_table(result), page_sheet
        else:
            result = evaluate_directions(network, samples, watched)
            table, draw = direction_table(result), direction_sheet
        print("\n".join(table + [f"left out: {finding.where}: {finding.detail}" for finding in findings]))
        if options.json:
            options.json.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
            print(f"wrote {options.json}")
        if options.worst_sheet:
            draw(result.worst(options.worst), options.worst_sheet)
            print(f"wrote {options.worst_sheet}")
        return 0

    if options.language and options.decode == "greedy":
        parser.error("--language is for --decode beam and address")
    network.decode = open_bundle_decoder(options.decode, options.folder, options.language)
    result = evaluate(network, samples, progress=watched)
    print(f"{'writer':<16} {'lines':>6} {'CER':>7} {'WER':>7} {'exact':>7} {'similar':>8} {'Kalapa':>7}")
    for name, s in [*result.by_group.items(), ("all", result.scores)]:
        print(
            f"{name:<16} {s.lines:>6} {s.cer:>7.4f} {s.wer:>7.4f} {s.line_accuracy:>7.4f} "
            f"{s.edit_similarity:>8.4f} {s.kalapa_score:>7.4f}"
        )
    for finding in findings:
        print(f"left out: {finding.where}: {finding.detail}")
    for _, reason in result.unreadable:
        print(f'counted as read "": {reason}')
    effects = post_effects(result, options.post) if options.post else []
    if effects:
        print(f"\n{'post-processing':<32} {'CER':>7} {'WER':>7} {'changed':>8} {'better':>7} {'worse':>6}")
    for effect in effects:
        print(
            f"{', '.join(effect.names) or 'none':<32} {effect.scores.cer:>7.4f} {effect.scores.wer:>7.4f} "
            f"{effect.changed:>8} {effect.better:>7} {effect.worse:>6}"
        )
    if options.json:
        record = {**result.to_json(), **({"post": [asdict(effect) for effect in effects]} if effects else {})}
        text = json.dumps(record, ensure_ascii=False, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {options.json}")
    if options.worst_sheet:
        worst = result.worst(options.worst)
        reading_sheet(worst, options.worst_sheet, f"The {len(worst)} worst of {result.scores.lines} lines")
        print(f"wrote {options.worst_sheet}")
    return 0
