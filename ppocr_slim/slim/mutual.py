"""Deep mutual learning (Zhang et al. 2018, arXiv:1706.00384): two students that learn from each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import paddle
from paddle import nn

from ppocr_slim.config.schema import Mutual
from ppocr_slim.errors import SlimError
from ppocr_slim.models import bind_model
from ppocr_slim.models.fake_quant import FAKE_QUANT
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.slim.losses import frame_kl_div
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.task import Outputs, Task

SEED = 1_000_003  # added to the experiment's seed for the peer's initial weights: two equal students teach nothing
SIZE = ("height", "width")  # arguments that set a network's input


class MutualLearning(Technique):
    """Trains a peer network beside the student, from random weights; each learns from the labels and from the other.

    Both see the same batch. Each minimizes the divergence from the other at and beside its characters
    (`losses.frame_kl_div`): two networks that learn together come to put them on the same time steps. The checkpoint
    is the student; the peer is saved for resuming alone.

    Unless the config names another network, the peer has the student's structure: the widths of a pruned one, but not
    the fake quantization of a quantized one, since nothing has calibrated the peer; it computes in float.
    """

    def __init__(self, settings: Mutual):
        self.settings = settings
        self.peer: nn.Layer
        self.task: Task

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Build the peer.

        Args:
            model: the student.
            context: the stage's.

        Raises:
            SlimError: the student is no recognizer, or the config's peer cannot be built or has another input size.
        """
        student, self.task = context.card, context.task
        if not isinstance(student.spec, RecSpec):
            raise SlimError(
                f"mutual learning compares time steps of recognizers (task rec), but this network is of task "
                f"{student.spec.task}"
            )
        card = self._peer_card(student)
        paddle.seed(context.seed + SEED)
        self.peer = card.build("mutual.peer")

    def _peer_card(self, student: ModelCard) -> ModelCard:
        named = self.settings.peer
        if not named:
            return replace(student, transforms=[one for one in student.transforms if one["name"] != FAKE_QUANT])
        own = bind_model(student.name, student.args).arguments
        size = {key: own[key] for key in SIZE if key in own}
        card = ModelCard(named.name, {**size, **named.args}, student.spec)
        theirs = bind_model(card.name, card.args, "mutual.peer").arguments
        for key, value in size.items():
            if theirs.get(key) != value:
                raise SlimError(
                    f"mutual.peer has {key} {theirs.get(key)} and the student {value}: both see the same images, so "
                    "give both the same size"
                )
        return card

    def extras(self) -> dict[str, nn.Layer]:
        """Return the peer."""
        return {"peer": self.peer}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """Return the student's divergence from its peer, "mutual", and the peer's own losses, "peer_<name>"."""
        settings, own = self.settings, outputs["logits"]
        theirs = self.task.outputs(self.peer, batch)
        logits = theirs["logits"]
        terms = {f"peer_{name}": loss for name, loss in self.task.loss(theirs, batch).items()}
        terms["mutual"] = frame_kl_div(own, logits.detach().numpy(), settings.temperature) * settings.weight
        terms["peer_mutual"] = frame_kl_div(logits, own.detach().numpy(), settings.temperature) * settings.weight
        return terms
