"""What a training starts from: the weights of a checkpoint folder or of an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np
from paddle import nn

from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.models import bind_model
from ppocr_slim.models.state import model_state
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, load_weights, read_arrays
from ppocr_slim.tasks.checks import folder_card, is_bundle

FREE_ARGUMENTS = {"classes", "height", "dropout"}  # what may differ; shapes that do not fit are found all the same


class StartingWeights(NamedTuple):
    """Named arrays, the network that they belong to, and where they came from."""

    state: Dict[str, np.ndarray]
    card: ModelCard
    where: Path


def read_starting_weights(folder: Path) -> StartingWeights:
    """The weights of a checkpoint folder or of an exported bundle. SlimError if `folder` is neither."""
    card = folder_card(folder)
    state = read_bundle_weights(folder) if is_bundle(folder) else read_arrays(folder / WEIGHTS)
    return StartingWeights(state, card, folder)


def load_starting_weights(model: nn.Layer, start: StartingWeights, card: ModelCard) -> None:
    """Set the weights of `model`, which `card` describes; the head's rows go by character.

    So another dictionary keeps what it shares. Raises SlimError where the architecture or any other shape differs.
    """
    _require_same_network(start, card)
    state = dict(start.state)
    if card.charset != start.card.charset:
        old = {character: index for index, character in enumerate(start.card.charset.classes)}
        shared = [(new, old[c]) for new, c in enumerate(card.charset.classes) if c in old]
        targets, sources = map(list, zip(*shared))
        for name, tensor in model_state(model).items():
            if name.startswith("head.") and name in state:
                fresh = tensor.numpy().copy()
                fresh[..., targets] = state[name][..., sources]
                state[name] = fresh
        untrained = len(card.charset.classes) - len(shared)
        logger.info("%d of %d characters start untrained", untrained, len(card.charset.characters))
    load_weights(model, state, start.where)
    logger.info("starting from the weights of %s", start.where)


def _require_same_network(start: StartingWeights, card: ModelCard) -> None:
    """Weights of the same shapes can belong to another network: one with other activations, say."""
    theirs = bind_model(start.card.name, start.card.args, str(start.where)).arguments
    ours = bind_model(card.name, card.args).arguments
    for key in ours:
        if key not in FREE_ARGUMENTS and ours[key] != theirs.get(key):
            raise SlimError(
                f"Global.pretrained: the weights in {start.where} are of a network with {key} {theirs.get(key)!r}, "
                f"Architecture.args has {ours[key]!r}"
            )
