"""The one exception a user is meant to see, and how a command line shows it and the log."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable

logger = logging.getLogger("ppocr_slim")


class SlimError(Exception):
    """Bad input or an unmet requirement: says what is wrong, where, and what to do about it."""


class WrongKeyError(SlimError):
    """A wrong name or value in a config; `key` is its path, such as "Architecture.args.height"."""

    def __init__(self, key: str, problem: str):
        super().__init__(f"{key}: {problem}")
        self.key = key


def _show_log() -> None:
    """Show the log on stderr, whatever the libraries do to the root logger."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_tool(main: Callable[[], int | None]) -> int:
    """Run a command line's `main` and give its exit status.

    A `SlimError` is one line on stderr and gives 2; Ctrl-C says "stopped" and gives 130; where nobody reads the
    output any more (`... | head`), the tool ends without a word with 141. These are the shell's numbers.
    """
    _show_log()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not UTF-8 is shown with escapes rather than ending the tool.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except SlimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
