"""Writes a set of pictures with its label files: on several processes, in place whole or not at all, and the same, byte
for byte, on any number of processes.

What the pictures show is a recipe's affair (`dataset` has that of rows, `page_set` that of pages).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar, Protocol

import cv2
import numpy as np
from tqdm import tqdm

from ppocr_slim import __version__
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import old_folder, publish_folder

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Picture:
    """One picture of a set: its path in the set's folder, the image (uint8 [H, W, 3] BGR), the quality of its JPEG, its
    line of the label file, and how many lines of text it shows.
    """

    path: str
    image: np.ndarray
    quality: int
    label_line: str
    lines: int = 1


# Picture `index` of split `split` (a number in SPLITS): a pure function, or else processes would change what is made
Draw = Callable[[int, int], Picture]


class SetRecipe(Protocol):
    """What every process needs to make the same pictures; it is pickled on its way there."""

    marker: ClassVar[str]  # the file that says what a set was made from; a folder without it was made by somebody else
    unit: ClassVar[str]  # what the progress bar counts
    chunk: ClassVar[int]  # pictures a process takes at a time

    @property
    def seed(self) -> int: ...

    def drawer(self) -> Draw:
        """Loads what all pictures need.

        Raises:
            SlimError: something of it cannot be used.
        """

    def made_from(self, count: int, val: int) -> dict[str, object]:
        """Return what to note in the marker file, so that the set can be made again."""


@dataclass(frozen=True)
class Summary:
    """What was written, and how fast."""

    pictures: int
    lines: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Pictures a second."""
        return self.pictures / max(self.seconds, 1e-9)


def write_set(
    out: Path, count: int, val: int, recipe: SetRecipe, workers: int | None = None, progress: bool = True
) -> Summary:
    """Write `count` training and `val` validation pictures, train.txt, val.txt and the recipe's marker file.

    The set is built beside `out` and renamed into place at the end: `out` holds the old set or the whole new one.
    Without `workers` there is a process for each core.

    Raises:
        SlimError: numbers that make no sense; an `out` that was not made here or that one is in; what the recipe
            cannot use; a disk that is full; a process that died.
    """
    out = Path(os.path.realpath(out))  # "." has no name to build beside, and a link is not to be replaced by a folder
    workers = usable_cores() if workers is None else workers
    for name, value, least in (("count", count, 1), ("val", val, 0), ("seed", recipe.seed, 0), ("workers", workers, 1)):
        if value < least:
            raise SlimError(f"{name} {value}: is too small; give {least} or more")
    partial = out.parent / f"{out.name}.partial"
    for folder in (out, old_folder(out), partial):
        if not _is_replaceable(folder, recipe.marker):
            raise SlimError(f"{folder}: holds something that this tool did not make; give another --out or empty it")
    here = Path(os.path.realpath("."))
    if out == here or out in here.parents:
        raise SlimError(f"{out}: is the folder you are in, which cannot be replaced; name a folder in it")
    begun = time.perf_counter()
    draw = recipe.drawer()  # in this process first: what is wrong with fonts or rows is then said once
    numbers = {"train": count, "val": val}
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise SlimError(f"{partial}: cannot be made ({error.strerror}); give another --out") from error
    labels: dict[str, list[str]] = {name: [] for name in SPLITS}
    lines = 0
    try:
        # the marker first: a run that is killed leaves a folder that the next one knows for its own
        made_from = {"made_by": f"ppocr_slim {__version__}", **recipe.made_from(count, val)}
        (partial / recipe.marker).write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")
        with tqdm(total=count + val, unit=recipe.unit, disable=not progress) as bar:
            for chunk, written in _run(_chunks(partial, numbers, recipe.chunk), draw, recipe, workers):
                labels[chunk.split] += written.label_lines
                lines += written.lines
                bar.update(len(written.label_lines))
        for name in SPLITS:
            (partial / f"{name}.txt").write_text("".join(labels[name]), encoding="utf-8")
        os.sync()  # once, and not for each of many thousand pictures
        publish_folder(partial, out)
    except OSError as error:
        raise SlimError(f"{out}: cannot be written ({error.strerror}); make room and run again") from error
    except BrokenProcessPool as error:
        raise SlimError("a process died, mostly for want of memory; run again with fewer --workers") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Summary(count + val, lines, time.perf_counter() - begun)


@dataclass(frozen=True)
class _Chunk:
    """Pictures [first, last) of a split, to be written into `folder`."""

    folder: Path
    split: str
    first: int
    last: int


@dataclass(frozen=True)
class _Written:
    label_lines: list[str]
    lines: int


def _chunks(folder: Path, numbers: dict[str, int], size: int) -> list[_Chunk]:
    return [
        _Chunk(folder, split, first, min(first + size, number))
        for split, number in numbers.items()
        for first in range(0, number, size)
    ]


def _write_chunk(chunk: _Chunk, draw: Draw) -> _Written:
    label_lines, lines = [], 0
    for index in range(chunk.first, chunk.last):
        picture = draw(SPLITS.index(chunk.split), index)
        path = chunk.folder / picture.path
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, picture.quality])[1]
        path.write_bytes(encoded.tobytes())
        label_lines.append(picture.label_line)
        lines += picture.lines
    return _Written(label_lines, lines)


_draw_here: Draw | None = None  # of a worker process


def _start_worker(recipe: SetRecipe) -> None:
    global _draw_here
    cv2.setNumThreads(1)  # the processes share the cores already
    _draw_here = recipe.drawer()


def _work(chunk: _Chunk) -> _Written:
    return _write_chunk(chunk, _draw_here)


def _run(chunks: Sequence[_Chunk], draw: Draw, recipe: SetRecipe, workers: int) -> Iterator[tuple[_Chunk, _Written]]:
    """Yield each chunk with what was written of it, in the order of the chunks."""
    if workers == 1:
        for chunk in chunks:
            yield chunk, _write_chunk(chunk, draw)
        return
    # spawn: a fork of a process whose OpenCV has threads can hang
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(recipe,))
    try:
        yield from zip(chunks, pool.map(_work, chunks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_replaceable(folder: Path, marker: str) -> bool:
    """Nothing, an empty folder, or a set that was made here: with the marker, and nothing beside the set.

    Anybody's own pictures lie in images/ and train.txt too, so these names alone say nothing.
    """
    try:
        if not folder.is_dir():
            return not os.path.lexists(folder)
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise SlimError(f"{folder}: cannot be looked into ({error.strerror}); give another --out") from error
    return not names or (marker in names and names <= {marker, "images", *(f"{name}.txt" for name in SPLITS)})
