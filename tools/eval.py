#!/usr/bin/env python3
"""Score a checkpoint folder or an exported bundle: tools/eval.py FOLDER --data LABEL_FILE"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppocr_slim.bench.pictures import reading_sheet
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import run_tool
from ppocr_slim.runtime.backends import BACKENDS, PRECISIONS
from ppocr_slim.runtime.correct import POST_PROCESSING, post_processing_names
from ppocr_slim.tasks.evaluation import evaluate, open_recognizer, post_effects


def main() -> int:
    parser = argparse.ArgumentParser(description="Read labelled rows and count the errors.")
    parser.add_argument("folder", type=Path, help="checkpoint folder or exported bundle")
    parser.add_argument("--data", type=Path, required=True, help="label file: path<TAB>text")
    parser.add_argument("--image-root", type=Path, help="folder that image paths start from")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="onnxruntime", help="for a bundle")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="for a bundle (default: its faster)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write scores and all lines here")
    parser.add_argument("--worst-sheet", type=Path, metavar="PNG", help="draw the worst lines here")
    parser.add_argument("--worst", type=int, default=24, help="lines on the sheet (default 24)")
    parser.add_argument(
        "--post", metavar="NAMES", help=f"what these corrections do, comma-separated: {', '.join(POST_PROCESSING)}"
    )
    options = parser.parse_args()
    names = post_processing_names(options.post) if options.post is not None else ()
    samples, findings = read_label_file(options.data, options.image_root)
    recognizer = open_recognizer(options.folder, options.backend, options.precision)
    result = evaluate(recognizer, samples, progress=sys.stderr.isatty())

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
    effects = post_effects(result, names) if names else []
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


if __name__ == "__main__":
    sys.exit(run_tool(main))
