"""Synthetic data: addresses, handwriting, lines of forms, the data set on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import matplotlib
import numpy as np
import pytest

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.addresses import AddressBook, as_written, label_form
from ppocr_slim.synth.cuttings import CutLines
from ppocr_slim.synth.dataset import LineGenerator, contact_sheet, synthesize
from ppocr_slim.synth.dataset_writer import write_dataset
from ppocr_slim.synth.fonts import (
    FAMILIES,
    PRINT_FAMILIES,
    PRINT_STYLES,
    family_versions,
    fetch_families,
    fetch_family,
    print_folder,
    printed_families,
    printed_versions,
)
from ppocr_slim.synth.handwriting import draw_writer, write
from ppocr_slim.synth.lines import draw_line
from ppocr_slim.synth.strokes import builtin_alphabets, centre_lines, load_alphabets, thin

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def book():
    return AddressBook()


@pytest.fixture(scope="module")
def addresses(book):
    return [book.draw(np.random.default_rng([7, index])) for index in range(3000)]


@pytest.fixture(scope="module")
def alphabets():
    return builtin_alphabets()


def test_addresses_keep_the_labels_conventions(addresses):
    """Lost otherwise: labels that no form has, so that a recognizer learns to read 0, 'Hòa' or a comma."""
    for address in addresses:
        text = address.text
        assert 6 <= len(text) <= 68
        assert text == unicodedata.normalize("NFC", text)
        assert not re.search(r"[^\w/' ]|[_0jwWZ]|  |^ | $", text), text
        for word in text.split(" "):
            assert word == word.capitalize(), text
            # new-style tone marks: the tone on the first vowel of an open oa, oe, uy
            assert not re.search(r"([òóỏõọ][ae]|[ùúủũụ]y)$", word), text


def test_addresses_look_like_a_population(addresses):
    """Lost otherwise: variety; a book that draws the same few places teaches a reader those."""
    texts = [address.text for address in addresses]
    assert len(set(texts)) > 0.9 * len(texts)
    assert 33 <= np.median([len(text) for text in texts]) <= 42
    digits = "".join(re.findall(r"\d", "".join(texts)))
    assert all(0.07 < digits.count(digit) / len(digits) < 0.16 for digit in "123456789")
    assert 0.3 < np.mean([bool(re.search(r"\d", text)) for text in texts]) < 0.55


def test_label_form_golden():
    """Lost otherwise: one spelling a place; two spellings of Hoà cost accuracy on both."""
    given = ["thị xã Hòa Thủy", "Bà Rịa - Vũng Tàu", "Đắk R'Lấp (Xã)", "Quý Hoàn", "Tòa Thúy", "Nông trường"]
    wanted = ["Thị Xã Hoà Thuỷ", "Bà Rịa Vũng Tàu", "Đắk R'lấp", "Quý Hoàn", "Toà Thuý", "Nông Trường"]
    assert [label_form(name) for name in given] == wanted


def test_what_is_written_differs_from_the_label_only_in_case_and_separators(addresses):
    """Lost otherwise: labels that say something else than the picture."""
    seen = set()
    for index, address in enumerate(addresses):
        written = as_written(address, np.random.default_rng(index))
        plain = re.sub(r" - |-|, |\. ", " ", written)
        assert plain.lower() == address.text.lower()
        seen |= {"capitals"} if "TP " in written else {"separator"} if plain != written else set()
    assert seen == {"capitals", "separator"}


def test_every_alphabet_draws_every_character_and_its_marks(addresses, alphabets):
    """Lost otherwise: characters that leave no ink, or marks that vanish: ờ, ơ, o and ò must not look alike."""
    characters = sorted(set("".join(address.text for address in addresses)) - {" "}) + list(",.-")
    assert len(characters) > 120
    for alphabet in alphabets:
        shapes = {}
        for character in characters:
            glyph = alphabet.glyph(character)
            assert glyph.advance > 0 and len(glyph.points) >= 2, (alphabet.name, character)
            assert sum(glyph.lengths) == len(glyph.points) == len(glyph.parts)
            shapes[character] = glyph.points
        for one, others in (
            ("o", "òóỏõọôồốổỗộơờớởỡợ"),
            ("a", "àáảãạăằắẵặâầấẩẫậ"),
            ("d", "đ"),
            ("Đ", "D"),
            ("y", "ỳýỷỹỵ"),
        ):
            family = [one, *others]
            for at, first in enumerate(family):
                for second in family[at + 1 :]:
                    if first in shapes and second in shapes:
                        a, b = shapes[first], shapes[second]
                        same = a.shape == b.shape and np.abs(a - b).max() < 0.05
                        assert not same, (alphabet.name, first, second)


def test_an_unknown_character_is_an_error(alphabets):
    """Lost otherwise: a label with a character of which the picture shows nothing."""
    for alphabet in alphabets:
        with pytest.raises(SlimError, match="漢"):
            alphabet.glyph("漢")


def test_thinning_keeps_slanting_lines():
    """A circumflex lost one leg to Zhang and Suen's thinning, and every â of four fonts was drawn as à."""
    hat = np.zeros((40, 60), np.uint8)
    cv2.polylines(hat, [np.array([[12, 30], [30, 12], [48, 30]])], False, 1, 7)
    skeleton = thin(hat)
    rows, columns = np.nonzero(skeleton)
    assert skeleton.sum() < 60
    assert columns.min() <= 15 and columns.max() >= 45 and rows.min() <= 14
    points = np.concatenate([line for _, line in centre_lines(hat)])
    assert points[:, 0].min() <= 15 and points[:, 0].max() >= 45


