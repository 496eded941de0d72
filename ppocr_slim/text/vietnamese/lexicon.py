"""Correction of misread place names by the map: province, then its districts, then a district's wards.

An address ends with ward, district and province, in this order and often without any comma. The lexicon matches it from
its end. Names are compared letter by letter with every mark (â, ơ, a tone) as a letter of its own, so that a wrong mark
weighs less than a wrong letter. Similarities are RapidFuzz's ratios, from 0 to 100: the partial ratio finds the names
that may be in the text, the plain ratio compares a name with some words, and the token-sort ratio recognizes a name
whose words are in another order, which is then not changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from ppocr_slim.errors import SlimError
from ppocr_slim.text.stable import until_stable
from ppocr_slim.text.vietnamese.place_names import ABBREVIATIONS, KIND_WORDS, PlaceTree, shipped_place_names
from ppocr_slim.text.vietnamese.syllables import split_tone

FLOOR = 60.0  # similarity that a name needs to be a candidate
SPACES_FLOOR = 90.0  # the same for a name with a word more or less, compared without spaces
# Short forms of provinces: they narrow the districts as the name does, and are not changed.
PROVINCE_SHORT_FORMS = {
    "hcm": "Hồ Chí Minh",
    "tphcm": "Hồ Chí Minh",
    "hn": "Hà Nội",
    "brvt": "Bà Rịa Vũng Tàu",
    "br vt": "Bà Rịa Vũng Tàu",
}
# A longer name of a province -> its name on the map
_OTHER_NAMES = {"Thừa Thiên Huế": "Huế"}
_KINDS_OF_TWO_WORDS = frozenset(("thành phố", "thị xã", "thị trấn"))
_KINDS_BEFORE_NAMES = frozenset("tp tt tx h q p x huyện quận phường tỉnh xã".split())
_ROMAN_NUMBERS = frozenset("i ii iii iv v vi vii viii ix x xi xii".split())
_KEPT = ABBREVIATIONS | KIND_WORDS | _ROMAN_NUMBERS
_CHUNK = re.compile(r"\S+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class _Name:
    """The name of a place.

    Attributes:
        text: as on the map.
        key: that of `_key`.
        words: their number.
    """

    text: str
    key: str
    words: int


@dataclass(frozen=True)
class _Match:
    """Words [start, end) of the text that match a name.

    Attributes:
        name: as on the map.
        score: similarity, 0 to 100.
        as_it_is: the words stay, because they are another form of the name: a short one, or another order.
    """

    name: str
    start: int
    end: int
    score: float
    as_it_is: bool = False


class Lexicon:
    """The map's place names, by which those in an address are corrected.

    Args:
        limit: similarity, 0 to 100, that a name needs to replace what was read. It may be low, since a sure match of
            the level above has left only a few names.
        sure: similarity from which a match narrows the level below. A province that is less similar is accepted if one
            of its districts before it is as similar as that.
        margin: by which the second-best name must be less similar.
        max_change: characters (Levenshtein) that may change in a name.
        word_limit: similarity that each word of a name needs.
        known_limit: `limit` where what was read is itself a name, elsewhere on the map.
        tree: the names, province -> district -> wards; by default those that ship.

    Raises:
        SlimError: a limit outside of 0 to 100, a negative max_change, or the names that ship cannot be read.
    """

    def __init__(
        self,
        limit: float = 75.0,
        sure: float = 85.0,
        margin: float = 8.0,
        max_change: int = 3,
        word_limit: float = 55.0,
        known_limit: float = 95.0,
        tree: PlaceTree | None = None,
    ):
        similarities = {"limit": limit, "sure": sure, "margin": margin, "word_limit": word_limit}
        for name, value in {**similarities, "known_limit": known_limit}.items():
            if not 0 <= value <= 100:
                raise SlimError(f"Lexicon: {name} is a similarity from 0 to 100, not {value!r}")
        if max_change < 0:
            raise SlimError(f"Lexicon: max_change is a number of characters, not {max_change!r}")
        self.limit, self.sure, self.margin, self.max_change = limit, sure, margin, max_change
        self.word_limit, self.known_limit = word_limit, known_limit
        self._tree = shipped_place_names() if tree is None else tree
        self._provinces = _names([*self._tree, *(name for name, short in _OTHER_NAMES.items() if short in self._tree)])
        self._districts = {
            province: _names(name for name in districts if name) for province, districts in self._tree.items()
        }
        self._wards = {
            (province, district): _names(wards)
            for province, districts in self._tree.items()
            for district, wards in districts.items()
        }

        self._known = frozenset(
            key for names in (self._provinces, *self._districts.values(), *self._wards.values()) for key in names.keys
        )

    def correct(self, text: str) -> str:
        """Return the text with misread names of provinces, districts and wards corrected.

        Words with a digit, abbreviations (Tp, H, P) and kinds of places (Thôn, Xã) stay as they are, and so does
        everything that is not surely a name. Correcting twice is the same as once.
        """
        return until_stable(self._correct_once, unicodedata.normalize("NFC", text))

    def variants(self, text: str, each: int = 3) -> dict[str, int]:
        """Return the texts that an address may be a misreading of, by the map alone.

        A variant ends with a province, a district of it and a ward of that, 3 levels, or with the first two or one of
        them; each name replaces words that are similar to it. What `correct` never changes is not changed.

        Args:
            text: an address.
            each: names of a level that are tried under one of the level above, the most similar ones.

        Returns:
            Variant -> its number of levels. The text itself is among them, with the levels that it has already, 0 to 3.
        """
        text = unicodedata.normalize("NFC", text)
        words = _split(text)
        found: dict[str, int] = {text: 0}

        def add(path: Sequence[_Match]) -> None:
            variant = _replaced(text, words, [match for match in path if not self._is_written(match, words)])
            found[variant] = max(found.get(variant, 0), len(path))

        short = self._short_form(words)
        for top in [short] if short else self._candidates(self._provinces, words, len(words))[:each]:
            add([top])
            province, end = _OTHER_NAMES.get(top.name, top.name), _before_kinds(words, top.start)
            for middle in self._candidates(self._districts[province], words, end)[:each]:
                add([top, middle])
                wards, end = self._wards[province, middle.name], _before_kinds(words, middle.start)
                for ward in self._candidates(wards, words, end)[:each]:
                    add([top, middle, ward])
        return found

    def _is_written(self, match: _Match, words: Sequence[_Word]) -> bool:
        """Return whether the words are a spelling of the name already."""
        return match.as_it_is or _same_letters(_joined(words[match.start : match.end]), match.name)

    def _correct_once(self, text: str) -> str:
        words = _split(text)
        return _replaced(text, words, [match for match in self._matches(words) if self._may_change(match, words)])

    def _may_change(self, match: _Match, words: Sequence[_Word]) -> bool:
        """Return whether the words are surely a misreading of the name."""
        read = _joined(words[match.start : match.end])
        old, new = _key(read), _key(match.name)
        # That a known name is a misreading is less likely than that the map is older than the address.
        limit = max(self.limit, self.known_limit) if old in self._known else self.limit
        if match.as_it_is or match.score < limit or _same_letters(read, match.name):
            return False
        pairs = list(zip(old.split(), new.split()))
        if len(pairs) == len(old.split()) == len(new.split()) and any(
            fuzz.ratio(*pair) < self.word_limit for pair in pairs
        ):
            return False
        return Levenshtein.distance(read.lower(), match.name.lower()) <= self.max_change

    def _matches(self, words: Sequence[_Word]) -> list[_Match]:
        """Return the matches of the most likely province, its district and its ward, as far as they are sure."""
        best: list[tuple[float, list[_Match], str]] = []
        short = self._short_form(words)
        for match in [short] if short else self._candidates(self._provinces, words, len(words)):
            province = _OTHER_NAMES.get(match.name, match.name)
            below = self._best(self._districts[province], words, _before_kinds(words, match.start))
            best.append((_evidence(match, below), [match] + ([below] if below else []), province))
        best.sort(key=lambda path: -path[0])
        if not best:
            return []
        evidence, found, province = best[0]
        others = [path[0] for path in best if path[2] != province]
        if others and evidence - others[0] < self.margin:
            return []
        if max(match.score for match in found) < self.sure:
            return []
        if len(found) == 1:
            return found
        district = found[1]
        if district.score < self.sure:
            return found
        end = _before_kinds(words, district.start)
        ward = self._best(self._wards[province, district.name], words, end)
        return found + ([ward] if ward else [])

    def _short_form(self, words: Sequence[_Word]) -> _Match | None:
        """Return the match of a province's short form at the end of the text."""
        for count in (1, 2):
            province = PROVINCE_SHORT_FORMS.get(_joined(words[-count:]).lower())
            if province and province in self._tree and count <= len(words):
                return _Match(province, len(words) - count, len(words), 100.0, as_it_is=True)
        return None

    def _best(self, names: _Names, words: Sequence[_Word], end: int) -> _Match | None:
        """Return the best match before word `end`; None where there is none, or another about as similar."""
        found = self._candidates(names, words, end)
        if not found or (len(found) > 1 and found[0].score - found[1].score < self.margin and found[0].score < 100):
            return None
        return found[0]

    def _candidates(self, names: _Names, words: Sequence[_Word], end: int) -> list[_Match]:
        """Return the best match of each name directly before word `end`, the most similar first."""
        start = end
        while start > max(0, end - names.longest - 1) and words[start - 1].free:
            if start < end and not words[start].joined:
                break  # a name does not go over a comma
            start -= 1
        if start == end:
            return []
        keys = [_key(word.text) for word in words[start:end]]
        tail = " ".join(keys)
        found = []
        for _, _, index in process.extract(
            tail, names.keys, scorer=fuzz.partial_ratio, score_cutoff=FLOOR, limit=None, processor=None
        ):
            best = _best_match(names.names[index], keys, end)
            if best:
                found.append(best)
        return sorted(found, key=lambda match: -match.score)


