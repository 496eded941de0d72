"""The direction classifier, which finds crops of text that stand upside down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppocr_slim.runtime.network import Network
from ppocr_slim.runtime.preprocess import resize_to_height, to_batch
from ppocr_slim.runtime.specs import ClsSpec


@dataclass(frozen=True)
class Direction:
    """The direction of a crop.

    Attributes:
        angle: degrees: 0, or 180 where it is more likely upside down.
        score: the probability of that angle, 0.5 to 1.
        turned: the crop is upside down with at least the threshold's probability, and is turned before it is read.
    """

    angle: int
    score: float
    turned: bool


def half_turned(image: np.ndarray) -> np.ndarray:
    """Return a copy of [H, W, 3] turned by 180 degrees, contiguous because OpenCV requires it."""
    return np.ascontiguousarray(image[::-1, ::-1])


class DirectionClassifier(Network[ClsSpec]):
    """A direction classifier behind any session: an exported bundle's or a checkpoint's."""

    spec_type, purpose = ClsSpec, "directions are classified"

    def classify(self, crops: Sequence[np.ndarray], batch_size: int = 8) -> list[Direction]:
        """Return the direction of each crop, in their order.

        Args:
            crops: [h, w, 3] uint8 BGR each, of any size.
            batch_size: crops that go through the network together.
        """
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
        """Turn the crops that surely stand upside down.

        Args:
            crops, batch_size: as of `classify`.

        Returns:
            The crops, of which some are turned by 180 degrees, and the direction of each.
        """
        directions = self.classify(crops, batch_size)
        turned = [half_turned(crop) if direction.turned else crop for crop, direction in zip(crops, directions)]
        return turned, directions
