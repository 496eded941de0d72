"""The training loop, for every task and slimming technique: it knows them by their interfaces only."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import paddle
from paddle import nn
from paddle.utils import unique_name

from ppocr_slim.config.schema import Config
from ppocr_slim.data.batches import TrainingData
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.metrics import better
from ppocr_slim.folders import BEST, LAST, recover_folder
from ppocr_slim.models.state import assign_state, model_state, name_parameters
from ppocr_slim.slim.technique import Technique
from ppocr_slim.tasks.checkpoint import (
    OPTIMIZER,
    WEIGHTS,
    ModelCard,
    load_weights,
    read_arrays,
    read_states,
    save_checkpoint,
)
from ppocr_slim.training.kernels.accelerate import accelerated
from ppocr_slim.training.kernels.many import kernels_can_work_on
from ppocr_slim.training.memory import keep_freed_memory
from ppocr_slim.training.optim import AveragedWeights, build_optimizer, learning_rate
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.runlog import RunLog, SilentLog


class Stopped(SystemExit):
    """The run was stopped by a signal after saving. The exit status is the shell's usual 128 + signal."""


class StopSignals:
    """Context that defers SIGINT and SIGTERM until the step is finished and saved; a second one stops at once."""

    def __enter__(self) -> StopSignals:
        self.received = 0
        self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, number, frame) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Job:
    """All that a training stage needs.

    Attributes:
        folder: folder of the stage, for last/, best/, the log and the curves.
        config: config of the run, with the stage's own optimizer settings.
        length: number of optimizer steps.
        model: the network to train.
        card: card of the network.
        task: computes outputs and losses, the latter with its layer `criterion`.
        data: the training batches.
        evaluate: returns the metrics of a network, a dataclass.
        processes: processes of the training.
        techniques: techniques, prepared for the network and attached to it.
        origin: name -> digest of what the training starts and learns from besides its data.
    """

    folder: Path
    config: Config
    length: int
    model: nn.Layer
    card: ModelCard
    task: Any
    data: TrainingData
    evaluate: Callable[[nn.Layer], Any]
    processes: Processes
    techniques: Sequence[Technique] = ()
    origin: Mapping[str, str] = field(default_factory=dict)


