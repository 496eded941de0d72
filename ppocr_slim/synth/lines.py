"""A photographed line of a form: paper in some light, printed rules, the ink, bits of the neighbouring lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ppocr_slim.synth.handwriting import Ink, Writer, write

HEIGHT = 64  # pixels; lines are photographed at about 120, and a recognizer reads at most 64


@dataclass(frozen=True)
class Paper:
    """Paper and light of one photograph."""

    tone: np.ndarray  # BGR, 0 to 255
    scanned: bool  # white, even, and faint ink, as some phones' scanner modes make it


def draw_line(text: str, writer: Writer, rng: np.random.Generator, neighbours: Sequence[str] = ()) -> np.ndarray:
    """Draw a text on a line of a form.

    Args:
        text: what to write; an empty one gives a line on which nobody wrote.
        writer: whose hand it is.
        rng: random generator of paper, light, rules and camera.
        neighbours: texts of the line above and of the one below; their tails and tops may reach in.

    Returns:
        The line as photographed, [64, W, 3] uint8 BGR, with W 13 to 17 times the height.
    """
    height, width = HEIGHT, int(round(HEIGHT * rng.uniform(13.0, 17.0)))
    paper = _draw_paper(rng)
    right_rule = width * float(np.clip(rng.normal(0.922, 0.014), 0.86, 0.965))
    slope = float(rng.normal(0.0, 0.0035))
    left = float(rng.uniform(3, 32) if rng.random() < 0.85 else rng.uniform(32, 150))
    room = right_rule - left - rng.uniform(-12, 30)

    ink = write(text, writer, rng, room)
    baseline = rng.normal(0.5 * height + 0.87 * writer.x_height, 4.6)
    climb = slope + float(rng.normal(0.0, 0.006))
    ink = ink.moved(left, baseline - 0.5 * climb * ink.width, climb)
    masks = [ink.render(height, width)]
    for neighbour, below in zip(neighbours, (False, True)):
        if rng.random() < (0.55 if not below else 0.3):
            masks.append(_write_neighbour(neighbour, writer, below, slope, left, room, rng).render(height, width))
    mask = np.maximum.reduce(masks)

    picture = _light_paper(paper, height, width, rng)
    rules = _draw_rules(height, width, right_rule, slope, rng).render(height, width)
    rules *= rng.uniform(0.65, 1.0) if not paper.scanned else rng.uniform(0.35, 0.8)
    rule_colour = np.array([52.0, 46.0, 44.0]) * rng.uniform(0.6, 1.4)
    picture = _blend(picture, rules, rule_colour)
    colour, strength = np.array(writer.ink), rng.uniform(0.85, 1.0)
    if paper.scanned:  # such a mode bleaches the ink with the paper
        colour = 0.55 * colour + 0.45 * np.array([215.0, 150.0, 160.0]) * rng.uniform(0.8, 1.1)
        strength = rng.uniform(0.6, 0.9)
    picture = _blend(picture, mask * _pen_pressure(width, rng) * np.float32(strength), colour)
    return _photograph(picture, rng)


def _draw_paper(rng: np.random.Generator) -> Paper:
    chance = rng.random()
    if chance < 0.09:
        return Paper(np.clip(rng.normal(252, 3, 3), 240, 255), True)
    if chance < 0.52:
        tone = np.array([205, 203, 200])
    elif chance < 0.9:
        tone = np.array([227, 202, 191])  # bluish: a phone indoors
    else:
        tone = np.array([206, 212, 212]) * rng.uniform(0.85, 1.1)
    return Paper(np.clip(tone * rng.normal(1.0, 0.045) + rng.normal(0, 2, 3), 130, 252), False)


def _light_paper(paper: Paper, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return the paper without ink, [H, W, 3] float32: uneven light, and at the right what lies beyond the sheet."""
    uneven = 0.001 if paper.scanned else rng.gamma(2.0, 0.0045)
    light = (
        1.0 + rng.normal(0.0, uneven, (2, 7, 1)) + np.linspace(-1, 1, 7)[None, :, None] * rng.normal(0.0, 1.2 * uneven)
    )
    tint = rng.normal(0.0, 0.3 * uneven, (2, 7, 3))
    light = cv2.resize((light + tint).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    picture = light * paper.tone.astype(np.float32)
    if rng.random() < 0.4:  # the sheet ends in the picture: its edge throws a shadow, the table lies beyond
        edge = width - int(rng.uniform(2, 16))
        picture[:, edge:] *= (rng.uniform(0.72, 1.03) * rng.normal(1.0, 0.03, 3)).astype(np.float32)
        picture[:, edge : edge + 2] *= np.float32(rng.uniform(0.6, 0.95))
    if rng.random() < 0.25:
        picture[:, : int(rng.integers(1, 4))] *= np.float32(rng.uniform(0.5, 0.95))
    return picture


def _draw_rules(height: int, width: int, right_rule: float, slope: float, rng: np.random.Generator) -> Ink:
    """Return the form's printed rules: the vertical one at the right, and those above and below where they show."""
    rules, pens = [], []
    pen = float(np.clip(rng.normal(1.5, 0.35), 0.8, 2.4))
    if rng.random() < 0.97:
        lean = rng.normal(0.0, 1.2)
        rules.append([(right_rule + lean, -4), (right_rule - lean, height + 4)])
        pens.append(pen)
    for at, likely in ((rng.normal(1.5, 2.5), 0.4), (height - rng.normal(4.0, 3.5), 0.6)):
        if rng.random() < likely:
            tilt = slope + rng.normal(0.0, 0.0015)
            begin, end = -3.0, right_rule if rng.random() < 0.8 else float(width)
            rules.append([(begin, at - tilt * 0.5 * width), (end, at + tilt * (end - 0.5 * width))])
            pens.append(pen * rng.uniform(0.7, 1.1))
    if rng.random() < 0.1:
        rules.append([(0.5, -4), (rng.uniform(-1, 3), height + 4)])
        pens.append(pen)
    if not rules:
        return Ink(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0))
    return Ink(np.array(rules, np.float32).reshape(-1, 2), np.full(len(rules), 2), np.array(pens))


