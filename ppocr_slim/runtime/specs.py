"""Specs: inputs and outputs of networks, a record for each of the three tasks, in checkpoints and bundles alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.boxes import BoxSettings


@dataclass(frozen=True)
class RecSpec:
    """A recognizer: x [N, 3, height, W] -> probabilities [N, T, K].

    Attributes:
        height: of the input, pixels.
        classes: the K classes of the output: "" (the CTC blank), the dictionary, " ".
        max_width: pixels; a longer line is squeezed to it.
    """

    height: int
    classes: tuple[str, ...]
    max_width: int = 3200

    task = "rec"

    def __post_init__(self):
        if not _is_count(self.height) or not _is_count(self.max_width):
            raise SlimError(
                f"height is {self.height!r} and max_width {self.max_width!r}: each is a number of pixels, at least 1"
            )
        if not all(isinstance(character, str) for character in self.classes):
            raise SlimError("the characters of a recognizer are texts, and one of them is not")

    @property
    def characters(self) -> tuple[str, ...]:
        """The dictionary, without the CTC blank and the space."""
        return self.classes[1:-1]

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, which `from_dict` reads."""
        usual = self.max_width == type(self).max_width
        most = {} if usual else {"max_width": self.max_width}
        return {"height": self.height, **most, "characters": list(self.characters)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RecSpec:
        """Return the spec that `to_dict` wrote."""
        classes = ("", *raw["characters"], " ")
        return cls(raw["height"], classes, raw.get("max_width", cls.max_width))


@dataclass(frozen=True)
class DetSpec:
    """A detector: x [N, 3, H, W], H and W multiples of 32 -> probability of text [N, 1, H, W].

    Attributes:
        longer_side: pixels; a page with a longer one is scaled down to it.
        boxes: settings of the post-processing that turns the map into boxes.
    """

    longer_side: int = 960
    boxes: BoxSettings = field(default_factory=BoxSettings)

    task = "det"

    def __post_init__(self):
        if not _is_count(self.longer_side) or self.longer_side < 32:
            raise SlimError(f"longer_side is {self.longer_side!r}: it is a number of pixels, at least 32")

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> DetSpec:
        """Return the spec that `to_dict` wrote."""
        return cls(raw["longer_side"], BoxSettings(**raw["boxes"]))


@dataclass(frozen=True)
class ClsSpec:
    """A direction classifier: x [N, 3, height, width] -> probabilities [N, 2]: upright, upside down.

    Attributes:
        height, width: of the input, pixels; a crop keeps its proportions up to that width, and has zeros at its right.
        threshold: a crop is turned if it is upside down with at least this probability, and left as it is otherwise.
    """

    height: int = 48
    width: int = 192
    threshold: float = 0.9

    task = "cls"

    def __post_init__(self):
        if not _is_count(self.height) or not _is_count(self.width):
            raise SlimError(
                f"height is {self.height!r} and width {self.width!r}: each is a number of pixels, at least 1"
            )
        if isinstance(self.threshold, bool) or not 0.5 <= self.threshold <= 1:
            raise SlimError(f"threshold is {self.threshold!r}: it is a probability from 0.5 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain data, which `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ClsSpec:
        """Return the spec that `to_dict` wrote."""
        return cls(**raw)


Spec = RecSpec | DetSpec | ClsSpec
SPECS: dict[str, type[Spec]] = {spec.task: spec for spec in (DetSpec, ClsSpec, RecSpec)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
