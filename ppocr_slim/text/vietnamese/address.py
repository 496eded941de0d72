"""CTC decoding of addresses: beam search with a language model, then the place names of the map."""

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
    (`Lexicon.variants`). The score of a variant is its CTC log-likelihood, plus its score by the language model, plus a
    bonus for each level of the map that it has. So a name is corrected where the network's probabilities allow it,
    however many characters that takes, and a place that is not on the map stays where they support it.

    Attributes:
        lexicon: the map.
        level_bonus: added for each level of the map that a text has, in the units of `Reading.score`.
        tried: readings whose variants are scored, the best.
    """

    lexicon: Lexicon = field(default_factory=Lexicon)
    level_bonus: float = 10.0
    tried: int = 6

    def best(self, probabilities: np.ndarray, classes: Sequence[str]) -> str:
        """Return the best variant of the best readings of a line; for the arguments see `readings`."""
        levels: dict[str, int] = {}
        for reading in self.readings(probabilities, classes)[: self.tried]:
            for text, found in self.lexicon.variants(reading.text).items():
                levels[text] = max(found, levels.get(text, 0))
        texts: list[str] = list(levels)
        ctc = log_likelihoods(probabilities, texts, classes)
        scores = [value + self.lm_score(text) + self.level_bonus * levels[text] for value, text in zip(ctc, texts)]
        return texts[int(np.argmax(scores))]
