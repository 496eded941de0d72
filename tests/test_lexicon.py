"""Corrections of place names: what they mend, and what they must leave alone."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.addresses import load_places
from ppocr_slim.text.corrections import CORRECTIONS, correct
from ppocr_slim.text.stable import until_stable
from ppocr_slim.text.vietnamese.lexicon import Lexicon
from ppocr_slim.text.vietnamese.place_names import names_text, read_place_names, save_place_names, shipped_place_names

TREE = {
    "Đồng Nai": {"Cẩm Mỹ": ("Sông Nhạn", "Bảo Bình"), "Xuân Lộc": ("Suối Cát",), "Biên Hoà": ("Tân Phong",)},
    "Đồng Tháp": {"Cao Lãnh": ("An Bình", "Mỹ Long"), "Sa Đéc": ("Tân Phú Đông",)},
    "Phú Thọ": {"Thanh Ba": ("Thanh Hà", "Đông Lĩnh"), "Phú Thọ": ("Thanh Minh",)},
    "Đắk Lắk": {"Krông A Na": ("Ea Na",), "Cư M'gar": ("Ea M'nang",)},
    "Hồ Chí Minh": {"Củ Chi": ("An Phú",), "": ("Bến Nghé",)},
    "Hà Nội": {"Ba Vì": ("Tản Hồng",), "Hà Đông": ("Văn Quán",)},
}  # fmt: skip
LEXICON = Lexicon(tree=TREE)

MENDED = (
    ("Tổ 5 Ấp Suối Đục Sông Nhạm Cẩm Mỹ Đồng Nai", "Tổ 5 Ấp Suối Đục Sông Nhạn Cẩm Mỹ Đồng Nai"),  # the ward
    ("Tổ 5 Ấp Suối Đục Sông Nhạn Cầm Mỹ Đồng Nai", "Tổ 5 Ấp Suối Đục Sông Nhạn Cẩm Mỹ Đồng Nai"),  # the district
    ("Sông Nhạn Cẩm Mỹ Đông Nai", "Sông Nhạn Cẩm Mỹ Đồng Nai"),  # the province
    ("Song Nhạn Cẩm Mỷ Đồng Nại", "Sông Nhạn Cẩm Mỹ Đồng Nai"),  # all three
    ("An Binh Cao Lảnh Đồng Thap", "An Bình Cao Lãnh Đồng Tháp"),
    ("Thanh Minh Thị Xã Phủ Thọ Phú Thọ", "Thanh Minh Thị Xã Phú Thọ Phú Thọ"),  # a kind before the name
    ("Tân Phonng Tp Biên Hoà Đồng Nai", "Tân Phong Tp Biên Hoà Đồng Nai"),
    ("Củ Chl Hcm", "Củ Chi Hcm"),  # a province in short form narrows, too
    ("Tân Phú Đông SaĐec Đồng Tháp", "Tân Phú Đông Sa Đéc Đồng Tháp"),  # a lost space
    ("Tân Phú Đông SaĐéc Đồng Tháp", "Tân Phú Đông Sa Đéc Đồng Tháp"),  # the capital within says that it was lost
    ("Văn Quán Hà Đônng Nội Hà", "Văn Quán Hà Đông Nội Hà"),  # a province in another order narrows, too
    ("Cẩm Mỹ Đon Nai", "Cẩm Mỹ Đồng Nai"),  # its district speaks for a badly read province
    ("SÔNG NHẠN CẨM MỶ ĐỒNG NAI", "SÔNG NHẠN CẨM MỸ ĐỒNG NAI"),  # in its case
    ("sông nhạn, cẩm mỷ, đồng nai.", "sông nhạn, cẩm mỹ, đồng nai."),  # with commas
)
UNTOUCHED = (
    "",
    "Sông Nhạn Cẩm Mỹ Đồng Nai",
    "Phường 6 Quận 1 Tp Hồ Chí Minh",
    "Nguyễn Văn A",
    "Sông Nhạn Cẩm Mỹ",  # no province: nothing narrows
    "Cẩm Mỹ Xyz Đồng Nai",  # no name near to Xyz
    "Suối Cat Cẩm Mỹ Đồng Nai",  # a ward of another district
    "Đon Nai",  # not near enough without a district
    "Sông Nhạn Cẩm Mĩ Đồng Nai",  # a spelling of Mỹ
    "Sông Nhạn Cẩm Mỹ Đồng Na1",  # a digit: no word of ours
    "Sông Nhạn Cẩm, Mỷ Đồng Nai",  # a comma within the name
    "Ea Na Krông Ana Đăk Lắk",  # spellings of one name
    "Ea Na Krông A Na Đak Lắk",
    "Thị Xã Phú Thọ II",
    "Suối Cát Hi Xuân Lộc Đồng Nai",  # "Hi" may be the H of Huyện, misread: it is not to vanish
    "Suối Cát ip Xuân Lộc Đồng Nai",
    "Ea Na Krông Na Đắk Lắk",  # nor is the A of Krông A Na to be made up: there is a Krông Na, too
    "Nội Hà",  # words in another order are known, not moved
)


@pytest.mark.parametrize(("read", "meant"), MENDED)
def test_mends(read: str, meant: str):
    """What the map knows would stay misread."""
    assert LEXICON.correct(read) == meant


@pytest.mark.parametrize("text", UNTOUCHED)
def test_leaves_alone(text: str):
    """A correction of what is right, or a guess, costs more trust than ten mended names earn."""
    assert LEXICON.correct(text) == text


def test_a_match_under_the_limit_changes_nothing():
    """The limit is what a user tightens when the lexicon overreaches."""
    read = "Sông Nhạm Cầm Mỹ Đồng Nai"
    assert LEXICON.correct(read) != read
    for strict in (Lexicon(limit=100, tree=TREE), Lexicon(word_limit=100, tree=TREE), Lexicon(max_change=0, tree=TREE)):
        assert strict.correct(read) == read
    assert Lexicon(limit=50, sure=60, margin=0, max_change=1, tree=TREE).correct("Sông Xhạm Cẩm Mỹ Đồng Nai") == (
        "Sông Xhạm Cẩm Mỹ Đồng Nai"
    )


def test_what_is_no_name_stays():
    """Tp would become a ward's syllable, and a word for a kind of place the name that looks like it."""
    tree = {"Đắk Lắk": {"Krông Pắc": ("Ea Hna", "Mỹ Xá")}}
    for text in ("Ea Hn Krông Pắc Đắk Lắk", "Mỹ Xã Krông Pắc Đắk Lắk"):
        assert Lexicon(tree=tree).correct(text) == text
    assert Lexicon(tree=tree).correct("Mỹ Xa Krông Pắc Đắk Lắk") == "Mỹ Xá Krông Pắc Đắk Lắk"