def test_centre_lines_number_separate_pieces():
    """Lost otherwise: marks that can be moved on their own; the biggest piece must be the letter's body."""
    image = np.zeros((60, 40), np.uint8)
    cv2.line(image, (20, 25), (20, 55), 1, 5)
    cv2.circle(image, (20, 10), 3, 1, -1)
    lines = centre_lines(image)
    assert sorted({part for part, _ in lines}) == [0, 1]
    body = np.concatenate([line for part, line in lines if part == 0])
    dot = np.concatenate([line for part, line in lines if part == 1])
    assert body[:, 1].min() > 20 and abs(dot[:, 1].mean() - 10) < 2


def test_the_text_makes_the_picture(alphabets):
    """Lost otherwise: lines that do not show their label. With the same hand, paper and light, a changed
    character changes the line, and no text leaves no ink."""
    texts = ["Tổ 4 Hà Nội", "Tổ 7 Hà Nội", "Tổ 4 Hà Nôi", "Tộ 4 Hà Nội", ""]
    writer = draw_writer(np.random.default_rng(3), alphabets)
    lines = [draw_line(text, writer, np.random.default_rng(5)) for text in texts]
    for line in lines:
        assert line.dtype == np.uint8 and line.shape[0] == 64 and 13 * 64 <= line.shape[1] <= 17 * 64
    dark = [int((line[8:54, : int(0.8 * line.shape[1])].min(axis=2) < 110).sum()) for line in lines]
    assert min(dark[:4]) > 300 and dark[4] < 30
    for at, first in enumerate(lines):
        for second in lines[at + 1 :]:
            assert first.shape != second.shape or np.abs(first.astype(int) - second).max() > 60


