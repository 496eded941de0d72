"""Language models of addresses: from labels, and from addresses that are made."""

from __future__ import annotations

from collections.abc import Sequence

from ppocr_slim.errors import SlimError
from ppocr_slim.text.language_model import BEGIN, LONGEST, LanguageModel, count_grams

WHOLE = 2  # n-grams up to this length are kept however rare they are: they are what all else falls back on


def build_language_model(
    labels: Sequence[str], made: Sequence[str] = (), order: int = 5, least: int = 3, label_weight: int = 10
) -> LanguageModel:
    """Return a model of what stands in `labels`, each counted `label_weight` times, and in `made` addresses.

    Args:
        order: letters that are looked at.
        least: longer n-grams than `WHOLE` that occur less often are left out.

    Raises:
        SlimError: there is no text, or an argument that makes no sense.
    """
    if not 1 <= order <= LONGEST or least < 1 or label_weight < 1:
        raise SlimError(
            f"order {order}, least {least}, label weight {label_weight}: each is 1 or more, the order at most {LONGEST}"
        )
    if not any(labels) and not any(made):
        raise SlimError("there is no text to learn a language from: give labels")
    counts: dict[str, int] = count_grams(made, order)
    for gram, count in count_grams(labels, order).items():
        counts[gram] = counts.get(gram, 0) + label_weight * count
    counts = {gram: count for gram, count in counts.items() if count >= least or len(gram) <= WHOLE}
    counts.setdefault(BEGIN, 1)  # it begins n-grams even where no text has a space
    return LanguageModel(counts, order, least)
