"""Synthetic pages: their boxes, their camera, the data set on disk."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from drawing import draw_row

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.camera import Camera, CameraLimits, draw_camera
from ppocr_slim.synth.clutter import bar_code, logo, scribble, square_code
from ppocr_slim.synth.faces import BUILT_IN_FACES, Face, load_faces, print_width, printed_mark
from ppocr_slim.synth.layouts import PAGE_KINDS
from ppocr_slim.synth.page_dataset import PageRecipe, boxed_pages, synthesize_pages
from ppocr_slim.synth.pages import IGNORE, Box, PageGenerator, PageOptions, _order_like, label_line, project_boxes
from ppocr_slim.synth.real_lines import RealLine, extract_ink, read_real_lines, real_line_mark
from ppocr_slim.synth.sheets import Mark, Sheet, ink_quad
from ppocr_slim.visualize.pages import tiled

ROOT = Path(__file__).resolve().parents[1]
PLAIN = PageOptions(clutter=0.0, covered=0.0)


@pytest.fixture(scope="module")
def generator():
    return PageGenerator(PLAIN)


def straight(sheet: Sheet, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Camera:
    """A camera that only scales and shifts; the picture has the sheet's size."""
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1.0]])
    return Camera(sheet.height, sheet.width, matrix, False, CameraLimits(), 3)


def white_sheet(*lines: tuple[str, float, float, float]) -> Sheet:
    """A sheet [300, 500] with printed lines (text, size, x, baseline)."""
    sheet = Sheet(np.full((300, 500, 3), 250, np.uint8))
    for text, size, x, baseline in lines:
        assert sheet.add_line(printed_mark(text, Face("Sans"), size, x, baseline, (20, 20, 20)), text) is not None
    return sheet


@pytest.mark.parametrize("kind", sorted(PAGE_KINDS.keys() - {"empty"}))
def test_a_box_holds_the_ink_of_its_line_and_little_else(generator, kind):
    """Lost otherwise: a detector that learns boxes which cut letters or hold empty paper. A photograph with a line and
    the same one without it differ within the line's box, right up to its four sides.
    """
    rng = np.random.default_rng([11, sorted(PAGE_KINDS).index(kind)])
    sheet = generator.draw_sheet(720, rng, kind)
    camera = draw_camera(sheet, 720, CameraLimits(scan=0.0, crop=0.0), rng)
    boxes = project_boxes(sheet, camera, 0.0)
    assert len(boxes) == len(sheet.lines) > 0
    full = camera.photograph(sheet.render(), [])
    for number in np.unique(np.linspace(0, len(boxes) - 1, 3).round().astype(int)):
        assert boxes[number].text == sheet.lines[number].text != IGNORE
        difference = np.abs(full.astype(int) - camera.photograph(sheet.render(number), [])).max(2)
        seen = difference > 0.25 * difference.max()
        assert seen.sum() > 10
        inside = np.zeros(seen.shape, np.uint8)
        cv2.fillConvexPoly(inside, boxes[number].points.astype(np.int32), 1)
        assert not (seen & (cv2.dilate(inside, np.ones((3, 3), np.uint8)) == 0)).any(), boxes[number]
        # back on the sheet, along the line's own directions, the ink reaches all four sides
        pixels = np.argwhere(seen)[:, ::-1].astype(np.float64)
        ink = cv2.perspectiveTransform(pixels[None], np.linalg.inv(camera.matrix))[0]
        quad = sheet.lines[number].quad.astype(np.float64)
        along = (quad[1] - quad[0]) / np.linalg.norm(quad[1] - quad[0])
        across = np.array([-along[1], along[0]])
        for direction in (along, across):
            sides, reach = quad @ direction, ink @ direction
            assert reach.min() - sides.min() < 5.0 and sides.max() - reach.max() < 5.0, (kind, boxes[number])


