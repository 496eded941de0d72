"""Augmentations of text line images, by their names in a config.

A transform maps a `LineImage` to a `LineImage` and draws only from the generator that it is passed, so a sample is the
same whenever (seed, epoch, position) is the same, on any number of threads. Photometric transforms are taken from
albumentations; those that concern a text line (its time steps, its words, its writer) are implemented here.
"""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks for a newer version online

import albumentations
import cv2
import numpy as np

from ppocr_slim.config.schema import Augmentation
from ppocr_slim.data.ink import glued, ink_columns, paper_tone, split_words
from ppocr_slim.errors import WrongKeyError


@dataclass(frozen=True)
class LineImage:
    """A text line to augment.

    Attributes:
        image: [H, W, 3] uint8.
        text: its transcription.
        another: draws another line of the same writer; the line itself where the writer is not known.
    """

    image: np.ndarray
    text: str
    another: Callable[[np.random.Generator], LineImage]


Transform = Callable[[LineImage, np.random.Generator], LineImage]
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
PAPER = cv2.BORDER_REPLICATE  # a warp fills what it uncovers with the image's own edge


def _photometric(*choices: albumentations.BasicTransform) -> Transform:
    """Return a transform that applies one of `choices`, chosen and seeded by the sample's generator."""
    pipeline = albumentations.OneOf(choices, p=1.0) if len(choices) > 1 else choices[0]
    pipeline = albumentations.Compose([pipeline])

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**31))))
        return replace(line, image=pipeline(image=line.image)["image"])

    return apply


def color(strength: float) -> Transform:
    """Return a transform of brightness, contrast, gamma and tint, or to grey."""
    return _photometric(
        albumentations.ColorJitter((1 - 0.3 * strength / 1.5, 1 + 0.3 * strength), 0.3 * strength, 0.4, 0.05, p=1),
        albumentations.RandomGamma((int(100 / (1 + 0.4 * strength)), int(100 * (1 + 0.4 * strength))), p=1),
        albumentations.ToGray(p=1),
    )


def blur(strength: float) -> Transform:
    """Return a transform that applies Gaussian blur, motion blur or a lower resolution."""
    widest = 1.2 * strength
    return _photometric(
        albumentations.GaussianBlur(blur_limit=0, sigma_limit=(min(0.3, widest), widest), p=1),
        albumentations.MotionBlur(blur_limit=(3, 3 + 2 * max(0, round(strength))), p=1),
        albumentations.Downscale(scale_range=(min(max(0.3, 1 - 0.45 * strength), 0.9), 0.9), p=1),
    )


def noise(strength: float) -> Transform:
    """Return a transform that adds sensor noise or JPEG artefacts."""
    return _photometric(
        albumentations.GaussNoise(std_range=(min(0.01, 0.05 * strength), 0.05 * strength), p=1),
        albumentations.ImageCompression(quality_range=(max(5, int(60 - 30 * strength)), 80), p=1),
    )


def pen(strength: float) -> Transform:
    """Return a transform that makes strokes thicker, or thinner and fainter.

    In an image of 64 pixels in height a stroke grows by up to `strength` pixels on each side. Thinning goes half as
    far: fine strokes would vanish.
    """

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        reach = strength * line.image.shape[0] / 64 * rng.uniform(-0.5, 1)
        grow = cv2.erode if reach > 0 else cv2.dilate  # ink is darker than paper
        whole, part = int(abs(reach)), abs(reach) % 1
        image = grow(line.image, _CROSS, iterations=whole) if whole else line.image
        return replace(line, image=cv2.addWeighted(image, 1 - part, grow(image, _CROSS), part, 0))

    return apply


def perspective(strength: float) -> Transform:
    """Return a transform that warps the image as if seen at an angle: shear, slope and displaced corners."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        height, width = line.image.shape[:2]
        shear = rng.uniform(-0.35, 0.35) * strength * height
        slope = rng.uniform(-0.07, 0.07) * strength * height
        corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        moved = corners + rng.uniform(-0.06, 0.06, (4, 2)).astype(np.float32) * strength * height
        moved += np.float32([[shear, -slope], [shear, slope], [-shear, slope], [-shear, -slope]]) / 2
        matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        return replace(line, image=cv2.warpPerspective(line.image, matrix, (width, height), borderMode=PAPER))

    return apply


def distort(strength: float) -> Transform:
    """Return an elastic distortion on a coarse grid, in the spirit of TIA (Luo et al. 2020, arXiv:2003.06606)."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        height, width = line.image.shape[:2]
        columns = max(3, round(width / height * rng.uniform(1.0, 2.5)))
        field = rng.normal(0, 0.055 * strength * height, (2, 3, columns)).astype(np.float32)
        x = cv2.resize(field[0], (width, height), interpolation=cv2.INTER_CUBIC)
        y = cv2.resize(field[1], (width, height), interpolation=cv2.INTER_CUBIC)
        x += np.arange(width, dtype=np.float32)
        y += np.arange(height, dtype=np.float32)[:, None]
        return replace(line, image=cv2.remap(line.image, x, y, cv2.INTER_LINEAR, borderMode=PAPER))

    return apply


