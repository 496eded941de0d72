"""Typefaces in which sheets are printed: matplotlib's DejaVu, and the families that `fonts` fetches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppocr_slim.errors import SlimError
from ppocr_slim.synth.sheets import Colour, Mark


@dataclass(frozen=True)
class Face:
    """A typeface: matplotlib's DejaVu, "Sans" or "Serif", or a fetched family in its folder."""

    family: str
    stretch: float = 1.0  # of the width
    folder: Path | None = None  # as `fonts` describes it

    def files(self, bold: bool, italic: bool) -> tuple[Path, Path]:
        """Return the fonts of Latin and of Vietnamese characters; a fetched family is bold or italic, never both."""
        if self.folder is not None:
            style = "-bold" if bold else "-italic" if italic else ""
            return self.folder / f"latin{style}.woff2", self.folder / f"vietnamese{style}.woff2"
        slanted = "Italic" if self.family == "Serif" else "Oblique"
        style = ("Bold" if bold else "") + (slanted if italic else "")
        file = _font_folder() / f"DejaVu{self.family}{'-' + style if style else ''}.ttf"
        return file, file


# DejaVu's monospaced face is not among them: it lacks 46 characters of Vietnamese, and would print boxes for ấ or ế.
BUILT_IN_FACES = (Face("Sans"), Face("Serif"))
_PROBE = "Hx7ÂâĐđĂăƠơƯưẤấẾếỐốẪẫỮữỢợỴỵỞởỊị"


def load_faces(folders: Sequence[Path]) -> list[Face]:
    """Return the faces in the folders of fetched families.

    Raises:
        SlimError: a font cannot be opened or lacks characters.
    """
    faces = [Face(folder.name, folder=folder) for folder in folders]
    for face in faces:
        for bold, italic in ((False, False), (True, False), (False, True)):
            _check_coverage(face.files(bold, italic))
    return faces


def _check_coverage(files: tuple[Path, Path]) -> None:
    for character in _PROBE:
        path = files[0] if _is_latin(character) else files[1]
        try:
            font = _font(path, 24)
        except OSError as error:
            raise SlimError(f"{path}: not a font that can be opened ({error}); fetch the family again") from error
        if bytes(font.getmask(character)) == bytes(font.getmask("\U000f0000")):  # the box for a missing character
            raise SlimError(f"{path}: the font cannot write {character!r}; leave the family out")


def print_width(text: str, face: Face, size: float, bold: bool = False, italic: bool = False) -> float:
    """Return the width in pixels of a printed line of `size` pixels an em."""
    return _length(text, face.files(bold, italic), max(4, round(size))) * face.stretch


def printed_mark(
    text: str,
    face: Face,
    size: float,
    x: float,
    baseline: float,
    colour: Colour,
    bold: bool = False,
    italic: bool = False,
) -> Mark:
    """Return the mark of a printed line of `size` pixels an em, from x on."""
    runs = _runs(text, face.files(bold, italic), max(4, round(size)))
    bounds = np.array([font.getbbox(run, anchor="ls") for run, font, _ in runs])
    begins = np.array([begin for *_, begin in runs])
    left, top = int(np.floor(bounds[:, 0] + begins).min()), int(bounds[:, 1].min())
    right, bottom = int(np.ceil(bounds[:, 2] + begins).max()), int(bounds[:, 3].max())
    canvas = Image.new("L", (max(1, right - left) + 2, max(1, bottom - top) + 2))
    for run, font, begin in runs:
        ImageDraw.Draw(canvas).text((1 - left + begin, 1 - top), run, fill=255, font=font, anchor="ls")
    mask = np.asarray(canvas)
    if face.stretch != 1.0:
        width = max(1, round(mask.shape[1] * face.stretch))
        mask = cv2.resize(mask, (width, mask.shape[0]), interpolation=cv2.INTER_AREA)
    return Mark(mask, round(x + left * face.stretch) - 1, round(baseline + top) - 1, colour)


def _is_latin(character: str) -> bool:
    """Return whether a fetched family has it in its Latin font: Latin-1 and punctuation."""
    return ord(character) < 256 or 0x2000 <= ord(character) < 0x2070


def _runs(text: str, files: tuple[Path, Path], size: int) -> list[tuple[str, ImageFont.FreeTypeFont, float]]:
    """Split a text into runs of one font, each with its font and the pixel at which it begins."""
    if files[0] == files[1]:
        return [(text, _font(files[0], size), 0.0)]
    runs, begin = [], 0.0
    for latin, characters in groupby(text, _is_latin):
        run, font = "".join(characters), _font(files[0] if latin else files[1], size)
        runs.append((run, font, begin))
        begin += font.getlength(run)
    return runs or [("", _font(files[0], size), 0.0)]


@cache
def _font_folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=20000)
def _length(text: str, files: tuple[Path, Path], size: int) -> float:
    run, font, begin = _runs(text, files, size)[-1]
    return begin + font.getlength(run)


@lru_cache(maxsize=256)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    # Basic layout is the same on every machine; all characters of the language are single glyphs
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
