"""Printed text lines that the tests draw for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # has the Vietnamese marks


def draw_row(text: str, height: int = 48, ink: int = 30, paper: int = 215, width: int = 0) -> np.ndarray:
    """Return a printed line of `text`, [height, W, 3] uint8 BGR with W at least `width`."""
    font = ImageFont.truetype(str(FONT), round(height * 0.55))
    width = max(width, round(font.getlength(text)) + height)
    image = Image.new("L", (width, height), paper)
    ImageDraw.Draw(image).text((height // 2, height // 2), text, fill=ink, font=font, anchor="lm")
    return np.repeat(np.asarray(image)[:, :, None], 3, axis=2)


def write_rows(folder: Path, texts: Sequence[str], name: str = "train.txt", width: int = 0) -> Path:
    """Write printed lines as PNG files with their label file; return the label file."""
    images = folder / "images" / Path(name).stem
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(texts):
        path = images / f"{number}.png"
        Image.fromarray(draw_row(text, width=width)[:, :, ::-1]).save(path)
        lines.append(f"{path.relative_to(folder)}\t{text}\n")
    (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder / name
