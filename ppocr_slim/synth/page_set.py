"""Writes a detection data set of made pages: photographs, and label files in PaddleOCR's form.

Like the rows' set (`dataset`): the same, byte for byte, on any number of processes, and in place whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ppocr_slim import __version__
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.runtime.backends import usable_cores
from ppocr_slim.synth.fonts import family_versions
from ppocr_slim.synth.pages import PageMaker, PageOptions, label_line, with_boxes

SPLITS = ("train", "val")
MARKER = "pages.json"  # what the set was made from; a folder without it was made by somebody else
_CHUNK = 4  # pages a worker takes at a time


@dataclass(frozen=True)
class Recipe:
    """What every process needs to make the same pages."""

    seed: int
    options: PageOptions
    fonts: Path | None = None
    rows: tuple[Path, ...] = ()

    def maker(self) -> PageMaker:
        return PageMaker(self.options, self.fonts, self.rows)


@dataclass(frozen=True)
class Summary:
    """What was written, and how fast."""

    pages: int
    lines: int
    seconds: float

    @property
    def pages_per_second(self) -> float:
        return self.pages / max(self.seconds, 1e-9)


def synthesize_pages(
    out: Path, count: int, val: int, recipe: Recipe, workers: int | None = None, progress: bool = True
) -> Summary:
    """Write `count` training and `val` validation pages: images/<split>_NNNNNN.jpg, train.txt, val.txt, and in
    pages.json what they were made from.

    The set is built beside `out` and renamed into place at the end. SlimError for numbers that make no sense, an
    `out` that this function did not make, fonts or rows that cannot be used, or a disk that is full.
    """
    out = Path(os.path.abspath(out))  # "out" may be ".", which has no name to build beside
    workers = usable_cores() if workers is None else workers
    for name, value, least in (("count", count, 1), ("val", val, 0), ("seed", recipe.seed, 0), ("workers", workers, 1)):
        if value < least:
            raise SlimError(f"{name} {value}: is too small; give {least} or more")
    for folder in (out, old_folder(out)):
        if folder.exists() and not _is_replaceable(folder):
            raise SlimError(f"{folder}: holds something that this tool did not make; give another --out or empty it")
    begun = time.perf_counter()
    maker = recipe.maker()  # in this process first: what is wrong with fonts or rows is then said once
    partial = out.parent / f"{out.name}.partial"
    try:
        if partial.exists():
            shutil.rmtree(partial)
        (partial / "images").mkdir(parents=True)
    except OSError as error:
        raise SlimError(f"{partial}: cannot be made ({error.strerror}); give another --out") from error
    numbers = {"train": count, "val": val}
    chunks = [
        _Chunk(partial, split, first, min(first + _CHUNK, numbers[name]))
        for split, name in enumerate(SPLITS)
        for first in range(0, numbers[name], _CHUNK)
    ]
    labels: dict[str, list[str]] = {name: [] for name in SPLITS}
    lines = 0
    try:
        with tqdm(total=count + val, unit="page", disable=not progress) as bar:
            for chunk, (texts, boxes) in _run(chunks, maker, recipe, workers):
                labels[SPLITS[chunk.split]] += texts
                lines += boxes
                bar.update(len(texts))
        for name in SPLITS:
            (partial / f"{name}.txt").write_text("".join(labels[name]), encoding="utf-8")
        (partial / MARKER).write_text(json.dumps(_made_from(recipe, numbers), indent=1) + "\n", encoding="utf-8")
        os.sync()
        publish_folder(partial, out)
    except OSError as error:
        raise SlimError(f"{out}: cannot be written ({error.strerror}); make room and run again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Summary(count + val, lines, time.perf_counter() - begun)


def _made_from(recipe: Recipe, numbers: dict[str, int]) -> dict[str, object]:
    return {
        "made_by": f"ppocr_slim {__version__}",
        "seed": recipe.seed,
        **numbers,
        "options": asdict(recipe.options),
        "fonts": family_versions(recipe.fonts) if recipe.fonts else {},
        "rows": [str(path) for path in recipe.rows],
    }


@dataclass(frozen=True)
class _Chunk:
    folder: Path
    split: int
    first: int
    last: int


def _write_chunk(chunk: _Chunk, maker: PageMaker, seed: int) -> tuple[list[str], int]:
    """The chunk's lines of the label file, and how many boxes they have."""
    texts, boxes = [], 0
    for index in range(chunk.first, chunk.last):
        page = maker.make(seed, chunk.split, index)
        name = f"images/{SPLITS[chunk.split]}_{index:06d}.jpg"
        encoded = cv2.imencode(".jpg", page.image, [cv2.IMWRITE_JPEG_QUALITY, page.quality])[1]
        (chunk.folder / name).write_bytes(encoded.tobytes())
        texts.append(label_line(name, page.boxes))
        boxes += len(page.boxes)
    return texts, boxes


_worker: tuple[PageMaker, int] | None = None


def _start_worker(recipe: Recipe) -> None:
    global _worker
    cv2.setNumThreads(1)  # the processes share the cores already
    _worker = recipe.maker(), recipe.seed


def _work(chunk: _Chunk) -> tuple[list[str], int]:
    return _write_chunk(chunk, *_worker)


def _run(
    chunks: Sequence[_Chunk], maker: PageMaker, recipe: Recipe, workers: int
) -> Iterator[tuple[_Chunk, tuple[list[str], int]]]:
    """Each chunk with what was written of it, in the order of the chunks."""
    if workers == 1:
        for chunk in chunks:
            yield chunk, _write_chunk(chunk, maker, recipe.seed)
        return
    # spawn: a fork of a process whose OpenCV has threads can hang
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(recipe,))
    try:
        yield from zip(chunks, pool.map(_work, chunks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_replaceable(out: Path) -> bool:
    """An empty folder, or a set that was made here: with the marker, and nothing beside the set."""
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else {""}
    return not names or (MARKER in names and names <= {MARKER, "images", *(f"{name}.txt" for name in SPLITS)})


def page_sheet(recipe: Recipe, pages: int = 12, columns: int = 4, tile: int = 640) -> np.ndarray:
    """The first training pages side by side with their boxes drawn in, BGR uint8."""
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