def _best_match(name: _Name, keys: Sequence[str], end: int) -> _Match | None:
    """Return the best match of a name with the last words before word `end`, whose keys are given."""
    best: _Match | None = None
    for count in (name.words, name.words - 1, name.words + 1):
        if not 0 < count <= len(keys):
            continue
        words = keys[len(keys) - count :]
        is_swapped = False
        if count == name.words:
            read = " ".join(words)
            score = fuzz.ratio(name.key, read)
            if count > 1 and score < 100 == fuzz.token_sort_ratio(name.key, read):
                score, is_swapped = 100.0, True
        else:  # a space was lost or added, hardly more
            score = _similarity_without_spaces(name.key.split(), words)
        if score >= FLOOR and (best is None or score > best.score):
            best = _Match(name.text, end - count, end, score, is_swapped)
    return best


@dataclass(frozen=True)
class _Word:
    """A word of the text, text[begin:end].

    Attributes:
        free: it may be changed.
        joined: there is one space and nothing else between it and the word before.
    """

    text: str
    begin: int
    end: int
    free: bool
    joined: bool


@dataclass(frozen=True)
class _Names:
    """The names of a level to choose from.

    Attributes:
        keys: those of the names.
        longest: words of the longest name.
    """

    names: tuple[_Name, ...]
    keys: tuple[str, ...]
    longest: int


