"""One training stage of a recipe: from starting weights, through its techniques, to a best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from ppocr_slim.config.loading import dump_config
from ppocr_slim.config.schema import Config, Optimizer, TrainStage
from ppocr_slim.errors import logger
from ppocr_slim.folders import BEST, LAST, recover_folder, replacing
from ppocr_slim.models.cost import measure_cost
from ppocr_slim.models.state import name_parameters
from ppocr_slim.models.transforms import fold
from ppocr_slim.runtime.specs import Spec
from ppocr_slim.slim import build_techniques
from ppocr_slim.slim.quantize import freeze_quant_params
from ppocr_slim.slim.technique import Context, Technique
from ppocr_slim.tasks.checkpoint import ModelCard
from ppocr_slim.tasks.table import task_class
from ppocr_slim.tasks.task import Data, Task
from ppocr_slim.training.loop import Job, fit, is_trained
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.starting import (
    StartingWeights,
    digest_of,
    load_starting_layers,
    load_starting_weights,
    read_starting_weights,
    require_same_network,
)

CONFIG_FILE = "config.yml"


@dataclass
class StageNetwork:
    """The network of a stage.

    Attributes:
        start: the weights that it starts from, None: random ones, or they are gone and not needed.
        resumed: the card of the checkpoint that the stage continues from; None: it begins.
    """

    model: nn.Layer
    card: ModelCard
    start: StartingWeights | None
    resumed: ModelCard | None


def train_stage(
    stage: TrainStage, folder: Path, config: Config, data: Data, start_folder: Path | None, processes: Processes
) -> Path:
    """Run a training stage, or continue it where it was.

    Args:
        folder: of the stage: last/, best/, the log and the curves.
        start_folder: the weights to start from; None: random ones.

    Returns:
        The folder of the best checkpoint.
    """
    network = build_network(folder, config, data.spec, start_folder, processes)
    if processes.is_first:
        save_config(config)
    task = task_class(network.card.name)(network.card.spec, config.loss)
    batches = task.training_data(config, data.train, (processes.rank, processes.count))
    context = Context(
        folder=folder,
        card=network.card,
        task=task,
        calibration=batches.plain,
        score=_scorer(task, data, config, processes),
        augmented=bool(config.train.augment),
        seed=config.run.seed,
        is_first=processes.is_first,
        wait=processes.wait,
    )
    techniques = build_techniques(stage.techniques)
    origin = {"start": digest_of(network.start.state)} if network.start else {}
    length = stage.length(len(batches))
    if network.resumed == network.card and is_trained(folder / LAST, length, batches.digest, origin):
        logger.info("%s is trained already (%d steps)", folder, length)  # without opening a teacher once more
        best = folder / BEST
    else:
        context = prepare_techniques(techniques, network, context)
        _log_cost(network.model, context.card, config)
        config = config.model_copy(update={"optimizer": _optimizer(stage, config.optimizer)})
        origin.update({one.name: one.digest() for one in techniques if one.digest()})
        job = Job(folder, config, length, network.model, context.card, task, batches, context.score, processes)
        best = fit(replace(job, techniques=techniques, origin=origin))
    if context.is_first:
        for technique in techniques:
            technique.finish(best, context)
    return best


def build_network(
    folder: Path, config: Config, spec: Spec, start_folder: Path | None, processes: Processes
) -> StageNetwork:
    """Build a stage's network: of its last checkpoint's structure, or with its starting weights.

    Raises:
        SlimError: the starting weights are of another network, or a checkpoint is damaged.
    """
    last = folder / LAST
    if processes.is_first:
        recover_folder(last)
    processes.wait()
    resumed = ModelCard.read(last) if last.exists() else None
    # The starting weights may be gone when a stage resumes.
    start = read_starting_weights(start_folder) if start_folder and (start_folder.exists() or not resumed) else None
    # Of another network some layers may be taken; what comes from an earlier stage is this very network.
    layers = config.run.pretrained_layers if start_folder == config.run.pretrained else []
    origin = resumed or (start.card if start and not layers else None)
    transforms = list(origin.transforms) if origin else []
    card = ModelCard(config.architecture.name, dict(config.architecture.args), spec, transforms)
    if start and not resumed and not layers:
        require_same_network(start, card)
    paddle.seed(config.run.seed)  # the initial weights are part of the experiment
    model = card.build("Architecture")
    if start and not resumed:
        if layers:
            load_starting_layers(model, start, card, layers)
        else:
            load_starting_weights(model, start, card)
    return StageNetwork(model, card, start, resumed)


def prepare_techniques(techniques: Sequence[Technique], network: StageNetwork, context: Context) -> Context:
    """Let the techniques change the network, unless it is resumed, and get ready to train.

    Returns:
        The context with the card of the changed network.
    """
    if not network.resumed:
        for technique in techniques:
            folded = fold(network.model) if technique.folds else []
            transforms = [*context.card.transforms, *folded, *technique.prepare(network.model, context)]
            context = replace(context, card=replace(context.card, transforms=transforms))
        name_parameters(network.model)
    freeze_quant_params(network.model)
    for technique in techniques:
        technique.attach(network.model, context)
    return context


def save_config(config: Config) -> None:
    """Write the resolved config into the run's folder, whole or not at all."""
    with replacing(config.run.output_dir / CONFIG_FILE) as new:
        dump_config(config, new)


def _scorer(task: Task, data: Data, config: Config, processes: Processes):
    """Return what scores a network on the evaluation samples, shared out to all processes."""
    samples = [checked.sample for checked in data.evaluation.samples]

    def score(network: nn.Layer) -> Any:
        mine = processes.part(samples)
        return task.scores(processes.gather(task.predict_and_score(network, mine, config.eval.batch_size)))

    return score


def _optimizer(stage: TrainStage, optimizer: Optimizer) -> Optimizer:
    """Return the optimizer's settings with the stage's own in their place."""
    own = {"lr": stage.lr, "warmup_steps": stage.warmup_steps}
    return optimizer.model_copy(update={key: value for key, value in own.items() if value is not None})


def _log_cost(model: nn.Layer, card: ModelCard, config: Config) -> None:
    shape = model.typical_input
    cost = measure_cost(model, shape)
    logger.info(
        "%s: %.2f M parameters (%.1f MB); an input of %s: %.0f M multiply-adds, %.1f MB of activations",
        card.name,
        cost.parameters / 1e6,
        cost.parameters * 4 / 1e6,
        "x".join(map(str, shape[1:])),
        cost.flops / 1e6,
        cost.activation_bytes / 1e6,
    )
    batch = config.train.batch_size
    logger.info("a batch of %d keeps at least %.0f MB of activations", batch, cost.activation_bytes * batch / 1e6)
