"""Text lines cut out of labelled pages: a recognition data set made of a detection data set."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2

from ppocr_slim.data.page_labels import IGNORED, PageSample, read_page_file
from ppocr_slim.errors import SlimError
from ppocr_slim.folders import publish_folder
from ppocr_slim.progress import progress_bar
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.boxes import rectify
from ppocr_slim.runtime.images import load_image

LABELS, IMAGES = "lines.txt", "images"
QUALITY = 92  # of JPEG


@dataclass(frozen=True)
class Cut:
    """Counts of the lines that were written, and of those left out: ignored ones and those with too few letters."""

    lines: int
    left_out: int


def cut_lines(label_file: Path, out: Path, letters: int = 0, limit: int | None = None, progress: bool = True) -> Cut:
    """Write the lines of labelled pages upright into the new folder `out`: images/<page>/<n>.jpg and lines.txt.

    Args:
        letters: leave out lines with fewer letters: nobody can say which way up "808" or "-" is, for one.
        limit: maximum number of pages.
        progress: show a progress bar on stderr.

    Returns:
        The counts of lines.

    Raises:
        SlimError: the label file or a page cannot be used, or `out` is not empty or cannot be written.
    """
    out = Path(os.path.abspath(out))
    pages, findings = read_page_file(label_file)
    if findings:
        first = findings[0]
        raise SlimError(f"{first.where}: {first.detail}: correct it ({len(findings)} such in this file)")
    if out.exists() and any(out.iterdir()):
        raise SlimError(f"{out} is not empty: name a new folder")
    partial = out.with_name(out.name + ".partial")
    labels: list[str] = []
    left_out = 0
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / IMAGES).mkdir(parents=True)
        for number, page in enumerate(progress_bar(pages[:limit], unit="page", disable=not progress)):
            wanted = [index for index, text in enumerate(page.texts) if _is_wanted(text, letters)]
            left_out += len(page.texts) - len(wanted)
            labels += _write_page(page, wanted, partial, f"{IMAGES}/{number:06d}")
        if not labels:
            raise SlimError(f"{label_file} has no line to cut: all are ignored or have fewer than {letters} letters")
        (partial / LABELS).write_text("".join(labels), encoding="utf-8")
        publish_folder(partial, out)
    except OSError as error:
        raise SlimError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Cut(len(labels), left_out)


def _is_wanted(text: str, letters: int) -> bool:
    return text not in IGNORED and bool(text.strip()) and sum(map(str.isalpha, text)) >= letters


def _write_page(page: PageSample, wanted: list[int], folder: Path, name: str) -> list[str]:
    """Write the wanted text lines of a page and return their lines of the label file."""
    if not wanted:
        return []
    image = load_image(page.path)
    (folder / name).mkdir()
    labels = []
    for index in wanted:
        points = page.outlines[index]
        crop = rectify(image, points if len(points) == 4 else polygons.around(points))
        encoded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        path = f"{name}/{index}.jpg"
        (folder / path).write_bytes(encoded.tobytes())
        labels.append(f"{path}\t{page.texts[index].strip()}\n")
    return labels