def _names(texts: Iterable[str]) -> _Names:
    by_key: dict[str, _Name] = {}
    for text in texts:
        key = _key(text)
        by_key.setdefault(key, _Name(text, key, len(text.split())))
    names = tuple(by_key.values())
    return _Names(names, tuple(by_key), max((name.words for name in names), default=0))


def _joined(words: Sequence[_Word]) -> str:
    return " ".join(word.text for word in words)


def _split(text: str) -> list[_Word]:
    """Return the words of the text without the punctuation at their ends."""
    words: list[_Word] = []
    for chunk in _CHUNK.finditer(text):
        found = _WORD.search(chunk.group())
        begin, end = chunk.span()
        free = False
        if found is not None:
            rest = chunk.group()[: found.start()] + chunk.group()[found.end() :]
            begin, end = begin + found.start(), begin + found.end()
            letters = found.group().lower()
            # isalpha, too: a raised 2 is a letter to a regular expression
            free = not re.search(r"\w|/", rest) and letters.replace("'", "").replace("’", "").isalpha()
            free = free and letters not in _KEPT
        joined = bool(words) and text[words[-1].end : begin] == " "
        words.append(_Word(text[begin:end], begin, end, free, joined))
    return words


def _replaced(text: str, words: Sequence[_Word], matches: Iterable[_Match]) -> str:
    """Return the text with each match's name in the place of its words."""
    for match in sorted(matches, key=lambda match: -match.start):
        first, last = words[match.start], words[match.end - 1]
        read = text[first.begin : last.end]
        text = text[: first.begin] + _in_case_of(read, match.name) + text[last.end :]
    return text


