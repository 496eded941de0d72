"""The direction classifier: which crops of text stand upside down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.runtime.network import Network
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch
from ppocr_slim.runtime.specs import ClsSpec


@dataclass(frozen=True)
class Direction:
    """How a crop stands.

    Attributes:
        angle: 0, or 180 where it is rather upside down.
        score: the probability of that angle, 0.5 to 1.
        turned: whether that is sure enough to turn the crop before it is read.
    """

    angle: int
    score: float
    turned: bool


def half_turned(picture: np.ndarray) -> np.ndarray:
    """Return [H, W, 3], turned by 180 degrees; a copy, since OpenCV wants its rows one behind the other."""
    return np.ascontiguousarray(picture[::-1, ::-1])


class DirectionClassifier(Network[ClsSpec]):
    """A direction classifier behind any session: an exported bundle's or a checkpoint's."""

    spec_type, purpose = ClsSpec, "directions are told"

    def classify(self, crops: Sequence[np.ndarray], batch_size: int = 8) -> list[Direction]:
        """Return one Direction for each crop [h, w, 3] uint8 BGR of any size, in their order."""
        found: list[Direction] = []
        for start in range(0, len(crops), batch_size):
            inputs = [
                resize_to_height(crop, self.spec.height, self.spec.width) for crop in crops[start : start + batch_size]
            ]
            for upright, upside_down in self.session(to_batch(inputs, self.spec.width)).tolist():
                turned = upside_down >= self.spec.threshold
                if upside_down > upright:
                    found.append(Direction(180, upside_down, turned))
                else:
                    found.append(Direction(0, upright, False))
        return found

    def upright(self, crops: Sequence[np.ndarray], batch_size: int = 8) -> tuple[list[np.ndarray], list[Direction]]:
        """Return the crops, those that surely stand upside down turned by 180 degrees, and what was found of each."""
        directions = self.classify(crops, batch_size)
        turned = [half_turned(crop) if direction.turned else crop for crop, direction in zip(crops, directions)]
        return turned, directions
