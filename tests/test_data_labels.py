"""Label files and dictionaries."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError

LETTERS = st.text(alphabet="aàảãáạ bcđ/0123456789", min_size=1, max_size=30)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_label_file_is_read_as_paddleocr_writes_it(tmp_path: Path):
    """Byte order mark, Windows line ends and decomposed letters come from real editors and must not reach a label."""
    decomposed = unicodedata.normalize("NFD", "Hoà Bắc")
    content = f"\ufeffw/1.jpg\t{decomposed}\r\nw/2.jpg\t 12/3  Ấp \r\n".encode()
    samples, findings = read_label_file(write(tmp_path / "train.txt", content))
    assert findings == []
    assert [(sample.path, sample.text) for sample in samples] == [
        (tmp_path / "w" / "1.jpg", "Hoà Bắc"),
        (tmp_path / "w" / "2.jpg", "12/3  Ấp"),
    ]
    assert samples[0].where == f"{tmp_path / 'train.txt'}:1"
    assert samples[0].group == "w"


def test_image_paths_start_from_the_root_that_is_given(tmp_path: Path):
    """One label file may serve images that lie elsewhere."""
    samples, _ = read_label_file(write(tmp_path / "l.txt", b"w/1.jpg\ta\n"), tmp_path / "images")
    assert samples[0].path == tmp_path / "images" / "w" / "1.jpg"


def test_every_bad_line_is_a_finding_with_its_number(tmp_path: Path):
    """PaddleOCR crashes on such lines with an IndexError that names none of them."""
    content = b"1.jpg\ta\n\n2.jpg b\n\tc\n3.jpg\t \n   \n4.jpg\td"
    samples, findings = read_label_file(write(tmp_path / "l.txt", content))
    assert [sample.text for sample in samples] == ["a", "d"]
    assert [(one.kind, int(one.where.rpartition(":")[2])) for one in findings] == [
        ("blank line", 2),
        ("no TAB", 3),
        ("no path", 4),
        ("empty text", 5),
        ("blank line", 6),
    ]


def test_nothing_after_the_tab_is_a_blank_line(tmp_path: Path):
    """Rows on which nobody wrote could not be labelled, and reading something from them would never be measured."""
    samples, findings = read_label_file(write(tmp_path / "l.txt", b"1.jpg\t\r\n2.jpg\t\n3.jpg\ta\n"))
    assert [(sample.path.name, sample.text) for sample in samples] == [("1.jpg", ""), ("2.jpg", ""), ("3.jpg", "a")]
    assert findings == []


@pytest.mark.parametrize(("content", "part"), [(b"", "is empty"), (b"a\tb\nc\t\xff\n", "l.txt:2 is not UTF-8")])
def test_a_file_that_is_no_label_file_is_refused(tmp_path: Path, content: bytes, part: str):
    """An empty set would train on nothing; another encoding would teach other letters."""
    with pytest.raises(SlimError, match=part):
        read_label_file(write(tmp_path / "l.txt", content))


def test_a_missing_label_file_is_named(tmp_path: Path):
    """The message must say which of several files is missing."""
    with pytest.raises(SlimError, match="none.txt"):
        read_label_file(tmp_path / "none.txt")


def test_classes_are_blank_then_dictionary_then_space():
    """PaddleOCR's and RapidOCR's runtimes rely on this order; another one reads every text wrong."""
    charset = Charset.from_texts(["ba b", "á"])
    assert charset.classes == ("", "a", "b", "á", " ")
    assert charset.encode("b á") == [2, 4, 3]
    assert charset.encode(unicodedata.normalize("NFD", "á")) == [3]


@given(st.lists(LETTERS, min_size=1).filter(lambda texts: any(text.strip() for text in texts)))
def test_what_a_charset_is_made_from_it_can_encode(texts: list):
    """A character lost here is one that the model can never learn."""
    charset = Charset.from_texts(texts)
    for text in texts:
        assert "".join(charset.classes[index] for index in charset.encode(text)) == text
        assert 0 not in charset.encode(text)


def test_an_unknown_character_is_named():
    """PaddleOCR drops it without a word, and the label is wrong from then on."""
    with pytest.raises(SlimError, match="'x' of 'axb'"):
        Charset.from_texts(["ab"]).encode("axb")
    assert Charset.from_texts(["ab"]).unknown("a xy") == {"x", "y"}


def test_a_dictionary_survives_the_file(tmp_path: Path):
    """The dictionary of a training is read again by the next one."""
    charset = Charset.from_texts(["Đường 3/2 Ấp'"])
    charset.save(tmp_path / "characters.txt")
    assert Charset.load(tmp_path / "characters.txt") == charset


def test_paddleocr_dictionaries_are_read(tmp_path: Path):
    """Theirs are in no order, may end with a space's line and have Windows line ends."""
    path = write(tmp_path / "dict.txt", "\ufeffb\r\na\r\n \r\n".encode())
    assert Charset.load(path).characters == ("a", "b")


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"a\nbc\n", ":2 holds 'bc'"), (b"a\nb\na\n", ":3 repeats 'a' of line 1"), (b"\n", "is empty")],
)
def test_a_wrong_dictionary_is_refused(tmp_path: Path, content: bytes, part: str):
    """A dictionary of words or with repeats shifts all classes behind it."""
    with pytest.raises(SlimError, match=part):
        Charset.load(write(tmp_path / "dict.txt", content))


@pytest.mark.parametrize("characters", [("b", "a"), ("a", "a"), ("ab",), (" ",), ("",), ()])
def test_a_charset_keeps_its_promise(characters: tuple):
    """Two spellings of one charset would be two models that cannot be compared."""
    with pytest.raises(SlimError):
        Charset(characters)


@pytest.mark.parametrize(("text", "steps"), [("abc", 3), ("aab", 4), ("aaa", 5), ("abab", 4), ("", 0)])
def test_steps_that_ctc_needs(text: str, steps: int):
    """Equal neighbours need a blank between them; without counting it the loss of such labels is infinite."""
    assert needed_time_steps(text) == steps