def test_the_camera_takes_points_where_it_takes_ink():
    """Lost otherwise: boxes beside the text on every tilted photograph."""
    sheet = Sheet(np.full((600, 420, 3), 255, np.uint8))
    places = np.array([(60, 70), (350, 90), (330, 520), (80, 500)])
    for x, y in places:
        sheet.add(Mark(np.full((9, 9), 255, np.uint8), int(x) - 4, int(y) - 4, (0, 0, 0)))
    limits = CameraLimits(scan=0.0, crop=0.0, blur=0.3, shadow=0.0)
    for seed in range(4):
        camera = draw_camera(sheet, 700, limits, np.random.default_rng(seed))
        picture = camera.photograph(sheet.render(), []).mean(2)
        for x, y in camera.project(places):
            left, top = round(float(x)) - 12, round(float(y)) - 12
            part = picture[top : top + 25, left : left + 25]
            dark = np.clip(np.median(part) - 40 - part, 0, None)
            found = [(dark.sum(axis) * np.arange(25)).sum() / dark.sum() for axis in (0, 1)]
            assert np.allclose(found, [x - left, y - top], atol=0.6)


def test_photographs_are_of_the_size_that_was_asked_for():
    """Lost otherwise: pictures that a training has to scale once more."""
    sheet = white_sheet()
    for seed in range(20):
        camera = draw_camera(sheet, 720, CameraLimits(), np.random.default_rng(seed))
        assert max(camera.width, camera.height) == 720 and min(camera.width, camera.height) >= 360
        corners = camera.project(np.array([(0, 0), (sheet.width, 0), (sheet.width, sheet.height)]))
        assert cv2.contourArea(corners, oriented=True) > 0  # never seen from behind


def test_text_never_lies_on_text():
    """Lost otherwise: lines nobody can read, with two boxes for one place."""
    sheet = white_sheet(("Họ và tên", 20, 50, 100))
    again = printed_mark("Ngày sinh", Face("Serif"), 20, 60, 108, (0, 0, 0))
    assert sheet.add_line(again, "Ngày sinh") is None
    assert sheet.add_line(again.shifted(0, 30), "Ngày sinh") is not None
    assert sheet.add_line(again.shifted(400, 60), "Ngày sinh") is None  # it would leave the sheet
    assert [line.text for line in sheet.lines] == ["Họ và tên", "Ngày sinh"] and len(sheet.marks) == 2


VIETNAMESE = sorted(
    unicodedata.normalize("NFC", letter + tone)
    for letter in "aăâeêioôơuưyAĂÂEÊIOÔƠUƯY"
    for tone in ("", "\u0300", "\u0301", "\u0309", "\u0303", "\u0323")
) + list("đĐ•")  # fmt: skip


@pytest.mark.parametrize("face", BUILT_IN_FACES, ids=lambda face: face.family)
def test_print_has_every_character(face):
    """Lost otherwise: Vietnamese in print; DejaVu's monospaced face printed boxes for 46 characters of receipts."""
    for bold, italic in ((False, False), (True, False), (False, True)):
        missing = printed_mark("\U000f0000", face, 40, 0, 0, (0, 0, 0), bold, italic).mask
        for letter in VIETNAMESE:
            mask = printed_mark(letter, face, 40, 0, 0, (0, 0, 0), bold, italic).mask
            assert mask.any() and not np.array_equal(mask, missing), (letter, bold, italic)


def fetched_face(fonts: Path, name: str, latin: str = "DejaVuSans", vietnamese: str = "DejaVuSans") -> Path:
    """A folder as fetching makes it; DejaVu stands in, for any font that Pillow opens will do."""
    folder = fonts / "print" / name
    folder.mkdir(parents=True)
    there = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for ending, style in (("", ""), ("-bold", "-Bold"), ("-italic", "-Oblique")):
        (folder / f"latin{ending}.woff2").write_bytes((there / f"{latin}{style}.ttf").read_bytes())
        (folder / f"vietnamese{ending}.woff2").write_bytes((there / f"{vietnamese}{style}.ttf").read_bytes())
    return folder


