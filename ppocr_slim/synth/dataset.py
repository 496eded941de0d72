"""Writes a recognition data set that the project makes itself: rows, and label files in PaddleOCR's form.

Every line has a generator of its own, seeded by (seed, split, index): the result is the same, byte for byte,
on any number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ppocr_slim import __version__
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.runtime.backends import usable_cores
from ppocr_slim.synth.addresses import AddressBook, as_written
from ppocr_slim.synth.fonts import family_versions
from ppocr_slim.synth.handwriting import draw_writer
from ppocr_slim.synth.rows import HEIGHT, draw_row
from ppocr_slim.synth.strokes import load_alphabets

SPLITS = ("train", "val")
MARKER = "synth.json"  # what the set was made from; a folder without it was made by somebody else
_CHUNK = 64  # lines a worker takes at a time
_SHARD = 1000  # pictures a folder


class LineMaker:
    """Makes line after line; holds what all of them need (places, alphabets)."""

    def __init__(self, fonts: Path | None = None) -> None:
        self.book = AddressBook()
        self.alphabets = load_alphabets(fonts)

    def make(self, seed: int, split: int, index: int, blank: float = 0.0) -> tuple[np.ndarray, str, int]:
        """Line `index`: the row (BGR uint8 [64, W, 3]), its label (empty for a share `blank`), the JPEG
        quality.
        """
        rng = np.random.default_rng([seed, split, index])
        writer = draw_writer(rng, self.alphabets)
        address = self.book.draw(rng)
        neighbours = [self.book.draw(rng).text for _ in range(2)]
        text, written = address.text, as_written(address, rng)
        if blank and rng.random() < blank:
            text = written = ""
        return draw_row(written, writer, rng, neighbours), text, int(rng.integers(70, 96))


@dataclass(frozen=True)
class Summary:
    """What was written, and how fast."""

    lines: int
    seconds: float

    @property
    def lines_per_second(self) -> float:
        return self.lines / max(self.seconds, 1e-9)


def synthesize(
    out: Path,
    count: int,
    val: int = 0,
    seed: int = 1,
    workers: int | None = None,
    fonts: Path | None = None,
    blank: float = 0.0,
    progress: bool = True,
) -> Summary:
    """Write `count` training and `val` validation lines: train.txt, val.txt, images/<split>/NNN/NNNNNN.jpg, and in
    synth.json what they were made from. A blank row's line is `path<TAB>`.

    The set is built beside `out` and renamed into place at the end: `out` holds the old set or the whole new
    one. SlimError for numbers that make no sense, an `out` that this function did not make, fonts that cannot be
    used, or a disk that is full.
    """
    workers = usable_cores() if workers is None else workers
    for name, value, least in (
        ("count", count, 1),
        ("val", val, 0),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise SlimError(f"{name} {value}: is too small; give {least} or more")
    if not 0.0 <= blank < 1.0:
        raise SlimError(f"blank {blank}: is a share of the lines; give a number from 0 up to 1")
    for folder in (out, old_folder(out)):
        if folder.exists() and not _is_replaceable(folder):
            raise SlimError(f"{folder}: holds something that this tool did not make; give another --out or empty it")
    begun = time.perf_counter()
    maker = LineMaker(fonts)  # in this process first: what is wrong with the fonts is then said once
    made_from = {
        "made_by": f"ppocr_slim {__version__}",
        "seed": seed,
        "count": count,
        "val": val,
        "blank": blank,
        "fonts": family_versions(fonts) if fonts else {},
    }
    partial = out.parent / f"{out.name}.partial"
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise SlimError(f"{partial}: cannot be made ({error.strerror}); give another --out") from error
    try:
        labels = _write_pictures(partial, seed, {"train": count, "val": val}, maker, workers, fonts, blank, progress)
        for name in SPLITS:
            (partial / f"{name}.txt").write_text("".join(labels[name]), encoding="utf-8")
        (partial / MARKER).write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")
        os.sync()  # once, and not for each of many thousand pictures
        publish_folder(partial, out)
    except OSError as error:
        raise SlimError(f"{out}: cannot be written ({error.strerror}); make room and run again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Summary(count + val, time.perf_counter() - begun)


def _write_pictures(
    folder: Path,
    seed: int,
    numbers: dict[str, int],
    maker: LineMaker,
    workers: int,
    fonts: Path | None,
    blank: float,
    progress: bool,
) -> dict[str, list[str]]:
    """Write the pictures of all splits; gives the lines of the label files."""
    chunks = [
        _Chunk(folder, seed, split, first, min(first + _CHUNK, numbers[name]), blank)
        for split, name in enumerate(SPLITS)
        for first in range(0, numbers[name], _CHUNK)
    ]
    labels = {name: [] for name in SPLITS}
    with tqdm(total=sum(numbers.values()), unit="line", disable=not progress) as bar:
        for chunk, texts in _run(chunks, maker, workers, fonts):
            labels[SPLITS[chunk.split]] += [
                f"{_image(chunk.split, chunk.first + at)}\t{text}\n" for at, text in enumerate(texts)
            ]
            bar.update(len(texts))
    return labels


@dataclass(frozen=True)
class _Chunk:
    folder: Path
    seed: int
    split: int
    first: int
    last: int
    blank: float


def _image(split: int, index: int) -> str:
    return f"images/{SPLITS[split]}/{index // _SHARD:03d}/{index:06d}.jpg"


def _write_chunk(chunk: _Chunk, maker: LineMaker) -> list[str]:
    texts = []
    for index in range(chunk.first, chunk.last):
        image, text, quality = maker.make(chunk.seed, chunk.split, index, chunk.blank)
        path = chunk.folder / _image(chunk.split, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        path.write_bytes(encoded.tobytes())
        texts.append(text)
    return texts


_worker_maker: LineMaker | None = None


def _start_worker(fonts: Path | None) -> None:
    global _worker_maker
    cv2.setNumThreads(1)  # the processes share the cores already
    _worker_maker = LineMaker(fonts)


def _work(chunk: _Chunk) -> list[str]:
    return _write_chunk(chunk, _worker_maker)


def _run(chunks: Sequence[_Chunk], maker: LineMaker, workers: int, fonts: Path | None):
    """Yield `(chunk, texts)` in the order of the chunks."""
    if workers == 1:
        for chunk in chunks:
            yield chunk, _write_chunk(chunk, maker)
        return
    # spawn: a fork of a process whose OpenCV has threads can hang
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(fonts,))
    try:
        yield from zip(chunks, pool.map(_work, chunks))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_replaceable(out: Path) -> bool:
    """An empty folder, or a set that was made here: with the marker, and nothing beside the set.

    Anybody's own rows lie in images/ and train.txt too, so the names alone say nothing.
    """
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else {""}
    return not names or (MARKER in names and names <= {MARKER, "images", *(f"{name}.txt" for name in SPLITS)})


def contact_sheet(made: Path, real: Path | None, made_rows: int = 14, real_rows: int = 6) -> np.ndarray:
    """Rows under one another, BGR uint8: the first made ones of a label file, and evenly chosen real ones
    between them.

    A green bar at the left marks a made row, an orange one a real row.
    """
    rows = [(image, (80, 170, 60)) for image in _pictures(made, made_rows, evenly=False)]
    others = [(image, (40, 140, 255)) for image in _pictures(real, real_rows, evenly=True)] if real else []
    for number, other in enumerate(others):
        rows.insert(round((number + 0.5) * len(rows) / len(others)) + number, other)
    sheet = []
    width = max(image.shape[1] for image, _ in rows)
    for image, colour in rows:
        row = cv2.copyMakeBorder(image, 0, 6, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
        sheet.append(cv2.copyMakeBorder(row, 0, 0, 10, 0, cv2.BORDER_CONSTANT, value=colour))
    return np.vstack(sheet)


def _pictures(label_file: Path, number: int, evenly: bool) -> list[np.ndarray]:
    try:
        lines = [line for line in label_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise SlimError(f"{label_file}: cannot be read ({error.strerror}); give a label file") from error
    step = max(1, len(lines) // number) if evenly else 1
    images = []
    for line in lines[::step][:number]:
        path = label_file.parent / line.split("\t")[0]
        image = cv2.imread(str(path))
        if image is None:
            raise SlimError(f"{path}: is not a picture that can be read; see {label_file}")
        width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
        images.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    if not images:
        raise SlimError(f"{label_file}: has no lines to show")
    return images
