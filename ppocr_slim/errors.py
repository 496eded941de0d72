"""The one exception a user is meant to see, and how a command line shows it."""

from __future__ import annotations

import sys
from typing import Callable, Optional


class SlimError(Exception):
    """Bad input or an unmet requirement: says what is wrong, where, and what to do about it."""


def run_tool(main: Callable[[], Optional[int]]) -> int:
    """Run a command line's `main` and give its exit status: 2 after a `SlimError`, shown as one line on stderr."""
    try:
        return main() or 0
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
