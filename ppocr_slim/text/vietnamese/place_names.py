"""Place names that ship with the runtime: provinces, their districts, their wards.

`tools/make_place_names.py` writes `place_names.txt.gz` from the table that the synthetic addresses use (PyPI
`vietnamadminunits`, MIT), so that reading needs neither that package nor a database. It is UTF-8 text: a province is
a line, its districts follow with one TAB before them, a district's wards with two. Names are in label form, without
their kinds (Phường, Huyện) and without numbers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from ppocr_slim.errors import SlimError

PLACE_NAMES = Path(__file__).with_name("place_names.txt.gz")
# Words of addresses that are no names. The labels write the abbreviations in title case.
ABBREVIATIONS = frozenset(
    "tp tt tx tdp kp kdc ktt kcn ql tl đt hcm hn cc brvt br vt p q h x t n b l k f d đ ttđt kđt tphcm".split()
)
KIND_WORDS = frozenset(
    "xã phường quận huyện ấp thôn xóm bản tổ khu phố số đường ngõ ngách hẻm khóm đội khối cụm lô nhà tỉnh".split()
)

PlaceTree = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Province -> district -> wards."""


def names_text(places: Iterable[tuple[str, str, str]]) -> str:
    """Return (province, district, ward) names in the format of the file, sorted, without words that have digits.

    Of names of digits alone (Quận 1, Phường 12) nothing is left that could be corrected: such wards are left out, and
    the wards of all such districts of a province are under the district "".
    """
    tree: dict[str, dict[str, set]] = {}
    for names in places:
        province, district, ward = (_without_numbers(name) for name in names)
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
    """Write (province, district, ward) names to a file and return its size in bytes.

    The same names have the same bytes: the file carries no date.
    """
    path.write_bytes(gzip.compress(names_text(places).encode("utf-8"), mtime=0))
    return path.stat().st_size


@lru_cache(maxsize=1)
def shipped_place_names() -> PlaceTree:
    """Return the place names that ship with the package; the file is read once a process."""
    return read_place_names(PLACE_NAMES)


def read_place_names(path: Path) -> PlaceTree:
    """Read place names from a file that `save_place_names` wrote.

    Raises:
        SlimError: the file is missing or damaged.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except OSError as error:
        raise SlimError(f"cannot read the place names {path} ({error}); run `ppocr-slim place-names`") from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SlimError(f"{path} is damaged ({error}); run `ppocr-slim place-names`") from error
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


def _all_names(tree: PlaceTree) -> Iterator[str]:
    """Yield every name of the tree; one that several places have comes several times."""
    for province, districts in tree.items():
        yield province
        for district, wards in districts.items():
            yield district
            yield from wards


def word_counts(tree: PlaceTree) -> Mapping[str, int]:
    """Return the number of places that have each word, in lower case, in their name."""
    counts: Counter = Counter()
    for name in _all_names(tree):
        counts.update(name.lower().split())
    return counts


def known_words(tree: PlaceTree) -> frozenset[str]:
    """Return the words, in lower case, that are never corrected: those of names, kinds of places and abbreviations.

    Two words of a name that are written as one (Krông Ana) are among them.
    """
    split = [name.lower().split() for name in set(_all_names(tree))]
    glued = {first + second for words in split for first, second in zip(words, words[1:])}
    return frozenset(word for words in split for word in words) | glued | ABBREVIATIONS | KIND_WORDS