def test_of_two_that_are_equally_near_none_is_taken():
    """A guess between two wards, or two provinces, is wrong as often as right."""
    tree = {"Hà Nam": {"Duy Tiên": ("Tân Sơn", "Tân Sen")}, "Hà Tam": {"Ba Vì": ()}}
    lexicon = Lexicon(tree=tree)
    for text in ("Tân Sn Duy Tiên Hà Nam", "Hà Vam"):
        assert lexicon.correct(text) == text
    assert Lexicon(tree=tree, margin=0).correct("Tân Sn Duy Tiên Hà Nam") != "Tân Sn Duy Tiên Hà Nam"
    assert lexicon.correct("Duy Tiên Hà Vam") == "Duy Tiên Hà Nam"  # unless the district decides


def test_an_unsure_district_does_not_narrow():
    """Wards are looked for in the district that is meant: in another there may be a namesake."""
    read = "Suối Cat Xuan Loc Đồng Nai"
    assert LEXICON.correct(read) == "Suối Cát Xuân Lộc Đồng Nai"
    assert Lexicon(tree=TREE, max_change=1).correct(read) == read  # the district may not be mended, and is not sure
    assert Lexicon(tree=TREE, max_change=1, sure=80).correct(read) == "Suối Cát Xuan Loc Đồng Nai"


def test_names_besides_the_tables():
    """People write Br Vt and Thừa Thiên Huế, which the table does not have, and their districts would stay misread."""
    tree = {"Bà Rịa Vũng Tàu": {"Châu Đức": ()}, "Huế": {"Phong Điền": ()}}
    for read, meant in (
        ("Châu Đúc Br Vt", "Châu Đức Br Vt"),
        ("Châu Đúc Brvt", "Châu Đức Brvt"),
        ("Phong Điên Thừa Thiên Huê", "Phong Điền Thừa Thiên Huế"),
    ):
        assert Lexicon(tree=tree).correct(read) == meant


def test_a_known_name_needs_more():
    """Where an old ward has the name of a place elsewhere, the map and not the reader is behind."""
    tree = {"Đồng Nai": {"Cẩm Mỹ": ("Sông Nhạn",)}, "Hà Nội": {"Ba Vì": ("Sông Nhàn",)}}
    read = "Sông Nhàn Cẩm Mỹ Đồng Nai"
    assert Lexicon(tree=tree).correct(read) == read
    assert Lexicon(tree=tree, known_limit=0).correct(read) == "Sông Nhạn Cẩm Mỹ Đồng Nai"


def test_wrong_settings_are_told():
    """A limit of 0.8 for 80 would change nearly everything; of 800 nothing, in silence."""
    for wrong in ({"limit": 101}, {"limit": -1}, {"sure": 800}, {"known_limit": 200}, {"max_change": -1}):
        with pytest.raises(SlimError, match=next(iter(wrong))):
            Lexicon(tree=TREE, **wrong)


