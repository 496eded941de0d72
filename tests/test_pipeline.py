"""Whole pages: boxes in the page's own pixels, crops the right way up, texts in order; the page tools as a user runs
them. The networks are fakes that see grey levels.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from papers import CLASSES, fake_detector, fake_pipeline, page_with, pdf_with_marks, sees_the_band, strip, write
from PIL import Image

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import network as network_module
from ppocr_slim.runtime import pipeline as pipeline_module
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.pipeline import PageReading, Pipeline
from ppocr_slim.runtime.preprocess import page_size, pages_to_batch, resize_page
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec
from ppocr_slim.runtime.types import TextLine
from ppocr_slim.visualize.pages import PictureFolder, boxes_picture, reading_picture

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def upside_down(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[::-1, ::-1])


def page_of_strips() -> np.ndarray:
    """1400 x 900 pixels: a b on one line, c upside down, d upside down but hard to tell, an empty field."""
    plain = np.full((48, 300, 3), 150, np.uint8)
    strips = [
        (480, 110, strip("b", 330)),
        (60, 100, strip("a", 360)),
        (60, 400, upside_down(strip("c"))),
        (60, 700, upside_down(strip("d", band=40))),
        (60, 1000, plain),
    ]
    return page_with(strips)


@pytest.mark.parametrize(
    ("size", "longer_side", "expected"),
    [
        ((1080, 1920), 960, (544, 960)),  # 540 is nearest to 17 x 32
        ((100, 200), 960, (96, 192)),  # never larger
        ((5, 7), 960, (32, 32)),
        ((20, 10000), 960, (32, 960)),
        ((960, 960), 960, (960, 960)),
        ((3000, 2000), 736, (736, 480)),
    ],
)
def test_pages_are_made_as_large_as_paddleocr_makes_them(size, longer_side, expected):
    """A detector would see text of other sizes than it was trained and measured with."""
    assert page_size(*size, longer_side) == expected
    assert resize_page(np.zeros((*size, 3), np.uint8), longer_side).shape == (*expected, 3)


def test_pages_are_normalized_as_paddleocr_does_it():
    """An exported detector would see other numbers, or red and blue swapped, and miss faint text."""
    page = np.empty((32, 32, 3), np.uint8)
    page[:] = (255, 0, 128)  # B, G, R
    batch = pages_to_batch([page, page])
    assert batch.shape == (2, 3, 32, 32) and batch.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    assert np.allclose(batch[1, :, 5, 5], expected, atol=1e-6)


def test_boxes_are_in_pixels_of_the_picture_and_in_reading_order():
    """Boxes of a photograph would lie where its smaller copy had the text, and lines be read in a random order."""
    strips = [(480, 110, strip("b", 330)), (60, 100, strip("a", 360)), (60, 1250, strip("c"))]
    page = page_with(strips)
    found = fake_detector().detect(page)
    corners = [(60, 100, 420, 148), (480, 110, 810, 158), (60, 1250, 360, 1298)]
    assert len(found) == 3
    for box, (left, top, right, bottom) in zip(found, corners):
        # The map has 960 x 608 pixels: each stands for 1.46 x 1.48 of the page
        assert np.allclose(box.points, [[left, top], [right, top], [right, bottom], [left, bottom]], atol=3)
        assert box.score == pytest.approx(0.9, abs=0.01)
    small = fake_detector().detect(page_with([(7, 9, strip("a", 120))], height=70, width=150))
    assert np.allclose(small[0].points[[0, 2]], [[7, 9], [127, 57]], atol=3)


@pytest.mark.parametrize("size", [(1400, 900), (10, 10), (3, 2000), (1, 1)])
def test_a_blank_page_gives_nothing(size):
    """The back of a form, or a page that is a line of pixels, would end in a stack trace or be given words."""
    page = np.full((*size, 3), 255, np.uint8)
    for direction in (True, False):
        reading = fake_pipeline(direction).read(page)
        assert (reading.lines, reading.dropped, reading.height, reading.width) == ([], [], *size)
        assert set(reading.ms) == {"det", "cls", "rec", "total"}


def test_a_page_is_read():
    """Texts would stand at other lines' places, upside-down lines be read as they stand, blank fields get a text, or
    be dropped without a word.
    """
    reading = fake_pipeline().read(page_of_strips())
    assert [line.text for line in reading.lines] == ["a", "b", "c", "d?"]
    assert [line.direction for line in reading.lines] == [0, 0, 180, 0]
    assert [line.text for line in reading.dropped] == [""]
    tops = [round(line.box[0][1], -1) for line in [*reading.lines, *reading.dropped]]
    assert tops == [100, 110, 400, 700, 1000]
    for line in reading.lines:
        assert line.confidence == pytest.approx(0.8) and line.score == pytest.approx(0.9, abs=0.01)
        assert len(line.box) == 4 and all(type(number) is float for point in line.box for number in point)
    assert (reading.width, reading.height) == (900, 1400)
    assert reading.ms["total"] >= reading.ms["det"] + reading.ms["cls"] + reading.ms["rec"] > 0


def test_a_page_that_stands_upside_down_is_read_from_its_other_end():
    """A sheet that lay the wrong way in the scanner would be read from its last line to its first."""
    strips = [(480, 110, strip("b", 330)), (60, 100, strip("a", 360)), (60, 700, strip("c")), (60, 900, strip("d"))]
    page = page_with(strips)
    reading = fake_pipeline().read(upside_down(page))
    assert [line.text for line in reading.lines] == ["a", "b", "c", "d"]
    assert reading.lines[0].box[0] == pytest.approx((900 - 420, 1400 - 148), abs=3)


def test_without_a_direction_classifier_nothing_is_turned():
    """A classifier that is switched off would still take time, or lines have directions that none found."""
    reading = fake_pipeline(direction=False).read(page_of_strips())
    assert [line.text for line in reading.lines] == ["a", "b", "c?", "d?"]
    assert {line.direction for line in reading.lines} == {None} and reading.ms["cls"] == 0.0


def test_a_crop_under_the_threshold_is_left_as_it_is():
    """A guess would turn lines that stood right, and they would be read as nonsense."""
    classifier = DirectionClassifier(sees_the_band, ClsSpec(threshold=0.9))
    crops = [strip("a"), upside_down(strip("b")), upside_down(strip("c", band=40)), upside_down(strip("d", width=900))]
    upright, found = classifier.upright(crops, batch_size=3)
    assert [direction.angle for direction in found] == [0, 180, 180, 180]
    assert [direction.turned for direction in found] == [False, True, False, True]
    assert 0.5 < found[2].score < 0.9 < found[1].score and found[0].score > 0.9
    for crop, expected in zip(upright, [crops[0], strip("b"), crops[2], strip("d", width=900)]):
        assert np.array_equal(crop, expected)
    exactly = DirectionClassifier(lambda x: np.array([[0.25, 0.75]], np.float32), ClsSpec(threshold=0.75))
    assert exactly.classify([strip("a")])[0].turned


def test_results_do_not_depend_on_the_batch_size():
    """A page would read differently on a machine with another setting."""
    page = page_of_strips()
    expected = fake_pipeline(batch_size=1).read(page)
    for batch_size in (2, 3, 50):
        reading = fake_pipeline(batch_size=batch_size).read(page)
        assert (reading.lines, reading.dropped) == (expected.lines, expected.dropped)


def test_bent_text_is_read_within_the_rectangle_around_it():
    """A detector that returns outlines of many corners would end every page with a stack trace."""
    page = page_of_strips()
    pipeline = fake_pipeline()
    pipeline.detector = fake_detector(polygons=True, unclip_ratio=0.1)
    assert [line.text for line in pipeline.read(page).lines] == ["a", "b", "c", "d?"]


def test_wrong_settings_are_refused():
    """A typo would be found by a stack trace in the middle of a folder, or never."""
    with pytest.raises(SlimError, match="lexicon"):
        fake_pipeline(post=["lexikon"])
    with pytest.raises(SlimError, match="batches of 0"):
        fake_pipeline(batch_size=0)


def test_corrections_are_applied_in_their_order():
    """--post would do nothing on pages."""
    pipeline = fake_pipeline(post=["tone_marks_old"])
    read = pipeline.recognizer.read
    pipeline.recognizer.read = lambda crops, batch_size: [
        TextLine("Hoà Bình" if line.text else "", line.confidence) for line in read(crops, batch_size)
    ]
    assert {line.text for line in pipeline.read(page_of_strips()).lines} == {"Hòa Bình"}


def test_each_bundle_is_opened_for_its_task(monkeypatch):
    """Threads or precision would hold for one network of three, or a recognizer be asked for boxes."""
    opened: list[tuple] = []
    specs = {"d": DetSpec(), "c": ClsSpec(), "r": RecSpec(48, CLASSES)}
    found = lambda folder: SimpleNamespace(spec=specs[folder], folder=folder)  # noqa: E731
    monkeypatch.setattr(network_module, "read_bundle", found)
    monkeypatch.setattr(
        network_module, "open_bundle_session", lambda bundle, *engine: opened.append((bundle.folder, *engine))
    )
    assert Detector.from_bundle("d", "openvino", 3, "int8").spec is specs["d"]
    assert DirectionClassifier.from_bundle("c", "openvino", 3, "int8").spec is specs["c"]
    assert opened == [("d", "openvino", 3, "int8"), ("c", "openvino", 3, "int8")]
    for kind, folder in ((Detector, "c"), (DirectionClassifier, "r")):
        with pytest.raises(SlimError, match=f"{folder} holds a (cls|rec) bundle"):
            kind.from_bundle(folder)


def test_a_pipeline_is_made_of_the_bundles_that_are_named(monkeypatch):
    """A bundle of one's own would be passed over for the shipped one, or --cls none still turn lines."""
    opened: list[tuple] = []
    for kind in (Recognizer, Detector, DirectionClassifier):
        monkeypatch.setattr(kind, "from_bundle", lambda *arguments: opened.append(arguments))
    monkeypatch.setattr(pipeline_module, "shipped", lambda task: f"shipped {task}")
    engine = ("openvino", 2, "fp32")
    settings = {"engine": "openvino", "threads": 2, "precision": "fp32"}
    pipeline = Pipeline.from_bundles(**settings, post=["lexicon"], batch_size=3)
    own = {"rec": ("greedy",), "det": (), "cls": ()}
    assert opened == [(f"shipped {task}", *engine, *own[task]) for task in ("rec", "det", "cls")]
    assert (pipeline.post, pipeline.batch_size) == (("lexicon",), 3)
    opened.clear()
    Pipeline.from_bundles("r", "d", "c", with_direction=False, **settings)
    assert opened == [("r", *engine, "greedy"), ("d", *engine)]


