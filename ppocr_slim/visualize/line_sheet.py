"""Contact sheets of text lines with their labels and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import EvaluatedLine
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import resize_to_height
from ppocr_slim.visualize.fonts import FONT_FILE

WIDTH, LINE_HEIGHT, FONT_SIZE, GAP = 1100, 64, 22, 10  # pixels
BLACK, GREY, RED = (20, 20, 20), (110, 110, 110), (205, 25, 25)

Span = tuple[str, bool]  # text, whether it is an error


def reading_sheet(lines: Sequence[EvaluatedLine], path: str | Path, title: str) -> None:
    """Draw the image, label and prediction of each line into a PNG, wrong or missing characters in red."""
    font = ImageFont.truetype(str(FONT_FILE), FONT_SIZE)
    small = ImageFont.truetype(str(FONT_FILE), FONT_SIZE * 2 // 3)
    block = LINE_HEIGHT + 2 * (FONT_SIZE + 8) + GAP
    sheet = Image.new("RGB", (WIDTH, 3 * FONT_SIZE + block * len(lines)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, fill=BLACK, font=font)
    for index, line in enumerate(lines):
        top = 3 * FONT_SIZE + index * block
        try:
            image = _fit(load_image(line.path))
            sheet.paste(Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), (GAP, top))
        except SlimError as error:
            draw.text((GAP, top), str(error), fill=RED, font=small)
        top += LINE_HEIGHT + 4
        draw.text((GAP, top + 4), "label", fill=GREY, font=small)
        draw.text((GAP + 70, top), line.reference, fill=BLACK, font=font)
        top += FONT_SIZE + 6
        draw.text((GAP, top + 4), f"{line.distance} off", fill=GREY, font=small)
        left = GAP + 70.0
        for text, wrong in marked_spans(line.reference, line.reading):
            draw.text((left, top), text, fill=RED if wrong else BLACK, font=font)
            left += draw.textlength(text, font=font)
    sheet.save(path, format="PNG")


def marked_spans(reference: str, reading: str) -> list[Span]:
    """Return the prediction cut into correct and wrong spans; a missing character is a wrong "_"."""
    spans: list[Span] = []
    for operation in Levenshtein.opcodes(reference, reading):
        if operation.tag == "delete":
            spans.append(("_" * (operation.src_end - operation.src_start), True))
        else:
            spans.append((reading[operation.dest_start : operation.dest_end], operation.tag != "equal"))
    return spans


def _fit(image: np.ndarray) -> np.ndarray:
    """Return the line at `LINE_HEIGHT`, or smaller where it would be too wide for the sheet."""
    too_wide = image.shape[1] * LINE_HEIGHT / image.shape[0] > WIDTH - 2 * GAP
    height = max(1, int(image.shape[0] * (WIDTH - 2 * GAP) / image.shape[1])) if too_wide else LINE_HEIGHT
    return resize_to_height(image, height, WIDTH - 2 * GAP)
