"""Data-parallel training in several processes, over gloo on CPUs, started by `paddle.distributed.launch`.

Every process holds the whole model and trains on its part of the samples. After each backward pass it averages
gradients and batch-norm statistics with the others, so that all hold exactly the same network. Log, evaluation,
checkpoints and Ctrl-C work as with one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.distributed

from ppocr_slim.errors import SlimError
from ppocr_slim.training.kernels.many import Tensors, gather, kernels_can_work_on, scatter
from ppocr_slim.training.launch import end_with_parent, launched


class Processes:
    """The processes of a training; a single one communicates nothing.

    Attributes:
        rank: number of this process, from 0; 0 writes the log and the checkpoints.
        count: number of processes.
    """

    def __init__(self) -> None:
        if launched():
            end_with_parent()
            paddle.distributed.init_parallel_env()
        self.rank = paddle.distributed.get_rank() if launched() else 0
        self.count = paddle.distributed.get_world_size() if launched() else 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the log and the checkpoints."""
        return self.rank == 0

    def average(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Replace every float32 tensor by its mean over the processes, all in one message."""
        if self.count == 1:
            return
        if kernels_can_work_on(tensors):
            walk = Tensors(tensors)
            flat = gather(walk)
            self._communicate(lambda: paddle.distributed.all_reduce(flat))
            scatter(flat, walk, 1 / self.count)
            return
        flat = paddle.concat([tensor.detach().flatten() for tensor in tensors])
        self._communicate(lambda: paddle.distributed.all_reduce(flat))
        flat.scale_(1 / self.count)
        for tensor, part in zip(tensors, flat.split([int(tensor.size) for tensor in tensors])):
            paddle.assign(part.reshape(tensor.shape), tensor)

    def largest(self, value: int) -> int:
        """Return the largest of the processes' values."""
        if self.count == 1:
            return value
        box = paddle.to_tensor([value], dtype="int64")
        self._communicate(lambda: paddle.distributed.all_reduce(box, paddle.distributed.ReduceOp.MAX))
        return int(box)

    def wait(self) -> None:
        """Block until all processes have called it."""
        self.largest(0)

    def gather(self, items: Sequence[Any]) -> list[Any]:
        """Return the items of all processes, in the order before `part` divided them."""
        if self.count == 1:
            return list(items)
        parts: list[Sequence[Any]] = []
        self._communicate(lambda: paddle.distributed.all_gather_object(parts, list(items)))
        total = sum(map(len, parts))
        return [parts[index % self.count][index // self.count] for index in range(total)]

    def part(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this process's part of `items`: every count-th one."""
        return items[self.rank :: self.count]

    def _communicate(self, call) -> None:
        try:
            call()
        except RuntimeError as error:  # gloo: "Connection reset by peer", or its time-out
            raise SlimError(
                "another process of this training has ended: all stop, the last checkpoint is kept, and the same "
                f"command continues from it ({str(error).strip().splitlines()[-1]})"
            ) from error