def test_the_tools_options_reach_the_pipeline(tmp_path: Path, monkeypatch, capsys):
    """An option would be accepted and change nothing."""
    asked: list[tuple] = []
    monkeypatch.setattr(
        Pipeline,
        "from_bundles",
        staticmethod(lambda *bundles, **rest: asked.append((bundles, rest)) or fake_pipeline()),
    )
    Image.fromarray(page_of_strips()).save(tmp_path / "a.png")
    words = "--rec r --det d --cls none --engine openvino --precision fp32 --threads 2 --batch-size 3 --post lexicon"
    run_tool(monkeypatch, capsys, "predict_system.py", *words.split(), "--decode", "beam", tmp_path)
    run_tool(monkeypatch, capsys, "predict_system.py", "--cls", "c", tmp_path)
    engine = {"engine": "openvino", "threads": 2, "precision": "fp32"}
    assert asked[0] == (
        (Path("r"), Path("d"), None),
        {"with_direction": False, "post": ("lexicon",), "batch_size": 3, "drop_score": 0.5, "decode": "beam", **engine},
    )
    assert asked[1][0] == (None, None, "c") and asked[1][1]["with_direction"]


def run_tool(monkeypatch, capsys, name: str, *arguments) -> tuple:
    """(exit status, what it printed) of a tool's `main`."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    status = runpy.run_path(str(TOOLS / name))["main"]()
    return status, capsys.readouterr().out.splitlines()


@pytest.fixture
def papers(tmp_path: Path, monkeypatch) -> Path:
    """A folder with two pages of one name, a document of two and a broken file; the networks are fakes."""
    monkeypatch.setattr(Pipeline, "from_bundles", staticmethod(lambda *_, with_direction, **__: fake_pipeline()))
    folder = tmp_path / "papers"
    for name in ("a.png", "deep/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(page_of_strips()).save(folder / name)
    write(folder / "b.pdf", pdf_with_marks([(144, 72), (72, 72)]))
    write(folder / "c.png", b"no picture")
    return folder


def test_predict_system_gives_one_json_object_a_page(papers: Path, monkeypatch, capsys):
    """Whoever reads the output by program would miss a key, and one broken file hide the rest."""
    status, out = run_tool(monkeypatch, capsys, "predict_system.py", "--json", papers)
    assert status == 1
    records = [json.loads(line) for line in out]
    names = ["a.png", "b.pdf", "b.pdf", "c.png", "deep/a.png"]
    assert [record["path"] for record in records] == [str(papers / name) for name in names]
    assert [record.get("page") for record in records] == [None, 1, 2, None, None]
    assert set(records[3]) == {"path", "error"} and "not an image" in records[3]["error"]
    keys = ["path", "width", "height", "lines", "dropped", "ms"]
    assert list(records[0]) == keys and list(records[1]) == ["path", "page", *keys[1:]]
    first = records[0]
    assert (first["width"], first["height"], first["dropped"]) == (900, 1400, 1)
    assert list(first["ms"]) == ["det", "cls", "rec", "total"] and first["ms"]["total"] > 0
    assert [line["text"] for line in first["lines"]] == ["a", "b", "c", "d?"]
    line = first["lines"][2]
    assert list(line) == ["points", "text", "confidence", "direction", "score"]
    assert (line["confidence"], line["direction"]) == (0.8, 180)
    assert np.allclose(line["points"], [[60, 400], [360, 400], [360, 448], [60, 448]], atol=3)
    status, out = run_tool(monkeypatch, capsys, "predict_system.py", "--json", papers / "a.png")
    assert (status, len(out)) == (0, 1)


def test_predict_system_prints_what_it_read(papers: Path, monkeypatch, capsys):
    """A person would not see which page a text is from, or which file is broken."""
    status, out = run_tool(monkeypatch, capsys, "predict_system.py", papers)
    assert status == 1
    assert out[0].startswith(f"{papers / 'a.png'}  900 x 1400, 4 lines, 1 boxes dropped")
    assert [line.split()[-1] for line in out[1:5]] == ["a", "b", "c", "d?"]
    assert any(line.startswith(f"{papers / 'b.pdf'} page 2") for line in out)
    assert any(line.startswith(f"{papers / 'c.png'}  error: ") for line in out)


def test_every_page_is_drawn_under_a_name_of_its_own(papers: Path, tmp_path: Path, monkeypatch, capsys):
    """Of two folders' a.png, or a document's pages, only the last one's picture would be left."""
    status, _ = run_tool(monkeypatch, capsys, "predict_system.py", "--draw", tmp_path / "new" / "drawn", papers)
    assert status == 1
    drawn = sorted(path.name for path in (tmp_path / "new" / "drawn").iterdir())
    assert drawn == ["a.png-2.read.jpg", "a.png.read.jpg", "b.pdf.1.read.jpg", "b.pdf.2.read.jpg"]
    assert load_image(tmp_path / "new" / "drawn" / "a.png.read.jpg").shape == (1400, 2 * 900 + 8, 3)


