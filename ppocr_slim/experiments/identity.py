"""The identity of a run, as digests of what its results depend on: config, data, and the code that trains."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ppocr_slim.config.aliases import with_former_names
from ppocr_slim.config.schema import Config, EvalFile
from ppocr_slim.experiments.runs import origins_of
from ppocr_slim.reports.provenance import ROOT
from ppocr_slim.training.recipe import experiment_of

# What a training runs through; how it is started and shown is not among it.
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

Seen = dict[tuple[Path, Path | None], str]


def identity(config: Config, budget: Any, code: str, seen: Seen) -> dict[str, str]:
    """Return the digests of a run.

    Args:
        budget: what says how long it trains, where its config does not.
        code: `code_digest()`.
        seen: digests of label files that were read before; those that are read now are added.
    """
    # What says the same as a default is left out, and keys have their first names: a key that a later version adds or
    # renames makes no other run of it.
    raw = with_former_names(experiment_of(config).model_dump(mode="json", by_alias=True, exclude_defaults=True))
    del raw["Global"]["output_dir"]
    return {CONFIG: _digest({"config": raw, "budget": budget}), DATA: data_digest(config, seen), CODE: code}


def short(parts: dict[str, str]) -> str:
    """Return all digests in eight characters."""
    return _digest(parts)[:8]


def data_digest(config: Config, seen: Seen) -> str:
    """Return, of the label files, the sizes of their images, the dictionary, and the weights that a run starts or
    learns from.

    What is not there counts as such: the run itself will say what it misses.
    """
    files = [_label_file(file, seen) for file in (*config.train.label_files, *config.eval.label_files)]
    dictionary = config.run.character_dict_path
    return _digest([files, _bytes(dictionary) if dictionary else "", origins_of(config)])


def _label_file(file: EvalFile, seen: Seen) -> str:
    key = (file.path, file.image_root)
    if key not in seen:
        root = file.image_root if file.image_root is not None else file.path.parent
        digest = hashlib.sha256(_bytes(file.path).encode())
        try:
            lines = file.path.read_bytes().splitlines()
        except OSError:
            lines = []
        for line in lines:
            name = line.partition(b"\t")[0].decode("utf-8", "replace").strip()
            digest.update(f"{name}\t{_size(root / name)}\n".encode())
        seen[key] = digest.hexdigest()
    return seen[key]


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
    """Return, of the Python files that a training runs through."""
    package = root / "ppocr_slim"
    files = [*package.glob("*.py"), package / "cli" / "train.py"]
    files += [file for room in ROOMS for file in (package / room).rglob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
