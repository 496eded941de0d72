"""The character set of a recognizer and the classes it maps to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ppocr_slim.data.labels import read_text_file
from ppocr_slim.errors import SlimError


@dataclass(frozen=True)
class Charset:
    """The dictionary of a recognizer, without CTC blank and space: sorted, unique, each entry one character in NFC."""

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the characters.

        Raises:
            SlimError: they are not single visible characters in NFC, sorted and unique, or there is none.
        """
        for character in self.characters:
            composed = unicodedata.normalize("NFC", character)
            if len(character) != 1 or composed != character or character.isspace():
                raise SlimError(f"the dictionary entry {character!r} is not one visible character in NFC")
        if list(self.characters) != sorted(set(self.characters)):
            raise SlimError("the characters of a dictionary must be sorted and unique")
        if not self.characters:
            raise SlimError("a dictionary needs at least one character")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> Charset:
        """Return the set of all characters of `texts` except white space."""
        found = set().union(*(unicodedata.normalize("NFC", text) for text in texts))
        return cls(tuple(sorted(character for character in found if not character.isspace())))

    @classmethod
    def load(cls, path: str | Path) -> Charset:
        """Read a PaddleOCR dictionary: one character per line, in any order. Blank lines are skipped.

        Returns:
            The characters, sorted.

        Raises:
            SlimError: the file cannot be read or is empty, or a line holds more than one character or repeats one.
        """
        path = Path(path)
        first_line: dict[str, int] = {}
        for number, line in enumerate(read_text_file(path, "dictionary").split("\n"), start=1):
            character = unicodedata.normalize("NFC", line.rstrip("\r"))
            if character in ("", " "):
                continue
            if len(character) != 1 or character.isspace():
                raise SlimError(f"{path}:{number} holds {character!r}: a dictionary has one character per line")
            if character in first_line:
                first = first_line[character]
                raise SlimError(f"{path}:{number} repeats {character!r} of line {first}: remove it")
            first_line[character] = number
        if not first_line:
            raise SlimError(f"dictionary {path} is empty: it needs one character per line")
        return cls(tuple(sorted(first_line)))

    def save(self, path: str | Path) -> None:
        """Write the dictionary, one character per line."""
        Path(path).write_text("".join(f"{character}\n" for character in self.characters), encoding="utf-8")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of the network's output: "" (the CTC blank), the dictionary, the space."""
        return ("", *self.characters, " ")

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {character: index for index, character in enumerate(self.classes)}

    def encode(self, text: str) -> list[int]:
        """Return the class of each character of `text`.

        Raises:
            SlimError: the dictionary lacks characters of `text`; the message names them.
        """
        unknown = " ".join(repr(character) for character in sorted(self.unknown(text)))
        if unknown:
            raise SlimError(f"the dictionary lacks {unknown} of {text!r}: add it there or correct the label")
        return [self._indices[character] for character in unicodedata.normalize("NFC", text)]

    def unknown(self, text: str) -> set[str]:
        """Return the characters of `text` that the dictionary lacks."""
        return set(unicodedata.normalize("NFC", text)) - self._indices.keys()


def needed_time_steps(labels: Sequence[object]) -> int:
    """Return the time steps that CTC needs for a text or its classes: one each, and a blank between equal neighbours.

    Graves et al. 2006, "Connectionist temporal classification".
    """
    return len(labels) + sum(left == right for left, right in zip(labels, labels[1:]))
