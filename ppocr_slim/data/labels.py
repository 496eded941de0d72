"""PaddleOCR's recognition label files: one `path<TAB>text` a line, UTF-8."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppocr_slim.errors import SlimError


@dataclass(frozen=True)
class Sample:
    """One labelled image of a text line; `text` is NFC without spaces at its ends, "" for a blank row."""

    path: Path
    text: str
    where: str  # "train.txt:12", for messages

    @property
    def group(self) -> str:
        """The name of the image's folder: the writer, where a folder holds one writer's lines."""
        return self.path.parent.name


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class CheckedSample:
    """A sample that can be used, and what the config says of its label file (see `TrainFile`).

    Attributes:
        sample: a `Sample`, or a `page_labels.PageSample`.
        ratio: how often it is seen in an epoch.
        one_writer: whether its folder holds the text lines of one writer.
    """

    sample: Any
    ratio: float = 1.0
    one_writer: bool = True


def read_label_file(path: str | Path, image_root: str | Path | None = None) -> tuple[list[Sample], list[Finding]]:
    """Read a label file into samples and findings; every line ends up in exactly one of the two.

    `image_root` is the folder that image paths are relative to, by default the label file's own. `path<TAB>` with
    nothing after the TAB labels a row on which nothing is written. A line that is blank, has no TAB, no path or a
    text of spaces alone is a finding, not an error. Raises SlimError if the file cannot be read at all, is not UTF-8
    or has no line.
    """
    path = Path(path)
    root = Path(image_root) if image_root is not None else path.parent
    lines = read_text_file(path, "label file").split("\n")
    if lines[-1] == "":
        lines.pop()  # the file's last line ends with a newline, as it should
    if not lines:
        raise SlimError(f"label file {path} is empty: it needs a 'path<TAB>text' line for each image")
    samples: list[Sample] = []
    findings: list[Finding] = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        name, tab, label = line.rstrip("\r").partition("\t")
        name, text = name.strip(), unicodedata.normalize("NFC", label).strip()
        if not line.strip():
            findings.append(Finding("blank line", where, "the line is blank"))
        elif not tab:
            findings.append(Finding("no TAB", where, f"no TAB after the path in {line.strip()[:80]!r}"))
        elif not name:
            findings.append(Finding("no path", where, "nothing before the TAB"))
        elif label and not text:
            detail = f"only spaces for {name}: write the text, or nothing after the TAB if the row is blank"
            findings.append(Finding("empty text", where, detail))
        else:
            samples.append(Sample(root / name, text, where))
    return samples, findings


def read_text_file(path: Path, what: str) -> str:
    """The file's text without a byte order mark. Raises SlimError if it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SlimError(f"cannot read {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SlimError(f"{what} {path}:{line} is not UTF-8: save it as UTF-8") from error
