"""Two students that learn from each other (Zhang et al. 2018, "Deep Mutual Learning", arXiv:1706.00384)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import paddle
from paddle import nn

from ppocr_slim.config.schema import Mutual
from ppocr_slim.errors import SlimError
from ppocr_slim.export.bundle import FAKE_QUANT
from ppocr_slim.models import bind_model
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.slim.losses import frames
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.task import Outputs, Task

SEED = 1_000_003  # added to the experiment's seed for the peer's initial weights: two equal students teach nothing
SIZE = ("height", "width")  # arguments that say what a network sees


class MutualLearning(Technique):
    """Trains a peer beside the student, from random weights; each learns the labels and what the other says.

    Both see the same batch. What passes between them is the divergence at and beside the other's letters
    (`losses.frames`): two networks that learn together come to put them on the same steps. The checkpoint is the
    student; the peer is kept for resuming alone.

    Unless the config names another network, the peer has the student's structure: a pruned student's widths, but of a
    quantized one no grids, for nothing has calibrated them; it computes in float.
    """

    def __init__(self, settings: Mutual):
        self.settings = settings
        self.peer: nn.Layer
        self.task: Task

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Build the peer. Raises SlimError where the config's peer cannot be."""
        student, asked, self.task = context.card, self.settings.peer, context.task
        if not isinstance(student.spec, RecSpec):
            raise SlimError(
                f"mutual compares what is read step by step: a network of task {student.spec.task} reads none"
            )
        card = replace(student, transforms=[step for step in student.transforms if step["name"] != FAKE_QUANT])
        if asked:
            own = bind_model(student.name, student.args).arguments
            size = {key: own[key] for key in SIZE if key in own}
            card = ModelCard(asked.name, {**size, **asked.args}, student.spec)
            theirs = bind_model(card.name, card.args, "mutual.peer").arguments
            for key, value in size.items():
                if theirs.get(key) != value:
                    raise SlimError(f"mutual.peer has {key} {theirs.get(key)}, the student {value}: both see the same")
        paddle.seed(context.seed + SEED)
        self.peer = card.build("mutual.peer")

    def extras(self) -> dict[str, nn.Layer]:
        """The peer."""
        return {"peer": self.peer}

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Any) -> dict[str, paddle.Tensor]:
        """What the student loses to its peer, "mutual", and the peer's own losses, "peer_<name>"."""
        settings, own = self.settings, outputs["logits"]
        theirs = self.task.outputs(self.peer, batch)
        logits = theirs["logits"]
        terms = {f"peer_{name}": loss for name, loss in self.task.loss(theirs, batch).items()}
        terms["mutual"] = frames(own, logits.detach().numpy(), settings.temperature) * settings.weight
        terms["peer_mutual"] = frames(logits, own.detach().numpy(), settings.temperature) * settings.weight
        return terms
