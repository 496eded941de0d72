"""The place names that ship with the runtime: provinces, their districts, their wards.

`place_names.txt.gz` is made by `tools/make_place_names.py` from the table that the synthetic addresses use (PyPI
`vietnamadminunits`, MIT), so that reading needs neither that package nor a database. It is UTF-8 text: a province is
a line, its districts follow with one TAB before them, a district's wards with two. Names are in label form, without
their kinds (Phường, Huyện) and without numbers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ppocr_slim.errors import SlimError

PLACE_NAMES = Path(__file__).with_name("place_names.txt.gz")
# Words of address forms that are no names. The abbreviations are written so in the labels, in title case.
ABBREVIATIONS = frozenset(
    "tp tt tx tdp kp kdc ktt kcn ql tl đt hcm hn cc brvt br vt p q h x t n b l k f d đ ttđt kđt tphcm".split()
)
KIND_WORDS = frozenset(
    "xã phường quận huyện ấp thôn xóm bản tổ khu phố số đường ngõ ngách hẻm khóm đội khối cụm lô nhà tỉnh".split()
)

PlaceTree = Mapping[str, Mapping[str, tuple[str, ...]]]


def names_text(places: Iterable[tuple[str, str, str]]) -> str:
    """Return the text form of (province, district, ward) names. Sorted; words with digits are left out.

    Of names of digits alone (Quận 1, Phường 12) nothing is left that could be corrected: such wards are left out, and
    the wards of all such districts of a province stand under the district "".
    """
    tree: dict[str, dict[str, set]] = {}
    for row in places:
        province, district, ward = (_without_numbers(name) for name in row)
        wards = tree.setdefault(province, {}).setdefault(district, set())
        if ward:
            wards.add(ward)
    lines: list[str] = []
    for province in sorted(tree):
        lines.append(province)
        for district in sorted(tree[province]):
            lines.append("\t" + district)
            lines.extend("\t\t" + ward for ward in sorted(tree[province][district]))
    return "\n".join(lines) + "\n"


def _without_numbers(name: str) -> str:
    return " ".join(word for word in name.split() if not re.search(r"\d", word))


def save_place_names(places: Iterable[tuple[str, str, str]], path: Path = PLACE_NAMES) -> int:
    """Write the names to `path`; its size in bytes. The same names give the same file: it carries no date."""
    path.write_bytes(gzip.compress(names_text(places).encode("utf-8"), mtime=0))
    return path.stat().st_size


@lru_cache(maxsize=1)
def shipped_place_names() -> PlaceTree:
    """province -> district -> wards, read once a process."""
    return read_place_names(PLACE_NAMES)


def read_place_names(path: Path) -> PlaceTree:
    """province -> district -> wards.

    Raises:
        SlimError: the file is missing or damaged.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except OSError as error:
        raise SlimError(f"cannot read the place names {path} ({error}); run tools/make_place_names.py") from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SlimError(f"{path} is damaged ({error}); run tools/make_place_names.py") from error
    tree: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        name = line.lstrip("\t")
        depth = len(line) - len(name)
        if depth == 0:
            districts = tree.setdefault(name, {})
        elif depth == 1:
            wards = districts[name] = []
        else:
            wards.append(name)
    return {
        province: {district: tuple(names) for district, names in districts.items()}
        for province, districts in tree.items()
    }


def word_counts(tree: PlaceTree) -> Mapping[str, int]:
    """Return how many names have each word, in lower case."""
    counts: Counter = Counter()
    for province, districts in tree.items():
        counts.update(province.lower().split())
        for district, wards in districts.items():
            counts.update(district.lower().split())
            for ward in wards:
                counts.update(ward.lower().split())
    return counts


def known_words(tree: PlaceTree) -> frozenset[str]:
    """Words that are no mistakes, however they look: those of the names, kinds of places and abbreviations.

    Two words of a name that are written as one (Krông Ana) count as known, too.
    """
    names = {*tree, *(district for districts in tree.values() for district in districts)}
    names.update(ward for districts in tree.values() for wards in districts.values() for ward in wards)
    split = [name.lower().split() for name in names]
    glued = {first + second for words in split for first, second in zip(words, words[1:])}
    return frozenset(word for words in split for word in words) | glued | ABBREVIATIONS | KIND_WORDS
