"""Idempotence: a correction that changes nothing more when it is applied again."""

from __future__ import annotations

from collections.abc import Callable

ROUNDS = 8


def until_stable(correct: Callable[[str], str], text: str) -> str:
    """Apply a correction until it changes nothing more.

    Args:
        correct: from text to text.
        text: any text.

    Returns:
        A text that another call returns unchanged: the corrected one, or `text` where the correction still changes
        something after `ROUNDS` rounds.
    """
    current = text
    for _ in range(ROUNDS):
        following = correct(current)
        if following == current:
            return current
        current = following
    return text
