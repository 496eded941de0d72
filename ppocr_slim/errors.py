"""The exception that users see, and the exit status and the log of a command line."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable

logger = logging.getLogger("ppocr_slim")


class SlimError(Exception):
    """Bad input or an unmet requirement; the message says what is wrong, where, and what to do about it."""


class WrongKeyError(SlimError):
    """A wrong name or value in a config.

    Attributes:
        key: its path, such as "Architecture.args.height".
    """

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
    """Run the `main` of a command line.

    Returns:
        The exit status: what `main` returns, 0 for None; 2 after a `SlimError`, which is printed as one line on stderr;
        130 after Ctrl-C; 141, and no message, where the reader of the output is gone (`... | head`). 130 and 141 are
        the shell's numbers.
    """
    _show_log()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not UTF-8 is shown with escapes rather than ending the command.
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
