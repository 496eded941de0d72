"""Mending misread place names with the map: province, then its districts, then a district's wards.

An address ends with ward, district and province, in this order and often without any comma. The lexicon goes through
it from its end. Names are compared letter by letter with every mark (â, ơ, a tone) as a letter of its own, so that
a wrong mark weighs less than a wrong letter. RapidFuzz's ratios measure from 0 to 100: the partial ratio finds
which names may be in the text, the plain ratio says how near a name is to some words, and the token-sort ratio
knows a name whose words stand in another order, which is then not changed.
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

FLOOR = 60.0  # a name less similar than this is no candidate at all
SPACES_FLOOR = 90.0  # the same for a name with a word more or less, where spaces are not counted
# Short forms of provinces: they narrow like the name, and stay as they are.
PROVINCE_SHORT_FORMS = {
    "hcm": "Hồ Chí Minh",
    "tphcm": "Hồ Chí Minh",
    "hn": "Hà Nội",
    "brvt": "Bà Rịa Vũng Tàu",
    "br vt": "Bà Rịa Vũng Tàu",
}
# The table's name of a province whose longer name is written, too
_OTHER_NAMES = {"Thừa Thiên Huế": "Huế"}
_KINDS_OF_TWO_WORDS = frozenset(("thành phố", "thị xã", "thị trấn"))
_KINDS_BEFORE_NAMES = frozenset("tp tt tx h q p x huyện quận phường tỉnh xã".split())
_ROMAN_NUMBERS = frozenset("i ii iii iv v vi vii viii ix x xi xii".split())
_KEPT = ABBREVIATIONS | KIND_WORDS | _ROMAN_NUMBERS
_CHUNK = re.compile(r"\S+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class _Name:
    """A place's name, and its key for comparing."""

    text: str
    key: str
    words: int


@dataclass(frozen=True)
class _Match:
    """Words [start, end) of the text that are `name`, as far as `score` says (100: surely).

    `as_it_is`: the name is known by them, but they are written otherwise on purpose: shortened, in another order.
    """

    name: str
    start: int
    end: int
    score: float
    as_it_is: bool = False


class Lexicon:
    """Corrects place names in an address.

    Args:
        limit: similarity, 0 to 100, that a name needs to be put in the place of what was read. A sure match of the
            level above has found which few names there may be.
        sure: similarity from which a name narrows the level below. A province less sure than that is believed where
            one of its districts stands before it as surely.
        margin: by how much the second-best name must be worse.
        max_change: characters (Levenshtein) that may change in one name.
        word_limit: similarity that each single word of a name needs.
        known_limit: `limit` where what was read is a name, too, elsewhere on the map.
        tree: the names, province -> district -> wards; by default those that ship.

    Raises:
        SlimError: a limit outside of 0 to 100, a negative max_change, no readable names.
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
        """Return the text with misread names of provinces, districts and wards mended.

        Words with a digit, abbreviations (Tp, H, P) and kinds of places (Thôn, Xã) stay as they are, and so
        does everything that is not surely a name. Correcting twice is the same as once.
        """
        return until_stable(self._correct_once, unicodedata.normalize("NFC", text))

    def variants(self, text: str, each: int = 3) -> dict[str, int]:
        """Return what the text may have been meant to say, by the map alone, and how many levels of it each variant
        has.

        A variant ends with a province, a district of it and a ward of that, 3 levels, or with the first two or one of
        them; each name has the place of words that are not unlike it. The text itself is among them, with the levels
        that it has as it stands, 0 to 3. What `correct` never changes is not changed.

        Args:
            each: names of a level that are tried under one of the level above, the most similar ones.
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
        """Return whether the words are the name already, spelt in one of its ways."""
        read = " ".join(word.text for word in words[match.start : match.end])
        return match.as_it_is or _same_letters(read, match.name)

    def _correct_once(self, text: str) -> str:
        words = _split(text)
        return _replaced(text, words, [match for match in self._matches(words) if self._may_change(match, words)])

    def _may_change(self, match: _Match, words: Sequence[_Word]) -> bool:
        read = " ".join(word.text for word in words[match.start : match.end])
        old, new = _key(read), _key(match.name)
        # A known name is less likely to be misread than the map to be older than the address.
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
        """Return the recognized names, from the province down to the ward."""
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
        rivals = [path[0] for path in best if path[2] != province]
        if rivals and evidence - rivals[0] < self.margin:
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
        for count in (1, 2):
            province = PROVINCE_SHORT_FORMS.get(" ".join(word.text for word in words[-count:]).lower())
            if province and province in self._tree and count <= len(words):
                return _Match(province, len(words) - count, len(words), 100.0, as_it_is=True)
        return None

    def _best(self, names: _Names, words: Sequence[_Word], end: int) -> _Match | None:
        """Return the name that words before `end` are; None where there is none, or two that are equally near."""
        found = self._candidates(names, words, end)
        if not found or (len(found) > 1 and found[0].score - found[1].score < self.margin and found[0].score < 100):
            return None
        return found[0]

    def _candidates(self, names: _Names, words: Sequence[_Word], end: int) -> list[_Match]:
        """For each name that may stand directly before word `end`, its best match; the most similar first."""
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
            name = names.names[index]
            best: _Match | None = None
            for count in (name.words, name.words - 1, name.words + 1):
                if not 0 < count <= end - start:
                    continue
                read = " ".join(keys[len(keys) - count :])
                if count == name.words:
                    score = fuzz.ratio(name.key, read)
                else:  # a space was lost or made up, hardly more
                    score = _similar_but_for_spaces(name.key.split(), keys[len(keys) - count :])
                swapped = fuzz.token_sort_ratio(name.key, read) if count == name.words > 1 else 0.0
                is_swapped = swapped == 100 > score
                score = max(score, swapped if is_swapped else 0.0)
                if score >= FLOOR and (best is None or score > best.score):
                    best = _Match(name.text, end - count, end, score, is_swapped)
            if best:
                found.append(best)
        return sorted(found, key=lambda match: -match.score)


