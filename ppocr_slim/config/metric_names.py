"""The metrics that a config's Metric section may name."""

from __future__ import annotations

HIGHER_IS_BETTER = {
    "cer": False,
    "wer": False,
    "line_accuracy": True,
    "edit_similarity": True,
    "kalapa_score": True,
    "hmean": True,
    "precision": True,
    "recall": True,
    "accuracy": True,
}
