"""Writer of synthetic data sets: on several processes, whole or not at all, the same bytes on any number of processes.

What the images show is up to a recipe: `dataset` has that of text lines, `page_dataset` that of pages.
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

from ppocr_slim import __version__
from ppocr_slim.engines.cpu import usable_cores
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.progress import progress_bar

SPLITS = ("train", "val")


@dataclass(frozen=True)
class LabelledImage:
    """One image of a data set, with its entry in the label file."""

    path: str  # in the data set's folder
    image: np.ndarray  # [H, W, 3] uint8 BGR
    quality: int  # of the JPEG
    label_line: str
    lines: int = 1  # how many lines of text it shows


# (split, index) -> image `index` of that split (a number in SPLITS): a pure function, or else the number of processes
# would change the data set
GenerateImage = Callable[[int, int], LabelledImage]


class DatasetRecipe(Protocol):
    """Arguments from which every process generates the same images; it is pickled on its way there."""

    marker: ClassVar[str]  # file that holds the provenance; a folder without it was not written here
    unit: ClassVar[str]  # what the progress bar counts
    chunk: ClassVar[int]  # images a process takes at a time

    @property
    def seed(self) -> int:
        """Seed of all random generators."""

    def image_generator(self) -> GenerateImage:
        """Load what all images share.

        Returns:
            The function that generates an image.

        Raises:
            SlimError: something that is needed cannot be used.
        """

    def provenance(self, count: int, val: int) -> dict[str, object]:
        """Return what the marker file notes, so that the data set can be generated again."""


@dataclass(frozen=True)
class Summary:
    """Counts of a data set that was written, and the time it took."""

    pictures: int
    lines: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Images a second."""
        return self.pictures / max(self.seconds, 1e-9)


def write_dataset(
    out: Path, count: int, val: int, recipe: DatasetRecipe, workers: int | None = None, progress: bool = True
) -> Summary:
    """Write a data set: its images, train.txt, val.txt and the recipe's marker file.

    The data set is built beside `out` and renamed into place at the end: `out` holds the old one or the whole new one.

    Args:
        out: folder of the data set; one that was written here before is replaced.
        count: training images.
        val: validation images.
        recipe: what to generate.
        workers: processes; without it, one for each core.
        progress: show a progress bar.

    Returns:
        Counts and duration.

    Raises:
        SlimError: a number is out of range; `out` was not written here, or is the working directory; the recipe cannot
            use something; the disk is full; a process died.
    """
    out = Path(os.path.realpath(out))  # "." has no name to build beside, and a link is not to be replaced by a folder
    workers = usable_cores() if workers is None else workers
    for name, value, least in (("count", count, 1), ("val", val, 0), ("seed", recipe.seed, 0), ("workers", workers, 1)):
        if value < least:
            raise SlimError(f"{name} {value}: is too small; give {least} or more")
    partial = out.parent / f"{out.name}.partial"
    _check_replaceable(out, partial, recipe.marker)
    begun = time.perf_counter()
    generate = recipe.image_generator()  # in this process first: what is wrong with fonts or lines is then said once
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise SlimError(f"{partial}: cannot be made ({error.strerror}); give another --out") from error
    try:
        # the marker first: a run that is killed leaves a folder that the next one knows for its own
        provenance = {"made_by": f"ppocr_slim {__version__}", **recipe.provenance(count, val)}
        (partial / recipe.marker).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        lines = _write_splits(partial, {"train": count, "val": val}, generate, recipe, workers, progress)
        os.sync()  # once, and not for each of many thousand images
        publish_folder(partial, out)
    except OSError as error:
        raise SlimError(f"{out}: cannot be written ({error.strerror}); make room and run again") from error
    except BrokenProcessPool as error:
        raise SlimError("a process died, mostly for want of memory; run again with fewer --workers") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Summary(count + val, lines, time.perf_counter() - begun)