def test_a_hand_is_more_than_a_font(alphabets):
    """Lost otherwise: a few dozen fonts would be all the writers that a recognizer ever sees."""
    plain = draw_writer(np.random.default_rng(3), alphabets)
    calm = {"bend": 0.0, "size_jitter": 0.0, "wobble": 0.0, "mark_shift": 0.0, "haste": 0, "borrowed": {}, "shapes": {}}
    calm = {**calm, "tall": 1.0, "joined_marks": 0.0, "joining": 0.0, "flat_marks": 1.0}
    plain = replace(plain, alphabet=alphabets[0], capitals=alphabets[0], **calm)

    def ink(text: str, **traits) -> np.ndarray:
        return write(text, replace(plain, **traits), np.random.default_rng(5)).points

    same = ink("hấp")
    assert np.array_equal(ink("hấp"), same)
    own = alphabets[0].glyph("h").points
    other = next(alphabet for alphabet in alphabets if not np.array_equal(alphabet.glyph("h").points, own))
    assert len(ink("hấp", borrowed={"h": other})) != len(same)
    assert np.array_equal(ink("ấp", borrowed={"h": other}), ink("ấp"))
    assert ink("hấp", tall=1.4)[:, 1].min() < same[:, 1].min() - 2  # up is less
    ways = []
    for haste in (8, 0):
        hand = write("hấp", replace(plain, haste=haste), np.random.default_rng(5))
        strokes = np.split(hand.points, np.cumsum(hand.lengths)[:-1])
        ways.append(sum(np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in strokes))
    assert ways[0] < 0.98 * ways[1]  # corners are cut
    assert not np.array_equal(ink("hấp", shapes={"h": np.full((2, 5), 0.1)}), same)
    assert len(ink("hấp", joined_marks=1.0)) == len(same) + 2  # from the hat to the tone
    above = ink("ấ", raised_marks=0.6)[:, 1].min()
    assert above < ink("ấ", raised_marks=0.0)[:, 1].min()