def test_drawing_never_writes_over_what_is_read(tmp_path: Path):
    """`--draw` into the very folder that is read would destroy the page."""
    page = write(tmp_path / "a.jpg.read.jpg", b"a page")
    folder = PictureFolder(tmp_path, [tmp_path / "a.jpg", page])
    assert folder.save(tmp_path / "a.jpg", None, np.zeros((5, 5, 3), np.uint8)).name == "a.jpg-2.read.jpg"
    assert page.read_bytes() == b"a page"
    write(tmp_path / "file", b"")
    with pytest.raises(SlimError, match="cannot write"):
        PictureFolder(tmp_path / "file").save(tmp_path / "a.jpg", None, np.zeros((5, 5, 3), np.uint8))


@pytest.mark.parametrize("turn", [0, 90, 180])
def test_texts_are_drawn_at_their_places(turn: int):
    """Nobody could compare a reading with its page: text beside its box, cut off, or without its marks."""
    page = np.full((3600, 2400, 3), 255, np.uint8)
    corners = [[400.0, 1000.0], [1600.0, 1000.0], [1600.0, 1120.0], [400.0, 1120.0]]
    if turn == 90:  # a line that runs downwards
        corners = [[400.0, 1000.0], [520.0, 1000.0], [520.0, 2200.0], [400.0, 2200.0]]
    box = tuple(map(tuple, corners))
    line = TextLine("Thôn Hoà Ổ", 0.9, box, 0.9, 180 if turn == 180 else 0)
    out_of_page = tuple((x, y + 9000) for x, y in box)
    lines = [line, TextLine("far", 0.9, out_of_page, 0.9, 0)]
    picture = reading_picture(page, PageReading(2400, 3600, lines, [], {}))
    assert picture.shape == (1800, 1200 * 2 + 8, 3)  # half as large
    ink = picture[:, 1208:].max(axis=2) < 120
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    (left, top), (right, bottom) = np.array(corners)[[0, 2]] / 2
    assert top <= rows[0] < rows[-1] <= bottom and left <= columns[0] < columns[-1] <= right
    assert ink.sum() > 1500
    # "Ổ", the line's last character, is the one with two marks above it: ink comes highest there
    along = {0: ink, 90: np.rot90(ink), 180: ink[::-1, ::-1]}[turn]
    highest = np.flatnonzero(along.any(axis=1))[0]
    begins, ends = np.flatnonzero(along.any(axis=0))[[0, -1]]
    assert np.flatnonzero(along[highest + 1]).mean() > begins + 0.85 * (ends - begins)