def test_fetched_print_comes_from_two_files_and_looks_like_one(tmp_path):
    """Lost otherwise: printed lines with gaps or leaps where Latin and Vietnamese fonts meet, or their boxes."""
    [face] = load_faces([fetched_face(tmp_path, "tinos")])
    for text in ("Tổ 5 Ấp Suối Đục", "ỡ", "Lê", "A–B Đ"):
        for bold, italic in ((False, False), (True, False), (False, True)):
            one, two = (
                printed_mark(text, each, 24, 50.0, 90.0, (0, 0, 0), bold, italic) for each in (Face("Sans"), face)
            )
            assert (
                abs(print_width(text, face, 24, bold, italic) - print_width(text, Face("Sans"), 24, bold, italic)) < 3
            )
            assert (one.y, one.mask.shape[0]) == (two.y, two.mask.shape[0]), text
            assert abs(one.x - two.x) <= 1 and abs(one.mask.shape[1] - two.mask.shape[1]) <= 3, text
            assert abs(int(one.mask.sum()) - int(two.mask.sum())) < 0.03 * one.mask.sum(), text


def test_a_fetched_face_that_lacks_characters_is_reported_at_once(tmp_path):
    """Lost otherwise: which family to leave out; forms would have boxes in the place of characters."""
    with pytest.raises(SlimError, match="mono.*cannot write 'Ấ'"):
        load_faces([fetched_face(tmp_path, "mono", vietnamese="DejaVuSansMono")])
    broken = fetched_face(tmp_path, "broken")
    (broken / "latin-bold.woff2").write_bytes(b"no font")
    with pytest.raises(SlimError, match="latin-bold.woff2: not a font"):
        load_faces([broken])


def test_pages_are_printed_in_fetched_faces(tmp_path):
    """Lost otherwise: a detector that knows two printed faces only; and typewriters on all forms."""
    for name in ("tinos", "cousine"):
        fetched_face(tmp_path, name)
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "latin.woff2").write_bytes((tmp_path / "print" / "tinos" / "latin.woff2").read_bytes())
    generator = PageGenerator(PLAIN, tmp_path)
    for kind, families in (("form", {"Sans", "Serif", "tinos"}), ("receipt", {"Sans", "Serif", "tinos", "cousine"})):
        drawn = [generator.draw_face(kind, np.random.default_rng(seed)) for seed in range(60)]
        assert {face.family for face in drawn} == families
    summary = synthesize_pages(tmp_path / "made", 1, 0, PageRecipe(1, PLAIN, tmp_path), 1, progress=False)
    noted = json.loads((tmp_path / "made" / "pages.json").read_text())
    assert summary.pictures == 1 and noted["fonts"].keys() == {"hand"} and noted["print"].keys() == {"tinos", "cousine"}


def test_the_box_of_a_climbing_line_climbs():
    """Lost otherwise: upright boxes around slanting lines, half of them paper."""
    mask = np.zeros((60, 220), np.uint8)
    cv2.line(mask, (10, 10), (210, 50), 255, 5)
    quad = ink_quad(Mark(mask, 100, 200, (0, 0, 0)), 0.2)
    assert np.linalg.norm(quad[3] - quad[0]) < 12 and abs(np.linalg.norm(quad[1] - quad[0]) - 209) < 8
    assert np.all(np.abs(quad[0] - (109, 205)) < 5)  # the top left of the text comes first
    assert ink_quad(Mark(np.zeros((9, 9), np.uint8), 0, 0, (0, 0, 0))) is None


def test_what_cannot_be_read_is_ignored():
    """Lost otherwise: a detector punished for not seeing what is hidden, cut off or too small."""
    sheet = white_sheet(("Một dòng chữ", 20, 50, 60), ("Dòng bị che", 20, 50, 120), ("nhỏ", 5, 50, 180))
    sheet.covers.append(np.array([(60, 95), (130, 95), (130, 130), (60, 130)], np.float64))
    assert [box.text for box in project_boxes(sheet, straight(sheet), 12.0)] == ["Một dòng chữ", IGNORE, IGNORE]
    sheet.covers.clear()
    assert [box.text for box in project_boxes(sheet, straight(sheet), 0.0)] == [line.text for line in sheet.lines]
    cut = project_boxes(sheet, straight(sheet, shift=(-90.0, 0.0)), 0.0)
    assert [box.text for box in cut] == [IGNORE, IGNORE]  # the third line lies outside
    for box in cut:
        assert box.points.min() >= 0 and box.points[0, 0] < box.points[1, 0] and box.points[0, 1] < box.points[3, 1]
    assert project_boxes(sheet, straight(sheet, shift=(-600.0, 0.0)), 0.0) == []


