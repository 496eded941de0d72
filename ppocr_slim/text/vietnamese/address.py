"""CTC decoding with knowledge of addresses: the language's best readings, and what the map makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ppocr_slim.text.beam import BeamSearch
from ppocr_slim.text.ctc import log_likelihoods
from ppocr_slim.text.vietnamese.lexicon import Lexicon


@dataclass(frozen=True)
class AddressSearch(BeamSearch):
    """A decoder of addresses.

    Each of the beam's best readings has variants that end with a province, a district of it and a ward of that
    (`Lexicon.variants`). All are weighed alike: what the network saw of the whole text, what the language says to it,
    and a bonus for each level of the map that it has. So a name is put right where the strokes allow it, however many
    letters that takes, and a place that is not on the map stays where the strokes speak for it.

    Attributes:
        lexicon: the map.
        level_bonus: added for each level of the map that a text has, in the units of `Reading.score`.
        tried: readings whose variants are looked at.
    """

    lexicon: Lexicon = field(default_factory=Lexicon)
    level_bonus: float = 10.0
    tried: int = 6

    def best(self, probabilities: np.ndarray, classes: Sequence[str]) -> str:
        levels: dict[str, int] = {}
        for reading in self.readings(probabilities, classes)[: self.tried]:
            for text, found in self.lexicon.variants(reading.text).items():
                levels[text] = max(found, levels.get(text, 0))
        texts: list[str] = list(levels)
        ctc = log_likelihoods(probabilities, texts, classes)
        scores = [value + self.lm_score(text) + self.level_bonus * levels[text] for value, text in zip(ctc, texts)]
        return texts[int(np.argmax(scores))]
