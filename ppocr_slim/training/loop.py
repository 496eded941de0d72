"""The one training loop. It knows a task by its loss and an evaluation by its scores, nothing of any algorithm."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Dict, Optional

import paddle
from paddle import nn
from paddle.utils import unique_name

from ppocr_slim.config.schema import Config
from ppocr_slim.data.rows import TrainingRows
from ppocr_slim.errors import SlimError
from ppocr_slim.models.state import assign_state, model_state, name_parameters
from ppocr_slim.tasks.checkpoint import (
    OPTIMIZER,
    WEIGHTS,
    ModelCard,
    load_weights,
    read_arrays,
    read_states,
    recover_folder,
    save_checkpoint,
)
from ppocr_slim.tasks.metrics import Scores, better
from ppocr_slim.training.depthwise import accelerate
from ppocr_slim.training.memory import keep_freed_memory
from ppocr_slim.training.optim import AveragedWeights, build_optimizer, learning_rate
from ppocr_slim.training.processes import Processes
from ppocr_slim.training.runlog import RunLog, SilentLog, logger


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


class TrainingState:
    """Model, optimizer, averaged weights and position of a training stage: what a checkpoint saves and restores."""

    def __init__(self, model: nn.Layer, card: ModelCard, config: Config):
        name_parameters(model)
        self.model, self.card = model, card
        self.optimizer = build_optimizer(model, config.optimizer)
        decay = config.optimizer.ema_decay
        self.average = AveragedWeights(model, decay) if decay else None
        self.step, self.best, self.best_step = 0, math.nan, 0

    def weights(self) -> Dict[str, paddle.Tensor]:
        """The weights that are evaluated and shipped: the averaged ones where averaging is on."""
        return self.average.state if self.average else model_state(self.model)

    def save(self, folder: Path) -> None:
        resume = {"optimizer": self.optimizer.state_dict()}
        if self.average:
            resume["model"] = model_state(self.model)
        states = {
            "step": self.step,
            "best": None if math.isnan(self.best) else self.best,
            "best_step": self.best_step,
        }
        weights = {name: tensor.numpy() for name, tensor in self.weights().items()}
        save_checkpoint(folder, self.card, weights, resume, states)

    def restore(self, folder: Path) -> None:
        """Continue where a checkpoint of the same architecture left off, to the bit. SlimError if it does not fit."""
        states, resume = read_states(folder), read_arrays(folder / OPTIMIZER)
        weights = read_arrays(folder / WEIGHTS)
        load_weights(self.model, resume["model"] if self.average else weights, folder)
        if self.average:
            self.average.load(weights)
        self.optimizer.set_state_dict(resume["optimizer"])
        best = states["best"]
        self.step, self.best, self.best_step = (
            states["step"],
            math.nan if best is None else best,
            states["best_step"],
        )


def fit(
    folder: Path,
    config: Config,
    epochs: int,
    model: nn.Layer,
    card: ModelCard,
    task,
    rows: TrainingRows,
    evaluate: Callable[[nn.Layer], Scores],
    processes: Processes,
) -> Path:
    """Train `model` for `epochs`, continuing from folder/last where it exists; gives the folder of the best checkpoint.

    Raises:
        SlimError: a loss or weight is not finite, the disk is full, or the checkpoint does not fit.
        Stopped: after SIGINT or SIGTERM, with everything saved.
    """
    # Paddle numbers an optimizer's tensors by the process's history; a fresh count gives a resumed run the same names.
    with unique_name.guard():
        try:
            return _fit(folder, config, epochs, model, card, task, rows, evaluate, processes)
        except OSError as error:  # the log; checkpoints have their own
            raise SlimError(f"cannot write into {folder}: {error.strerror}; the last checkpoint is kept") from error


def _fit(folder, config, epochs, model, card, task, rows, evaluate, processes) -> Path:
    last, best = folder / "last", folder / "best"
    state = TrainingState(model, card, config)
    if processes.is_first:
        for checkpoint in (last, best):
            recover_folder(checkpoint)
    processes.wait()
    if last.exists():
        state.restore(last)
        logger.info("continuing from %s at step %d", last, state.step)
    total = epochs * len(rows)
    if state.step >= total:
        logger.info("%s is trained already (%d steps)", folder, state.step)
        return best
    if config.run.fast_cpu:
        keep_freed_memory()
        accelerate(model)
    log = RunLog(folder, state.step, total) if processes.is_first else SilentLog()
    batches = rows.batches(state.step)
    model.train()
    try:
        with StopSignals() as stop:
            while state.step < total:
                asked = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - asked
                rate = learning_rate(config.optimizer, state.step, total)
                losses = _step(state, task, batch, rate, config.run.seed, processes)
                log.tick(len(batch.sources) * processes.count, waited)
                stopping = processes.largest(stop.received)
                if state.step % config.run.log_every_steps == 0 or state.step == total:
                    log.train(state.step, (state.step - 1) // len(rows), losses, rate)
                if state.step % config.run.eval_every_steps == 0 or state.step == total:
                    _evaluate(state, config.metric.name, evaluate, best if processes.is_first else None, log)
                finished = state.step == total
                due = state.step % config.run.save_every_steps == 0 or finished or stopping
                if due and processes.is_first:
                    state.save(last)
                if stopping and not finished:
                    name = signal.Signals(stopping).name
                    logger.warning(
                        "%s: saved at step %d in %s; the same command continues from there",
                        name,
                        state.step,
                        last,
                    )
                    raise Stopped(128 + stopping)
    finally:
        batches.close()
        log.close()
    logger.info("best %s %.4f at step %d: %s", config.metric.name, state.best, state.best_step, best)
    return best


def _step(state: TrainingState, task, batch, rate: float, seed: int, processes: Processes) -> Dict[str, float]:
    """One optimizer step on the processes' batches; gives this one's losses as numbers."""
    # Dropout is a function of the step and the process: resuming needs no generator's state.
    paddle.seed((seed * 1_000_003 + state.step * processes.count + processes.rank) % 2**31)
    losses = task.loss(state.model, batch)
    values = {name: float(value) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        raise SlimError(
            f"the loss is {values} at step {state.step}; the last good checkpoint is kept. "
            f"Lower Optimizer.lr or look at these rows: {', '.join(batch.sources[:4])} ..."
        )
    losses["loss"].backward()
    processes.average_gradients(state.optimizer._parameter_list)
    state.optimizer.set_lr(rate)
    state.optimizer.step()
    state.optimizer.clear_grad()
    if state.average:
        state.average.update(state.step)
    state.step += 1
    return values


def _evaluate(state: TrainingState, metric: str, evaluate, best: Optional[Path], log: RunLog) -> None:
    """Score the weights that would ship; keep them in `best`, where there is one, if they are better than before."""
    own = {name: tensor.clone() for name, tensor in model_state(state.model).items()}
    assign_state(state.model, state.weights())
    try:
        scores = asdict(evaluate(state.model))
    finally:
        assign_state(state.model, own)
    log.evaluation(state.step, scores)
    if better(metric, scores[metric], state.best):
        state.best, state.best_step = scores[metric], state.step
        if best is not None:
            state.save(best)
