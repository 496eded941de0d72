"""Greedy decoding of CTC outputs (Graves et al. 2006, best path decoding)."""

from __future__ import annotations

import unicodedata
from typing import Callable, List, Sequence, Tuple

import numpy as np

# probabilities [N, T, K] and what the K classes mean -> N pairs (text, confidence)
Decode = Callable[[np.ndarray, Sequence[str]], List[Tuple[str, float]]]


def greedy_decode(probabilities: np.ndarray, classes: Sequence[str]) -> List[Tuple[str, float]]:
    """Take the best class of every step, merge repeats, drop blanks.

    Args:
        probabilities: [N, T, K] float32, softmax over K.
        classes: K strings; `classes[0]` is the blank.

    Returns:
        N pairs (text, confidence): the text without spaces at its ends, NFC; the confidence is the mean of
        the winning probabilities at the kept steps, 0.0 where the text is empty.
    """
    best = probabilities.argmax(axis=2)  # [N, T]
    winning = np.take_along_axis(probabilities, best[:, :, None], axis=2)[:, :, 0]
    starts = np.ones(best.shape, bool)
    starts[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = starts & (best != 0)
    lines = []
    for indices, values, keep in zip(best, winning, kept):
        text = unicodedata.normalize("NFC", "".join(classes[i] for i in indices[keep]).strip(" "))
        lines.append((text, float(values[keep].mean()) if text else 0.0))
    return lines
