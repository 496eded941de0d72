"""Former names of config keys and values. They stay valid: this table turns them into today's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppocr_slim.errors import SlimError, logger

# Where a key or value stands, by today's names of all that is around it; "*" is any key or index
_TECHNIQUE = "Recipe.*.techniques.*"
KEYS = {
    "Recipe.*.steps": "techniques",
    "Recipe.*.language": "language_model",
    f"{_TECHNIQUE}.fpgm.calibration_rows": "calibration_samples",
    f"{_TECHNIQUE}.pact.calibration_rows": "calibration_samples",
    f"{_TECHNIQUE}.lsq.calibration_rows": "calibration_samples",
    f"{_TECHNIQUE}.guide.smoothing": "label_smoothing",
}
VALUES = {
    f"{_TECHNIQUE}.distill.losses.*.name": {
        "features": "feature_mse",
        "readings": "pseudo_labels",
        "maps": "map_distillation",
        "logits": "kl_div",
    },
}

_reported: set[tuple[str, str]] = set()  # (path pattern, old name): what this process has warned about


def with_new_names(tree: Any, origin: str) -> Any:
    """Replace former names in a raw config tree, and log a warning for each, once per process.

    Args:
        tree: what one file or override sets; it is not changed.
        origin: name of that file or override, for the warning.

    Returns:
        The tree in today's names.

    Raises:
        SlimError: a key is there under both its names.
    """
    return _renamed(tree, (), origin)


def with_former_names(tree: Any) -> Any:
    """Return a tree of today's names with the former ones, for digests that must not change with a name."""
    return _restored(tree, ())


def _renamed(node: Any, path: tuple[str, ...], origin: str) -> Any:
    if isinstance(node, list):
        return [_renamed(value, (*path, str(index)), origin) for index, value in enumerate(node)]
    if isinstance(node, dict):
        renamed: dict[Any, Any] = {}
        for key, value in node.items():
            pattern, new = _lookup(KEYS, (*path, str(key)), key)
            if new != key:
                if new in node:
                    where = ".".join((*path, new))
                    raise SlimError(f"{origin}: {where} is there twice, once under its former name {key}: keep one")
                _report(pattern, key, f"{origin}: the key {'.'.join((*path, key))} is now called {new}")
            renamed[new] = _renamed(value, (*path, str(new)), origin)
        return renamed
    pattern, names = _lookup(VALUES, path, {})
    if not isinstance(node, str) or node not in names:
        return node
    _report(pattern, node, f"{origin}: {node!r} in {'.'.join(path)} is now called {names[node]!r}")
    return names[node]


def _restored(node: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_restored(value, (*path, str(index))) for index, value in enumerate(node)]
    if isinstance(node, dict):
        return {_former_key(path, key): _restored(value, (*path, str(key))) for key, value in node.items()}
    _, names = _lookup(VALUES, path, {})
    return next((old for old, new in names.items() if new == node), node)


def _former_key(path: tuple[str, ...], key: str) -> str:
    former = (pattern.rpartition(".")[2] for pattern, new in KEYS.items() if new == key)
    return next((old for old in former if _lookup(KEYS, (*path, old), old)[1] == key), key)


def _lookup(table: Mapping[str, Any], path: tuple[str, ...], default: Any) -> tuple[str, Any]:
    """Return the pattern that fits a path, and what the table has for it; ("", default) where none fits."""
    for pattern, found in table.items():
        parts = pattern.split(".")
        if len(parts) == len(path) and all(part in ("*", here) for part, here in zip(parts, path)):
            return pattern, found
    return "", default


def _report(pattern: str, old: str, message: str) -> None:
    if (pattern, old) not in _reported:
        _reported.add((pattern, old))
        logger.warning("%s; the former name still works", message)
