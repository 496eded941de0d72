"""The runtime's result: one record per line of text."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class TextLine:
    """A line that was read.

    Attributes:
        text: what it says, NFC; "" for a blank line.
        confidence: mean probability of the characters kept, 0 to 1; 0.0 for "".
        box: its four corners (x, y) in pixels of the page, clockwise from the top left; None for a crop.
        score: the detector's mean probability within the box, 0 to 1; None for a crop.
        direction: 180 where the crop was turned upside down before it was read, else 0; None where nobody looked.
    """

    text: str
    confidence: float
    box: tuple[Point, Point, Point, Point] | None = None
    score: float | None = None
    direction: int | None = None
