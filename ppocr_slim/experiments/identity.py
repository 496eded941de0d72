"""The identity of a run: digests of all that its results depend on, its config, its data and the training code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.config.aliases import with_former_names
from ppocr_slim.config.schema import Config, EvalFile
from ppocr_slim.experiments.runs import origins_of
from ppocr_slim.folders import ROOT
from ppocr_slim.training.recipe import experiment_of

# Rooms with code that a training runs; those that only start it or show its results are not among them.
ROOMS = (
    "config",
    "engines",
    "text",
    "runtime",
    "quantization",
    "data",
    "models",
    "evaluation",
    "tasks",
    "export",
    "slim",
    "training",
)
CONFIG, DATA, CODE = "config", "data", "code"

DigestCache = dict[tuple[Path, Path | None], str]
"""Digests of label files, by (path, image_root)."""


def identity(config: Config, budget: Any, code: str, cache: DigestCache) -> dict[str, str]:
    """Return the digests of a run.

    Args:
        config: its config.
        budget: the length of its training, if the config does not have it.
        code: `code_digest()`.
        cache: digests of label files that were read before; those that are read now are added.

    Returns:
        The digests of `CONFIG`, `DATA` and `CODE`.
    """
    # Without values that equal the default, and with the former names of keys: a key that a later version adds or
    # renames does not change the identity.
    raw = with_former_names(experiment_of(config).model_dump(mode="json", by_alias=True, exclude_defaults=True))
    del raw["Global"]["output_dir"]
    return {CONFIG: _digest({"config": raw, "budget": budget}), DATA: data_digest(config, cache), CODE: code}


def short_digest(digests: Mapping[str, str]) -> str:
    """Return a digest of eight characters of all digests of a run."""
    return _digest(dict(digests))[:8]


def data_digest(config: Config, cache: DigestCache) -> str:
    """Return a digest of the data of a run.

    These are its label files, the sizes of their images, the dictionary, and the digests of its pretrained weights and
    teachers. A missing file has a digest, too: the run itself reports what is missing.

    Args:
        config: its config.
        cache: see `identity`.
    """
    files = [_label_file(file, cache) for file in (*config.train.label_files, *config.eval.label_files)]
    dictionary = config.run.character_dict_path
    return _digest([files, _bytes(dictionary) if dictionary else "", origins_of(config)])


def _label_file(file: EvalFile, cache: DigestCache) -> str:
    key = (file.path, file.image_root)
    if key not in cache:
        root = file.image_root if file.image_root is not None else file.path.parent
        digest = hashlib.sha256(_bytes(file.path).encode())
        try:
            lines = file.path.read_bytes().splitlines()
        except OSError:
            lines = []
        for line in lines:
            name = line.partition(b"\t")[0].decode("utf-8", "replace").strip()
            digest.update(f"{name}\t{_size(root / name)}\n".encode())
        cache[key] = digest.hexdigest()
    return cache[key]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return -1


def _bytes(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def code_digest(root: Path = ROOT) -> str:
    """Return a digest of the Python files that a training runs."""
    package = root / "ppocr_slim"
    files = [*package.glob("*.py"), package / "cli" / "train.py"]
    files += [file for room in ROOMS for file in (package / room).rglob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