def _write_neighbour(
    text: str, writer: Writer, below: bool, slope: float, left: float, room: float, rng: np.random.Generator
) -> Ink:
    """Return the ink of the line above, whose tails reach in, or of the one below, whose capitals and marks do."""
    ink = write(text, writer, rng, room)
    # a capital with marks stands about two and a half x-heights over its baseline, a tail hangs half an
    # x-height under it
    baseline = HEIGHT + rng.uniform(1.7, 2.6) * writer.x_height if below else -rng.uniform(0.0, 0.5) * writer.x_height
    return ink.moved(left + rng.normal(0, 8), baseline - 0.5 * slope * ink.width, slope)


def _pen_pressure(width: int, rng: np.random.Generator) -> np.ndarray:
    """Return the opacity of the ink along the line, [1, W] float32."""
    coarse = np.clip(1.0 - np.abs(rng.normal(0.0, 0.09, (1, max(4, width // 24)))), 0.6, 1.0).astype(np.float32)
    return cv2.resize(coarse, (width, 1), interpolation=cv2.INTER_LINEAR)


def _blend(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, 3] with `colour` where the mask [H, W] is 1, and unchanged where it is 0."""
    return picture + mask[:, :, None] * (colour.astype(np.float32) - picture)


def _photograph(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture as a phone takes it, uint8: slightly blurred, perhaps sharpened, with noise."""
    height, width = picture.shape[:2]
    sigma = rng.uniform(0.25, 0.5) if rng.random() < 0.85 else rng.uniform(0.5, 0.9)
    picture = cv2.GaussianBlur(picture, (5, 5), sigma)
    if rng.random() < 0.5:  # phones sharpen
        amount = rng.uniform(0.1, 0.5)
        picture = cv2.addWeighted(picture, 1 + amount, cv2.GaussianBlur(picture, (5, 5), 1.0), -amount, 0.0)
    if rng.random() < 0.08:  # the hand moved
        length = int(rng.integers(2, 4))
        picture = cv2.blur(picture, (length, 1) if rng.random() < 0.5 else (1, length))
    grain = rng.standard_normal((height, width), np.float32)
    grain = cv2.GaussianBlur(grain, (3, 3), 0.6) * np.float32(rng.gamma(3.0, 0.8))  # coarser than a pixel
    return cv2.add(picture, cv2.merge([grain, grain, grain])).clip(0, 255).round().astype(np.uint8)
