"""CTC decoding with a language model: prefix beam search (Hannun et al. 2014, arXiv:1408.2873).

Knowledge must not make up what was not written: a word of the best path that has a digit or a slash (8d, 452/8) stays
as it is, with the spaces around it, and no other word gets one.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.text.ctc import greedy_decode
from ppocr_slim.text.language_model import BEGIN, END, LanguageModel

KEPT = frozenset("0123456789/")
_NEVER = -1e30  # the logarithm of nothing
_TINY = 1e-12


@dataclass(frozen=True)
class Reading:
    """A text that a line may say, and the logarithm of its probability by network and language, with all bonuses."""

    text: str
    score: float


@dataclass(frozen=True)
class BeamSearch:
    """A decoder with a language model.

    The usual values were chosen on training lines that were warped and blurred until misread, with a model that had not
    seen their labels; so were those of `address.AddressSearch`.

    Attributes:
        weight: of the language's logarithm; the network's counts once.
        insertion_bonus: added for each character, against the language's liking for short texts.
        width: prefixes that are kept.
        floor: characters of less probability at a time step are left out there.
        most: characters that are looked at in one time step, the likeliest.
    """

    language: LanguageModel
    weight: float = 0.3
    insertion_bonus: float = 0.5
    width: int = 12
    floor: float = 1e-3
    most: int = 8

    def __call__(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[tuple[str, float]]:
        """Decode as `ctc.greedy_decode` does, whose confidence stays: what the network was sure of."""
        return [
            (self.best(row, classes) if text else text, confidence)
            for row, (text, confidence) in zip(probabilities, greedy_decode(probabilities, classes))
        ]

    def best(self, probabilities: np.ndarray, classes: Sequence[str]) -> str:
        """Return the likeliest text of a line; arguments as of `readings`."""
        return self.readings(probabilities, classes)[0].text

    def readings(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[Reading]:
        """Return the likeliest texts of a line, the best first.

        Args:
            probabilities: [T, K] float32, softmax over K.
            classes: K strings; `classes[0]` is the blank.
        """
        # prefix -> logarithms: of the paths that end in a blank, of those that end in the last letter; language
        beam: dict[str, tuple[float, float, float]] = {"": (0.0, _NEVER, 0.0)}
        for blank, letters in _steps(probabilities, classes, self.floor, self.most):
            if not letters:
                beam = {prefix: (_sum(a, b) + blank, _NEVER, lm_score) for prefix, (a, b, lm_score) in beam.items()}
                continue
            grown = self._grow(beam, blank, letters)
            alive = {prefix: logs for prefix, logs in grown.items() if max(logs[0], logs[1]) > _NEVER / 2}
            best = sorted(alive.items(), key=lambda item: -_sum(item[1][0], item[1][1]) - item[1][2])
            beam = dict(best[: self.width])
        readings: dict[str, Reading] = {}
        for prefix, (a, b, lm_score) in beam.items():
            text = unicodedata.normalize("NFC", prefix.strip(" "))
            reading = Reading(text, _sum(a, b) + lm_score + self._lm_score(prefix, END))
            if text not in readings or readings[text].score < reading.score:  # with a space at its end it is no other
                readings[text] = reading
        return sorted(readings.values(), key=lambda reading: -reading.score)

    def _grow(
        self, beam: dict[str, tuple[float, float, float]], blank: float, letters: Sequence[tuple[str, float]]
    ) -> dict[str, tuple[float, float, float]]:
        grown: dict[str, tuple[float, float, float]] = {}
        for prefix, (on_blank, on_letter, lm_score) in beam.items():
            whole, last = _sum(on_blank, on_letter), prefix[-1:]
            a, b, _ = grown.get(prefix, (_NEVER, _NEVER, lm_score))
            a = _sum(a, whole + blank)
            for letter, value in letters:
                if letter == " " and last in ("", " "):  # a space more is none
                    a, b = (a, _sum(b, whole + value)) if last else (_sum(a, whole + value), b)
                elif letter == last:
                    b = _sum(b, on_letter + value)
            grown[prefix] = (a, b, lm_score)
            for letter, value in letters:
                before = on_blank if letter == last else whole
                if before <= _NEVER / 2 or (letter == " " and last in ("", " ")):
                    continue
                longer = prefix + letter
                known = grown.get(longer)
                if known:
                    grown[longer] = (known[0], _sum(known[1], before + value), known[2])
                else:
                    grown[longer] = (_NEVER, before + value, lm_score + self._lm_score(prefix, letter))
        return grown

    def lm_score(self, text: str) -> float:
        """Return the language model's score of a whole text, in the units of `Reading.score`."""
        return sum(self._lm_score(text[:at], letter) for at, letter in enumerate(text + END))

    def _lm_score(self, prefix: str, letter: str) -> float:
        """Return the language model's score of `letter` after `prefix`: 0 within a word with digits, which stays."""
        if letter in KEPT or (letter not in " \n" and not KEPT.isdisjoint(prefix[prefix.rfind(" ") + 1 :])):
            return 0.0
        bonus = 0.0 if letter == END else self.insertion_bonus
        return self.weight * math.log(self.language.probability(BEGIN + prefix, letter)) + bonus


def _steps(
    probabilities: np.ndarray, classes: Sequence[str], floor: float, most: int
) -> list[tuple[float, list[tuple[str, float]]]]:
    """Return for each time step the logarithm of the blank, and the characters that may stand there with theirs."""
    logs = np.log(np.maximum(probabilities, _TINY))
    best = probabilities.argmax(axis=1)
    is_kept = np.array([name in KEPT for name in classes])
    steps = []
    for row, values, top, is_fixed in zip(probabilities, logs, best.tolist(), fixed_time_steps(best, is_kept, classes)):
        if is_fixed:
            steps.append((float(values[0]), []) if top == 0 else (_NEVER, [(classes[top], float(values[top]))]))
            continue
        found = np.flatnonzero((row > floor) & ~is_kept)
        found = found[found > 0]
        if len(found) > most:
            found = found[np.argpartition(row[found], -most)[-most:]]
        steps.append((float(values[0]), [(classes[at], float(values[at])) for at in found.tolist()]))
    return steps


def fixed_time_steps(best: np.ndarray, is_kept: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return where the best path is followed: the words that have a digit or a slash, and the spaces around them.

    Args:
        best: [T] the likeliest class of each step.
        is_kept: [K] whether a class is a digit or a slash.

    Returns:
        [T] bool.
    """
    is_space = np.array([name == " " for name in classes])[best]
    fixed = np.zeros(len(best), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_space, [True]]).astype(np.int8)))
    for first, end in zip(edges[::2], edges[1::2]):  # the steps of a word, [first, end)
        if is_kept[best[first:end]].any():
            while first > 0 and is_space[first - 1]:
                first -= 1
            while end < len(best) and is_space[end]:
                end += 1
            fixed[first:end] = True
    return fixed


def _sum(a: float, b: float) -> float:
    """Return log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b - a < -40 else a + math.log1p(math.exp(b - a))
