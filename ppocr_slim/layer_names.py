"""Layers as a config names them: by path, by pattern, or by the block that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ppocr_slim.errors import SlimError


def named(paths: Sequence[str], patterns: Sequence[str], option: str) -> set[str]:
    """Return the paths that any of the patterns matches.

    Args:
        paths: of layers.
        patterns: paths, which may have wildcards; "backbone.blocks.0" matches the block and all layers in it.
        option: the config key or flag of the patterns, for the message.

    Raises:
        SlimError: a pattern that matches none of the paths.
    """
    found: set[str] = set()
    for pattern in patterns:
        own = {path for path in paths if _matches(pattern, path)}
        if not own:
            raise SlimError(f"{option}: no layer is called {pattern!r}; there are {', '.join(paths)}")
        found |= own
    return found


def _matches(pattern: str, path: str) -> bool:
    """Return whether a pattern matches a layer's path, or that of a block that it is in."""
    parts = path.split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))
