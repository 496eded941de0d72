"""tools/predict_rec.py as a user runs it: good, blank and broken images, table and JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawing import draw_row, write_rows
from exported import TEXTS, save_lively_checkpoint
from PIL import Image

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.runtime.bundle import LANGUAGE, put_language, read_bundle
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.predict import read_files
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.text.language_training import build_language_model

TOOL = Path(__file__).resolve().parents[1] / "tools" / "predict_rec.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A bundle, and a folder `pictures` with three good lines, a blank one and two broken files."""
    folder = tmp_path_factory.mktemp("predict")
    samples, _ = read_label_file(write_rows(folder, TEXTS))
    save_lively_checkpoint(folder / "checkpoint")
    export_bundle(folder / "checkpoint", folder / "bundle", ["paddle", "onnx"], 50, samples)
    pictures = folder / "pictures"
    (pictures / "deep").mkdir(parents=True)
    for name, text in (("1.png", "Hà Nội"), ("2.jpg", "Thôn 7"), ("deep/5.png", "Tp Huế")):
        Image.fromarray(draw_row(text)).save(pictures / name)
    Image.fromarray(np.full((50, 700, 3), 230, np.uint8)).save(pictures / "3_blank.png")
    (pictures / "4_broken.png").write_bytes(b"not a picture")
    (pictures / "readme.txt").write_text("no image", encoding="utf-8")
    return folder


def predict(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_json_has_one_object_for_every_file(place: Path):
    """One broken file would hide the rest, or a file would get its neighbour's text."""
    done = predict("--bundle", place / "bundle", "--json", place / "pictures", place / "gone.png")
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    names = ["1.png", "2.jpg", "3_blank.png", "4_broken.png", "deep/5.png"]
    assert [r["path"] for r in records] == [
        *(str(place / "pictures" / n) for n in names),
        str(place / "gone.png"),
    ]
    for index, reason in ((3, "not an image"), (5, "No such file")):
        assert set(records[index]) == {"path", "error"} and reason in records[index]["error"]
    recognizer = Recognizer.from_bundle(place / "bundle")
    for record in (r for r in records if "error" not in r):
        assert set(record) == {"path", "text", "confidence", "ms"} and record["ms"] > 0
        [line] = recognizer.read([load_image(record["path"])])
        assert record["text"] == line.text and record["confidence"] == pytest.approx(line.confidence, abs=1e-4)
    assert records[2]["text"] == "" and records[0]["text"] != ""


def test_batches_and_other_backends_read_the_same(place: Path):
    """A faster setting would change texts or mix up files."""
    expected = predict("--bundle", place / "bundle", "--json", place / "pictures")
    texts = [json.loads(line).get("text") for line in expected.stdout.splitlines()]
    for extra in (["--batch-size", "4"], ["--backend", "paddle"], ["--threads", "1"]):
        done = predict("--bundle", place / "bundle", "--json", place / "pictures", *extra)
        assert [json.loads(line).get("text") for line in done.stdout.splitlines()] == texts


def test_table(place: Path):
    """A person would not see which file is broken, or good files would end with a failure status."""
    done = predict("--bundle", place / "bundle", place / "pictures")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and "4_broken.png" in lines[4] and "error: " in lines[4]
    good = predict("--bundle", place / "bundle", place / "pictures" / "1.png")
    assert good.returncode == 0 and len(good.stdout.splitlines()) == 2


def test_what_nobody_can_read_gives_no_text_but_is_not_lost(place: Path):
    """Lost otherwise: scribble would come out as an address, or what was read there could not be looked at."""
    paths = [place / "pictures" / name for name in ("1.png", "2.jpg", "3_blank.png")]
    recognizer = Recognizer.from_bundle(place / "bundle")
    plain = [reading.line for reading in read_files(recognizer, paths)]
    limit = max(line.confidence for line in plain)
    readings = list(read_files(recognizer, paths, drop_score=limit))
    assert [r.line.text for r in readings] == [one.text if one.confidence >= limit else "" for one in plain]
    assert [r.read for r in readings] == [one.text for one in plain] and any(
        not r.line.text and r.read for r in readings
    )
    assert predict("--bundle", place / "bundle", "--drop-score", "1.5", paths[0]).returncode == 2


def test_decoding_with_a_language_model_needs_one_in_the_bundle(place: Path, tmp_path: Path):
    """Lost otherwise: --decode would read greedily without a word, or a bundle with a model be refused as damaged."""
    shutil.copytree(place / "bundle", tmp_path / "bundle")
    picture = place / "pictures" / "1.png"
    refused = predict("--bundle", tmp_path / "bundle", "--decode", "beam", picture)
    assert refused.returncode == 2 and "has no language model" in refused.stderr
    put_language(tmp_path / "bundle", build_language_model(TEXTS, order=3, least=1))
    for decode in ("beam", "address"):
        done = predict("--bundle", tmp_path / "bundle", "--decode", decode, "--json", picture)
        assert done.returncode == 0 and json.loads(done.stdout)["text"], done.stderr
    assert set(read_bundle(tmp_path / "bundle").sizes) == {*read_bundle(place / "bundle").sizes, LANGUAGE}


def test_a_name_that_is_not_utf8_does_not_end_the_rest(place: Path, tmp_path: Path):
    """One file from an old archive would end a whole folder with a stack trace."""
    name = os.fsencode(tmp_path) + b"/a\xff.png"
    shutil.copyfile(place / "pictures" / "1.png", name)
    shutil.copyfile(place / "pictures" / "1.png", tmp_path / "b.png")
    done = predict("--bundle", place / "bundle", "--json", tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [os.fsencode(record["path"]) for record in records] == [name, os.fsencode(tmp_path / "b.png")]
    assert records[0]["text"] == records[1]["text"] != ""


def test_a_reader_that_goes_away_and_ctrl_c_end_quietly(tmp_path: Path):
    """`predict_rec.py ... | head` and Ctrl-C would end in a stack trace."""
    body = {"pipe": "for n in range(100000): print('a line')", "stop": "raise KeyboardInterrupt"}
    for name, code in body.items():
        (tmp_path / f"{name}.py").write_text(
            f"import sys; sys.path.insert(0, {str(TOOL.parents[1])!r})\n"
            f"from ppocr_slim.errors import run_tool\ndef main():\n    {code}\nsys.exit(run_tool(main))\n"
        )
    command = [sys.executable, str(tmp_path / "pipe.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    done = subprocess.run([sys.executable, str(tmp_path / "stop.py")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_unusable_arguments_are_one_clear_line(place: Path, tmp_path: Path):
    """A wrong folder, an empty one or a damaged bundle would end in a stack trace."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "bundle").mkdir()
    for path in (place / "bundle").iterdir():
        (tmp_path / "bundle" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"damaged")
    picture = place / "pictures" / "1.png"
    for arguments, reason in (
        (["--bundle", place / "bundle", tmp_path / "empty"], "no image in"),
        (["--bundle", tmp_path / "empty", picture], "not a bundle"),
        (["--bundle", tmp_path / "bundle", picture], "model.onnx is damaged"),
    ):
        done = predict(*arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and reason in done.stderr and len(done.stderr.splitlines()) == 1


def test_paddle_is_not_imported(place: Path):
    """Reading a line would need, and wait seconds for, half a gigabyte of training framework."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "print('PADDLE' if 'paddle' in sys.modules else 'NO PADDLE')\n"
    )
    command = [sys.executable, "-c", code, TOOL, "--bundle", place / "bundle", place / "pictures" / "1.png"]
    done = subprocess.run(list(map(str, command)), cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "NO PADDLE"
