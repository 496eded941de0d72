"""The one training loop. It knows tasks, slimming steps and evaluations by their methods, nothing of any algorithm."""

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
from ppocr_slim.folders import recover_folder
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

LAST, BEST = "last", "best"  # a stage's checkpoint folders


class Stopped(SystemExit):
    """A signal asked the run to stop; it has saved. The exit status is the shell's usual 128 + signal."""


class StopSignals:
    """SIGINT and SIGTERM while training: the step is finished and saved first. A second one stops at once."""

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
    """What a training stage trains, on what, and how it is judged.

    Attributes:
        folder: where last/, best/, the log and the curves go.
        length: optimizer steps.
        task: its `outputs(model, batch)` gives what `loss(outputs, batch)` makes named losses of, by way of its
            `criterion`, a layer.
        evaluate: scores the model in its present state.
        techniques: prepared for `model` and attached to it.
        origin: digests, by name, of what the training starts and learns from beside the rows.
    """

    folder: Path
    config: Config
    length: int
    model: nn.Layer
    card: ModelCard
    task: Any
    rows: TrainingData
    evaluate: Callable[[nn.Layer], Any]
    processes: Processes
    techniques: Sequence[Technique] = ()
    origin: Mapping[str, str] = field(default_factory=dict)


class TrainingState:
    """Model, optimizer, averaged weights and position of a training stage: what a checkpoint saves and restores."""

    def __init__(self, job: Job):
        self.model, self.card, self.data, self.origin = job.model, job.card, job.rows.digest, dict(job.origin)
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

    def weights(self) -> dict[str, paddle.Tensor]:
        """The weights that are evaluated and shipped: the averaged ones where averaging is on."""
        return self.average.state if self.average else model_state(self.model)

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder; SlimError where that is impossible."""
        resume = {"optimizer": self.optimizer.state_dict()}
        if self.average:
            resume["model"] = model_state(self.model)
        resume.update({f"extra {name}": model_state(layer) for name, layer in self.extras.items()})
        best = None if math.isnan(self.best) else self.best
        states = {"step": self.step, "images": self.images, "data": self.data, "origin": self.origin}
        states.update({"best": best, "best_step": self.best_step})
        weights = {name: tensor.numpy() for name, tensor in self.weights().items()}
        save_checkpoint(folder, self.card, weights, resume, states)

    def restore(self, folder: Path) -> None:
        """Continue where a checkpoint left off, to the bit.

        Raises SlimError if it is damaged, or was trained with another network, other characters or other data: going
        on would silently be another experiment.
        """
        states, resume = read_states(folder), read_arrays(folder / OPTIMIZER)
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
        changed = changed_origin(states, self.origin)
        if changed:
            raise SlimError(
                f"{folder} was trained with another {changed} than is there now: choose a new Global.output_dir, or "
                f"put the former {changed} back"
            )
        weights = read_arrays(folder / WEIGHTS)
        wanted = {"optimizer", *(f"extra {name}" for name in self.extras)} | ({"model"} if self.average else set())
        if resume.keys() != wanted:
            raise SlimError(f"{folder / OPTIMIZER} holds {sorted(resume)}, not {sorted(wanted)}: it cannot be resumed")
        load_weights(self.model, resume["model"] if self.average else weights, folder)
        if self.average:
            self.average.load(weights)
        for name, layer in self.extras.items():
            load_weights(layer, resume[f"extra {name}"], folder)
        self.optimizer.set_state_dict(resume["optimizer"])
        best = states["best"]
        self.step, self.images = states["step"], states["images"]
        self.best, self.best_step = math.nan if best is None else best, states["best_step"]


def is_trained(folder: Path, steps: int, data: str, origin: Mapping[str, str]) -> bool:
    """Whether a checkpoint folder holds a training of that many steps on that data from that origin, to its end."""
    states = read_states(folder)
    return states["step"] >= steps and states["data"] == data and not changed_origin(states, origin)


def changed_origin(states: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    """The name of what a checkpoint's training started or learned from that is another one now; "" if nothing is."""
    before = states.get("origin", {})
    return next((name for name, digest in origin.items() if before.get(name, digest) != digest), "")


