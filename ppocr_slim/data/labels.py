"""PaddleOCR's recognition label files: UTF-8, one `path<TAB>text` per line."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppocr_slim.errors import SlimError


@dataclass(frozen=True)
class Sample:
    """A labelled image of a text line.

    Attributes:
        path: the image.
        text: its transcription in NFC without spaces at the ends; "" for a blank text line.
        where: "train.txt:12", for messages.
    """

    path: Path
    text: str
    where: str

    @property
    def group(self) -> str:
        """The name of the image's folder: the writer, where a folder holds one writer's lines."""
        return self.path.parent.name


@dataclass(frozen=True)
class Finding:
    """A problem in the data.

    Attributes:
        kind: such as "missing image".
        where: label file and line.
        detail: one sentence.
    """

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class CheckedSample:
    """A usable sample, with the options of its label file in the config (see `TrainFile`).

    Attributes:
        sample: a `Sample`, or a `page_labels.PageSample`.
        ratio: how often it is used per epoch.
        one_writer: whether all images of its folder are by one writer.
    """

    sample: Any
    ratio: float = 1.0
    one_writer: bool = True


def read_label_file(path: str | Path, image_root: str | Path | None = None) -> tuple[list[Sample], list[Finding]]:
    """Read a label file into samples and findings; every line ends up in exactly one of the two.

    A line that is blank, has no TAB, no path or only spaces as text is a finding, not an error. `path<TAB>` without a
    text is the label of a blank text line.

    Args:
        image_root: the folder that image paths are relative to, by default the label file's own.

    Returns:
        The samples and the findings, each in the order of the file.

    Raises:
        SlimError: the file cannot be read, is not UTF-8 or has no line.
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
            detail = f"only spaces for {name}: write the text, or nothing after the TAB if the text line is blank"
            findings.append(Finding("empty text", where, detail))
        else:
            samples.append(Sample(root / name, text, where))
    return samples, findings


def read_text_file(path: Path, what: str) -> str:
    """Return a file's text without a byte order mark.

    Args:
        what: "dictionary" or such, for messages.

    Raises:
        SlimError: the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SlimError(f"cannot read {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SlimError(f"{what} {path}:{line} is not UTF-8: save it as UTF-8") from error
