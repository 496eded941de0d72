"""Post-processing by name, in Python and on the command lines."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from drawing import write_rows

from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import EvaluatedLine, Evaluation, post_effects
from ppocr_slim.evaluation.metrics import score_lines
from ppocr_slim.text.corrections import CORRECTIONS, correct, correction_names
from ppocr_slim.text.vietnamese.corrections import correct_syllables, place_tone_marks

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def test_names():
    """A misspelt name would switch nothing on, without a message."""
    assert correction_names("lexicon, syllables") == ("lexicon", "syllables")
    for wrong, reason in (("lexikon", "known are lexicon, syllables"), ("", "unknown"), ("lexicon,lexicon", "twice")):
        with pytest.raises(SlimError, match=reason):
            correction_names(wrong)


def test_order_and_default():
    """Nothing may happen unasked; and corrections come in the order in which they are named."""
    assert correct("Thuỷ Hòang", ()) == "Thuỷ Hòang"
    assert correct("Thuỷ", ("tone_marks_old",)) == "Thủy"
    assert correct("Thuỷ", ("tone_marks_old", "tone_marks")) == "Thuỷ"
    assert correct("Sông Nhạm Cẩm Mỹ Đồng Nai", ("lexicon",)) == "Sông Nhạn Cẩm Mỹ Đồng Nai"


def test_syllables_in_a_line():
    """House numbers, names of other languages and abbreviations are no misspelt syllables."""
    assert correct_syllables("Phườngg 5 Hòang Mai") == "Phường 5 Hoàng Mai"
    assert correct_syllables(unicodedata.normalize("NFD", "Huyện Phườngg")) == "Huyện Phường"
    assert place_tone_marks(unicodedata.normalize("NFD", "Thủy")) == "Thuỷ"
    for text in (
        "Phườngg/5 5/Phườngg Phườngg’s",
        "452/8d Kp3 C/c Tx",
        "Krông Ana Cư M'gar Đắk Lắk",
        "Pleiku Gia Lai",
        "Tdp Hcm Q1",
        "Thị Trấn Ea Súp",
    ):
        assert correct_syllables(text) == text
    assert place_tone_marks("Huà Hià") == "Huà Hià"  # Hoà, misread: moving the mark would make two errors of one
    assert place_tone_marks("Kh/hòa 5 Thủy") == "Kh/hòa 5 Thuỷ"


def test_a_long_text_does_not_take_long():
    """A page of noise that was read as one line held everything up for seconds a word."""
    rng = random.Random(4)
    words = ["".join(rng.choices("aăâbcdđeêghiklmnoôơpqrstuưvxyẫ", k=rng.choice((5, 8, 400)))) for _ in range(400)]
    begun = time.perf_counter()
    for name in CORRECTIONS:
        correct(" ".join(words), (name,))
    assert time.perf_counter() - begun < 3.0


def test_effects():
    """The table decides what a user switches on: it must not credit one correction with another's work."""
    pairs = (
        ("Sông Nhạn Cẩm Mỹ Đồng Nai", "Sông Nhạm Cẩm Mỹ Đồng Nai"),  # the lexicon mends it
        ("Thủy Nguyên", "Thủy Nguyên"),  # tone marks make it worse: the label has the other style
        ("Tổ 5", "Tổ 6"),  # nothing helps
    )
    lines = tuple(EvaluatedLine(a, b, 1.0, Path("x"), "w", sum(c != d for c, d in zip(a, b))) for a, b in pairs)
    evaluation = Evaluation(lines, score_lines(*zip(*pairs)), {}, ())
    effects = post_effects(evaluation, ("lexicon", "tone_marks"))
    assert [effect.names for effect in effects] == [(), ("lexicon",), ("tone_marks",), ("lexicon", "tone_marks")]
    assert [(e.changed, e.better, e.worse) for e in effects] == [(0, 0, 0), (1, 1, 0), (1, 0, 1), (2, 1, 1)]
    length = sum(len(a) for a, _ in pairs)
    # hoà for hòa is two letters
    assert [round(e.scores.cer * length) for e in effects] == [2, 1, 4, 3]
    assert [effect.names for effect in post_effects(evaluation, ("lexicon",))] == [(), ("lexicon",)]


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def test_the_tools(tmp_path: Path):
    """--post would be forgotten on the way from the command line to the text, or change the scores unasked."""
    labels = write_rows(tmp_path, ["Hà Nội", "Tp Huế"])
    bundle = TOOLS.parent / "ppocr_slim" / "pretrained" / "rec"
    post = ("--post", "lexicon,syllables,tone_marks_old")
    done = run("eval.py", bundle, "--data", labels, "--json", tmp_path / "out.json", *post)
    assert done.returncode == 0, done.stderr
    assert "corrections" in done.stdout and "lexicon, syllables, tone_marks_old" in done.stdout
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [len(effect["names"]) for effect in record["post"]] == [0, 1, 1, 1, 3]
    assert record["post"][0]["scores"] == record["scores"]

    [picture, *_] = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg"))
    done = run("predict_rec.py", "--json", picture, *post)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["text"] == correct(line["read"], post[1].split(","))
    for tool, arguments in (("eval.py", (bundle, "--data", labels)), ("predict_rec.py", (picture,))):
        done = run(tool, *arguments, "--post", "lexikon")
        assert done.returncode == 2 and "unknown correction 'lexikon'" in done.stderr