def addresses() -> st.SearchStrategy:
    """Addresses of the map with random changes, and any other text."""
    tree = shipped_place_names()
    paths = [(p, d, w) for p in list(tree)[::7] for d in list(tree[p])[::3] for w in tree[p][d][::5]]

    def damaged(path, detail, seed):
        rng = random.Random(seed)
        province, district, ward = path
        letters = list(f"{detail} {ward} {district} {province}")
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(letters))
            letters[at] = rng.choice(["", " ", letters[at] * 2, *"aáăeêioôơuưyđhnk58,/'"])
        return "".join(letters)

    details = st.sampled_from(("Tổ 5", "12/3a", "Thôn 7 Xã", "Kp3", "Số 9", "", "²", "Quận 1"))
    return st.one_of(st.text(), st.builds(damaged, st.sampled_from(paths), details, st.integers(0, 10**9)))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(addresses())
def test_digits_never_change_and_twice_is_once(text: str):
    """A house number that a dictionary "corrects" sends a letter to another house; a correction that is not idempotent
    returns another text each time it is applied; and of a decomposed text letters without their marks were corrected
    (Huyện became Huỵ̂n)."""
    for name in CORRECTIONS:
        once = correct(text, [name])
        assert [c for c in once if c.isnumeric()] == [c for c in text if c.isnumeric()], name
        words = [word for word in text.split() if any(map(str.isdigit, word))]
        if text.isprintable() and "," not in text:
            assert [word for word in once.split() if any(map(str.isdigit, word))] == words, name
        assert correct(once, [name]) == once, name
        decomposed, composed = (unicodedata.normalize(form, text) for form in ("NFD", "NFC"))
        assert correct(decomposed, [name]) == correct(composed, [name]), name
        assert unicodedata.is_normalized("NFC", once), name


def test_the_names_that_ship_are_those_of_the_table(tmp_path):
    """The file would grow old beside the table, or lose a province."""
    places = [(place.province, place.district, place.ward) for place in load_places(all_letters=True)]
    save_place_names(places, tmp_path / "names.gz")
    tree = shipped_place_names()
    assert read_place_names(tmp_path / "names.gz") == tree
    assert len(tree) == 63 and sum(map(len, tree.values())) > 670
    assert not any(c.isdigit() for c in names_text(places))
    assert "Sông Nhạn" in tree["Đồng Nai"]["Cẩm Mỹ"] and "Bến Nghé" in tree["Hồ Chí Minh"][""]


def test_a_damaged_file_of_names_is_one_clear_line(tmp_path):
    """The user would get a stack trace from the middle of gzip."""
    for content in (b"no gzip", b"\x1f\x8b\x08\x00"):
        (tmp_path / "names.gz").write_bytes(content)
        with pytest.raises(SlimError, match="place-names"):
            read_place_names(tmp_path / "names.gz")
    with pytest.raises(SlimError, match="place-names"):
        read_place_names(tmp_path / "none.gz")


def test_the_whole_map_reads_as_itself():
    """Names that the lexicon changes although nothing is wrong would be wrong in every address."""
    tree = shipped_place_names()
    lexicon = Lexicon()
    texts = [f"{ward} {d} {p}" for p in tree for d in tree[p] if d for ward in tree[p][d][::9]]
    changed = [(text, lexicon.correct(text)) for text in texts if lexicon.correct(text) != text]
    assert changed == []


def test_names_of_elsewhere_stay():
    """Wards are renamed and moved; a lexicon that puts a namesake of the stated district in their place sends letters
    elsewhere."""
    rng = random.Random(8)
    tree = shipped_place_names()
    lexicon = Lexicon()
    wards = [ward for districts in tree.values() for names in districts.values() for ward in names]
    texts = [f"{rng.choice(wards)} {d} {p}" for p in tree for d in tree[p] if d]
    assert [text for text in texts if lexicon.correct(text) != text] == []


def test_a_correction_without_an_end_is_none():
    """Two corrections that undo each other would run for ever, or give either text by chance."""
    assert until_stable({"a": "b", "b": "a"}.__getitem__, "a") == "a"
    assert until_stable({"a": "b", "b": "c", "c": "c"}.__getitem__, "a") == "c"


def test_mended_names_change_by_little():
    """A long change is another place, not a mended reading."""
    rng = random.Random(5)
    tree = shipped_place_names()
    lexicon = Lexicon()
    for province in list(tree)[::4]:
        district = rng.choice(list(tree[province]))
        letters = list(f"{district} {province}")
        for _ in range(4):
            letters[rng.randrange(len(letters))] = rng.choice("aiuhnđ")
        text = "".join(letters)
        assert Levenshtein.distance(text, lexicon.correct(text)) <= 6
