"""Techniques that make a network smaller, or a small one better, as steps of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ppocr_slim.config.schema import TechniqueEntry
from ppocr_slim.slim.branches import AttentionGuidance, ToneGuidance
from ppocr_slim.slim.distill import Distillation
from ppocr_slim.slim.fpgm import FpgmPruning
from ppocr_slim.slim.mutual import MutualLearning
from ppocr_slim.slim.quantize import LsqQuantization, PactQuantization
from ppocr_slim.slim.share import WeightSharing
from ppocr_slim.slim.technique import Technique

STEPS: dict[str, Callable[..., Technique]] = {
    "distill": Distillation,
    "mutual": MutualLearning,
    "guide": AttentionGuidance,
    "tones": ToneGuidance,
    "fpgm": FpgmPruning,
    "pact": PactQuantization,
    "lsq": LsqQuantization,
    "share": WeightSharing,
}


def build_techniques(steps: Sequence[TechniqueEntry]) -> list[Technique]:
    """The steps that a stage of a config names, in its order."""
    return [STEPS[step.name](step.settings) for step in steps]
