"""Comparison of latencies on a machine that does other work, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

# Seconds before a turn: an engine's idle threads poll for work for a while. After 0.02 s they still do: of equal
# networks some then took 1.3 times as long as others.
PAUSE = 0.1

Key = TypeVar("Key", bound=Hashable)


def time_in_turns(calls: Mapping[Key, Callable[[], Any]], rounds: int, repeats: int = 5) -> dict[Key, list[float]]:
    """Measure calls in turns, so that whatever slows the machine down for a while affects all of them.

    Every other round goes backwards, so that no call always follows the same neighbour.

    Args:
        calls: functions to time, by key.
        rounds: turns of each call.
        repeats: calls in a turn, of which the median counts; two more before them are not timed.

    Returns:
        Milliseconds of each call, one number a round.
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
    """Compare the milliseconds of two calls, round by round.

    Returns:
        "ms", the median of `times`, "base_ms", that of `base`, and "ratio", the median of the rounds' ratios.
    """
    ratio = statistics.median(one / other for one, other in zip(times, base))
    result = {"ms": statistics.median(times), "base_ms": statistics.median(base), "ratio": ratio}
    return {name: round(value, 3) for name, value in result.items()}
