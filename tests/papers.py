"""Pages, documents and fake networks for the tests of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import draw_row

from ppocr_slim.runtime.boxes import BoxSettings
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.direction import DirectionClassifier
from ppocr_slim.runtime.pipeline import Pipeline
from ppocr_slim.runtime.preprocess import PAGE_MEAN, PAGE_STD
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec

CLASSES = ("", *"abcdefgh", "?", " ")
HEIGHT = 48  # pixels of a strip


def strip(letter: str, width: int = 300, band: int = 100) -> np.ndarray:
    """Return a line on grey paper [48, width, 3], with a darker band along its lower edge.

    The fake networks read the character from the paper's grey, and see by the band how the line is turned.

    Args:
        letter: one of a to h.
        width: of the line.
        band: grey levels by which the band is darker.
    """
    paper = 110 + 10 * "abcdefgh".index(letter)
    line = draw_row("nnn", HEIGHT, ink=0, paper=paper)[:, :width]
    line = np.hstack([line, np.full((HEIGHT, width - line.shape[1], 3), paper, np.uint8)])
    line[-12:] = paper - band
    return line


def page_with(strips: Sequence[tuple[int, int, np.ndarray]], height: int = 1400, width: int = 900) -> np.ndarray:
    """Return white paper [height, width, 3] with strips whose top left corners are at (x, y)."""
    page = np.full((height, width, 3), 255, np.uint8)
    for x, y, line in strips:
        page[y : y + len(line), x : x + line.shape[1]] = line
    return page


def finds_grey(x: np.ndarray) -> np.ndarray:
    """Detect, as a fake network [N, 3, H, W] -> [N, 1, H, W], what is darker than white paper as text."""
    grey = x[:, :1] * PAGE_STD[0] + PAGE_MEAN[0]
    return np.where(grey < 0.85, np.float32(0.9), np.float32(0.1))


def sees_the_band(x: np.ndarray) -> np.ndarray:
    """Classify directions as a fake network [N, 3, H, W] -> [N, 2].

    A strip with its band of 100 levels above is upside down with a probability of about 0.95, with one of 40 levels of
    about 0.7.
    """
    below, above = (x[:, 0, rows, 4:20].mean(axis=(1, 2)) for rows in (slice(-9, -4), slice(4, 9)))
    darker_above = below - above  # 1 is 127.5 levels
    upside_down = np.clip(0.5 + 0.6 * darker_above, 0.04, 0.96)
    return np.stack([1 - upside_down, upside_down], axis=1).astype(np.float32)


def reads_the_grey(x: np.ndarray) -> np.ndarray:
    """Recognize, as a fake network [N, 3, H, W] -> [N, W / 4, K], the character of the paper's grey.

    Where the line is upside down, "?" follows.
    """
    probabilities = np.full((len(x), x.shape[3] // 4, len(CLASSES)), 0.01, np.float32)
    probabilities[:, :, 0] = 0.9
    levels = (x[:, 0, x.shape[2] // 2, 6] + 1) * 127.5
    letters = np.clip(np.rint((levels - 110) / 10).astype(int), 0, 7) + 1
    upside_down = x[:, 0, 4:9, 6].mean(axis=1) < x[:, 0, -9:-4, 6].mean(axis=1)
    for line, letter, wrong in zip(probabilities, letters, upside_down):
        line[1, 0], line[1, letter] = 0.05, 0.8
        if wrong:
            line[3, 0], line[3, CLASSES.index("?")] = 0.05, 0.8
    return probabilities


def fake_detector(**settings) -> Detector:
    """Return a detector whose boxes are what the fake network marks, not grown."""
    return Detector(finds_grey, DetSpec(960, BoxSettings(**{"unclip_ratio": 0, **settings})))


def fake_pipeline(direction: bool = True, **settings) -> Pipeline:
    """Return a pipeline of the fake networks, with or without the direction classifier."""
    classifier = DirectionClassifier(sees_the_band, ClsSpec())
    recognizer = Recognizer(reads_the_grey, RecSpec(HEIGHT, CLASSES))
    return Pipeline(recognizer, fake_detector(), classifier if direction else None, **settings)


def pdf(pages: Sequence[bytes], extra: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a PDF of page dictionaries' contents; `extra` goes into the page tree, `trailer` into the trailer.

    What a page names as `/Contents n 0 R` is not there, and need not be.
    """
    kids = b" ".join(b"%d 0 R" % (3 + number) for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] %s >>" % (kids, extra or b"/Count %d" % len(pages)),
        *(b"<< /Type /Page /Parent 2 0 R %s >>" % page for page in pages),
    ]
    return _document(objects, trailer)


def pdf_with_marks(sizes: Sequence[tuple[float, float]]) -> bytes:
    """Return a PDF with a page of each (width, height) in points, with a red square of 20 points at the top left."""
    count = len(sizes)
    kids = b" ".join(b"%d 0 R" % (3 + 2 * number) for number in range(count))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, count)]
    for number, (width, height) in enumerate(sizes):
        box = b"/MediaBox [0 0 %f %f]" % (width, height)
        objects.append(b"<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R >>" % (box, 4 + 2 * number))
        drawing = b"1 0 0 rg 0 %f 20 20 re f" % (height - 20)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing))
    return _document(objects)


def _document(objects: list[bytes], trailer: bytes = b"") -> bytes:
    out, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def write(path: Path, content: bytes) -> Path:
    """Write a file, with its folders; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
