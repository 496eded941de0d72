"""Conversion of the Kalapa 2023 challenge (track 2, Vietnamese handwriting) to PaddleOCR label files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ppocr_slim.data.charset import Charset
from ppocr_slim.data.labels import Sample, read_label_file, read_text_file
from ppocr_slim.errors import SlimError

VALIDATION_LIST = "val_writers.txt"
DEV_EVERY = 7  # every seventh training writer is a development writer


@dataclass(frozen=True)
class Prepared:
    """Counts of what `prepare` wrote.

    Attributes:
        unseen: characters that only validation labels have, and in how many of them.
    """

    train_lines: int
    val_lines: int
    train_writers: int
    val_writers: int
    dev_writers: int
    characters: int
    unseen: dict[str, int]


def prepare(source: Path, out: Path) -> Prepared:
    """Write `train.txt`, `val.txt`, `characters.txt` and `images` into `out` from the folder `source`.

    Hyperparameters must not be chosen on the validation writers, on whom the result is measured. So the training lines
    are also written in two parts: `dev.txt` has those of every seventh writer, for choosing, `fit.txt` the others, for
    training until then. With a single training writer there are no such files.

    Args:
        source: has `images/<writer>/<n>.jpg`, `annotations/<writer>.txt` (`<writer>/<n>.jpg<TAB><text>`) and
            `val_writers.txt` with one writer per line; these are for validation, all others for training.
        out: `out/images` becomes a link to the images of `source`, or a copy where links are not allowed. The
            dictionary is made of the training labels alone.

    Returns:
        Counts of lines, writers and characters.

    Raises:
        SlimError: something in `source` does not have this layout; nothing is skipped.
    """
    source, out = Path(source), Path(out)
    for folder in (source / "images", source / "annotations"):
        if not folder.is_dir():
            needs = f"images/, annotations/ and {VALIDATION_LIST}"
            raise SlimError(f"there is no folder {folder}: the source needs {needs}")
    by_writer = _read_annotations(source)
    val_writers = _read_validation_writers(source / VALIDATION_LIST, by_writer)
    train, val = [], []
    for writer in sorted(by_writer, key=_natural):
        (val if writer in val_writers else train).extend(by_writer[writer])
    if not train:
        raise SlimError(f"{source / VALIDATION_LIST} names every writer: none is left for training")
    charset = Charset.from_texts(sample.text for sample in train)
    unseen: dict[str, int] = {}
    for sample in val:
        for character in sorted(charset.unknown(sample.text)):
            unseen[character] = unseen.get(character, 0) + 1
    out.mkdir(parents=True, exist_ok=True)
    _provide_images(source / "images", out / "images")
    _write_labels(out / "train.txt", train, source)
    _write_labels(out / "val.txt", val, source)
    charset.save(out / "characters.txt")
    writers = list(dict.fromkeys(sample.path.parent for sample in train))
    dev = set(writers[::DEV_EVERY]) if len(writers) > 1 else set()
    for name, chosen in (("fit.txt", False), ("dev.txt", True)):
        if not dev:
            (out / name).unlink(missing_ok=True)  # of another source
        else:
            _write_labels(out / name, [sample for sample in train if (sample.path.parent in dev) == chosen], source)
    return Prepared(len(train), len(val), len(writers), len(val_writers), len(dev), len(charset.characters), unseen)


def _read_annotations(source: Path) -> dict[str, list[Sample]]:
    by_writer: dict[str, list[Sample]] = {}
    listed: dict[Path, str] = {}
    for path in sorted((source / "annotations").glob("*.txt")):
        samples, findings = read_label_file(path, source / "images")
        if findings:
            first = findings[0]
            raise SlimError(f"{first.where}: {first.detail}: correct it ({len(findings)} such in this file)")
        for sample in samples:
            if sample.path.parent != source / "images" / path.stem:
                raise SlimError(f"{sample.where}: the image must be in {path.stem}/, this file's writer")
            if sample.path in listed:
                raise SlimError(f"{sample.where}: {sample.path} is listed in {listed[sample.path]} already")
            if not sample.path.is_file():
                raise SlimError(f"{sample.where}: there is no image {sample.path}")
            listed[sample.path] = sample.where
        by_writer[path.stem] = samples
    if not by_writer:
        raise SlimError(f"{source / 'annotations'} has no .txt file: one file per writer is expected")
    return by_writer


def _read_validation_writers(path: Path, by_writer: dict[str, list[Sample]]) -> dict[str, int]:
    """Return the writers that a list names, with the line of each."""
    writers: dict[str, int] = {}
    for number, line in enumerate(read_text_file(path, "list of validation writers").splitlines(), start=1):
        writer = line.strip()
        if not writer:
            continue
        if writer not in by_writer:
            raise SlimError(f"{path}:{number}: there is no writer {writer!r} in annotations/")
        if writer in writers:
            raise SlimError(f"{path}:{number}: writer {writer!r} is already in line {writers[writer]}")
        writers[writer] = number
    if not writers:
        raise SlimError(f"{path} names no writer: it needs the writers to validate on, one a line")
    return writers


def _natural(name: str) -> tuple[int, str]:
    """Return a sort key that puts writer 9 before writer 10."""
    return (int(name), name) if name.isdigit() else (-1, name)


def _write_labels(path: Path, samples: list[Sample], source: Path) -> None:
    lines = (f"{sample.path.relative_to(source).as_posix()}\t{sample.text}\n" for sample in samples)
    path.write_text("".join(lines), encoding="utf-8")


def _provide_images(images: Path, link: Path) -> None:
    """Make `link` a link to the folder `images`; copy the images where links are not allowed."""
    if link.is_symlink():
        link.unlink()
    if link.exists():  # an earlier copy, or `images` itself
        if not _contains(link, images):
            raise SlimError(f"{link} exists and is not a copy of {images}: move it away, or choose another folder")
        return
    try:
        link.symlink_to(os.path.relpath(images.resolve(), link.parent.resolve()), target_is_directory=True)
    except OSError:
        part = link.with_name("images.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(images, part)
        part.rename(link)


def _contains(folder: Path, images: Path) -> bool:
    """Return whether every file below `images` is below `folder` too, of the same size."""
    pairs = ((file, folder / file.relative_to(images)) for file in images.rglob("*") if file.is_file())
    return all(copy.is_file() and copy.stat().st_size == file.stat().st_size for file, copy in pairs)
