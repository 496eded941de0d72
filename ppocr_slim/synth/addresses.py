"""Synthetic Vietnamese addresses: hamlet or street, ward, district, province, in the conventions of form labels.

The places come from the PyPI package `vietnamadminunits` (MIT): its table of the 63-province structure, which
is what people still write. Labels are NFC, every word in title case, tone marks in the new style (Hoà, Thuỷ),
no punctuation but '/' (and the apostrophe of names such as N'đir), digits 1 to 9 (0 never occurs on such
forms).
"""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppocr_slim.errors import SlimError

SHORTEST, LONGEST = 6, 68
# Characters that no label of such forms has: the few places with them would only widen a dictionary.
_NEVER_WRITTEN = re.compile(r"[jwWZÉÊÚƠẢẲỐỚỦỶỉ]")
_NEW_STYLE = {
    old + follower: base + new
    for base, tones, follower, news in (
        ("o", "òóỏõọ", "a", "àáảãạ"),
        ("o", "òóỏõọ", "e", "èéẻẽẹ"),
        ("u", "ùúủũụ", "y", "ỳýỷỹỵ"),
    )
    for old, new in zip(tones, news)
}
_OLD_STYLE_ENDING = re.compile("(" + "|".join(_NEW_STYLE) + ")$")

ABBREVIATIONS = frozenset("Tp Tt Tx Tdp Kp Kdc Ql Tl Hcm Hn Cc".split())
GENERIC_WORDS = frozenset("Thôn Ấp Xóm Bản Tổ Khu Phố Số Đường Ngõ Xã Phường Huyện Quận Thị Trấn Khóm Đội".split())

# (word, weight) of what stands before a hamlet's name or number.
_HAMLETS = (
    ("Thôn", 27), ("Ấp", 19), ("Tổ", 11), ("Xóm", 5), ("Khu", 4), ("Khu Phố", 3), ("Kp", 3), ("Tdp", 2),
    ("Tổ Dân Phố", 1), ("Khóm", 2), ("Bản", 2), ("Đội", 1), ("Buôn", 1), ("Làng", 1), ("Cụm", 0.5),
    ("Khối", 1), ("Kdc", 0.4), ("Số", 1),
)  # fmt: skip
_NUMBERED_HAMLETS = frozenset(("Tổ", "Khu", "Khu Phố", "Kp", "Tdp", "Tổ Dân Phố", "Khóm", "Đội", "Cụm", "Khối", "Số"))
# Prefixes of a name with their weights, by its kind in the table; mostly none, as people know the kind.
_WARD_KINDS = {
    "Phường": (("", 60), ("Phường ", 30), ("P ", 10)),
    "Thị trấn": (("Thị Trấn ", 60), ("", 22), ("Tt ", 18)),
    "Xã": (("", 95.7), ("Xã ", 4), ("X ", 0.3)),
}
_DISTRICT_KINDS = {
    "Huyện": (("", 96.3), ("Huyện ", 3), ("H ", 0.7)),
    "Quận": (("", 76), ("Quận ", 20), ("Q ", 4)),
    "Thành phố": (("Thành Phố ", 55), ("Tp ", 35), ("", 10)),
    "Thị xã": (("Thị Xã ", 75), ("", 13), ("Tx ", 12)),
}
_PROVINCE_FORMS = {
    "Hồ Chí Minh": (("Tp Hồ Chí Minh", 75), ("Hồ Chí Minh", 17), ("Tp Hcm", 6), ("Hcm", 2)),
    "Hà Nội": (("Hà Nội", 95), ("Tp Hà Nội", 3), ("Hn", 2)),
    "Huế": (("Thừa Thiên Huế", 75), ("Huế", 25)),
}
_STREETS = (
    "Trần Hưng Đạo", "Lê Lợi", "Nguyễn Trãi", "Nguyễn Huệ", "Quang Trung", "Hùng Vương", "Lý Thường Kiệt",
    "Hai Bà Trưng", "Phan Chu Trinh", "Phan Bội Châu", "Ngô Quyền", "Lê Duẩn", "Điện Biên Phủ", "Trần Phú",
    "Nguyễn Văn Cừ", "Lê Hồng Phong", "Nguyễn Thị Minh Khai", "Hoàng Văn Thụ", "Cách Mạng Tháng Tám",
    "Nguyễn Đình Chiểu", "Võ Thị Sáu", "Bà Triệu", "Đinh Tiên Hoàng", "Lê Thánh Tông", "Tôn Đức Thắng",
    "Phạm Văn Đồng", "Trường Chinh", "Lạc Long Quân", "Âu Cơ", "Nguyễn Du", "Phạm Ngũ Lão", "Bùi Thị Xuân",
    "Yết Kiêu", "Xô Viết Nghệ Tĩnh", "Huỳnh Thúc Kháng", "Tô Hiến Thành", "Giải Phóng", "Khâm Thiên",
    "Đội Cấn", "Thuỵ Khuê", "Kim Mã", "Láng Hạ", "Nguyễn Ái Quốc", "Mạc Đĩnh Chi", "Chu Văn An",
    "Đặng Văn Ngữ", "Cao Thắng", "Ông Ích Khiêm",
)  # fmt: skip
_FAMILY_NAMES = "Nguyễn Trần Lê Phạm Huỳnh Hoàng Phan Vũ Võ Đặng Bùi Đỗ Hồ Ngô Dương Lý Trịnh Đinh Mạc Tạ Cù".split()
_DIRECTIONS = "Đông Tây Nam Bắc Thượng Hạ Trung Nội Ngoại A B C".split()


