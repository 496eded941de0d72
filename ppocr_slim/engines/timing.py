"""Comparison of times on a machine that does other work, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

# Seconds before a turn: an engine's threads look for work for a while after they have none. After 0.02 s they still do:
# of equal networks some then took 1.3 times as long as others.
PAUSE = 0.1

Key = TypeVar("Key", bound=Hashable)


def time_in_turns(calls: Mapping[Key, Callable[[], Any]], rounds: int, repeats: int = 5) -> dict[Key, list[float]]:
    """Milliseconds of each call, a figure for each round: what slows the machine down for a while meets all of them.

    A turn is `repeats` calls, of which the median counts, after two that do not. Every other round goes backwards, so
    that nobody always follows the same neighbour.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(rounds):
        for key in list(calls) if number % 2 == 0 else list(calls)[::-1]:
            time.sleep(PAUSE)
            turn = []
            for _ in range(2 + repeats):
                began = time.perf_counter()
                calls[key]()
                turn.append(1000 * (time.perf_counter() - began))
            times[key].append(statistics.median(turn[2:]))
    return times


def compared(times: list[float], base: list[float]) -> dict[str, float]:
    """{"ms": the median of `times`, "base_ms": that of `base`, "ratio": the median of the rounds' ratios}."""
    ratio = statistics.median(one / other for one, other in zip(times, base))
    figures = {"ms": statistics.median(times), "base_ms": statistics.median(base), "ratio": ratio}
    return {name: round(figure, 3) for name, figure in figures.items()}
