"""Pages of files, decoded one at a time: images, TIFF files of several pages, and PDF documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.images import FORMATS, MAX_PIXELS, SUFFIXES, as_bgr, find_images, image_errors

PDF = ".pdf"
DPI = 200  # small print is then 27 pixels high, as in a scan
LEAST_DPI = 72  # a page that would be coarser within MAX_PIXELS is refused
MAX_SIDE = 32_000  # pixels of a rendered page
POINTS = 72  # an inch, in PDF's units
MAX_LOST = 20  # pages in a row; a damaged document may say that it has a million

_SUBFILE_TYPE = 254  # TIFF: bit 0 marks a small version of another page, bit 2 its mask
_PASSWORD = 4  # PDFium's number for a document that asks for one


@dataclass(frozen=True, eq=False)
class PageImage:
    """A page of a file, or the error that came of reading it.

    Attributes:
        path: of the file.
        page: its number in the file, from 1; None where the file is a single page, or cannot be opened at all.
        image: [H, W, 3] uint8 BGR; None where there is an error.
        error: None where there is an image.
    """

    path: Path
    page: int | None = None
    image: np.ndarray | None = None
    error: str | None = None


def find_documents(arguments: Sequence[str | Path]) -> list[Path]:
    """Return the images and PDF documents that a command line names, as `find_images` does."""
    return find_images(arguments, SUFFIXES | {PDF})


def read_pages(path: str | Path) -> Iterator[PageImage]:
    """Yield the pages of a file, each decoded or rendered when it is asked for.

    Only one page is in memory at a time if the caller drops each before it asks for the next.

    Images are decoded as by `load_image`: all pages of a TIFF file (but for thumbnails and masks of other pages), the
    first frame of an animation. PDF pages are rendered with their forms and annotations at 200 dots an inch, or as many
    as 50 megapixels allow, down to 72. A file or a page that cannot be read is a `PageImage` with the error; the pages
    after it follow. PDFium does not support several threads: read documents in one.
    """
    path = Path(path)
    try:
        yield from _pdf_pages(path) if _is_pdf(path) else _image_pages(path)
    except SlimError as error:
        yield PageImage(path, error=str(error))


def _is_pdf(path: Path) -> bool:
    with image_errors(path), path.open("rb") as file:
        return path.suffix.lower() == PDF or file.read(16).lstrip().startswith(b"%PDF-")


def _page(path: Path, page: int | None, load: Callable[[str], np.ndarray]) -> PageImage:
    """Return the page that `load(name)` decodes, or its error."""
    name = str(path) if page is None else f"{path}, page {page}"
    try:
        with image_errors(name):
            return PageImage(path, page, load(name))
    except SlimError as error:
        return PageImage(path, page, error=str(error))


def _image_pages(path: Path) -> Iterator[PageImage]:
    with image_errors(path), Image.open(path, formats=FORMATS) as image:
        frames = _tiff_frames(image) if image.format == "TIFF" else [0]
        for number, frame in enumerate(frames, 1):
            yield _page(path, number if len(frames) > 1 else None, _decoder(image, frame))


def _decoder(image: Image.Image, frame: int) -> Callable[[str], np.ndarray]:
    def decode(name: str) -> np.ndarray:
        image.seek(frame)
        return as_bgr(image, name)

    return decode


def _tiff_frames(image: Image.Image) -> list[int]:
    """Return the numbers of the frames that are pages of their own."""
    frames: list[int] = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        tags = getattr(image, "tag_v2", {})
        if number == 0 or not int(tags.get(_SUBFILE_TYPE, 0)) & 0b101:
            frames.append(number)
    return frames


def _pdf_pages(path: Path) -> Iterator[PageImage]:
    document = _open_pdf(path)
    try:
        count = len(document)
        lost = 0
        for number in range(1, count + 1):
            page = _page(path, number if count > 1 else None, _renderer(document, number - 1))
            lost = lost + 1 if page.error else 0
            yield page
            del page  # or it would stay in memory while the next one is rendered
            if lost == MAX_LOST and number < count:
                rest = f"those from {number + 1} to {count} were not tried"
                raise SlimError(f"{path}: {lost} pages in a row cannot be rendered: {rest}")
    finally:
        document.close()


def _open_pdf(path: Path) -> Any:
    """Return an opened `pypdfium2.PdfDocument`, with its form fields as they are filled in."""
    try:
        import pypdfium2
    except ImportError as error:
        raise SlimError(f"{path} needs pypdfium2 to be read: pip install pypdfium2") from error
    with image_errors(path):
        try:
            document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            if error.err_code == _PASSWORD:
                raise SlimError(f"{path} is encrypted: save it without its password first") from error
            raise SlimError(f"{path} is not a PDF document, or is damaged") from error
        document.init_forms()  # else the text in the fields of a form would not be drawn
        return document


def _renderer(document: Any, index: int) -> Callable[[str], np.ndarray]:
    def render(name: str) -> np.ndarray:
        width, height = document.get_page_size(index)
        scale = _scale(width, height, name)
        page = document[index]
        try:
            bitmap = page.render(scale=scale)
            try:
                return np.array(bitmap.to_numpy())  # BGR; a copy, because the bitmap's memory goes with it
            finally:
                bitmap.close()
        finally:
            page.close()

    return render


def _scale(width: float, height: float, name: str) -> float:
    """Return the pixels a point at which a page of that size in points is rendered.

    Raises:
        SlimError: the page has no size, or is too large.
    """
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise SlimError(f"{name} has a size of {width} x {height} points and cannot be rendered")
    # PDFium rounds both sides up.
    scale = min(DPI / POINTS, (MAX_SIDE - 1) / max(width, height), math.sqrt(MAX_PIXELS / (width * height)) * 0.999)
    if scale < LEAST_DPI / POINTS:
        metres = " x ".join(f"{0.0254 * side / POINTS:.1f}" for side in (width, height))
        raise SlimError(
            f"{name} is too large: {metres} m, and at {LEAST_DPI} dots an inch it would have over 50 megapixels or a "
            f"side over {MAX_SIDE}"
        )
    return scale