def test_a_cut_box_begins_where_its_text_does():
    """Lost otherwise: boxes at the picture's edge that are turned by a quarter, or counter-clockwise."""
    upright = np.array([(0, 0), (90, 4), (89, 24), (-1, 20)], np.float64)
    for turned in range(4):
        for corners in (np.roll(upright, turned, 0), np.roll(upright, turned, 0)[::-1]):
            assert np.array_equal(_order_like(corners, upright), upright)


@pytest.mark.parametrize("thing", (bar_code, square_code, logo, scribble))
def test_what_hides_text_lies_where_there_is_none(thing):
    """Lost otherwise: boxes around text that nobody can see."""
    lines = [("Một dòng chữ khá dài", 20, 20, 40), ("Dòng ở giữa tờ giấy", 20, 240, 150), ("cuối", 20, 60, 270)]
    laid = 0
    for seed in range(40):
        sheet = white_sheet(*lines)
        thing(sheet, np.random.default_rng(seed))
        for mark in sheet.marks[len(lines) :]:
            laid += 1
            rows, columns = np.nonzero(mark.mask)
            for line in sheet.lines:
                left, top, right, bottom = line.bounds
                x, y = columns + mark.x, rows + mark.y
                assert not ((x > left) & (x < right) & (y > top) & (y < bottom)).any(), seed
    assert laid > 10


def test_an_empty_page_gives_an_empty_list():
    """Lost otherwise: pages without text, from which a detector learns what is none."""
    empty = PageGenerator(PageOptions(kinds={"empty": 1.0}, longer_side=(400, 500)))
    for index in range(6):
        assert empty.generate(1, 0, index).boxes == []
    assert label_line("images/1.jpg", []) == "images/1.jpg\t[]\n"


def test_label_lines_are_paddleocrs():
    """Lost otherwise: labels that PaddleOCR's own tools cannot read."""
    line = label_line("images/1.jpg", [Box("Hoà", np.array([[1, 2], [9, 2], [9, 5], [1, 5]]))])
    assert line == 'images/1.jpg\t[{"transcription": "Hoà", "points": [[1, 2], [9, 2], [9, 5], [1, 5]]}]\n'