@dataclass(frozen=True)
class _Word:
    """A word of the text, text[begin:end].

    Attributes:
        free: it may be changed.
        joined: one space and nothing else is between it and the word before.
    """

    text: str
    begin: int
    end: int
    free: bool
    joined: bool


@dataclass(frozen=True)
class _Names:
    """Names to choose from."""

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
    """Return where the name before `end` ends: words that say the kind of what follows (Thành Phố, Tp) are skipped."""
    while end > 0:
        if end > 1 and f"{words[end - 2].text} {words[end - 1].text}".lower() in _KINDS_OF_TWO_WORDS:
            end -= 2
        elif words[end - 1].text.lower() in _KINDS_BEFORE_NAMES:
            end -= 1
        else:
            break
    return end


def _similar_but_for_spaces(name: Sequence[str], read: Sequence[str]) -> float:
    """Return how near words of another number are to a name's when their spaces do not count; 0 under SPACES_FLOOR, and
    where leaving out a word would make them nearer: that word was not torn off the others or glued to them, but is
    one of its own (Phú Lộc H), which must not vanish or be made up.
    """
    more, fewer = (read, "".join(name)) if len(read) > len(name) else (name, "".join(read))
    score = fuzz.ratio("".join(more), fewer)
    if score < SPACES_FLOOR:
        return 0.0
    without = ("".join((*more[:at], *more[at + 1 :])) for at in range(len(more)))
    return 0.0 if any(fuzz.ratio(rest, fewer) >= score for rest in without) else score


def _evidence(match: _Match, below: _Match | None) -> float:
    """Return how much speaks for a province: its own similarity, and half of its best district's."""
    return match.score + (below.score / 2 if below else 0.0)


@lru_cache(maxsize=65536)
def _key(name: str) -> str:
    """Return what is compared: lower case, each mark a letter of its own and tones at their word's end.

    Spellings of one name give one key: hoà and hòa, Mỹ and Mĩ, Qui and Quy, Đắk and Đăk and Đak.
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
    """Return whether both are one name but for its spaces and apostrophes (Krông Ana, Krông A Na), as people write it.

    A capital within a word says that a space was lost, which is mended.
    """
    if any(word[1:] != word[1:].lower() for word in read.split()) and not read.isupper():
        return _key(read) == _key(name)
    plain = [re.sub("[ '’]", "", _key(text)) for text in (read, name)]
    return plain[0] == plain[1]


def _in_case_of(read: str, name: str) -> str:
    """Return the name in capitals or small letters where all of what was read is."""
    if len(read) > 1 and read.isupper():
        return name.upper()
    return name.lower() if read.islower() else name
