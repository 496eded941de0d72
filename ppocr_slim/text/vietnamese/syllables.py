"""The spelling of Vietnamese syllables: possible ones, the place of the tone mark, and the nearest possible one.

A syllable is an onset, a rhyme and one of six tones. The tables follow the rules of the orthography (chữ quốc ngữ)
as grammars give them, for instance L. C. Thompson, A Vietnamese Reference Grammar (1965), chapter 3. Names from other
languages of the country (Đắk, Kon, Pleiku) do not follow them; words of the map are therefore never corrected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ppocr_slim.errors import SlimError

# Combining marks of the tones: huyền, sắc, hỏi, ngã, nặng. A word without one has the level tone.
TONES = ("\u0300", "\u0301", "\u0309", "\u0303", "\u0323")
_STOP_TONES = ("\u0301", "\u0323")
STYLES = ("new", "old")

_ONSETS = tuple("ngh ch gh gi kh ng nh ph qu th tr b c d đ g h k l m n p r s t v x".split()) + ("",)
_RHYMES = frozenset(
    (
        "a ac ach ai am an ang anh ao ap at au ay ăc ăm ăn ăng ăp ăt âc âm ân âng âp ât âu ây "
        "e ec em en eng eo ep et ê êch êm ên ênh êp êt êu i ia ich im in inh ip it iu "
        "iêc iêm iên iêng iêp iêt iêu y yêm yên yêng yêt yêu "
        "o oc oi om on ong op ot ooc oong ô ôc ôi ôm ôn ông ôp ôt ơ ơi ơm ơn ơp ơt "
        "u ua uc ui um un ung up ut uôc uôi uôm uôn uông uôt ư ưa ưc ưi ưm ưn ưng ưt ưu "
        "ươc ươi ươm ươn ương ươp ươt ươu"
    ).split()
)
# Rhymes that begin with the glide /w/, written o or u
_GLIDES = frozenset(
    (
        "oa oac oach oai oam oan oang oanh oao oap oat oay oăc oăm oăn oăng oăt oe oem oen oeo oet "
        "uân uâng uât uây uê uêch uên uênh uêt uơ uy uya uych uyên uyêt uyn uynh uyp uyt uyu"
    ).split()
)
# What follows "qu", whose u is the glide
_AFTER_QU = frozenset(rhyme[1:] for rhyme in _GLIDES) | frozenset("au i in inh it ôc ăp ơi ơn".split())
# What follows "gi", whose i is the vowel where no other follows
_AFTER_GI = frozenset(rhyme for rhyme in _RHYMES if rhyme[0] not in "iy") | frozenset(
    ("", "n", "m", *(rhyme[1:] for rhyme in _RHYMES if rhyme.startswith("iê")))
)
_NO_GLIDE = frozenset("b c g gh k m ngh p ph v".split())  # /kw/ is written qu
_Y_ALONE = frozenset(("h", "k", "l", "m", "s", "t", "v", ""))  # onsets after which -i may be written -y

_VOWELS = "aăâeêioôơuưy"
_QUALITY_VOWELS = "ăâêôơư"


def split_tone(word: str) -> tuple[str, str]:
    """Return (word without its tone mark, the mark or ""): ("Hoa", U+0300) for "Hoà".

    Raises:
        ValueError: the word has two tone marks.
    """
    letters: list[str] = []
    tone = ""
    for character in unicodedata.normalize("NFC", word):
        decomposed = unicodedata.normalize("NFD", character)
        for mark in decomposed:
            if mark in TONES:
                if tone:
                    raise ValueError(f"two tone marks in {word!r}")
                tone = mark
        plain = "".join(mark for mark in decomposed if mark not in TONES)
        letters.append(unicodedata.normalize("NFC", plain))
    return "".join(letters), tone


@lru_cache(maxsize=65536)
def _parts(letters: str) -> tuple[str, str] | None:
    """Return (onset, rhyme) of a toneless lower-case syllable; None where it has no possible spelling."""
    for onset in _ONSETS:  # the longest first; "gi" before "g": "gia" has the onset gi, "ghi" has gh
        if not letters.startswith(onset):
            continue
        rhyme = letters[len(onset) :]
        if _fits(onset, rhyme):
            return onset, rhyme
    return None


def _fits(onset: str, rhyme: str) -> bool:
    """Return whether the orthography allows a toneless rhyme after an onset."""
    if onset == "qu":
        return rhyme in _AFTER_QU
    if onset == "gi":
        return rhyme in _AFTER_GI
    if rhyme in _GLIDES:
        return onset not in _NO_GLIDE or (onset == "g" and rhyme.startswith("o"))  # goá
    if rhyme not in _RHYMES:
        return False
    front = rhyme[0] in "eêiy"
    if onset in ("k", "gh", "ngh"):
        return front and (rhyme[0] != "y" or (onset == "k" and rhyme == "y"))
    if onset in ("c", "g", "ng"):
        return not front
    if rhyme[0] == "y":
        return onset in _Y_ALONE if rhyme == "y" else onset == ""
    return onset != "" or not rhyme.startswith("iê")  # yên, not iên


def _tone_position(onset: str, rhyme: str, style: str) -> int:
    """Return the index of the letter of onset + rhyme that carries the tone mark."""
    start = len(onset)
    if onset == "gi" and (not rhyme or rhyme[0] not in _VOWELS):
        return 1  # gì, gìn
    quality = [index for index, letter in enumerate(rhyme) if letter in _QUALITY_VOWELS]
    if quality:
        # ươ carries it on the ơ, ưa and ưu on the ư
        return start + quality[-1]
    vowels = next((index for index, letter in enumerate(rhyme) if letter not in _VOWELS), len(rhyme))
    if vowels == 1:
        return start
    if vowels == 3 or vowels < len(rhyme):
        return start + 1  # oai, uyu; oan, uynh
    return start + (style == "new" and onset != "qu" and rhyme in ("oa", "oe", "uy"))


def _with_tone(letters: str, parts: tuple[str, str], tone: str, style: str) -> str:
    """Return a syllable's letters, of any case, with the tone mark where the style has it."""
    if not tone:
        return letters
    at = _tone_position(*parts, style)
    return letters[:at] + unicodedata.normalize("NFC", letters[at] + tone) + letters[at + 1 :]