def squeeze(strength: float) -> Transform:
    """Return a transform that scales the width by 1 - 0.35 * strength to 1 + 0.2 * strength."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        height, width = line.image.shape[:2]
        factor = rng.uniform(max(0.3, 1 - 0.35 * strength), 1 + 0.2 * strength)
        size = (max(1, round(width * factor)), height)
        return replace(line, image=cv2.resize(line.image, size, interpolation=cv2.INTER_AREA))

    return apply


def rescale(strength: float) -> Transform:
    """Return a transform that scales the writing within the height: rows of pixels are cut off or added as paper."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        height = line.image.shape[0]
        above, below = np.round(rng.uniform(-0.1, 0.2, 2) * strength * height).astype(int)
        image = line.image[max(0, -above) : height - max(0, -below)]
        image = cv2.copyMakeBorder(image, max(0, above), max(0, below), 0, 0, PAPER)
        size = (max(1, round(image.shape[1] * height / image.shape[0])), height)
        return replace(line, image=cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    return apply


def trim(strength: float) -> Transform:
    """Return a transform that cuts off a random part of the empty paper before and after the writing."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        inked = np.flatnonzero(ink_columns(line.image))
        if inked.size == 0:
            return line
        height, width = line.image.shape[:2]
        first, last = max(0, inked[0] - height // 4), min(width, inked[-1] + height // 4)
        left = int(first * rng.uniform(0, min(1.0, strength)))
        right = width - int((width - last) * rng.uniform(0, min(1.0, strength)))
        return replace(line, image=np.ascontiguousarray(line.image[:, left:right]))

    return apply


def erase(strength: float) -> Transform:
    """Return a transform that paints small patches in the paper's tone."""

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        image = line.image.copy()
        height, width = image.shape[:2]
        paper = paper_tone(np.ascontiguousarray(image[:: max(1, height // 8), :: max(1, width // 64)]))
        for _ in range(int(rng.integers(1, 2 + round(3 * strength)))):
            h, w = (rng.uniform(0.08, 0.3, 2) * height).astype(int)
            top, left = int(rng.integers(0, height - h)), int(rng.integers(0, max(1, width - w)))
            image[top : top + h, left : left + w] = paper
        return replace(line, image=image)

    return apply


def glue_words(strength: float) -> Transform:
    """Return a transform that joins words of this line and of another line of the same writer into a new text.

    Where `another` returns the line itself, only its own words are cut and reordered, and some may repeat. Lines whose
    words cannot be told apart with certainty are not changed (see `ink.split_words`).
    """
    max_characters = 68  # the length of the longest real address line

    def words_of(line: LineImage) -> list:
        pieces = split_words(line.image, line.text) or []
        return [(line.image[:, left:right], word) for left, right, word in pieces]

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        own_words = words_of(line)
        other = line.another(rng)
        other_words = words_of(other) if other.image.shape[0] == line.image.shape[0] else []
        if len(own_words) < 2 or len(other_words) < 2:
            return line
        pieces = []
        for words in (own_words, other_words):
            start = int(rng.integers(0, len(words)))
            pieces += words[start : start + int(rng.integers(1, 1 + max(1, round(4 * strength))))]
        if rng.random() < 0.5:
            pieces = [pieces[i] for i in rng.permutation(len(pieces))]
        while len(pieces) > 1 and len(" ".join(word for _, word in pieces)) > max_characters:
            pieces.pop()
        return replace(line, image=glued([image for image, _ in pieces]), text=" ".join(word for _, word in pieces))

    return apply


def rand_augment(strength: float) -> Transform:
    """Return RandAugment (Cubuk et al. 2020, arXiv:1909.13719): two of the other transforms at random."""
    operations = [build(strength) for build in (color, blur, noise, perspective, distort, squeeze, rescale, erase)]

    def apply(line: LineImage, rng: np.random.Generator) -> LineImage:
        for i in rng.choice(len(operations), 2, replace=False):
            line = operations[i](line, rng)
        return line

    return apply


TRANSFORMS: dict[str, Callable[[float], Transform]] = {
    build.__name__: build
    for build in (
        color, blur, noise, pen, perspective, distort, squeeze, rescale, trim, erase, glue_words, rand_augment,
    )
}  # fmt: skip


def check_names(
    augmentations: Sequence[Augmentation], allowed: Sequence[str] = tuple(TRANSFORMS), where: str = "Train.augment"
) -> None:
    """Check that every augmentation is one of `allowed`.

    Args:
        where: the key of the list in the config, for messages.

    Raises:
        WrongKeyError: one is not; the message names the closest match.
    """
    for index, item in enumerate(augmentations):
        if item.name not in allowed:
            near = difflib.get_close_matches(item.name, allowed, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(allowed)}"
            problem = "no augmentation is called" if item.name not in TRANSFORMS else "this task has no augmentation"
            raise WrongKeyError(f"{where}.{index}.name", f"{problem} {item.name!r}; {hint}")


class Augmenter:
    """The augmentations of a config, in its order. Not thread-safe: albumentations keeps state."""

    def __init__(self, augmentations: Sequence[Augmentation]):
        check_names(augmentations)
        self._transforms: list[tuple] = [(a.p, TRANSFORMS[a.name](a.strength)) for a in augmentations]

    def __call__(self, line: LineImage, rng: np.random.Generator, fits: Callable[[LineImage], bool]) -> LineImage:
        """Apply each transform with its probability; undo one after which the line no longer `fits`.

        Returns:
            The augmented line.
        """
        for p, transform in self._transforms:
            if rng.random() < p:
                changed = transform(line, rng)
                line = changed if fits(changed) else line
        return line

    def augment_image(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the augmented image [H, W, 3] uint8, for images whose text does not matter."""
        line = LineImage(image, "", lambda rng: line)
        return self(line, rng, lambda changed: min(changed.image.shape[:2]) > 0).image
