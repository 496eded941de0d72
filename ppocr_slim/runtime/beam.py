"""CTC decoding with a language model: prefix beam search (Hannun et al. 2014, arXiv:1408.2873).

Knowledge must not make up what was not written: the digits and slashes of the best path stay what and where they are,
and in a word that has one (8d, 452/8) the language has no say.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from ppocr_slim.runtime.ctc import greedy_decode
from ppocr_slim.runtime.language import BEGIN, END, LanguageModel

KEPT = frozenset("0123456789/")
_NEVER = -1e30  # the logarithm of nothing
_TINY = 1e-12


@dataclass(frozen=True)
class Reading:
    """A text that a row may say.

    Attributes:
        score: the logarithm of its probability by network and language, and what each letter is worth.
        seen: the same by the network alone.
    """

    text: str
    score: float
    seen: float


@dataclass(frozen=True)
class BeamSearch:
    """Reads rows with a language model.

    The usual values were chosen on training rows that were warped and blurred until misread, with a model that had not
    seen their labels; so were those of `address.AddressSearch`.

    Attributes:
        weight: of the language's logarithm; the network's counts once.
        worth: added for each letter, against the language's liking for short texts.
        width: prefixes that are kept.
        floor: letters of less probability at a step are left out there.
    """

    language: LanguageModel
    weight: float = 0.3
    worth: float = 0.5
    width: int = 12
    floor: float = 1e-3

    def __call__(self, probabilities: np.ndarray, classes: Sequence[str]) -> List[Tuple[str, float]]:
        """As `ctc.greedy_decode`, whose confidence it keeps: what the network was sure of, whatever the text is now."""
        return [
            (self.best(row, classes) if text else text, confidence)
            for row, (text, confidence) in zip(probabilities, greedy_decode(probabilities, classes))
        ]

    def best(self, probabilities: np.ndarray, classes: Sequence[str]) -> str:
        """The likeliest text of a row; arguments as of `readings`."""
        return self.readings(probabilities, classes)[0].text

    def readings(self, probabilities: np.ndarray, classes: Sequence[str]) -> List[Reading]:
        """The likeliest texts of a row, the best first.

        Args:
            probabilities: [T, K] float32, softmax over K.
            classes: K strings; `classes[0]` is the blank.
        """
        # prefix -> logarithms: of the paths that end in a blank, of those that end in the last letter; language
        beam: Dict[str, Tuple[float, float, float]] = {"": (0.0, _NEVER, 0.0)}
        for blank, letters in _steps(probabilities, classes, self.floor):
            if not letters:
                beam = {prefix: (_sum(a, b) + blank, _NEVER, told) for prefix, (a, b, told) in beam.items()}
                continue
            grown = self._grow(beam, blank, letters)
            best = sorted(grown.items(), key=lambda item: -_sum(item[1][0], item[1][1]) - item[1][2])
            beam = dict(best[: self.width])
        readings: Dict[str, Reading] = {}
        for prefix, (a, b, told) in beam.items():
            seen, text = _sum(a, b), unicodedata.normalize("NFC", prefix.strip(" "))
            reading = Reading(text, seen + told + self._told(prefix, END), seen)
            if text not in readings or readings[text].score < reading.score:  # with a space at its end it is no other
                readings[text] = reading
        return sorted(readings.values(), key=lambda reading: -reading.score)

    def _grow(
        self, beam: Dict[str, Tuple[float, float, float]], blank: float, letters: Sequence[Tuple[str, float]]
    ) -> Dict[str, Tuple[float, float, float]]:
        grown: Dict[str, Tuple[float, float, float]] = {}
        for prefix, (on_blank, on_letter, told) in beam.items():
            whole, last = _sum(on_blank, on_letter), prefix[-1:]
            a, b, _ = grown.get(prefix, (_NEVER, _NEVER, told))
            a = _sum(a, whole + blank)
            for letter, value in letters:
                if letter == last:
                    b = _sum(b, on_letter + value)
            grown[prefix] = (a, b, told)
            for letter, value in letters:
                before = on_blank if letter == last else whole
                if before <= _NEVER / 2 or (letter == " " and last in ("", " ")):
                    continue
                longer = prefix + letter
                known = grown.get(longer)
                if known:
                    grown[longer] = (known[0], _sum(known[1], before + value), known[2])
                else:
                    grown[longer] = (_NEVER, before + value, told + self._told(prefix, letter))
        return grown

    def told(self, text: str) -> float:
        """What the language says to a whole text, in the units of `Reading.score`."""
        return sum(self._told(text[:at], letter) for at, letter in enumerate(text + END))

    def _told(self, prefix: str, letter: str) -> float:
        """What the language says to `letter` after `prefix`: nothing within a number."""
        if letter in KEPT or (letter not in " \n" and not KEPT.isdisjoint(prefix[prefix.rfind(" ") + 1 :])):
            return 0.0
        worth = 0.0 if letter == END else self.worth
        return self.weight * math.log(self.language.probability(BEGIN + prefix, letter)) + worth


def _steps(
    probabilities: np.ndarray, classes: Sequence[str], floor: float
) -> List[Tuple[float, List[Tuple[str, float]]]]:
    """Of each step the logarithm of the blank, and the letters that may stand there with theirs."""
    logs = np.log(np.maximum(probabilities, _TINY))
    best = probabilities.argmax(axis=1)
    kept = np.array([name in KEPT for name in classes])
    steps = []
    for row, values, top in zip(probabilities, logs, best):
        if kept[top]:  # nothing but this, neither a blank
            steps.append((_NEVER, [(classes[top], float(values[top]))]))
            continue
        found = [at for at in np.flatnonzero(row > floor).tolist() if at and not kept[at]]
        steps.append((float(values[0]), [(classes[at], float(values[at])) for at in found]))
    return steps


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b - a < -40 else a + math.log1p(math.exp(b - a))
