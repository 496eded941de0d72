"""Corrections of Vietnamese texts, which `text.corrections` has by name.

Each takes any text and returns it in Unicode NFC: of a decomposed text (NFD) it would see letters without their marks.
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

# Place names that must have a syllable for it to replace an impossible one. Chosen on training lines that were blurred
# until misread: with all syllables fewer mistakes have a single nearest one; with 10 more corrections are wrong.
_COMMON = 3
# Letters alone: neither part of a house number (8d, C/c) nor of a name with an apostrophe
_WORD = re.compile(r"(?<![\w/'’])[^\W\d_]+(?![\w/'’])")


@lru_cache(maxsize=1)
def _lexicon() -> Lexicon:
    return Lexicon()


@lru_cache(maxsize=1)
def _syllables() -> tuple[frozenset[str], Mapping[str, str]]:
    """Return (words that are never corrected, the syllables that may replace others)."""
    tree = shipped_place_names()
    common = [word for word, count in word_counts(tree).items() if count >= _COMMON]
    return known_words(tree), spellings([*common, *KIND_WORDS])


def correct_places(text: str) -> str:
    """Correct misread names of provinces, districts and wards by the map; see `Lexicon`."""
    return _lexicon().correct(text)


def correct_syllables(text: str) -> str:
    """Replace impossible syllables by the nearest one that is common in place names; see `nearest_syllable`.

    Words of the map, kinds of places, abbreviations and words with a digit stay.
    """
    known, choices = _syllables()

    def once(line: str) -> str:
        return _WORD.sub(lambda found: correct_syllable(found.group(), known, choices), line)

    return until_stable(once, unicodedata.normalize("NFC", text))


def place_tone_marks(text: str, style: str = "new") -> str:
    """Put tone marks where a style has them: "new" is hoà, as in the labels, "old" is hòa.

    Only syllables that are correct in one of the two styles are changed. A mark in a place that neither style has (Huà)
    mostly is a misread letter (Hoà), and moving it would make two errors of one.
    """

    def moved(found: re.Match) -> str:
        word = found.group()
        return place_tone_mark(word, style) if is_syllable(word) else word

    return _WORD.sub(moved, unicodedata.normalize("NFC", text))


def place_tone_marks_old(text: str) -> str:
    """Put tone marks where the old style has them: hòa, khỏe, thủy."""
    return place_tone_marks(text, "old")
