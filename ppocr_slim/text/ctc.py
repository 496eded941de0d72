"""Greedy decoding of CTC outputs, and the likelihood of texts (Graves et al. 2006)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

Decode = Callable[[np.ndarray, Sequence[str]], list[tuple[str, float]]]
"""Probabilities [N, T, K] float32 and the K classes -> N pairs (text, confidence)."""


def greedy_decode(probabilities: np.ndarray, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Decode the best path: take the likeliest class at each time step, merge repeats, drop blanks.

    Args:
        probabilities: [N, T, K] float32, softmax over K.
        classes: K strings; `classes[0]` is the blank.

    Returns:
        N pairs (text, confidence): the text in NFC without spaces at its ends; the mean probability of the characters
        kept, 0.0 where the text is empty.
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


def log_likelihoods(probabilities: np.ndarray, texts: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Compute the log-likelihood of texts, each over all its paths (the forward variables of Graves et al. 2006).

    Args:
        probabilities: [T, K] float32, softmax over K, of one line.
        texts: any texts.
        classes: K strings; `classes[0]` is the blank.

    Returns:
        [len(texts)] float64; -inf for a text with a character that is no class, or one too long for the time steps.
    """
    numbers: dict[str, int] = {character: number for number, character in enumerate(classes)}
    known = [all(character in numbers for character in text) for text in texts]
    lengths = np.array([len(text) if whole else 0 for text, whole in zip(texts, known)])
    states = np.zeros((len(texts), 2 * lengths.max(initial=0) + 1), np.int64)  # blank, character, blank, ..., blank
    for state, text, whole in zip(states, texts, known):
        if whole:
            state[1 : 2 * len(text) : 2] = [numbers[character] for character in text]
    jumps = np.zeros(states.shape)  # from a character to the next without a blank between, unless they are equal
    jumps[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    rows, logs = np.arange(len(texts)), np.zeros(len(texts))
    forward = np.zeros(states.shape)
    forward[:, 0] = 1.0  # before the first time step; the first character is reached from here, too
    for step in probabilities.astype(np.float64):
        moved = forward.copy()
        moved[:, 1:] += forward[:, :-1]
        moved[:, 2:] += forward[:, :-2] * jumps[:, 2:]
        moved *= step[states]
        scale = np.maximum(moved.max(axis=1), np.finfo(np.float64).tiny)
        forward = moved / scale[:, None]
        logs += np.log(scale)
    last = 2 * lengths
    ends = forward[rows, last] + np.where(lengths > 0, forward[rows, np.maximum(last - 1, 0)], 0.0)
    with np.errstate(divide="ignore"):
        return np.where(known, logs + np.log(ends), -np.inf)
