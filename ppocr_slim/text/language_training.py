"""Training of language models of addresses, on labels and synthetic addresses."""

from __future__ import annotations

from collections.abc import Sequence

from ppocr_slim.errors import SlimError
from ppocr_slim.text.language_model import BEGIN, LONGEST, LanguageModel, count_grams

WHOLE = 2  # n-grams up to this length are kept however rare they are: all longer ones fall back on them


def build_language_model(
    labels: Sequence[str], synthetic: Sequence[str] = (), order: int = 5, least: int = 3, label_weight: int = 10
) -> LanguageModel:
    """Build a language model from labels and synthetic addresses.

    Args:
        labels: texts, each counted `label_weight` times.
        synthetic: texts, each counted once.
        order: the length of the longest n-grams.
        least: n-grams longer than `WHOLE` that occur less often are left out.
        label_weight: of a label against a synthetic address.

    Raises:
        SlimError: there is no text, or an argument is out of range.
    """
    if not 1 <= order <= LONGEST or least < 1 or label_weight < 1:
        raise SlimError(
            f"order {order}, least {least}, label weight {label_weight}: each is 1 or more, the order at most {LONGEST}"
        )
    if not any(labels) and not any(synthetic):
        raise SlimError("there is no text to build a language model from: give labels")
    counts: dict[str, int] = count_grams(synthetic, order)
    for gram, count in count_grams(labels, order).items():
        counts[gram] = counts.get(gram, 0) + label_weight * count
    counts = {gram: count for gram, count in counts.items() if count >= least or len(gram) <= WHOLE}
    counts.setdefault(BEGIN, 1)  # it begins n-grams even where no text has a space
    return LanguageModel(counts, order, least)
