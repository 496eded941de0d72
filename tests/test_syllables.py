"""The spelling of Vietnamese syllables, by words chosen by hand."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppocr_slim.errors import SlimError
from ppocr_slim.text.vietnamese.syllables import (
    _ONSETS,
    TONES,
    correct_syllable,
    is_syllable,
    nearest_syllable,
    place_tone_mark,
    spellings,
    split_tone,
)

POSSIBLE = (
    "thôn xã phường quận huyện đường nguyễn ngõ ngách nghệ ghềnh kiên kỳ kẻ gì gìn giếng giữa già quý quốc quới "
    "quảng quỳnh khuỷu khuya ngoéo xoong yên yết ý uỷ ủy hoà hòa thuỷ thủy hoá hóa khoẻ khỏe toàn thượng mười rượu "
    "xuân huế thuở oanh goá nghiêng chuyển suối cửu lưu mỹ mĩ ỷ bắc đặc sách lịch ấp các tiếp tiệp đục uyên in ích"
).split()
IMPOSSIBLE = {
    "cẻ": "c before e", "kả": "k before a", "nge": "ng before e", "ngha": "ngh before a", "ghà": "gh before a",
    "gê": "g before ê", "bàc": "huyền with a stop", "sách̃": "two marks", "hat": "no tone with a stop",
    "tiểp": "hỏi with a stop", "mãt": "ngã with a stop", "ràch": "huyền with -ch", "iên": "yên with an i",
    "byên": "yên after an onset", "coa": "qua with a c", "hòang": "the mark on the glide", "nguỹên": "the mark on y",
    "thuơng": "no such rhyme", "phừơng": "the mark on ư", "strong": "no such onset", "tp": "no vowel", "": "nothing",
    "hà nội": "two words", "h4": "a digit",
}  # fmt: skip


def test_possible_syllables():
    """A rule too many would let the correction change good words."""
    assert [word for word in POSSIBLE if not is_syllable(word)] == []
    assert is_syllable("HOÀ") and is_syllable("Huyện") and is_syllable(unicodedata.normalize("NFD", "Nguyễn"))


@pytest.mark.parametrize("word", IMPOSSIBLE, ids=IMPOSSIBLE.get)
def test_impossible_syllables(word: str):
    """A rule too few would leave misread words alone."""
    assert not is_syllable(word)


def test_stops_have_two_tones_only():
    """Tones are what a reader confuses most; with -p, -t, -c, -ch four of six are surely wrong."""
    for base in ("ap", "at", "ac", "ach"):
        possible = [
            tone for tone in ("", *TONES) if is_syllable(unicodedata.normalize("NFC", "b" + base[0] + tone + base[1:]))
        ]
        assert possible == ["\u0301", "\u0323"]


PLACED = (
    ("hoà", "hòa"), ("khoẻ", "khỏe"), ("thuỷ", "thủy"), ("Thuỵ", "Thụy"), ("UỶ", "ỦY"), ("HOÁ", "HÓA"), ("loà", "lòa"),
)  # fmt: skip
SAME = "quý quà quỳ già giữa hoàng toán mùa mía nghĩa Quỳnh ngoài khuỷu Nguyễn của Thừa Huế thuở xoáy úa núi".split()


@pytest.mark.parametrize(("new", "old"), PLACED)
def test_styles(new: str, old: str):
    """A text in the other style than its label counts an error in each Hoà, though both are right."""
    assert [place_tone_mark(word, "new") for word in (new, old)] == [new, new]
    assert [place_tone_mark(word, "old") for word in (new, old)] == [old, old]


def test_other_marks_have_one_place():
    """quý is right in both styles; moved by the rule for uy it would be wrong in each."""
    for word in SAME:
        assert place_tone_mark(word, "new") == place_tone_mark(word, "old") == word
    for wrong, right in (
        ("Hòang", "Hoàng"),
        ("Nguỹên", "Nguyễn"),
        ("phừơng", "phường"),
        ("qúy", "quý"),
        ("qủa", "quả"),
    ):
        assert place_tone_mark(wrong, "new") == place_tone_mark(wrong, "old") == right
    for untouched in ("Krông", "Đắk", "Pleiku", "hoa", "8d", "", "a\u0301\u0300"):
        assert place_tone_mark(untouched) == untouched
    with pytest.raises(SlimError, match="new .*or old"):
        place_tone_mark("hoà", "kalapa")


@given(
    st.sampled_from(_ONSETS),
    st.text("aăâeêioôơuưynghcmpt", max_size=5),
    st.sampled_from(("", *TONES)),
    st.integers(0, 9),
)
def test_placing_keeps_the_letters_and_the_tone(onset: str, rhyme: str, tone: str, at: int):
    """A normaliser that loses a mark or a letter would damage more than it corrects, unnoticed."""
    letters = onset + rhyme
    word = unicodedata.normalize("NFC", letters[: at + 1] + tone + letters[at + 1 :])
    for style in ("new", "old"):
        placed = place_tone_mark(word, style)
        assert split_tone(placed) == split_tone(word)
        assert place_tone_mark(placed, style) == placed
        other = place_tone_mark(word, "old" if style == "new" else "new")
        assert place_tone_mark(other, style) == placed


def test_the_nearest_syllable():
    """A correction between equals would be a guess, wrong as often as right."""
    choices = spellings(("bắc", "bạc", "hoà", "hoàng", "phường", "tiếp", "tiên", "đông", "bông", "krông", "lăk"))
    assert choices["hoà"] == choices["hòa"] == "hoà" and not {"krông", "lăk"} & set(choices)  # impossible, both
    for word, nearest in (
        ("hòang", "hoàng"),  # the mark only moved
        ("bẳc", "bắc"),  # bạc has two other marks
        ("bàc", "bạc"),  # the tone alone; bắc is two marks away
        ("hôa", "hoà"),  # by way of hòa
        ("phườngg", "phường"),  # one letter too many
        ("phườnggg", None),  # two are too far
        ("tiêp", "tiếp"),  # a mark is cheaper than a letter: tiên is one letter away
        ("dông", "đông"),  # the bar of đ is a mark: bông is one letter away
    ):
        assert nearest_syllable(word, choices) == nearest, word
    assert nearest_syllable("bàc", spellings(("bác", "bạc"))) is None
    assert nearest_syllable("bàc", {}) is None


def test_corrections_keep_case_and_known_words():
    """Krông would become a Vietnamese word, TX a syllable, and capitals small."""
    known, choices = frozenset(("krông", "tx")), spellings(("hoàng", "phường", "không", "trông"))
    for word, expected in (
        ("Phườngg", "Phường"), ("PHƯỜNGG", "PHƯỜNG"), ("phườngg", "phường"), ("PhườngG", "PhườngG"),
        ("Krông", "Krông"), ("TX", "TX"), ("Hòang", "Hoàng"), ("Kv", "Kv"), ("Hcm", "Hcm"), ("Phường", "Phường"),
    ):  # fmt: skip
        assert correct_syllable(word, known, choices) == expected
