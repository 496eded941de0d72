"""Starting weights of a training: those of a checkpoint folder or of an exported bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from paddle import nn

from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.layer_names import named
from ppocr_slim.models import bind_model
from ppocr_slim.models.reparam import FOLD
from ppocr_slim.models.state import model_state, with_training_only
from ppocr_slim.runtime.bundle import is_bundle
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, load_weights, read_arrays
from ppocr_slim.tasks.checks import folder_card

# Arguments that may differ from the network of the starting weights; shapes are compared in any case
FREE_ARGUMENTS = {"classes", "height", "width", "dropout"}


class StartingWeights(NamedTuple):
    """The weights that a training starts from.

    Attributes:
        state: arrays by name.
        card: of the network that they belong to.
        where: folder that they were read from.
    """

    state: dict[str, np.ndarray]
    card: ModelCard
    where: Path


def read_starting_weights(folder: Path) -> StartingWeights:
    """Read the weights of a checkpoint folder or of an exported bundle.

    Args:
        folder: of the checkpoint or bundle.

    Raises:
        SlimError: the folder is neither, or it is damaged.
    """
    card = folder_card(folder)
    state = read_bundle_weights(folder) if is_bundle(folder) else read_arrays(folder / WEIGHTS)
    return StartingWeights(state, card, folder)


def digest_of(state: Mapping[str, np.ndarray]) -> str:
    """Return a digest of named weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return digest.hexdigest()[:16]


def load_starting_layers(model: nn.Layer, start: StartingWeights, card: ModelCard, patterns: Sequence[str]) -> None:
    """Start the layers that the patterns name from given weights, and the others from random ones.

    So a larger network can start with what a slim one has learned, or the other way round.

    Args:
        model: the network to set.
        start: the weights.
        card: of `model`.
        patterns: of layers, see `layer_names.named`.

    Raises:
        SlimError: a pattern matches nothing, or one of its layers is missing or different in `start`.
    """
    option = "Global.pretrained_layers"
    if _slimmed(start.card):
        raise SlimError(
            f"{option}: the network in {start.where} was slimmed; start from the network before it was slimmed"
        )
    state = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    chosen = named(list(state), patterns, option)
    loaded = _by_character(model, start, card)
    missing = sorted(chosen - loaded.keys())
    if missing:
        raise SlimError(f"{option}: {start.where} has no {missing[0]}; name layers that both networks have")
    ours, theirs = _layer_types(model, chosen), _layer_types(start.card.build(str(start.where)), chosen)
    other = next((path for path in ours if ours[path] != theirs.get(path)), None)
    if other:
        raise SlimError(f"{option}: {other} is another layer in {start.where}; name layers that both networks have")
    load_weights(model, {**state, **{name: loaded[name] for name in chosen}}, start.where)
    logger.info("%d of %d weights start from %s", len(chosen), len(state), start.where)


def _layer_types(model: nn.Layer, names: set[str]) -> dict[str, list[type]]:
    """Return the types of the layers that hold the named weights, and of a Sequential around one, with its sublayers.

    Strides are not compared: they depend on the size of the input, as a recognizer's height does.
    """
    homes = {name.rsplit(".", 1)[0] for name in names}
    around = {home.rsplit(".", 1)[0] for home in homes if "." in home}
    return {
        path: [type(part) for part in (layer, *layer.sublayers())]
        for path, layer in model.named_sublayers()
        if path in homes or path in around and isinstance(layer, nn.Sequential)
    }


def load_starting_weights(model: nn.Layer, start: StartingWeights, card: ModelCard) -> None:
    """Start a network from given weights; those of a recognizer's head are assigned by character.

    So a recognizer with another dictionary keeps what it has learned of the characters that both share.

    Args:
        model: the network to set.
        start: the weights.
        card: of `model`.

    Raises:
        SlimError: a shape other than the head's differs.
    """
    state = _by_character(model, start, card)
    completed = with_training_only(model, state)
    if len(completed) > len(state):
        logger.info(
            "%s lacks the layers that only training uses, as every bundle does: they start untrained", start.where
        )
        state = completed
    load_weights(model, state, start.where)
    logger.info("starting from the weights of %s", start.where)


def _by_character(model: nn.Layer, start: StartingWeights, card: ModelCard) -> dict[str, np.ndarray]:
    """Return the starting weights, with a recognizer's head reordered to the characters of `card` that both share."""
    state = dict(start.state)
    if isinstance(card.spec, RecSpec) and isinstance(start.card.spec, RecSpec) and card.charset != start.card.charset:
        old = {character: index for index, character in enumerate(start.card.charset.classes)}
        shared = [(new, old[c]) for new, c in enumerate(card.charset.classes) if c in old]
        targets, sources = map(list, zip(*shared))
        for name, tensor in model_state(model).items():
            if name.startswith("head.") and name in state and state[name].shape[:-1] == tuple(tensor.shape[:-1]):
                fresh = tensor.numpy().copy()
                fresh[..., targets] = state[name][..., sources]
                state[name] = fresh
        untrained = len(card.charset.classes) - len(shared)
        logger.info("%d of %d characters start untrained", untrained, len(card.charset.characters))
    return state


def _slimmed(card: ModelCard) -> bool:
    """Return whether a network is pruned or quantized; one with folded branches is as it was built."""
    return any(transform["name"] != FOLD for transform in card.transforms)


def require_same_network(start: StartingWeights, card: ModelCard) -> None:
    """Check that starting weights belong to a card's network.

    Weights of the same shapes can belong to another network, one with other activations for example. The head of a
    pruned or quantized network fits only its own characters.

    Args:
        start: the weights.
        card: of the network to start.

    Raises:
        SlimError: they belong to another network.
    """
    if start.card.spec.task != card.spec.task:
        raise SlimError(
            f"Global.pretrained: {start.where} holds a network of task {start.card.spec.task}, but {card.name} is "
            f"of task {card.spec.task}"
        )
    is_recognizer = isinstance(card.spec, RecSpec)
    if is_recognizer and _slimmed(start.card) and start.card.charset != card.charset:
        raise SlimError(
            f"the network in {start.where} was pruned or quantized for its {len(start.card.charset.characters)} "
            f"characters, but this dictionary has {len(card.charset.characters)}, not the same ones: use its own "
            "dictionary (Global.character_dict_path), or start from the network before it was slimmed"
        )
    theirs = bind_model(start.card.name, start.card.args, str(start.where)).arguments
    ours = bind_model(card.name, card.args).arguments
    for key in sorted(ours, key=lambda key: key != "neck"):  # its kind says more than the arguments of an LSTM
        if key not in FREE_ARGUMENTS and ours[key] != theirs.get(key):
            raise SlimError(
                f"Global.pretrained: the weights in {start.where} are of a network with {key} {theirs.get(key)!r}, "
                f"but Architecture.args has {ours[key]!r}"
            )