def fit(job: Job) -> Path:
    """Train for `job.length` steps, continuing from last/ where it exists; gives the folder of the best checkpoint.

    Raises:
        SlimError: a loss or weight is not finite, the disk is full, or the checkpoint does not fit.
        Stopped: after SIGINT or SIGTERM, with everything saved.
    """
    # Paddle numbers an optimizer's tensors by the process's history; a fresh count gives a resumed run the same names.
    with unique_name.guard(), _disk_errors(job.folder):
        config, processes = job.config, job.processes
        last, best = job.folder / LAST, job.folder / BEST
        state = TrainingState(job)
        if processes.is_first:
            for checkpoint in (last, best):
                recover_folder(checkpoint)
        processes.wait()
        if last.exists():
            state.restore(last)
            logger.info("continuing from %s at step %d", last, state.step)
        if state.step >= job.length:
            logger.info("%s is trained already (%d steps)", job.folder, state.step)
            return best
        log = RunLog(job.folder, state.step, state.images, job.length) if processes.is_first else SilentLog()
        batches = job.rows.batches(state.step)
        for layer in (job.model, *state.extras.values()):
            layer.train()
        if job.techniques and state.step == 0 and processes.is_first:
            state.save(last)  # what was prepared is not prepared, or decided, again
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
                    log.train(state.step, (state.step - 1) // len(job.rows), rate)
                if state.step % config.run.eval_every_steps == 0 or finished:
                    _evaluate(state, job, best, log)
                stopping = processes.largest(stop.received)
                if processes.is_first and (state.step % config.run.save_every_steps == 0 or finished or stopping):
                    state.save(last)
                if stopping:
                    processes.wait()  # once one has left, the launcher ends the others: not before it is saved
                    name = signal.Signals(stopping).name
                    message = "%s: saved at step %d in %s; the same command continues from there"
                    logger.warning(message, name, state.step, last)
                    raise Stopped(128 + stopping)
        logger.info("best %s %.4f at step %d: %s", config.metric.name, state.best, state.best_step, best)
        return best


@contextmanager
def _disk_errors(folder: Path):
    """What cannot be written (the log; checkpoints say so themselves) as a SlimError."""
    try:
        yield
    except OSError as error:
        raise SlimError(
            f"cannot write into {folder}: {error.strerror or error}; the last checkpoint is kept"
        ) from error


@contextmanager
def _fast_cpu(state: TrainingState, job: Job):
    """Let a training on a CPU run through this project's kernels, and say which code paths run."""
    layers = (job.model, job.task.criterion, *state.extras.values())
    with accelerated(*layers) if state.fast else nullcontext({}) as count:
        if state.fast:
            keep_freed_memory()
        kernels = ", ".join(f"{number} {kind}" for kind, number in count.items()) or "none"
        path = os.environ.get("MKL_DEBUG_CPU_TYPE", "its own choice")
        logger.info("CPU: fast kernels: %s; MKL code path: %s", kernels, path)
        yield


def _step(state: TrainingState, job: Job, batch, rate: float) -> dict[str, float]:
    """One optimizer step on the processes' batches; gives this one's losses as numbers."""
    # Dropout is a function of the step and the process: resuming needs no generator's state.
    number = state.step * job.processes.count + job.processes.rank
    paddle.seed((job.config.run.seed * 1_000_003 + number) % 2**31)
    losses = _losses(state.model, job, batch)
    values = {name: float(value) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise SlimError(
            f"the loss is {values} at step {state.step}; the last good checkpoint is kept. Look at these rows: "
            f"{', '.join(batch.sources[:4])} ... or start anew with a lower Optimizer.lr"
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
    """The task's losses and those of the steps by name, and "loss", which is their weighted sum."""
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
    """Score the weights that would ship; keep them in best/ if they are better than any before."""
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
