"""What a training starts from: the weights of a checkpoint folder or of an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple

import numpy as np
from paddle import nn

from ppocr_slim.data.charset import Charset
from ppocr_slim.errors import SlimError
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.models import bind_model
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.bundle import CARD as BUNDLE_CARD
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, load_weights, read_arrays
from ppocr_slim.training.runlog import logger

FREE_ARGUMENTS = {"classes", "height", "dropout"}  # what may differ; shapes that do not fit are found all the same


class StartingWeights(NamedTuple):
    """Named arrays, the network and the characters that they belong to, and where they came from."""

    state: Dict[str, np.ndarray]
    architecture: Mapping[str, Any]
    charset: Charset
    where: Path


def read_starting_weights(folder: Path) -> StartingWeights:
    """The weights of a checkpoint folder or of an exported bundle. SlimError if `folder` is neither."""
    if (folder / BUNDLE_CARD).is_file():
        bundle = read_bundle(folder)
        return StartingWeights(read_bundle_weights(folder), bundle.architecture, Charset(bundle.characters), folder)
    if not folder.is_dir():
        raise SlimError(f"Global.pretrained: there is no folder {folder}; name a checkpoint, a bundle, or null")
    card = ModelCard.read(folder)
    return StartingWeights(read_arrays(folder / WEIGHTS), card.architecture, card.charset, folder)


def load_starting_weights(model: nn.Layer, start: StartingWeights, card: ModelCard) -> None:
    """Set the weights of `model`, which `card` describes; the head's rows go by character.

    So another dictionary keeps what it shares. Raises SlimError where the architecture or any other shape differs.
    """
    _require_same_network(start, card)
    state = dict(start.state)
    if card.charset != start.charset:
        old = {character: index for index, character in enumerate(start.charset.classes)}
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
    theirs = bind_model(start.architecture["name"], start.architecture["args"], str(start.where)).arguments
    ours = bind_model(card.name, card.args).arguments
    for key in ours:
        if key not in FREE_ARGUMENTS and ours[key] != theirs.get(key):
            raise SlimError(
                f"Global.pretrained: the weights in {start.where} are of a network with {key} {theirs.get(key)!r}, "
                f"Architecture.args has {ours[key]!r}"
            )
