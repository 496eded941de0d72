"""Reading of image files as BGR arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ppocr_slim.errors import SlimError

MAX_PIXELS = 50_000_000
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
# Named, because Pillow would otherwise try every format it knows, EPS through Ghostscript among them.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")


def load_image(path: str | Path) -> np.ndarray:
    """Read an image file as [H, W, 3] uint8 BGR, turned as its EXIF data says.

    Grey becomes three equal channels, 16 bits become 8, transparent pixels become white paper, and of several frames
    the first is taken.

    Raises:
        SlimError: the file is missing, damaged, cut short, of an unknown format, or over 50 megapixels (which is
            checked in the header, before any pixel is decoded).
    """
    with image_errors(path), Image.open(Path(path), formats=FORMATS) as image:
        return as_bgr(image, str(path))


@contextmanager
def image_errors(path: str | Path) -> Iterator[None]:
    """Turn whatever opening or decoding a file raises in the context into a SlimError with its name and the reason."""
    try:
        yield
    except SlimError:
        raise
    except Image.DecompressionBombError as error:
        raise SlimError(f"{path} is too large: at most 50 megapixels") from error
    except Image.UnidentifiedImageError as error:
        raise SlimError(f"{path} is not an image of a known format") from error
    except OSError as error:
        raise SlimError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise SlimError(f"{path} is damaged ({error})") from error


def as_bgr(image: Image.Image, name: str) -> np.ndarray:
    """Return the current frame of an opened image as [H, W, 3] uint8 BGR, converted as `load_image` does it.

    Args:
        image: an image of any mode.
        name: of the image, for the message.

    Raises:
        SlimError: it has over 50 megapixels.
    """
    if image.width * image.height > MAX_PIXELS:
        raise SlimError(f"{name} is too large: {image.width} x {image.height}, at most 50 megapixels")
    return np.ascontiguousarray(_as_rgb(ImageOps.exif_transpose(image))[:, :, ::-1])


def _as_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of any of Pillow's modes as [H, W, 3] uint8 RGB."""
    if image.mode.startswith("I"):  # 16-bit grey, in 16 or 32 bits
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


def load_all(paths: Sequence[Path]) -> list[tuple[Path, np.ndarray | None, str | None]]:
    """Return (path, image, None) for each file that can be read, and (path, None, error message) for any other."""
    loaded: list[tuple[Path, np.ndarray | None, str | None]] = []
    for path in paths:
        try:
            loaded.append((path, load_image(path), None))
        except SlimError as error:
            loaded.append((path, None, str(error)))
    return loaded


def find_images(arguments: Sequence[str | Path], suffixes: Set[str] = SUFFIXES) -> list[Path]:
    """Return the files that a command line names.

    Args:
        arguments: files and folders. A folder stands for all images in it and below, also in linked folders, sorted by
            path. A file is taken as it is, even if it does not exist: reading it reports that.
        suffixes: file name endings, in lower case, of the images in folders.

    Raises:
        SlimError: there is no image.
    """
    files: list[Path] = []
    for path in map(Path, arguments):
        if path.is_dir():
            files += _images_below(path, suffixes)
        else:
            files.append(path)
    if not files:
        names = ", ".join(map(str, arguments))
        raise SlimError(f"no image in {names}: known are {', '.join(sorted(suffixes))}")
    return files


def _images_below(folder: Path, suffixes: Set[str]) -> list[Path]:
    """Return the files with one of the suffixes in a folder and all below it, sorted by path."""
    found: list[Path] = []
    seen: set[str] = set()  # a link may lead back up
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        paths = (Path(place, name) for name in names)
        found += (path for path in paths if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found)
