"""Layers as a config names them: by path, by pattern, or by what they are parts of."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ppocr_slim.errors import SlimError


def named(paths: Sequence[str], patterns: Sequence[str], option: str) -> set[str]:
    """Return those of the paths that any of the patterns names; "backbone.blocks.0" names the block and all that is in
    it.

    Args:
        option: where the patterns come from, for the message.

    Raises:
        SlimError: a pattern that names none of them.
    """
    found: set[str] = set()
    for pattern in patterns:
        own = {path for path in paths if _names(pattern, path)}
        if not own:
            raise SlimError(f"{option}: no layer is called {pattern!r}; there are {', '.join(paths)}")
        found |= own
    return found


def _names(pattern: str, path: str) -> bool:
    parts = path.split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))
