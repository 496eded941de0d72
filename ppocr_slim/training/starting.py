"""What a training starts from: the weights of a checkpoint folder or of an exported bundle."""

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
from ppocr_slim.models.state import model_state, with_training_only
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import WEIGHTS, ModelCard, load_weights, read_arrays
from ppocr_slim.tasks.checks import folder_card, is_bundle

# What may differ; shapes that do not fit are found all the same
FREE_ARGUMENTS = {"classes", "height", "width", "dropout"}


class StartingWeights(NamedTuple):
    """Named arrays, the network that they belong to, and where they came from."""

    state: dict[str, np.ndarray]
    card: ModelCard
    where: Path


def read_starting_weights(folder: Path) -> StartingWeights:
    """The weights of a checkpoint folder or of an exported bundle. SlimError if `folder` is neither."""
    card = folder_card(folder)
    state = read_bundle_weights(folder) if is_bundle(folder) else read_arrays(folder / WEIGHTS)
    return StartingWeights(state, card, folder)


def digest_of(state: Mapping[str, np.ndarray]) -> str:
    """What tells these weights from others."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
    return digest.hexdigest()[:16]


def load_starting_layers(model: nn.Layer, start: StartingWeights, card: ModelCard, patterns: Sequence[str]) -> None:
    """As `load_starting_weights`, of those layers alone that the patterns name (see `layer_names.named`).

    So a larger network begins with what a slim one has learned, or the other way round. Raises SlimError where a
    pattern names nothing, or a layer that it names is another one in `start`.
    """
    option = "Global.pretrained_layers"
    if start.card.transforms:
        raise SlimError(f"{option}: the network in {start.where} was slimmed; start from what it was before")
    state = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    chosen = named(list(state), patterns, option)
    given = _by_character(model, start, card)
    lacking = sorted(chosen - given.keys())
    if lacking:
        raise SlimError(f"{option}: {start.where} has no {lacking[0]}; name layers that both networks have")
    ours, theirs = _kinds(model, chosen), _kinds(start.card.build(str(start.where)), chosen)
    other = next((path for path in ours if ours[path] != theirs.get(path)), None)
    if other:
        raise SlimError(f"{option}: {other} is another layer in {start.where}; name layers that both networks have")
    load_weights(model, {**state, **{name: given[name] for name in chosen}}, start.where)
    logger.info("%d of %d weights start from %s", len(chosen), len(state), start.where)


def _kinds(model: nn.Layer, names: set[str]) -> dict[str, list[type]]:
    """What the layers are that hold the weights `names`, and a Sequential around one, with all that is in it.

    Strides are not compared: they say at what size a layer works, as a recognizer's height does.
    """
    homes = {name.rsplit(".", 1)[0] for name in names}
    around = {home.rsplit(".", 1)[0] for home in homes if "." in home}
    return {
        path: [type(part) for part in (layer, *layer.sublayers())]
        for path, layer in model.named_sublayers()
        if path in homes or path in around and isinstance(layer, nn.Sequential)
    }


def load_starting_weights(model: nn.Layer, start: StartingWeights, card: ModelCard) -> None:
    """Set the weights of `model`, which `card` describes; the head's rows go by character.

    So another dictionary keeps what it shares. Raises SlimError where any other shape differs.
    """
    state = _by_character(model, start, card)
    completed = with_training_only(model, state)
    if len(completed) > len(state):
        logger.info("%s lacks what training alone uses, as every bundle does: that starts anew", start.where)
        state = completed
    load_weights(model, state, start.where)
    logger.info("starting from the weights of %s", start.where)


def _by_character(model: nn.Layer, start: StartingWeights, card: ModelCard) -> dict[str, np.ndarray]:
    """The starting weights, a recognizer's head in the order of `card`'s characters as far as both share them."""
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


def require_same_network(start: StartingWeights, card: ModelCard) -> None:
    """SlimError where the weights cannot be those of `card`'s network.

    Weights of the same shapes can belong to another network: one with other activations, say. What pruning or
    quantization made of a head is for its own characters.
    """
    if start.card.spec.task != card.spec.task:
        raise SlimError(
            f"Global.pretrained: {start.where} holds a network of task {start.card.spec.task}, {card.name} is one of "
            f"{card.spec.task}"
        )
    is_reader = isinstance(card.spec, RecSpec)
    if is_reader and start.card.transforms and start.card.charset != card.charset:
        raise SlimError(
            f"the network in {start.where} was pruned or quantized for its {len(start.card.charset.characters)} "
            f"characters, here are {len(card.charset.characters)}, not the same ones: give it its own dictionary "
            "(Global.character_dict_path), or start from the network before it was slimmed"
        )
    theirs = bind_model(start.card.name, start.card.args, str(start.where)).arguments
    ours = bind_model(card.name, card.args).arguments
    for key in ours:
        if key not in FREE_ARGUMENTS and ours[key] != theirs.get(key):
            raise SlimError(
                f"Global.pretrained: the weights in {start.where} are of a network with {key} {theirs.get(key)!r}, "
                f"Architecture.args has {ours[key]!r}"
            )