class TrainingState:
    """The state of a training stage that a checkpoint saves: model, optimizer, averaged weights and position."""

    def __init__(self, job: Job):
        self.model, self.card, self.data, self.origin = job.model, job.card, job.data.digest, dict(job.origin)
        self.extras = {name: layer for technique in job.techniques for name, layer in technique.extras().items()}
        tensors = list(model_state(job.model).values())
        for name, layer in self.extras.items():
            name_parameters(layer, name)
            tensors += model_state(layer).values()
        self.fast = job.config.run.fast_cpu and kernels_can_work_on(tensors)
        self.parameters = [tensor for tensor in tensors if not tensor.stop_gradient]
        self.buffers = [tensor for tensor in tensors if tensor.stop_gradient]
        self.optimizer = build_optimizer(self.parameters, job.config.optimizer, self.fast)
        decay = job.config.optimizer.ema_decay
        self.average = AveragedWeights(job.model, decay, self.fast) if decay else None
        self.step, self.images, self.best, self.best_step = 0, 0, math.nan, 0
        self.processes = job.processes.count

    def weights(self) -> dict[str, paddle.Tensor]:
        """Return the weights that are evaluated and exported: the averaged ones where averaging is on."""
        return self.average.state if self.average else model_state(self.model)

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder.

        Raises:
            SlimError: a weight is not finite, or the disk is full.
        """
        resume = {"optimizer": self.optimizer.state_dict()}
        if self.average:
            resume["model"] = model_state(self.model)
        resume.update({f"extra {name}": model_state(layer) for name, layer in self.extras.items()})
        best = None if math.isnan(self.best) else self.best
        states = {"step": self.step, "images": self.images, "data": self.data, "origin": self.origin}
        states.update({"best": best, "best_step": self.best_step, "processes": self.processes})
        weights = {name: tensor.numpy() for name, tensor in self.weights().items()}
        save_checkpoint(folder, self.card, weights, resume, states)

    def restore(self, folder: Path) -> None:
        """Continue exactly where a checkpoint left off, bit for bit.

        Args:
            folder: of the checkpoint.

        Raises:
            SlimError: it is damaged, or it was trained with another network, other characters or other data: going on
                would silently be another experiment.
        """
        states, resume = read_states(folder), read_arrays(folder / OPTIMIZER)
        self._check_same_training(folder, states)
        weights = read_arrays(folder / WEIGHTS)
        expected = {"optimizer", *(f"extra {name}" for name in self.extras)} | ({"model"} if self.average else set())
        if resume.keys() != expected:
            raise SlimError(
                f"{folder / OPTIMIZER} contains {sorted(resume)} instead of {sorted(expected)}: it cannot be resumed"
            )
        load_weights(self.model, resume["model"] if self.average else weights, folder)
        if self.average:
            self.average.load(weights)
        for name, layer in self.extras.items():
            load_weights(layer, resume[f"extra {name}"], folder)
        self.optimizer.set_state_dict(resume["optimizer"])
        best = states["best"]
        self.step, self.images = states["step"], states["images"]
        self.best, self.best_step = math.nan if best is None else best, states["best_step"]

    def _check_same_training(self, folder: Path, states: Mapping[str, Any]) -> None:
        if ModelCard.read(folder) != self.card:
            raise SlimError(
                f"{folder} was trained with other characters or another architecture: choose a new Global.output_dir "
                "(and name this checkpoint in Global.pretrained to start from it)"
            )
        if states["data"] != self.data:
            raise SlimError(
                f"{folder} was trained on other data than the label files now hold: choose a new Global.output_dir "
                "(and name this checkpoint in Global.pretrained to start from it)"
            )
        count = states.get("processes", self.processes)
        if count != self.processes:
            raise SlimError(
                f"{folder} was trained in {count} processes, not {self.processes}, between which samples are divided "
                f"otherwise: start {count}, or choose a new Global.output_dir (and name this checkpoint in "
                "Global.pretrained to start from it)"
            )
        changed = changed_origin(states, self.origin)
        if changed:
            raise SlimError(
                f"{folder} was trained with another {changed} than there is now: choose a new Global.output_dir, or "
                f"restore the former {changed}"
            )


def is_trained(folder: Path, steps: int, data: str, origin: Mapping[str, str]) -> bool:
    """Return whether a checkpoint is the end of a training.

    Args:
        folder: of the checkpoint.
        steps: number of steps of the training.
        data: digest of its data.
        origin: see `Job`.
    """
    states = read_states(folder)
    return states["step"] >= steps and states["data"] == data and not changed_origin(states, origin)


def changed_origin(states: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    """Return the name of an origin that has changed since a checkpoint was written; "" if none has.

    Args:
        states: the checkpoint's.
        origin: name -> digest now, see `Job`.
    """
    before = states.get("origin", {})
    return next((name for name, digest in origin.items() if before.get(name, digest) != digest), "")


def fit(job: Job) -> Path:
    """Train for `job.length` steps, continuing from last/ where it exists.

    Args:
        job: the training stage.

    Returns:
        The folder of the best checkpoint.

    Raises:
        SlimError: a loss or weight is not finite, the disk is full, or the checkpoint does not fit.
        Stopped: SIGINT or SIGTERM was received; everything is saved.
    """
    # Paddle numbers an optimizer's tensors by the process's history; a fresh count gives a resumed run the same names.
    with unique_name.guard(), _disk_errors(job.folder):
        last, best = job.folder / LAST, job.folder / BEST
        state = TrainingState(job)
        if job.processes.is_first:
            for checkpoint in (last, best):
                recover_folder(checkpoint)
        job.processes.wait()
        if last.exists():
            state.restore(last)
            logger.info("continuing from %s at step %d", last, state.step)
        if state.step >= job.length:
            logger.info("%s is trained already (%d steps)", job.folder, state.step)
            return best
        _train(state, job)
        logger.info("best %s %.4f at step %d: %s", job.config.metric.name, state.best, state.best_step, best)
        return best


def _train(state: TrainingState, job: Job) -> None:
    """Train from the state's step to the end; log, evaluate and save on the way."""
    config, processes, last = job.config, job.processes, job.folder / LAST
    log = RunLog(job.folder, state.step, state.images, job.length) if processes.is_first else SilentLog()
    batches = job.data.batches(state.step)
    for layer in (job.model, *state.extras.values()):
        layer.train()
    if job.techniques and state.step == 0 and processes.is_first:
        state.save(last)  # so that a resumed run does not prepare its techniques again
    with closing(log), closing(batches), StopSignals() as stop, _fast_cpu(state, job):
        while state.step < job.length:
            asked = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - asked
            rate = learning_rate(config.optimizer, state.step, job.length)
            losses = _step(state, job, batch, rate)
            state.images += len(batch.sources) * processes.count
            log.tick(state.images, waited, losses)
            finished = state.step == job.length
            if state.step % config.run.log_every_steps == 0 or finished:
                log.train(state.step, (state.step - 1) // len(job.data), rate)
            if state.step % config.run.eval_every_steps == 0 or finished:
                _evaluate(state, job, job.folder / BEST, log)
            stopping = processes.largest(stop.received)
            if processes.is_first and (state.step % config.run.save_every_steps == 0 or finished or stopping):
                state.save(last)
            if stopping:
                processes.wait()  # once one has left, the launcher ends the others: not before it is saved
                name = signal.Signals(stopping).name
                message = "%s: saved at step %d in %s; the same command continues from there"
                logger.warning(message, name, state.step, last)
                raise Stopped(128 + stopping)


@contextmanager
def _disk_errors(folder: Path):
    """Turn an OSError of the log into a SlimError; those of checkpoints are SlimErrors already."""
    try:
        yield
    except OSError as error:
        raise SlimError(
            f"cannot write into {folder}: {error.strerror or error}; the last checkpoint is kept"
        ) from error


@contextmanager
def _fast_cpu(state: TrainingState, job: Job):
    """Train with this project's CPU kernels where they fit, and log which code paths run."""
    layers = (job.model, job.task.criterion, *state.extras.values())
    with accelerated(*layers) if state.fast else nullcontext({}) as count:
        if state.fast:
            keep_freed_memory()
        kernels = ", ".join(f"{number} {kind}" for kind, number in count.items()) or "none"
        path = os.environ.get("MKL_DEBUG_CPU_TYPE", "its own choice")
        logger.info("CPU: fast kernels: %s; MKL code path: %s", kernels, path)
        yield


def _step(state: TrainingState, job: Job, batch, rate: float) -> dict[str, float]:
    """Run an optimizer step on the processes' batches and return the losses of this process's batch."""
    # Dropout depends on the step and the process alone: resuming needs no state of a generator.
    number = state.step * job.processes.count + job.processes.rank
    paddle.seed((job.config.run.seed * 1_000_003 + number) % 2**31)
    losses = _losses(state.model, job, batch)
    values = {name: float(value) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise SlimError(
            f"the loss is {values} at step {state.step}; the last good checkpoint is kept. Look at these "
            f"samples: {', '.join(batch.sources[:4])} ... or start anew with a lower Optimizer.lr"
        )
    losses["loss"].backward()
    job.processes.average([*(p.grad for p in state.parameters if p.grad is not None), *state.buffers])
    for technique in job.techniques:
        technique.after_backward(state.model)
    state.optimizer.set_lr(rate)
    state.optimizer.step()
    state.optimizer.clear_grad()
    if state.average:
        state.average.update(state.step)
    state.step += 1
    return values


def _losses(model: nn.Layer, job: Job, batch) -> dict[str, paddle.Tensor]:
    """Return the losses of the task and of the techniques by name, and "loss", their weighted sum."""
    outputs = job.task.outputs(model, batch)
    own = job.task.loss(outputs, batch)
    added = {
        name: term for technique in job.techniques for name, term in technique.terms(model, outputs, batch).items()
    }
    weight = math.prod(technique.supervised_weight for technique in job.techniques)
    terms: list[paddle.Tensor] = [loss if weight == 1 else loss * weight for loss in own.values()] + [*added.values()]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return {**own, **added, "loss": total} if len(terms) > 1 else {"loss": total}


def _evaluate(state: TrainingState, job: Job, best: Path, log) -> None:
    """Evaluate the weights that would be exported, and save them to best/ if they are the best so far."""
    started = time.monotonic()
    own = {name: tensor.clone() for name, tensor in model_state(state.model).items()}
    assign_state(state.model, state.weights())
    try:
        scores = asdict(job.evaluate(state.model))
    finally:
        assign_state(state.model, own)
    log.evaluation(state.step, scores, time.monotonic() - started)
    metric = job.config.metric.name
    if better(metric, scores[metric], state.best):
        state.best, state.best_step = scores[metric], state.step
        if job.processes.is_first:
            state.save(best)
