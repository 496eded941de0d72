"""A synthetic data set for detection: photographed pages, and label files in PaddleOCR's format."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ppocr_slim.synth.dataset_writer import SPLITS, GenerateImage, LabelledImage, Summary, write_dataset
from ppocr_slim.synth.fonts import family_versions, printed_versions
from ppocr_slim.synth.pages import PageGenerator, PageOptions, draw_boxes, label_line


@dataclass(frozen=True)
class PageRecipe:
    """Arguments of a data set of pages; `real_lines` are label files of lines to set between the synthetic ones."""

    seed: int
    options: PageOptions
    fonts: Path | None = None
    real_lines: tuple[Path, ...] = ()

    marker: ClassVar[str] = "pages.json"
    unit: ClassVar[str] = "page"
    chunk: ClassVar[int] = 4

    def page_generator(self) -> PageGenerator:
        """Return the generator of the data set's pages."""
        return PageGenerator(self.options, self.fonts, self.real_lines)

    def image_generator(self) -> GenerateImage:
        """Return the generator of the data set's images; see `DatasetRecipe`."""
        generator = self.page_generator()

        def generate_image(split: int, index: int) -> LabelledImage:
            page = generator.generate(self.seed, split, index)
            path = f"images/{SPLITS[split]}_{index:06d}.jpg"
            return LabelledImage(path, page.image, page.quality, label_line(path, page.boxes), len(page.boxes))

        return generate_image

    def provenance(self, count: int, val: int) -> dict[str, object]:
        """Return the content of pages.json; see `DatasetRecipe`."""
        return {
            "seed": self.seed,
            "train": count,
            "val": val,
            "options": asdict(self.options),
            "fonts": family_versions(self.fonts) if self.fonts else {},
            "print": printed_versions(self.fonts) if self.fonts else {},
            "rows": [str(path) for path in self.real_lines],
        }


def synthesize_pages(
    out: Path, count: int, val: int, recipe: PageRecipe, workers: int | None = None, progress: bool = True
) -> Summary:
    """Write a data set of pages: images/<split>_NNNNNN.jpg, train.txt, val.txt, and its provenance, pages.json.

    Args:
        out: folder of the data set; one that was written here before is replaced.
        count: training pages.
        val: validation pages.
        recipe: what to generate.
        workers: processes; without it, one for each core.
        progress: show a progress bar.

    Returns:
        Counts and duration.

    Raises:
        SlimError: as `write_dataset` raises it.
    """
    return write_dataset(out, count, val, recipe, workers, progress)


def boxed_pages(recipe: PageRecipe, count: int) -> list[np.ndarray]:
    """Return the first training pages with their boxes drawn, each [H, W, 3] uint8 BGR."""
    generator = recipe.page_generator()
    return [draw_boxes(generator.generate(recipe.seed, 0, index)) for index in range(count)]
