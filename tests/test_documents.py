"""Files and their pages: PDF documents, TIFF files of several pages, pictures, and what is wrong with them."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from papers import pdf, pdf_with_marks, write
from PIL import Image

from ppocr_slim.runtime import documents
from ppocr_slim.runtime.documents import find_documents, read_pages
from ppocr_slim.runtime.images import MAX_PIXELS, find_images, load_image
from ppocr_slim.runtime.predict_pages import read_documents

RED = [0, 0, 255]  # BGR


def errors(path: Path) -> list:
    return [page.error for page in read_pages(path)]


def test_every_page_of_a_pdf_comes_in_its_order_and_colours(tmp_path: Path):
    """Pages would be missing, in another order, upside down, too coarse to be read, or with red and blue swapped."""
    path = write(tmp_path / "scan.pdf", pdf_with_marks([(144, 72), (72, 144), (288, 72)]))
    pages = list(read_pages(path))
    assert [(page.path, page.page, page.error) for page in pages] == [(path, n, None) for n in (1, 2, 3)]
    assert [page.image.shape for page in pages] == [(200, 400, 3), (400, 200, 3), (200, 800, 3)]
    for page in pages:
        assert page.image.dtype == np.uint8 and page.image.flags.c_contiguous
        assert page.image[10, 10].tolist() == RED and page.image[-10, 10].tolist() == [255] * 3
    # Who knows no better names it .jpg
    assert len(list(read_pages(write(tmp_path / "scan.jpg", path.read_bytes())))) == 3


def test_a_file_of_one_page_has_no_page_number(tmp_path: Path):
    """Every picture's record would carry a number that says nothing."""
    single = write(tmp_path / "one.pdf", pdf_with_marks([(72, 72)]))
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.tif")
    for path in (single, tmp_path / "one.png", tmp_path / "one.tif"):
        [page] = read_pages(path)
        assert (page.page, page.error) == (None, None) and page.image[5, 5].tolist() == RED


def test_a_filled_form_shows_what_was_typed(tmp_path: Path):
    """The page of a form would be read without the words that were typed into it."""
    field = (
        b"/Annots [<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (HHHHHH) /F 4 /Rect [0 0 140 40] "
        b"/DA (/Helv 30 Tf 0 g) /Parent 2 0 R >>]"
    )
    plain = write(tmp_path / "plain.pdf", pdf([b"/MediaBox [0 0 144 72]"]))
    content = pdf([b"/MediaBox [0 0 144 72] " + field])
    fonts = b"/DR << /Font << /Helv << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    form = b"/AcroForm << /Fields [] /NeedAppearances true %s >>" % fonts
    filled = write(tmp_path / "filled.pdf", content.replace(b"/Type /Catalog", b"/Type /Catalog " + form))
    [empty], [page] = read_pages(plain), read_pages(filled)
    assert empty.image.min() == 255 and page.image[100:].min() < 50


def test_a_large_page_is_made_coarser_and_a_bomb_is_refused(tmp_path: Path):
    """A poster could not be read at all, or a page that says it is as large as a town would fill the memory."""
    sizes = [(6000, 4000), (1e6, 1e6), (1e9, 0.1), (72, 72)]
    poster, bomb, thread, good = read_pages(write(tmp_path / "large.pdf", pdf_with_marks(sizes)))
    height, width = poster.image.shape[:2]
    assert 0.99 * MAX_PIXELS < height * width <= MAX_PIXELS and height / width == pytest.approx(2 / 3, abs=0.01)
    for page in (bomb, thread):
        assert page.image is None and "large.pdf, page" in page.error and "too large" in page.error
    assert good.image is not None and good.page == 4