def _before_kinds(words: Sequence[_Word], end: int) -> int:
    """Return the end of the name before word `end`, without words for the kind of what follows (Thành Phố, Tp)."""
    while end > 0:
        if end > 1 and f"{words[end - 2].text} {words[end - 1].text}".lower() in _KINDS_OF_TWO_WORDS:
            end -= 2
        elif words[end - 1].text.lower() in _KINDS_BEFORE_NAMES:
            end -= 1
        else:
            break
    return end


def _similarity_without_spaces(name: Sequence[str], read: Sequence[str]) -> float:
    """Return the similarity of a name with words of another number, both without their spaces.

    It is 0 under `SPACES_FLOOR`, and where it would be higher without one of the words: that word is no part of its
    neighbours but one of its own (Phú Lộc H), which must not be lost or added.
    """
    more, fewer = (read, "".join(name)) if len(read) > len(name) else (name, "".join(read))
    score = fuzz.ratio("".join(more), fewer)
    if score < SPACES_FLOOR:
        return 0.0
    without = ("".join((*more[:at], *more[at + 1 :])) for at in range(len(more)))
    return 0.0 if any(fuzz.ratio(rest, fewer) >= score for rest in without) else score


def _evidence(match: _Match, below: _Match | None) -> float:
    """Return the evidence for a province: its similarity plus half that of its best district."""
    return match.score + (below.score / 2 if below else 0.0)


@lru_cache(maxsize=65536)
def _key(name: str) -> str:
    """Return a name for comparison: in lower case, each mark a letter of its own and tones at the end of their word.

    Spellings of one name have one key: hoà and hòa, Mỹ and Mĩ, Qui and Quy, Đắk and Đăk and Đak.
    """
    words = []
    for word in name.lower().split():
        try:
            letters, tone = split_tone(word)
        except ValueError:
            letters, tone = word, ""
        if letters in ("đăk", "đak", "dăk", "dak", "đâk"):
            letters, tone = "đăk", ""
        letters = re.sub("(?<=[bcdđghklmnpqrstvx])y$|(?<=qu)y$", "i", letters)
        words.append(unicodedata.normalize("NFD", letters.replace("đ", "d\u0335")) + tone)
    return " ".join(words)


def _same_letters(read: str, name: str) -> bool:
    """Return whether both are one name but for spaces and apostrophes, which people write in several ways (Krông A Na).

    A capital within a word is the sign of a lost space: then spaces and apostrophes count.
    """
    if any(word[1:] != word[1:].lower() for word in read.split()) and not read.isupper():
        return _key(read) == _key(name)
    plain = [re.sub("[ '’]", "", _key(text)) for text in (read, name)]
    return plain[0] == plain[1]


def _in_case_of(read: str, name: str) -> str:
    """Return the name in upper or lower case if all of what was read is."""
    if len(read) > 1 and read.isupper():
        return name.upper()
    return name.lower() if read.islower() else name
