"""Structural changes of a network after it is built: folded branches, narrower layers, fake quantization.

A transform is a dict with a "name" of `TRANSFORMS` and the arguments of that function. It is saved in the card of a
checkpoint, so that the network can be rebuilt from the folder alone, without running an algorithm or having data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paddle import nn

from ppocr_slim.errors import SlimError
from ppocr_slim.models.fake_quant import FAKE_QUANT, fake_quantize
from ppocr_slim.models.reparam import FOLD, branched_layers, fold_branches
from ppocr_slim.models.state import name_parameters
from ppocr_slim.models.widths import resize

TRANSFORMS: dict[str, Callable[..., None]] = {FOLD: fold_branches, "widths": resize, FAKE_QUANT: fake_quantize}


def fold(model: nn.Layer) -> list[dict[str, Any]]:
    """Fold all branched layers of a network, in place.

    Returns:
        The transform that does the same to a new network; nothing where no layer has branches.
    """
    layers = branched_layers(model)
    fold_branches(model, layers)
    return [{"name": FOLD, "layers": layers}] if layers else []


def apply_transforms(model: nn.Layer, transforms: Sequence[Mapping[str, Any]], where: str) -> None:
    """Apply the transforms of a card to a newly built network, in place.

    Args:
        where: the card, for messages.

    Raises:
        SlimError: a transform is not known or does not fit the network.
    """
    for number, transform in enumerate(transforms):
        arguments = {key: value for key, value in transform.items() if key != "name"}
        try:
            TRANSFORMS[transform["name"]](model, **arguments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"transforms.{number} cannot be applied ({error!r}): take another checkpoint"
            raise SlimError(f"{where}: {problem}") from error
    name_parameters(model)