def test_a_set_is_the_same_on_any_number_of_processes_and_reads_back(tmp_path):
    """Lost otherwise: results that nobody else can reproduce, and pictures whose labels point beside them."""
    recipe = PageRecipe(5, PageOptions(longer_side=(360, 480)))
    one = synthesize_pages(tmp_path / "one", 5, 1, recipe, 1, progress=False)
    synthesize_pages(tmp_path / "two", 5, 1, recipe, 2, progress=False)
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(files) == 6 + 3
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    boxes = 0
    for split, count in (("train", 5), ("val", 1)):
        lines = (tmp_path / "one" / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        assert len(lines) == count
        for line in lines:
            path, label = line.split("\t")
            height, width = cv2.imread(str(tmp_path / "one" / path)).shape[:2]
            assert 360 <= max(height, width) <= 480
            for item in json.loads(label):
                boxes += 1
                text, points = item["transcription"], np.array(item["points"])
                assert text and text == unicodedata.normalize("NFC", text) and "\t" not in text
                assert points.shape == (4, 2) and points.dtype.kind == "i"
                assert points.min() >= 0 and (points.max(0) < (width, height)).all()
                # clockwise from the text's top left: text here is never turned by more than the camera's few degrees
                if text != IGNORE:
                    assert cv2.contourArea(points.astype(np.float32), oriented=True) > 0
                    right, down = points[1] - points[0], points[3] - points[0]
                    assert right[0] > abs(right[1]) * 1.5 and down[1] > abs(down[0])
    assert boxes == one.lines > 20


def test_real_lines_give_their_ink_and_their_text(tmp_path):
    """Lost otherwise: experiments on how much real ink helps; rules and neighbours would come along as text."""
    row = draw_row("Hà Nội 12", height=64, width=600)
    ink, _ = extract_ink(row)
    bounds = cv2.boundingRect(cv2.findNonZero((ink > 40).astype(np.uint8)))
    ruled = row.copy()
    cv2.line(ruled, (0, 61), (599, 62), (40, 40, 40), 2)
    cv2.line(ruled, (560, 0), (557, 63), (40, 40, 40), 2)
    cv2.line(ruled, (5, 0), (5, 63), (40, 40, 40), 2)
    cv2.circle(ruled, (300, 1), 3, (40, 40, 40), -1)  # a tail from the line above
    mask, colour = extract_ink(ruled)
    again = cv2.boundingRect(cv2.findNonZero((mask > 40).astype(np.uint8)))
    assert np.abs(np.array(again) - bounds).max() <= 2 and max(colour) < 100
    cv2.imwrite(str(tmp_path / "row.png"), ruled)
    (tmp_path / "rows.txt").write_text("row.png\tHà Nội 12\nblank.png\t\n", encoding="utf-8")
    lines = read_real_lines([tmp_path / "rows.txt"])
    assert lines == [RealLine(tmp_path / "row.png", "Hà Nội 12")]
    mark = real_line_mark(lines[0], 30.0, 80.0, 10.0, 400.0)
    assert mark.x == 30 and 28 <= mark.mask.shape[0] <= 36
    assert real_line_mark(lines[0], 30.0, 80.0, 10.0, 20.0) is None  # no room
    pages = PageGenerator(PageOptions(kinds={"letter": 1.0}, real=1.0, clutter=0), real_lines=[tmp_path / "rows.txt"])
    sheet = pages.draw_sheet(800, np.random.default_rng(1))
    assert "Hà Nội 12" in [line.text for line in sheet.lines]


def test_bad_arguments_are_one_clear_error(tmp_path, monkeypatch):
    """Lost otherwise: a traceback, or a folder of one's own pictures that is overwritten."""
    monkeypatch.chdir(tmp_path)
    Path("mine.jpg").write_bytes(b"")
    for out, count, recipe, said in (
        ("made", 0, PageRecipe(1, PLAIN), "count 0: is too small; give 1 or more"),
        ("made", 1, PageRecipe(-1, PLAIN), "seed -1: is too small; give 0 or more"),
        ("made", 1, PageRecipe(1, PLAIN, real_lines=(Path("gone.txt"),)), "gone.txt: cannot be read"),
        ("made", 1, PageRecipe(1, PLAIN, Path("gone")), "gone: no such font folder"),
        (".", 1, PageRecipe(1, PLAIN), "holds something that this tool did not make"),
    ):
        with pytest.raises(SlimError, match=said):
            synthesize_pages(Path(out), count, 0, recipe, 1, progress=False)
    tool = [sys.executable, str(ROOT / "tools/synthesize_pages.py"), "--count", "1", "--kinds", "form", "poem"]
    done = subprocess.run(tool, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: kinds: no page kind poem; there are form, ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


def test_options_that_make_no_sense_are_errors():
    """Lost otherwise: a typo in an experiment that gives a set of something else."""
    for options, said in (
        ({"kinds": {}}, "needs a weight"),
        ({"kinds": {"form": -1.0}}, "needs a weight"),
        ({"longer_side": (900, 700)}, "longer side 900 to 700"),
        ({"real": 1.5}, "real 1.5"),
        ({"clutter": -1}, "clutter -1"),
        ({"smallest": -8.0}, "smallest -8.0"),
    ):
        with pytest.raises(SlimError, match=said):
            PageOptions(**options)


def test_the_sheet_of_pages_shows_them_with_boxes():
    """Lost otherwise: the picture by which one judges whether synthetic pages look real."""
    sheet = tiled(boxed_pages(PageRecipe(1, PageOptions(kinds={"card": 1.0}, longer_side=(400, 400))), 3), 200, 2)
    assert sheet.shape == (400, 400, 3)
    assert (np.abs(sheet.astype(int) - (60, 180, 0)).max(2) < 60).any()  # the boxes' green
