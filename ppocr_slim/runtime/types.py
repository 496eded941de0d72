"""What the runtime gives back: one record per line of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

Point = Tuple[float, float]


@dataclass(frozen=True)
class TextLine:
    """A line that was read.

    Attributes:
        text: what it says, NFC; "" for a blank line.
        confidence: mean probability of the characters kept, 0 to 1; 0.0 for "".
        box: its four corners (x, y) in pixels of the page, clockwise from the top left; None for a crop.
    """

    text: str
    confidence: float
    box: Optional[Tuple[Point, Point, Point, Point]] = None