def test_a_long_text_stays_on_the_form(book, alphabets):
    """Lost otherwise: the end of long labels, cut off at the picture's edge."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ink = write(
            "Số 125/68 Nguyễn Thị Minh Khai Phường 15 Thành Phố Quảng Ngãi",
            draw_writer(rng, alphabets),
            rng,
            700.0,
        )
        assert 0 < ink.width <= 700.5
        assert ink.points[:, 0].min() > -40


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_processes(tmp_path):
    """Lost otherwise: reproducible experiments; results would depend on the machine's cores."""
    for name, workers in (("one", 1), ("two", 2)):
        summary = synthesize(tmp_path / name, 70, 3, seed=4, workers=workers, progress=False)
        assert summary.pictures == summary.lines == 73 and summary.per_second > 0
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 73 + 3
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_the_label_files_name_pictures_that_are_there(tmp_path):
    """Lost otherwise: a set that training can read; a second run must replace the first, not mix with it."""
    out = tmp_path / "made"
    synthesize(out, 12, 2, seed=1, workers=1, progress=False)
    first = (out / "train.txt").read_text(encoding="utf-8")
    synthesize(out, 5, 0, seed=2, workers=1, progress=False)
    lines = (out / "train.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5 and not set(lines) & set(first.splitlines())
    for line in lines:
        path, text = line.split("\t")
        assert text and cv2.imread(str(out / path)).shape[0] == 64
    assert len(list(out.rglob("*.jpg"))) == 5 and (out / "val.txt").read_text() == ""


def test_blank_lines_on_demand():
    """Lost otherwise: the choice; a label may be empty only where it was asked for."""
    generator = LineGenerator()
    assert all(generator.generate(1, 0, index)[1] for index in range(40))
    blank = np.mean([generator.generate(1, 0, index, blank=0.5)[1] == "" for index in range(60)])
    assert 0.25 < blank < 0.75


def _real_lines(folder, writers=2, count=4):
    """Write lines as if photographed, a bar for each character; return the label file, and the words by writer.

    The second word of a line shows the writer.
    """
    lines, words = [], {}
    for writer in range(writers):
        (folder / f"w{writer}").mkdir(parents=True)
        words[writer] = [["W" * (2 + i), "x" * (3 + writer), "y" * 4, "z" * 5] for i in range(count)]
        for number, line in enumerate(words[writer]):
            image, left = np.full((128, 1900, 3), 215 - 10 * writer, np.uint8), 40
            for word in line:
                for _ in word:
                    image[40:90, left : left + 28] = 60
                    left += 40
                left += 60
            cv2.imwrite(str(folder / f"w{writer}" / f"{number}.png"), image)
            lines.append(f"w{writer}/{number}.png\t{' '.join(line)}\n")
    (folder / "rows.txt").write_text("".join(lines), encoding="utf-8")
    return folder / "rows.txt", words


def test_lines_glued_from_real_words_show_what_their_labels_say(tmp_path):
    """Lost otherwise: lines of real handwriting with new texts; a word under another's label teaches wrong characters,
    and words of two hands in a line teach what nobody writes."""
    label_file, words = _real_lines(tmp_path / "real")
    cut_lines = CutLines(label_file)
    assert sorted(len(lines) for lines in cut_lines.writers) == [4, 4]
    originals = {" ".join(line) for lines in words.values() for line in lines}
    texts = set()
    for index in range(60):
        image, text = cut_lines.draw(np.random.default_rng(index))
        assert image.shape[0] == 64 and image.dtype == np.uint8
        dark = image[30, :, 0] < 130
        bars = np.flatnonzero(np.diff(dark.astype(int)) == 1)
        ends = np.flatnonzero(np.append(np.diff(bars) > 30, True))  # the last character of each word
        labelled = text.split(" ")
        assert np.diff(ends, prepend=-1).tolist() == [len(word) for word in labelled], text
        assert np.diff(bars).max() < 120  # no form's empty end in the middle
        hands = {writer for writer in words if f"{'x' * (3 + writer)}" in labelled}
        assert len(hands) <= 1 and labelled[0][0] == "W" and labelled[-1] == "z" * 5  # beginnings first, ends last
        texts.add(text)
    assert len(texts) > 20 and not texts & originals


def test_only_lines_with_words_are_cut_and_new_texts_are_short_enough(tmp_path, caplog):
    """Lost otherwise: specks of blank lines as ink without a label, labels that no real line could have, lines that
    come out as they went in, and a warning of entries that say nothing."""
    label_file, words = _real_lines(tmp_path / "real", count=6)
    blank = np.full((128, 1900, 3), 215, np.uint8)
    blank[60:90, 900:930] = blank[60:90, 1000:1030] = 60
    cv2.imwrite(str(tmp_path / "real" / "w0" / "blank.png"), blank)
    with open(label_file, "a", encoding="utf-8") as file:
        file.write("w0/blank.png\t\n\n")
    with caplog.at_level("INFO"):
        cut_lines = CutLines(label_file)
    assert "words of 12 of 13 lines, 2 writers" in caplog.text and "rows.txt:14" in caplog.text
    texts = [cut_lines.draw(np.random.default_rng(index))[1] for index in range(200)]
    assert all(text == " ".join(text.split()) and 0 < len(text) <= 68 for text in texts)
    assert max(map(len, texts)) > 40
    (tmp_path / "real" / "rows.txt").write_text("w0/0.png\tWW xxx yyyy zzzzz\nw0/1.png\tWWW xxx yyyy zzzzz\n")
    two = CutLines(label_file)
    assert {two.draw(np.random.default_rng(index))[1] for index in range(30)}.isdisjoint(two.texts)


def test_a_set_glued_from_real_words(tmp_path):
    """Lost otherwise: the command's own data set, and an error for lines of which none can be cut."""
    label_file, _ = _real_lines(tmp_path / "real")
    out = tmp_path / "glued"
    synthesize(out, 5, seed=3, workers=1, words=label_file, progress=False)
    lines = (out / "train.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5 and all(cv2.imread(str(out / line.split("\t")[0])).shape[0] == 64 for line in lines)
    noted = json.loads((out / "synth.json").read_text())
    assert noted["words"] == str(label_file) and "fonts" not in noted
    for line in label_file.read_text(encoding="utf-8").splitlines():
        path = label_file.parent / line.split("\t")[0]
        cv2.imwrite(str(path), np.full((128, 1900, 3), 215, np.uint8))
    with pytest.raises(SlimError, match="rows.txt: no folder in it has 2 lines whose words can be cut apart"):
        synthesize(out, 5, seed=3, workers=1, words=label_file, progress=False)
    for wrong, message in (({"blank": 0.5}, "never blank"), ({"fonts": tmp_path}, "no fonts"), ({"val": 2}, "val 2")):
        with pytest.raises(SlimError, match=message):
            synthesize(out, 5, workers=1, words=label_file, progress=False, **wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count 0"),
        ({"val": -1}, "val -1"),
        ({"workers": 0}, "workers 0"),
        ({"blank": 1.0}, "blank 1.0"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, change, message):
    """Lost otherwise: a clear word; an empty data set would fail much later, in training."""
    arguments = {"count": 2, "val": 0, "workers": 1, **change}
    with pytest.raises(SlimError, match=message):
        synthesize(tmp_path / "out", progress=False, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_others_made_is_never_replaced(tmp_path):
    """Lost otherwise: the user's files, when --out names the wrong folder."""
    (tmp_path / "thesis.txt").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(SlimError, match="did not make"):
            synthesize(out, 1, workers=1, progress=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(SlimError, match="cannot be made"):
        synthesize(tmp_path / "thesis.txt" / "below", 1, workers=1, progress=False)


def test_a_foreign_set_is_never_replaced(tmp_path):
    """Lost otherwise: the user's own lines, which lie in images/ and train.txt as ours do; also under the names that
    a set has while it is built and replaced."""
    for name in ("made", "made.old", "made.partial"):
        theirs = tmp_path / name
        (theirs / "images").mkdir(parents=True)
        (theirs / "images" / "photo.jpg").write_bytes(b"photo")
        (theirs / "train.txt").write_text("images/photo.jpg\ta\n")
        with pytest.raises(SlimError, match=f"{name}: .*did not make"):
            synthesize(tmp_path / "made", 1, workers=1, progress=False)
        assert (theirs / "images" / "photo.jpg").read_bytes() == b"photo"
        shutil.rmtree(theirs)


def test_the_folder_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    """A stack trace ("has an empty name"), or a shell that stands in a folder which is no more."""
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path):
        with pytest.raises(SlimError, match="is the folder you are in"):
            synthesize(Path(out), 1, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    synthesize(tmp_path, 1, workers=1, progress=False)  # from elsewhere an empty folder may be filled
    monkeypatch.chdir(tmp_path / "images")
    with pytest.raises(SlimError, match="is the folder you are in"):
        synthesize(Path(".."), 1, workers=1, progress=False)


def test_a_link_stays_a_link(tmp_path):
    """Lost otherwise: sets on another disk; the link would become a folder beside them."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "made").symlink_to(tmp_path / "disk")
    for seed in (1, 2):
        synthesize(tmp_path / "made", 1, seed=seed, workers=1, progress=False)
    assert (tmp_path / "made").is_symlink() and (tmp_path / "disk" / "train.txt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "made"]


def test_a_killed_run_is_begun_anew(tmp_path):
    """Lost otherwise: the name; what a killed run left would have to be removed by hand."""
    synthesize(tmp_path / "made.partial", 2, workers=1, progress=False)
    (tmp_path / "made.partial" / "train.txt").unlink()
    synthesize(tmp_path / "made", 1, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["made"] and len(list(tmp_path.rglob("*.jpg"))) == 1


@dataclass(frozen=True)
class _Deadly:
    """A recipe whose images kill every process but the one that asked for them."""

    asked_by: int
    seed: int = 1
    marker: ClassVar[str] = "deadly.json"
    unit: ClassVar[str] = "picture"
    chunk: ClassVar[int] = 1

    def image_generator(self):
        return lambda split, index: os._exit(9) if os.getpid() != self.asked_by else None

    def provenance(self, count, val):
        return {}


def test_a_process_that_dies_is_one_clear_error(tmp_path):
    """Lost otherwise: what to do, in a stack trace of the process pool; and the half of a set that it leaves."""
    with pytest.raises(SlimError, match="fewer --workers"):
        write_dataset(tmp_path / "made", 2, 0, _Deadly(os.getpid()), 2, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_set_notes_its_provenance(tmp_path):
    """Lost otherwise: how to make a set again."""
    printed = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    (tmp_path / "fonts" / "some-hand").mkdir(parents=True)
    (tmp_path / "fonts" / "some-hand" / "latin.woff2").write_bytes(printed.read_bytes())
    (tmp_path / "fonts" / "some-hand" / "version.txt").write_text("some-hand 1.2\n")
    out = tmp_path / "made"
    synthesize(out, 2, 1, seed=9, workers=1, fonts=tmp_path / "fonts", blank=0.25, progress=False)
    noted = json.loads((out / "synth.json").read_text())
    assert noted.pop("made_by").startswith("ppocr_slim ")
    assert noted == {"seed": 9, "count": 2, "val": 1, "blank": 0.25, "fonts": {"some-hand": "some-hand 1.2"}}


def test_a_disk_that_is_full_leaves_the_set_as_it_was(tmp_path, monkeypatch):
    """Lost otherwise: the old set, and the room that half a new one takes."""
    out = tmp_path / "made"
    synthesize(out, 2, workers=1, progress=False)
    before = (out / "train.txt").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SlimError, match="No space left"):
        synthesize(out, 3, seed=2, workers=1, progress=False)
    assert (out / "train.txt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_font_folders_without_usable_fonts(tmp_path):
    """Lost otherwise: the reason; a run would fall back on other hands, or end in a stack trace."""
    with pytest.raises(SlimError, match="no such font folder"):
        load_alphabets(tmp_path / "none")
    with pytest.raises(SlimError, match="holds no font family"):
        load_alphabets(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "latin.woff2").write_bytes(b"not a font")
    with pytest.raises(SlimError, match="broken.*not a font"):
        load_alphabets(tmp_path)


def test_a_fetched_family_is_written_with(tmp_path):
    """Lost otherwise: the use of fetched fonts, and an error at the start for one that lacks characters.

    DejaVu stands in for a family: any font that Pillow opens will do, and the Mono one has no ẫ.
    """
    printed = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    (tmp_path / "some-hand").mkdir()
    (tmp_path / "some-hand" / "latin.woff2").write_bytes((printed / "DejaVuSans.ttf").read_bytes())
    alphabets = {alphabet.name: alphabet for alphabet in load_alphabets(tmp_path)}
    assert len(alphabets["some-hand"].glyph("ở").points) > 10
    assert alphabets["some-hand"].weight > alphabets["hershey-futural"].weight
    (tmp_path / "some-hand" / "latin.woff2").write_bytes((printed / "DejaVuSansMono.ttf").read_bytes())
    with pytest.raises(SlimError, match="some-hand: the font cannot write 'ẫ'"):
        load_alphabets(tmp_path)


_PACKS = """
import io, sys, tarfile
assert sys.argv[1] == "pack"
name = sys.argv[2][len("@fontsource/"):-len("@5")]
out = sys.argv[sys.argv.index("--pack-destination") + 1]
members = {"LICENSE": b"OFL", "package.json": b'{"version": "5.0.1"}', "../../evil": b"E",
           f"files/{name}-latin-400-normal.woff2": b"L", f"files/{name}-vietnamese-400-normal.woff2": b"V"}
if name == "tinos":
    for script in ("latin", "vietnamese"):
        members[f"files/{name}-{script}-700-normal.woff2"] = script.encode() + b" bold"
        members[f"files/{name}-{script}-400-italic.woff2"] = script.encode() + b" italic"
with tarfile.open(out + f"/fontsource-{name}-5.0.1.tgz", "w:gz") as tar:
    for name, data in members.items():
        info = tarfile.TarInfo("package/" + name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"""


def _fake_npm(folder: Path, body: str) -> str:
    path = folder / "npm"
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return str(path)


def test_fetching_unpacks_what_is_needed_with_the_licence(tmp_path):
    """Lost otherwise: fonts, or the licence that must lie beside them."""
    npm = _fake_npm(tmp_path, _PACKS)
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    fetch_family("mali", fonts, npm)
    found = {path.name: path.read_text() for path in (fonts / "mali").iterdir()}
    version = "@fontsource/mali 5.0.1\n"
    assert found == {"latin.woff2": "L", "vietnamese.woff2": "V", "LICENSE": "OFL", "version.txt": version}
    assert [path.name for path in fonts.iterdir()] == ["mali"]
    # a printed family has all of its styles
    fetch_family("tinos", fonts, npm, tuple(PRINT_STYLES))
    found = {path.name: path.read_text() for path in (fonts / "tinos").iterdir()}
    for script, regular in (("latin", "L"), ("vietnamese", "V")):
        assert found.pop(f"{script}.woff2") == regular
        for style in ("bold", "italic"):
            assert found.pop(f"{script}-{style}.woff2") == f"{script} {style}"
    assert sorted(found) == ["LICENSE", "version.txt"]
    with pytest.raises(SlimError, match="has no latin-bold.woff2"):
        fetch_family("lora", fonts, npm, tuple(PRINT_STYLES))
    assert sorted(path.name for path in fonts.iterdir()) == ["mali", "tinos"]


def test_fetching_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """Lost otherwise: half a family that later counts as fetched; and npm's own words on why."""
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    npm = _fake_npm(tmp_path, "import sys\nsys.exit('npm error network is down')\n")
    with pytest.raises(SlimError, match="network is down"):
        fetch_family("mali", fonts, npm)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = fetch_families(fonts)
    assert done.fetched == done.kept == [] and set(done.skipped) == {*FAMILIES, *PRINT_FAMILIES}
    assert all("network is down" in reason for reason in done.skipped.values())
    assert list(fonts.rglob("*")) == [print_folder(fonts)]


def test_print_is_no_handwriting(tmp_path):
    """Lost otherwise: lines in handwriting; a writer would draw letters like Times."""
    hand, printed = tmp_path / "mali", print_folder(tmp_path) / "tinos"
    for folder in (hand, printed):
        folder.mkdir(parents=True)
        (folder / "latin.woff2").write_bytes(b"L")
        (folder / "version.txt").write_text(f"{folder.name} 5\n")
    assert family_versions(tmp_path) == {"mali": "mali 5"} and printed_versions(tmp_path) == {"tinos": "tinos 5"}
    assert printed_families(tmp_path) == [printed] and printed_families(tmp_path / "mali") == []


def test_the_tools_speak_plainly(tmp_path):
    """Lost otherwise: the command lines; fetching without npm is no failure, bad numbers are one line."""
    bare = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    fetched = subprocess.run(
        [sys.executable, str(ROOT / "tools/fetch_fonts.py"), "--out", "fonts"],
        cwd=tmp_path, env=bare, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert fetched.returncode == 0 and "npm is not on the PATH" in fetched.stdout and fetched.stderr == ""
    tool = [sys.executable, str(ROOT / "tools/synthesize.py"), "--out", "made", "--workers", "1"]
    for arguments, status in (
        (["--count", "0"], 2),
        (["--count", "4", "--val", "1", "--sheet", "sheet.png"], 0),
    ):
        done = subprocess.run([*tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        if status:
            assert done.stderr == "error: count 0: is too small; give 1 or more\n"
    assert "lines/s" in done.stdout and "5 lines" in done.stdout
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] == 4 * 70


def test_contact_sheet_sets_real_lines_between(tmp_path):
    """Lost otherwise: the picture by which one judges whether synthetic lines look real."""
    synthesize(tmp_path / "made", 4, 0, workers=1, progress=False)
    real = tmp_path / "real.txt"
    cv2.imwrite(str(tmp_path / "row.png"), np.full((120, 1800, 3), 200, np.uint8))
    real.write_text("row.png\tHà Nội\n" * 9, encoding="utf-8")
    sheet = contact_sheet(tmp_path / "made" / "train.txt", real, synthetic_lines=4, real_lines=2)
    assert sheet.shape[0] == 6 * 70
    real.write_text("gone.png\tHà Nội\n", encoding="utf-8")
    with pytest.raises(SlimError, match="gone.png"):
        contact_sheet(tmp_path / "made" / "train.txt", real)
