"""Progress of long work: a bar on a terminal, and a line every half a minute in a file, which a bar would fill."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO
from weakref import WeakSet

from tqdm import tqdm

SECONDS = 30  # between two lines
LINE = "{n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} left, {rate_fmt}{postfix}"
TERMINAL = "PPOCR_SLIM_TERMINAL"  # set for processes whose output another one shows: whether on a terminal


def on_terminal() -> bool:
    """Return whether a person sees stderr as it is written."""
    return os.environ[TERMINAL] == "1" if TERMINAL in os.environ else sys.stderr.isatty()


class _Lines(tqdm):
    """A bar whose every state is a line of its own.

    It is none of tqdm's own, which other output would erase and draw anew, and a thread refresh.
    """

    _instances: WeakSet = WeakSet()
    monitor_interval = 0

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        def show(status: str) -> None:
            if status:  # an empty one would erase the line before
                print(status, file=file, flush=True)

        return show

    def close(self) -> None:
        if not self.disable:
            self.refresh()
            self.sp, self.fp = (lambda status: None), io.StringIO()  # tqdm would end the bar's line once more
        super().close()


def progress_bar(*args: Any, **named: Any) -> tqdm:
    """Return tqdm's progress bar with these arguments; where stderr is no terminal, its states are lines."""
    if on_terminal():
        return tqdm(*args, dynamic_ncols=True, **named)
    title = f"{named['desc']}: " if named.get("desc") else ""
    return _Lines(
        *args, **{**named, "mininterval": SECONDS, "miniters": 1, "delay": SECONDS, "bar_format": title + LINE}
    )
