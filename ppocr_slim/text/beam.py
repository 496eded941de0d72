"""CTC decoding with a language model: prefix beam search (Hannun et al. 2014, arXiv:1408.2873).

The language model must not invent numbers: a word of the best path that has a digit or a slash (8d, 452/8) stays as it
is, with the spaces around it, and no other word gets one.
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
_NEVER = -1e30  # the logarithm of 0
_TINY = 1e-12

# prefix -> logarithms of the paths that end in a blank and of those that end in its last character; its lm_score
Beam = dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Reading:
    """A text that a line may have.

    Attributes:
        text: in Unicode NFC.
        score: the logarithm of its probability by network and language model, with all bonuses.
    """

    text: str
    score: float


@dataclass(frozen=True)
class BeamSearch:
    """A decoder with a language model.

    The default values were chosen on training lines that were warped and blurred until misread, with a model that had
    not seen their labels; so were those of `address.AddressSearch`.

    Attributes:
        language: the language model.
        weight: of the language model's logarithm; the network's has weight 1.
        insertion_bonus: added for each character, against the language model's preference for short texts.
        width: of the beam: prefixes that are kept.
        floor: characters of less probability at a time step are not tried there.
        most: characters that are tried at a time step, the likeliest.
    """

    language: LanguageModel
    weight: float = 0.3
    insertion_bonus: float = 0.5
    width: int = 12
    floor: float = 1e-3
    most: int = 8

    def __call__(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[tuple[str, float]]:
        """Decode as `ctc.greedy_decode` does, whose confidence stays: that of the network."""
        return [
            (self.best(line, classes) if text else text, confidence)
            for line, (text, confidence) in zip(probabilities, greedy_decode(probabilities, classes))
        ]

    def best(self, probabilities: np.ndarray, classes: Sequence[str]) -> str:
        """Return the likeliest text of a line; for the arguments see `readings`."""
        return self.readings(probabilities, classes)[0].text

    def readings(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[Reading]:
        """Return the likeliest texts of a line, the best first.

        Args:
            probabilities: [T, K] float32, softmax over K.
            classes: K strings; `classes[0]` is the blank.
        """
        beam: Beam = {"": (0.0, _NEVER, 0.0)}
        for blank, characters in _candidates(probabilities, classes, self.floor, self.most):
            if not characters:
                beam = {prefix: (_sum(a, b) + blank, _NEVER, lm_score) for prefix, (a, b, lm_score) in beam.items()}
                continue
            grown = self._extend(beam, blank, characters)
            alive = {prefix: logs for prefix, logs in grown.items() if max(logs[0], logs[1]) > _NEVER / 2}
            best = sorted(alive.items(), key=lambda item: -_sum(item[1][0], item[1][1]) - item[1][2])
            beam = dict(best[: self.width])
        readings: dict[str, Reading] = {}
        for prefix, (a, b, lm_score) in beam.items():
            text = unicodedata.normalize("NFC", prefix.strip(" "))
            reading = Reading(text, _sum(a, b) + lm_score + self._lm_score(prefix, END))
            # A prefix with a space at its end has the same text.
            if text not in readings or readings[text].score < reading.score:
                readings[text] = reading
        return sorted(readings.values(), key=lambda reading: -reading.score)

    def _extend(self, beam: Beam, blank: float, characters: Sequence[tuple[str, float]]) -> Beam:
        """Return the beam after a time step, with all prefixes: those that stay and those with a character more."""
        grown: Beam = {}
        for prefix, (on_blank, on_character, lm_score) in beam.items():
            whole, last = _sum(on_blank, on_character), prefix[-1:]
            a, b, _ = grown.get(prefix, (_NEVER, _NEVER, lm_score))
            a = _sum(a, whole + blank)
            for character, value in characters:
                if character == " " and last in ("", " "):  # a second space does not count
                    a, b = (a, _sum(b, whole + value)) if last else (_sum(a, whole + value), b)
                elif character == last:
                    b = _sum(b, on_character + value)
            grown[prefix] = (a, b, lm_score)
            for character, value in characters:
                before = on_blank if character == last else whole
                if before <= _NEVER / 2 or (character == " " and last in ("", " ")):
                    continue
                longer = prefix + character
                known = grown.get(longer)
                if known:
                    grown[longer] = (known[0], _sum(known[1], before + value), known[2])
                else:
                    grown[longer] = (_NEVER, before + value, lm_score + self._lm_score(prefix, character))
        return grown

    def lm_score(self, text: str) -> float:
        """Return the language model's score of a whole text, in the units of `Reading.score`."""
        return sum(self._lm_score(text[:at], character) for at, character in enumerate(text + END))

    def _lm_score(self, prefix: str, character: str) -> float:
        """Return the score of a character after a prefix: 0 within a word with digits, which stays."""
        if character in KEPT or (character not in " \n" and not KEPT.isdisjoint(prefix[prefix.rfind(" ") + 1 :])):
            return 0.0
        bonus = 0.0 if character == END else self.insertion_bonus
        return self.weight * math.log(self.language.probability(BEGIN + prefix, character)) + bonus


def _candidates(
    probabilities: np.ndarray, classes: Sequence[str], floor: float, most: int
) -> list[tuple[float, list[tuple[str, float]]]]:
    """Return the logarithm of the blank at each time step, and the characters to try there with theirs."""
    logs = np.log(np.maximum(probabilities, _TINY))
    best = probabilities.argmax(axis=1)
    is_kept = np.array([name in KEPT for name in classes])
    candidates = []
    for at_step, values, top, is_fixed in zip(
        probabilities, logs, best.tolist(), fixed_time_steps(best, is_kept, classes)
    ):
        if is_fixed:
            fixed = [] if top == 0 else [(classes[top], float(values[top]))]
            candidates.append((_NEVER if fixed else float(values[0]), fixed))
            continue
        found = np.flatnonzero((at_step > floor) & ~is_kept)
        found = found[found > 0]
        if len(found) > most:
            found = found[np.argpartition(at_step[found], -most)[-most:]]
        candidates.append((float(values[0]), [(classes[at], float(values[at])) for at in found.tolist()]))
    return candidates


def fixed_time_steps(best: np.ndarray, is_kept: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Find the time steps at which the best path stays: words with a digit or a slash, and the spaces around them.

    Args:
        best: [T] the likeliest class at each time step.
        is_kept: [K] bool, true where a class is a digit or a slash.
        classes: K strings.

    Returns:
        [T] bool.
    """
    is_space = np.array([name == " " for name in classes])[best]
    fixed = np.zeros(len(best), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_space, [True]]).astype(np.int8)))
    for first, end in zip(edges[::2], edges[1::2]):  # the time steps of a word, [first, end)
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