def test_numbered_boxes_are_drawn_on_a_copy():
    """What is drawn on a page would be read from it."""
    page = page_of_strips()
    before = page.copy()
    picture = boxes_picture(page, [np.array([[60, 400], [360, 400], [300, 470]], np.float32)])
    assert picture.shape == page.shape and not np.array_equal(picture, page) and np.array_equal(page, before)


def test_predict_det_gives_the_boxes_of_every_page(papers: Path, tmp_path: Path, monkeypatch, capsys):
    """Boxes could not be looked at without a recognizer."""
    monkeypatch.setattr(Detector, "from_bundle", staticmethod(lambda *_: fake_detector()))
    bundle = ["--bundle", tmp_path]
    status, out = run_tool(
        monkeypatch, capsys, "predict_det.py", *bundle, "--json", "--draw", tmp_path / "drawn", papers
    )
    records = [json.loads(line) for line in out]
    assert status == 1 and len(records) == 5
    assert set(records[3]) == {"path", "error"}
    assert list(records[0]) == ["path", "width", "height", "boxes", "ms"] and records[2]["page"] == 2
    assert [list(box) for box in records[0]["boxes"]] == [["points", "score"]] * 5
    assert np.allclose(records[0]["boxes"][0]["points"][0], [60, 100], atol=3)
    assert len(list((tmp_path / "drawn").iterdir())) == 4
    status, out = run_tool(monkeypatch, capsys, "predict_det.py", *bundle, papers / "a.png")
    assert status == 0 and "5 boxes" in out[0] and len(out) == 6