def is_syllable(word: str) -> bool:
    """Return whether Vietnamese orthography allows the word, of any case, with its tone mark in either style.

    Syllables that end in -p, -t, -c or -ch have the tone sắc or nặng only.
    """
    word = unicodedata.normalize("NFC", word).lower()
    try:
        letters, tone = split_tone(word)
    except ValueError:
        return False
    parts = _parts(letters)
    if parts is None or (parts[1].endswith(("p", "t", "c", "ch")) and tone not in _STOP_TONES):
        return False
    return any(word == _with_tone(letters, parts, tone, style) for style in STYLES)


def place_tone_mark(word: str, style: str = "new") -> str:
    """Return the word with its tone mark where the style has it: "new" is hoà, khoẻ, thuỷ, "old" is hòa, khỏe, thủy.

    The new style is the default, because the labels of the Kalapa lines have it (469 of 471 such syllables in
    the training lines). Both styles agree on all other syllables, and there a mark on a wrong letter (Hòang) is moved,
    too. A word that is no syllable, or has two tone marks, is returned as it is.

    Raises:
        SlimError: an unknown style.
    """
    if style not in STYLES:
        raise SlimError(f"the style of tone marks is new (hoà) or old (hòa), not {style!r}")
    composed = unicodedata.normalize("NFC", word)
    try:
        letters, tone = split_tone(composed)
    except ValueError:
        return word
    lower = letters.lower()
    parts = _parts(lower) if len(lower) == len(letters) else None
    return word if parts is None or not tone else _with_tone(letters, parts, tone, style)


def spellings(words: Iterable[str]) -> dict[str, str]:
    """Return the possible syllables among lower-case words: spelling in either style -> spelling in the new style."""
    possible = [unicodedata.normalize("NFC", word) for word in words if is_syllable(word)]
    return {place_tone_mark(word, style): place_tone_mark(word) for word in possible for style in STYLES}


def nearest_syllable(word: str, choices: Mapping[str, str]) -> str | None:
    """Find the syllable that is nearest to an impossible word.

    Nearest is one whose tone mark is elsewhere, then one with another mark on one letter (a tone, or â for a), then one
    with two other marks on one letter, then one with another letter, one more or one less. None further is near.

    Args:
        word: of any case.
        choices: of `spellings`.

    Returns:
        The syllable, in lower case and the new style; None where none is near, or several are equally near.
    """
    word = unicodedata.normalize("NFC", word).lower()
    moved = choices.get(place_tone_mark(word))
    if moved is not None:
        return moved
    near: dict[int, set[str]] = {}
    for choice, _, _ in process.extract(word, list(choices), scorer=Levenshtein.distance, score_cutoff=1, limit=None):
        near.setdefault(_unlikeness(word, choice), set()).add(choices[choice])
    found = near[min(near)] if near else ()
    return next(iter(found)) if len(found) == 1 else None


def _unlikeness(word: str, other: str) -> int:
    """Return the cost of the one error between two words: 1 another mark, 2 another tone and quality, 3 a letter."""
    if len(word) != len(other):
        return 3
    (letter, tone), (other_letter, other_tone) = next(
        (split_tone(one), split_tone(two)) for one, two in zip(word, other) if one != two
    )
    if _plain(letter) != _plain(other_letter):
        return 3
    return 1 if letter == other_letter or tone == other_tone else 2


def _plain(letter: str) -> str:
    """Return a letter without any mark."""
    return "d" if letter == "đ" else unicodedata.normalize("NFD", letter)[0]


def correct_syllable(word: str, known: frozenset[str], choices: Mapping[str, str]) -> str:
    """Correct a word that is no possible syllable.

    Words of one or two letters (house numbers and abbreviations), words without a vowel and words with capitals inside
    stay.

    Args:
        word: of any case.
        known: words, in lower case, that stay.
        choices: of `spellings`.

    Returns:
        The syllable of `nearest_syllable` in the case of the word, or the word where it stays.
    """
    lower = unicodedata.normalize("NFC", word).lower()
    in_case = _case_of(word)
    if len(lower) < 3 or not _has_vowel(lower) or in_case is None or lower in known or is_syllable(lower):
        return word
    nearest = nearest_syllable(lower, choices)
    return word if nearest is None else in_case(nearest)


def _has_vowel(word: str) -> bool:
    return any(_plain(letter) in "aeiouy" for letter in word)


def _case_of(word: str) -> Callable[[str], str] | None:
    """Return the function that puts a text into the case of the word; None for a mixed case."""
    for change in (str.lower, str.capitalize, str.upper):
        if word == change(word):
            return change
    return None