def _check_replaceable(out: Path, partial: Path, marker: str) -> None:
    """Raise SlimError where writing a data set would remove what is not ours, or the working directory."""
    for folder in (out, old_folder(out), partial):
        if not _is_replaceable(folder, marker):
            raise SlimError(f"{folder}: holds something that this tool did not make; give another --out or empty it")
    here = Path(os.path.realpath("."))
    if out == here or out in here.parents:
        raise SlimError(f"{out}: is the folder you are in, which cannot be replaced; name a folder in it")


def _is_replaceable(folder: Path, marker: str) -> bool:
    """Return whether there is nothing, an empty folder, or a data set written here and nothing beside it.

    A data set written here has the marker: anybody's own pictures lie in images/ and train.txt too, so these names
    alone say nothing.
    """
    try:
        if not folder.is_dir():
            return not os.path.lexists(folder)
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise SlimError(f"{folder}: cannot be looked into ({error.strerror}); give another --out") from error
    return not names or (marker in names and names <= {marker, "images", *(f"{name}.txt" for name in SPLITS)})


def _write_splits(
    folder: Path,
    counts: dict[str, int],
    generate: GenerateImage,
    recipe: DatasetRecipe,
    workers: int,
    progress: bool,
) -> int:
    """Write images and label files of all splits; return how many lines of text they show."""
    labels: dict[str, list[str]] = {name: [] for name in SPLITS}
    lines = 0
    with progress_bar(total=sum(counts.values()), unit=recipe.unit, disable=not progress) as bar:
        for chunk, written in _run(_chunks(folder, counts, recipe.chunk), generate, recipe, workers):
            labels[chunk.split] += written.label_lines
            lines += written.lines
            bar.update(len(written.label_lines))
    for name in SPLITS:
        (folder / f"{name}.txt").write_text("".join(labels[name]), encoding="utf-8")
    return lines


@dataclass(frozen=True)
class _Chunk:
    """Images [first, last) of a split, to be written into `folder`."""

    folder: Path
    split: str
    first: int
    last: int


@dataclass(frozen=True)
class _WrittenChunk:
    """Label lines of a chunk, and how many lines of text its images show."""

    label_lines: list[str]
    lines: int


def _chunks(folder: Path, counts: dict[str, int], size: int) -> list[_Chunk]:
    return [
        _Chunk(folder, split, first, min(first + size, count))
        for split, count in counts.items()
        for first in range(0, count, size)
    ]


def _write_chunk(chunk: _Chunk, generate: GenerateImage) -> _WrittenChunk:
    label_lines, lines = [], 0
    for index in range(chunk.first, chunk.last):
        labelled = generate(SPLITS.index(chunk.split), index)
        path = chunk.folder / labelled.path
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(".jpg", labelled.image, [cv2.IMWRITE_JPEG_QUALITY, labelled.quality])[1]
        path.write_bytes(encoded.tobytes())
        label_lines.append(labelled.label_line)
        lines += labelled.lines
    return _WrittenChunk(label_lines, lines)


_worker_generate: GenerateImage | None = None  # of a worker process


def _start_worker(recipe: DatasetRecipe) -> None:
    global _worker_generate
    cv2.setNumThreads(1)  # the processes share the cores already
    _worker_generate = recipe.image_generator()


def _write_chunk_in_worker(chunk: _Chunk) -> _WrittenChunk:
    return _write_chunk(chunk, _worker_generate)


def _run(
    chunks: Sequence[_Chunk], generate: GenerateImage, recipe: DatasetRecipe, workers: int
) -> Iterator[tuple[_Chunk, _WrittenChunk]]:
    """Yield each chunk with what was written of it, in the order of the chunks."""
    if workers == 1:
        for chunk in chunks:
            yield chunk, _write_chunk(chunk, generate)
        return
    # spawn: a fork of a process whose OpenCV has threads can hang
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(recipe,))
    try:
        yield from zip(chunks, pool.map(_write_chunk_in_worker, chunks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
