"""A detection data set of made pages: photographs, and label files in PaddleOCR's form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ppocr_slim.synth.fonts import family_versions, printed_versions
from ppocr_slim.synth.pages import PageMaker, PageOptions, label_line, with_boxes
from ppocr_slim.synth.picture_set import SPLITS, Draw, Picture, Summary, write_set


@dataclass(frozen=True)
class Recipe:
    """What every process needs to make the same pages."""

    seed: int
    options: PageOptions
    fonts: Path | None = None
    rows: tuple[Path, ...] = ()

    marker: ClassVar[str] = "pages.json"
    unit: ClassVar[str] = "page"
    chunk: ClassVar[int] = 4

    def maker(self) -> PageMaker:
        return PageMaker(self.options, self.fonts, self.rows)

    def drawer(self) -> Draw:
        maker = self.maker()

        def draw(split: int, index: int) -> Picture:
            page = maker.make(self.seed, split, index)
            path = f"images/{SPLITS[split]}_{index:06d}.jpg"
            return Picture(path, page.image, page.quality, label_line(path, page.boxes), len(page.boxes))

        return draw

    def made_from(self, count: int, val: int) -> dict[str, object]:
        return {
            "seed": self.seed,
            "train": count,
            "val": val,
            "options": asdict(self.options),
            "fonts": family_versions(self.fonts) if self.fonts else {},
            "print": printed_versions(self.fonts) if self.fonts else {},
            "rows": [str(path) for path in self.rows],
        }


def synthesize_pages(
    out: Path, count: int, val: int, recipe: Recipe, workers: int | None = None, progress: bool = True
) -> Summary:
    """Write `count` training and `val` validation pages: images/<split>_NNNNNN.jpg, train.txt, val.txt, and in
    pages.json what they were made from. SlimError as `write_set` has them.
    """
    return write_set(out, count, val, recipe, workers, progress)


def page_sheet(recipe: Recipe, pages: int = 12, columns: int = 4, tile: int = 640) -> np.ndarray:
    """Return the first training pages side by side with their boxes drawn in, BGR uint8."""
    maker = recipe.maker()
    tiles = []
    for index in range(pages):
        picture = with_boxes(maker.make(recipe.seed, 0, index))
        scale = (tile - 8) / max(picture.shape[:2])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        below, right = tile - picture.shape[0], tile - picture.shape[1]
        tiles.append(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(90, 90, 90)))
    tiles += [np.full_like(tiles[0], 90)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[at : at + columns]) for at in range(0, len(tiles), columns)])