def test_documents_that_cannot_be_opened_are_one_clear_error(tmp_path: Path):
    """One bad document would stop a folder with a stack trace, or be skipped without a word."""
    good = pdf_with_marks([(72, 72)])
    secret = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>]" % (
        b"41" * 32,
        b"42" * 32,
    )
    for name, content, reason in (
        ("broken.pdf", good[: len(good) // 3], "damaged"),
        ("text.pdf", b"no document", "not a PDF"),
        ("empty.pdf", b"", "not a PDF"),
        ("secret.pdf", pdf([b"/MediaBox [0 0 72 72]"], trailer=secret), "encrypted"),
    ):
        [error] = errors(write(tmp_path / name, content))
        assert str(tmp_path / name) in error and reason in error
    [error] = errors(tmp_path / "gone.pdf")
    assert "No such file" in error


def test_a_document_that_lies_about_its_pages_ends(tmp_path: Path):
    """A damaged page tree that says it has a million pages would give a million errors."""
    path = write(tmp_path / "lies.pdf", pdf([b"/MediaBox [0 0 72 72]"], extra=b"/Count 900000"))
    first, *others, last = read_pages(path)
    assert first.image is not None and 1 < len(others) < 100
    assert all("page" in page.error for page in others) and "to 900000 were not tried" in last.error


def test_every_page_of_a_tiff_is_read_as_a_picture_is(tmp_path: Path):
    """Of a fax only the first page would be read; a later one may be turned, or black and white."""
    frames = [Image.new("RGB", (60, 40), "red"), Image.new("1", (50, 20)), Image.new("RGB", (30, 10), "blue")]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    path = tmp_path / "fax.tiff"
    frames[0].save(path, save_all=True, append_images=frames[1:], compression="tiff_deflate")
    pages = list(read_pages(path))
    assert [page.page for page in pages] == [1, 2, 3]
    assert [page.image.shape for page in pages] == [(40, 60, 3), (20, 50, 3), (10, 30, 3)]
    assert pages[0].image[0, 0].tolist() == RED and pages[2].image[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(pages[0].image, load_image(path))
    frames[2].encoderinfo = {"exif": exif, "tiffinfo": {0x0112: 6}}
    frames[0].save(tmp_path / "turned.tiff", save_all=True, append_images=[frames[2]])
    assert [page.image.shape for page in read_pages(tmp_path / "turned.tiff")] == [(40, 60, 3), (30, 10, 3)]


def test_thumbnails_in_a_tiff_are_no_pages(tmp_path: Path):
    """Every scanned page would be read twice, once from its preview."""
    page, small = Image.new("L", (60, 40), 200), Image.new("L", (6, 4), 200)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[small, page.copy()])
    assert [p.image.shape[:2] for p in read_pages(tmp_path / "scan.tif")] == [(40, 60), (40, 60)]


def test_a_broken_page_of_a_tiff_does_not_hide_the_others(tmp_path: Path):
    """One bad frame would lose the contract's other pages."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)) for _ in range(3)]
    path = tmp_path / "scan.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:], compression="tiff_deflate")
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(1)
        start = image.tag_v2[273][0]
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    pages = list(read_pages(path))
    assert [page.error is None for page in pages] == [True, False, True]
    assert f"{path}, page 2" in pages[1].error


def test_of_an_animation_the_first_frame_is_the_page(tmp_path: Path):
    """A moving picture would be a document of a hundred pages."""
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    [page] = read_pages(tmp_path / "moves.gif")
    assert page.page is None and page.image[0, 0].tolist() == RED


def test_broken_pictures_are_named_with_a_reason(tmp_path: Path):
    """A picture among the documents would stop all, or be left out silently."""
    [error] = errors(write(tmp_path / "text.png", b"no picture"))
    assert "not an image" in error and str(tmp_path / "text.png") in error
    [error] = errors(tmp_path / "gone.png")
    assert "No such file" in error


def test_one_page_is_in_memory_at_a_time(tmp_path: Path, monkeypatch):
    """A long document of large pages would fill the memory, and its first page wait for the last."""
    Image.new("L", (40, 30)).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("L", (40, 30))] * 3)
    paths = [write(tmp_path / "a.pdf", pdf_with_marks([(72, 72)] * 4)), tmp_path / "a.tif"]
    seen: list = []
    make = documents._page

    def make_when_the_last_is_gone(*arguments):
        gc.collect()
        assert all(reference() is None for reference in seen)
        return make(*arguments)

    monkeypatch.setattr(documents, "_page", make_when_the_last_is_gone)
    for page in read_documents(SimpleNamespace(read=lambda image: None), paths):
        seen.append(weakref.ref(page.source.image))
        del page
    assert len(seen) == 8


def test_documents_are_found_where_pages_are_wanted_and_not_where_lines_are(tmp_path: Path):
    """PDF files of a folder would be left out, or be reported as broken lines."""
    for name in ("b/2.pdf", "b/1.PDF", "a.png", "notes.txt"):
        write(tmp_path / name, b"")
    names = [str(path.relative_to(tmp_path)) for path in find_documents([tmp_path])]
    assert names == ["a.png", "b/1.PDF", "b/2.pdf"]
    assert find_images([tmp_path]) == [tmp_path / "a.png"]
