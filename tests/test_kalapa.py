"""The converter of the challenge's layout, on a made-up challenge of four writers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppocr_slim.data.charset import Charset
from ppocr_slim.data.kalapa import prepare
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {"2": ["Ấp 1", "Hà Nội"], "10": ["Huế", "Đà Lạt"], "9": ["Xóm 3"], "30": ["Zơ Huế"]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "challenge"
    (source / "annotations").mkdir(parents=True)
    for writer, texts in TEXTS.items():
        (source / "images" / writer).mkdir(parents=True)
        lines = []
        for number, text in enumerate(texts):
            (source / "images" / writer / f"{number}.jpg").write_bytes(b"never decoded here")
            lines.append(f"{writer}/{number}.jpg\t{text}\n")
        (source / "annotations" / f"{writer}.txt").write_text("".join(lines), encoding="utf-8")
    (source / "val_writers.txt").write_text("10\n30\n", encoding="utf-8")
    return source


def test_writers_are_split_and_nothing_is_lost(source: Path, tmp_path: Path):
    """A writer on both sides, or a line on none, spoils every figure that is reported."""
    out = tmp_path / "out"
    for _ in range(2):  # twice, as people do
        prepared = prepare(source, out)
    train, findings = read_label_file(out / "train.txt")
    val, more = read_label_file(out / "val.txt")
    assert findings == more == []
    assert [sample.text for sample in train] == TEXTS["2"] + TEXTS["9"]
    assert [sample.text for sample in val] == TEXTS["10"] + TEXTS["30"]
    assert {sample.group for sample in val} == {"10", "30"}
    assert all(sample.path.is_file() for sample in (*train, *val))
    assert (prepared.train_lines, prepared.val_lines, prepared.train_writers, prepared.val_writers) == (3, 3, 2, 2)


def test_some_training_writers_are_set_apart_to_choose_by(source: Path, tmp_path: Path):
    """Settings chosen by the validation writers would make the figures on them better than the truth."""
    prepare(source, tmp_path / "out")
    parts = {name: read_label_file(tmp_path / "out" / f"{name}.txt")[0] for name in ("train", "fit", "dev")}
    assert {sample.group for sample in parts["dev"]} == {"2"} and {sample.group for sample in parts["fit"]} == {"9"}
    assert sorted(s.text for s in parts["fit"] + parts["dev"]) == sorted(s.text for s in parts["train"])


def test_the_dictionary_comes_from_training_alone(source: Path, tmp_path: Path):
    """Letters taken from validation labels are knowledge that a real test would not give."""
    prepared = prepare(source, tmp_path / "out")
    charset = Charset.load(tmp_path / "out" / "characters.txt")
    assert charset == Charset.from_texts(TEXTS["2"] + TEXTS["9"])
    assert prepared.unseen == {"u": 2, "ế": 2, "L": 1, "t": 1, "Đ": 1, "ạ": 1, "Z": 1, "ơ": 1}


def test_images_are_copied_where_links_are_not_allowed(source: Path, tmp_path: Path, monkeypatch):
    """Some file systems know no links; the set must work there too."""

    def refuse(self, target, target_is_directory=False):
        raise OSError("links are not allowed")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    prepare(source, tmp_path / "out")
    assert not (tmp_path / "out" / "images").is_symlink()
    assert read_label_file(tmp_path / "out" / "val.txt")[0][0].path.is_file()
    prepare(source, tmp_path / "out")  # again: the copy is taken for one


def test_preparing_in_place_keeps_the_images(source: Path):
    """--out may be the source itself; its images must survive that."""
    prepare(source, source)
    assert (source / "images" / "2" / "0.jpg").is_file() and not (source / "images").is_symlink()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda source: (source / "images" / "2" / "1.jpg").unlink(), "2.txt:2: there is no image"),
        (lambda source: edit(source / "annotations" / "2.txt", "\tẤp", " Ấp"), "2.txt:1: no TAB"),
        (lambda source: edit(source / "annotations" / "2.txt", "2/1", "9/1"), "2.txt:2: the image must be in 2/"),
        (lambda source: edit(source / "annotations" / "2.txt", "2/1", "2/0"), "is listed in"),
        (lambda source: edit(source / "val_writers.txt", "30", "31"), "val_writers.txt:2: there is no writer '31'"),
        (lambda source: edit(source / "val_writers.txt", "30", "10"), "val_writers.txt:2: writer '10'"),
        (lambda source: (source / "val_writers.txt").write_text("\n"), "names no writer"),
        (lambda source: (source / "val_writers.txt").write_text("2\n9\n10\n30\n"), "none is left for training"),
        (lambda source: (source / "val_writers.txt").unlink(), "cannot read list of validation writers"),
        (lambda source: shutil.rmtree(source / "annotations"), "there is no folder"),
    ],
)
def test_damage_is_named(source: Path, tmp_path: Path, damage, part: str):
    """A half-read challenge would be trained on without anybody noticing; nothing is written then."""
    damage(source)
    with pytest.raises(SlimError) as caught:
        prepare(source, tmp_path / "out")
    assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_foreign_images_are_not_replaced(source: Path, tmp_path: Path):
    """A folder of that name may hold somebody's data."""
    (tmp_path / "out" / "images").mkdir(parents=True)
    with pytest.raises(SlimError, match="exists and is not a copy"):
        prepare(source, tmp_path / "out")


def test_the_tool_says_what_it_wrote(source: Path, tmp_path: Path):
    """The command of the README, run as it stands there."""
    tool = [sys.executable, str(ROOT / "tools" / "prepare_kalapa.py"), "--source", str(source), "--out"]
    done = subprocess.run([*tool, str(tmp_path / "out")], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "val.txt: 3 lines by 2 other writers" in done.stdout
