"""Idempotence: a correction that changes nothing more when it is applied again."""

from __future__ import annotations

from collections.abc import Callable

ROUNDS = 8


def until_stable(correct: Callable[[str], str], text: str) -> str:
    """Apply `correct` until it changes nothing more; return the text as it was where that has no end.

    The result is idempotent: what comes out stays as it is, and so does a text that is given back.
    """
    current = text
    for _ in range(ROUNDS):
        following = correct(current)
        if following == current:
            return current
        current = following
    return text
