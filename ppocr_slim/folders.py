"""Where the project is; and folders and files that are replaced whole or not at all.

They are written beside their place, then renamed into it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ppocr_slim.errors import SlimError

PACKAGE = Path(__file__).resolve().parent
PRETRAINED = PACKAGE / "pretrained"  # the bundles that ship
PROGRAM = PACKAGE / "__main__.py"  # run by further processes, with a command and its arguments
ROOT = PACKAGE.parent  # the checkout, where there is one
BEST, LAST = "best", "last"  # checkpoints in the folder of a training stage
STATES = "model.states"  # file of a checkpoint


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` when the context ends without an exception.

    The folder is created if need be.

    Raises:
        SlimError: an OSError within the context, or while the file is renamed.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        new.replace(path)
    except OSError as error:
        raise SlimError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, content: Mapping) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        SlimError: the file cannot be written.
    """
    with replacing(path) as new:
        new.write_text(json.dumps(content, indent=1), encoding="utf-8")


def old_folder(target: Path) -> Path:
    """Return the folder that keeps the former content of `target` while it is being replaced."""
    return target.with_name(target.name + ".old")


def publish_folder(new: Path, target: Path) -> None:
    """Put the finished folder `new` in the place of `target`; at every moment one of the two is whole on the disk.

    The files directly in `new` are flushed to the disk first; those in folders below it are the caller's to flush.

    Raises:
        OSError: a file cannot be flushed, or a folder cannot be renamed.
    """
    old = old_folder(target)
    for path in new.iterdir():
        _flush(path)
    _flush(new)
    recover_folder(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(new, target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Undo a `publish_folder` that was killed between its two renames. Only the writer of `target` may call it."""
    old = old_folder(target)
    if old.exists() and not target.exists():
        os.rename(old, target)


def readable_folder(target: Path) -> Path:
    """Return `target`, or the folder of its former content while it is being replaced; for readers: nothing changes."""
    old = old_folder(target)
    return old if old.exists() and not target.exists() else target


def _flush(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
