"""Post-processing that a user can switch on: corrections of a text that was read, by name. None is on by default.

Each takes any text and gives it in Unicode NFC: of a decomposed text (NFD) a letter without its marks would be mended.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from ppocr_slim.text.stable import until_stable
from ppocr_slim.text.vietnamese.lexicon import Lexicon
from ppocr_slim.text.vietnamese.place_names import KIND_WORDS, known_words, shipped_place_names, word_counts
from ppocr_slim.text.vietnamese.syllables import correct_syllable, is_syllable, place_tone_mark, spellings

# In how many place names a syllable must be to be put in the place of an impossible one. Chosen on training lines that
# were blurred until misread: with all syllables fewer mistakes have a single nearest one; with 10 more finds are wrong.
_COMMON = 3
# Letters alone: neither part of a house number (8d, C/c) nor of a name with an apostrophe
_WORD = re.compile(r"(?<![\w/'’])[^\W\d_]+(?![\w/'’])")


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    return Lexicon()


@lru_cache(maxsize=1)
def _syllables() -> tuple[frozenset[str], Mapping[str, str]]:
    """Return (words that are no mistakes, the syllables that a mistake may have been)."""
    tree = shipped_place_names()
    common = [word for word, count in word_counts(tree).items() if count >= _COMMON]
    return known_words(tree), spellings([*common, *KIND_WORDS])


def correct_places(text: str) -> str:
    """Misread names of provinces, districts and wards, by the map; see `Lexicon`."""
    return _lexicon().correct(text)


def correct_syllables(text: str) -> str:
    """Impossible syllables, where one that is common in place names is nearest; see `nearest_syllable`.

    Words of the map, kinds of places, abbreviations and what has a digit stay.
    """
    known, choices = _syllables()

    def once(line: str) -> str:
        return _WORD.sub(lambda found: correct_syllable(found.group(), known, choices), line)

    return until_stable(once, unicodedata.normalize("NFC", text))


def place_tone_marks(text: str, style: str = "new") -> str:
    """Tone marks where one style puts them: "new" is hoà, as the labels have it, "old" is hòa.

    Only syllables that are right in one of the two styles are touched. A mark in a place of its own (Huà) is
    mostly a misread letter (Hoà), and moving it would make two errors of one.
    """

    def moved(found: re.Match) -> str:
        word = found.group()
        return place_tone_mark(word, style) if is_syllable(word) else word

    return _WORD.sub(moved, unicodedata.normalize("NFC", text))


def place_tone_marks_old(text: str) -> str:
    """Tone marks in the old style: hòa, khỏe, thủy."""
    return place_tone_marks(text, "old")
