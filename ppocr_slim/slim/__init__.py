"""Techniques that make a network smaller, or a small one better, as steps of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ppocr_slim.config.schema import Step
from ppocr_slim.slim.branches import GuideStep, TonesStep
from ppocr_slim.slim.distill import DistillStep
from ppocr_slim.slim.fpgm import FpgmStep
from ppocr_slim.slim.mutual import MutualStep
from ppocr_slim.slim.quantize import LsqStep, PactStep
from ppocr_slim.slim.share import ShareStep
from ppocr_slim.slim.technique import SlimStep

STEPS: dict[str, Callable[..., SlimStep]] = {
    "distill": DistillStep,
    "mutual": MutualStep,
    "guide": GuideStep,
    "tones": TonesStep,
    "fpgm": FpgmStep,
    "pact": PactStep,
    "lsq": LsqStep,
    "share": ShareStep,
}


def build_steps(steps: Sequence[Step]) -> list[SlimStep]:
    """The steps that a stage of a config names, in its order."""
    return [STEPS[step.name](step.settings) for step in steps]
