"""The runtime's result: one record per line of text."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class TextLine:
    """A text line and what was read from it.

    Attributes:
        text: the text, in Unicode NFC; "" for a blank line.
        confidence: mean probability of the characters kept, 0 to 1; 0.0 for "".
        box: its four corners (x, y) in pixels of the page, clockwise from the top left; None for a crop.
        score: the detector's mean probability within the box, 0 to 1; None for a crop.
        direction: 180 where the crop was turned by 180 degrees before it was read, else 0; None without a direction
            classifier.
    """

    text: str
    confidence: float
    box: tuple[Point, Point, Point, Point] | None = None
    score: float | None = None
    direction: int | None = None