@dataclass(frozen=True)
class Place:
    """A ward with its district and province; names are without their kind, in label form."""

    ward: str
    ward_kind: str
    district: str
    district_kind: str
    province: str


@dataclass(frozen=True)
class Address:
    """An address, as its parts from small to large: hamlet or street, ward, district, province."""

    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The label: the parts, separated by spaces."""
        return " ".join(self.parts)


def label_form(name: str) -> str:
    """Return a name in label form.

    That is NFC, title case word by word, new-style tone marks, and no punctuation but the slash and the apostrophe.
    """
    name = unicodedata.normalize("NFC", name)
    name = re.sub(r"\(.*?\)", " ", name)
    words = re.sub(r"[^\w/' ]", " ", name).split()
    return " ".join(_new_style(word.capitalize()) for word in words)


def _new_style(word: str) -> str:
    return _OLD_STYLE_ENDING.sub(lambda found: _NEW_STYLE[found.group(1)], word)


def load_places(all_letters: bool = False) -> list[Place]:
    """Read the wards of the 63-province structure from the package `vietnamadminunits`.

    Args:
        all_letters: include the wards whose names have characters that no label has.

    Returns:
        The wards, by their code.

    Raises:
        SlimError: the package or its table is missing.
    """
    spec = importlib.util.find_spec("vietnamadminunits")
    if spec is None or not spec.submodule_search_locations:
        raise SlimError("the package vietnamadminunits is not installed: pip install vietnamadminunits==1.0.4")
    database = Path(list(spec.submodule_search_locations)[0]) / "data" / "dataset.db"
    query = (
        "SELECT wardShort, wardType, districtShort, districtType, provinceShort FROM admin_units_legacy"
        " WHERE wardShort IS NOT NULL AND wardType IS NOT NULL ORDER BY wardCode"
    )
    try:
        # immutable: no journal is looked for, so that a read-only installation works too
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            rows = connection.execute(query).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SlimError(
            f"{database}: has no table of the 63 provinces ({error}); install the pinned version"
        ) from error
    places = []
    for ward, ward_kind, district, district_kind, province in rows:
        ward, district = re.sub("^Phường ", "", ward), re.sub("^Quận ", "", district)
        names = [label_form(ward), label_form(district), label_form(province)]
        if all_letters or not _NEVER_WRITTEN.search(" ".join(names)):
            places.append(Place(names[0], ward_kind, names[1], district_kind, names[2]))
    return places


class AddressBook:
    """Source of synthetic addresses, which depend on the random generator alone."""

    def __init__(self) -> None:
        """Read the table of places.

        Raises:
            SlimError: the package `vietnamadminunits` or its table is missing.
        """
        self.places = load_places()
        # Forms come from where people live, the table counts wards: the two big cities have few, populous
        # ones.
        weight = {"Hồ Chí Minh": 3.2, "Hà Nội": 1.6}
        self._cumulative = np.cumsum([weight.get(place.province, 1.0) for place in self.places])
        wards = [place.ward for place in self.places]
        self._names = [ward for ward in wards if len(ward.split()) <= 2 and not re.search(r"\d", ward)]
        self._syllables = sorted({word for name in self._names for word in name.split()})

    def draw(self, rng: np.random.Generator) -> Address:
        """Return an address of 6 to 68 characters, drawn at random."""
        while True:
            place = self.places[int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], "right"))]
            parts = [
                self._detail(place, rng),
                _ward(place, rng),
                _district(place, rng),
                _province(place, rng),
            ]
            address = Address(tuple(part for part in parts if part))
            if SHORTEST <= len(address.text) <= LONGEST:
                return address

    def _detail(self, place: Place, rng: np.random.Generator) -> str:
        chance = rng.random()
        if place.ward_kind == "Phường":
            if chance < 0.55:
                return self._street(rng)
            return self._hamlet(rng) if chance < 0.85 else ""
        if chance < 0.05:
            return self._street(rng)
        if chance < 0.62:
            return self._hamlet(rng)
        return self._name(rng) if chance < 0.68 else ""

    def _hamlet(self, rng: np.random.Generator) -> str:
        word = _choose_weighted(_HAMLETS, rng)
        if rng.random() > (0.85 if word in _NUMBERED_HAMLETS else 0.22):
            return f"{word} {self._name(rng)}"
        number = _number(rng, 1, 2) + (_choose(("a", "b", "c"), rng) if rng.random() < 0.04 else "")
        text = word + ("" if word in ABBREVIATIONS and rng.random() < 0.5 else " ") + number
        if rng.random() < 0.2:
            text += " " + (f"Khu Phố {_number(rng, 1, 1)}" if rng.random() < 0.3 else self._name(rng))
        return text

    def _name(self, rng: np.random.Generator) -> str:
        if rng.random() < 0.55:
            name = _choose(self._names, rng)
        else:  # new pairs, some of rare syllables, keep a reader from learning the map by heart
            first, second = (
                _choose(self._syllables, rng) if rng.random() < 0.35 else _choose(self._names, rng).split()[end]
                for end in (0, -1)
            )
            name = f"{first} {second}"
        if rng.random() < 0.12:
            name += " " + (_choose(_DIRECTIONS, rng) if rng.random() < 0.5 else _number(rng, 1, 1))
        return name

    def _street(self, rng: np.random.Generator) -> str:
        house = _house_number(rng)
        if rng.random() < 0.15:
            house = "Số " + house
        chance = rng.random()
        if chance < 0.5:
            street = _choose(_STREETS, rng)
        elif chance < 0.8:
            street = f"{_choose(_FAMILY_NAMES, rng)} {_choose(self._names, rng)}"
        elif chance < 0.9:
            street = f"Đường {_number(rng, 1, 2)}"
        elif chance < 0.94:
            street = f"Ql {_number(rng, 1, 2)}"
        else:
            street = f"Ngõ {_house_number(rng)} {_choose(_STREETS, rng)}"
        if rng.random() < 0.1 and not street.startswith("Đường"):
            street = "Đường " + street
        text = f"{house} {street}"
        if rng.random() < 0.08:
            text += " " + ("Kp" if rng.random() < 0.5 else "Tổ ") + _number(rng, 1, 1)
        return text


def as_written(address: Address, rng: np.random.Generator) -> str:
    """Return an address as a person puts it on paper; the label stays `address.text`.

    Labels are title case whatever was written: people write TP for Tp, and a few write thôn for Thôn or set a
    comma, a full stop or a hyphen between the parts, which labels leave out.
    """
    capitals, lower, between = rng.random() < 0.7, rng.random() < 0.05, rng.random()
    separator = " " if between > 0.06 else _choose((", ", ". ", " - ", "-"), rng)
    words = []
    for word in separator.join(address.parts).split(" "):
        letters = re.match(r"[^\W\d]*", word).group()
        if capitals and letters in ABBREVIATIONS:
            word = word.replace(letters, letters.upper(), 1)
        elif lower and word in GENERIC_WORDS:
            word = word.lower()
        words.append(word)
    return " ".join(words)


def _ward(place: Place, rng: np.random.Generator) -> str:
    if rng.random() < 0.05:
        return ""
    if place.ward.isdigit():
        return _choose_weighted((("Phường ", 65), ("P ", 20), ("P", 15)), rng) + _number(rng, 1, 2)
    return _choose_weighted(_WARD_KINDS[place.ward_kind], rng) + _other_digits(place.ward, rng)


def _district(place: Place, rng: np.random.Generator) -> str:
    if rng.random() < 0.03:
        return ""
    if place.district.isdigit():
        return _choose_weighted((("Quận ", 78), ("Q ", 12), ("Q", 10)), rng) + _number(rng, 1, 2)
    return _choose_weighted(_DISTRICT_KINDS[place.district_kind], rng) + _other_digits(place.district, rng)


def _province(place: Place, rng: np.random.Generator) -> str:
    if rng.random() < 0.02:
        return ""
    return _choose_weighted(_PROVINCE_FORMS.get(place.province, ((place.province, 1),)), rng)


def _choose(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _choose_weighted(choices: Sequence[tuple[str, float]], rng: np.random.Generator) -> str:
    at = rng.random() * sum(weight for _, weight in choices)
    for choice, weight in choices:
        at -= weight
        if at < 0:
            return choice
    return choices[-1][0]


def _number(rng: np.random.Generator, fewest: int, most: int) -> str:
    return "".join(str(digit) for digit in rng.integers(1, 10, size=int(rng.integers(fewest, most + 1))))


def _other_digits(name: str, rng: np.random.Generator) -> str:
    return re.sub(r"\d+", lambda found: _number(rng, len(found.group()), len(found.group())), name)


def _house_number(rng: np.random.Generator) -> str:
    groups = 1 + int(rng.random() < 0.45) + int(rng.random() < 0.12)
    number = "/".join(_number(rng, 1, 3) for _ in range(groups))
    if rng.random() < 0.14:
        number += _choose("aaabbbcdefghkq", rng)
    if rng.random() < 0.05:
        number = _choose("AABBCDEFHK", rng) + number
    return number