def test_predict_cls_tells_every_crop(tmp_path: Path, monkeypatch, capsys):
    """A directory of crops could not be checked, or a broken file take its neighbour's direction."""
    monkeypatch.setattr(
        DirectionClassifier, "from_bundle", staticmethod(lambda *_: DirectionClassifier(sees_the_band, ClsSpec()))
    )
    crops = tmp_path / "crops"
    crops.mkdir()
    for name, crop in (("1.png", strip("a")), ("3.png", upside_down(strip("b")))):
        cv2.imwrite(str(crops / name), crop)
    write(crops / "2.png", b"")
    shutil.copyfile(crops / "3.png", crops / "4.png")
    arguments = ["--bundle", tmp_path, crops, "--batch-size", "3"]
    status, out = run_tool(monkeypatch, capsys, "predict_cls.py", "--json", *arguments)
    records = [json.loads(line) for line in out]
    assert status == 1 and [record["path"][-5:] for record in records] == ["1.png", "2.png", "3.png", "4.png"]
    assert [record.get("angle") for record in records] == [0, None, 180, 180]
    assert [record.get("turned") for record in records] == [False, None, True, True]
    assert set(records[1]) == {"path", "error"} and list(records[0]) == ["path", "angle", "score", "turned", "ms"]
    status, out = run_tool(monkeypatch, capsys, "predict_cls.py", *arguments)
    assert status == 1 and len(out) == 5 and "error: " in out[2] and out[3].split()[1:] == ["180", "0.96", "yes"]


def test_the_page_tools_answer_without_paddle():
    """--help would wait seconds for half a gigabyte of training framework, and reading would need it."""
    code = (
        "import runpy, sys\n"
        "for tool in sys.argv[1:]:\n"
        "    sys.argv = [tool, '--help']\n"
        "    try:\n        runpy.run_path(tool, run_name='__main__')\n"
        "    except SystemExit as stop:\n        assert stop.code == 0, stop.code\n"
        "import ppocr_slim.visualize.pages\n"
        "print([name for name in sys.modules if name in ('paddle', 'pypdfium2')])\n"
    )
    command = [sys.executable, "-c", code, *(str(TOOLS / f"predict_{name}.py") for name in ("system", "det", "cls"))]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == 3 and done.stdout.splitlines()[-1] == "[]"
