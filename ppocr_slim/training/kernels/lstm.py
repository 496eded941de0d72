"""Paddle's `nn.LSTM` for training on a CPU (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(...)   g = tanh(...)   of   W_ih x[t] + b_ih + W_hh h[t-1] + b_hh, in the order i, f, g, o
    c[t] = f c[t-1] + i g    h[t] = o tanh(c[t])

Nearly all of its work is matrix products, which MKL computes. Everything else is kept out of their way: all time steps
of a direction run inside one compiled function, over time-major memory, in blocks of time steps small enough that what
one product writes is still in the second-level cache when the next one reads it. The gates of a time step are computed
sample by sample, in the first-level cache.

Shapes: N samples, T time steps, I inputs, H hidden units, D directions; the gates are in the order i, f, g, o.
"""

from __future__ import annotations

import numpy as np
import paddle
from numba import njit
from paddle import nn
from paddle.autograd import PyLayer

from ppocr_slim.models.fake_quant import QuantizedLSTM
from ppocr_slim.training.kernels.exponential import EXACT, exp
from ppocr_slim.training.kernels.memory import aligned, view, writable
from ppocr_slim.training.kernels.mkl import SGEMM, multiply

BLOCK = 512  # matrix rows (time steps times samples) of a block

_ONE, _TWO = np.float32(1.0), np.float32(2.0)


@njit(**EXACT)
def _sigmoid(x):
    return _ONE / (_ONE + exp(-x))


@njit(**EXACT)
def _tanh(x):
    return _TWO * _sigmoid(_TWO * x) - _ONE


# The compiler tests once, before the loop over n, that what an inner loop writes does not overlap what it reads: so no
# inner loop may write two parts of one array.


@njit(**EXACT)
def _gates_forward(gates, bias, cell_before, cell, out, d):
    """Turn the sums of one time step's gates [N, 4, H] into activations; write cell [N, H] and out[:, d] [N, H]."""
    batch, size = cell.shape
    for n in range(batch):
        for k in range(4):
            if k == 2:
                for j in range(size):
                    gates[n, k, j] = _tanh(gates[n, k, j] + bias[k, j])
            else:
                for j in range(size):
                    gates[n, k, j] = _sigmoid(gates[n, k, j] + bias[k, j])
        for j in range(size):
            c = gates[n, 1, j] * cell_before[n, j] + gates[n, 0, j] * gates[n, 2, j]
            cell[n, j] = c
            out[n, d, j] = gates[n, 3, j] * _tanh(c)


@njit(**EXACT)
def _gates_backward(gates, cell_before, cell, grad_out, d, grad_hidden, grad_cell, row, grad, grad_bias):
    """Write the gradient of one time step's sums to grad [N, 4, H], and add to that of the bias.

    grad_cell [N, H] moves one time step back. row [4, H] is memory for one sample.
    """
    batch, size = cell.shape
    for n in range(batch):
        for j in range(size):
            i, f, g, o = gates[n, 0, j], gates[n, 1, j], gates[n, 2, j], gates[n, 3, j]
            squashed = _tanh(cell[n, j])
            above = grad_out[n, d, j] + grad_hidden[n, j]
            to_cell = grad_cell[n, j] + above * o * (_ONE - squashed * squashed)
            row[0, j] = to_cell * g * i * (_ONE - i)
            row[1, j] = to_cell * cell_before[n, j] * f * (_ONE - f)
            row[2, j] = to_cell * i * (_ONE - g * g)
            row[3, j] = above * squashed * o * (_ONE - o)
            grad_cell[n, j] = to_cell * f
        for k in range(4):
            for j in range(size):
                grad[n, k, j] = row[k, j]
                grad_bias[k, j] += row[k, j]


@njit(**EXACT)
def block_steps(batch):
    """Return the number of time steps of a block."""
    return max(1, BLOCK // batch)


@njit(**EXACT)
def _forward(sgemm, x, weight_ih, weight_hh, bias, zeros, d, gates, cells, out):
    """Compute direction d of one layer; 1 runs from the last time step to the first.

    x [T, N, I], weight_ih [4 H, I], weight_hh [H, 4 H] (transposed), bias [4, H], zeros [N, H]
    -> gates [T or time steps of a block, N, 4, H], cells [T or 2, N, H], out[:, :, d] of [T, N, D, H]
    """
    steps, batch, features = x.shape
    size, width = zeros.shape[1], out.shape[2] * out.shape[3]
    block = block_steps(batch)
    count = (steps + block - 1) // block
    for k in range(count):
        first = (count - 1 - k if d else k) * block
        last = min(first + block, steps)
        sums = gates[first:] if gates.shape[0] == steps else gates
        shape = ((last - first) * batch, features, 4 * size)
        multiply(sgemm, (x[first], features), (weight_ih, -features), (sums, 4 * size), shape, 0.0)
        for s in range(last - first):
            t = last - 1 - s if d else first + s
            before = t + 1 if d else t - 1
            now = sums[t - first]
            cell_before = zeros
            if 0 <= before < steps:
                cell_before = cells[before % cells.shape[0]]
                states = (out[before, 0, d:], width)
                multiply(sgemm, states, (weight_hh, 4 * size), (now, 4 * size), (batch, size, 4 * size), 1.0)
            _gates_forward(now, bias, cell_before, cells[t % cells.shape[0]], out[t], d)


@njit(**EXACT)
def _backward(sgemm, x, weight_ih, weight_hh, zeros, d, kept, grad_out, grad_state, row, grad, grad_x, grad_weights):
    """Compute the gradients of `_forward`, whose arguments these are, but weight_hh [4 H, H] is not transposed.

    kept: gates, cells and out, of all time steps; grad_out [T, N, D, H]; grad_state: gradients of the last hidden state
    and cell [N, H], which are overwritten; row [4, H] and grad [time steps of a block, N, 4, H]: memory. To grad_x
    [T, N, I], unless it is empty, direction 0 writes and 1 adds. grad_weights, those of weight_ih, weight_hh and a bias
    [4, H], are added to.
    """
    gates, cells, out = kept
    grad_hidden, grad_cell = grad_state
    grad_weight_ih, grad_weight_hh, grad_bias = grad_weights
    steps, batch, features = x.shape
    size, width = zeros.shape[1], out.shape[2] * out.shape[3]
    block = block_steps(batch)
    count = (steps + block - 1) // block
    for k in range(count):
        first = (k if d else count - 1 - k) * block
        last = min(first + block, steps)
        for s in range(last - first):
            t = first + s if d else last - 1 - s
            before = t + 1 if d else t - 1
            now = grad[t - first]
            inside = 0 <= before < steps
            cell_before = cells[before] if inside else zeros
            _gates_backward(
                gates[t], cell_before, cells[t], grad_out[t], d, grad_hidden, grad_cell, row, now, grad_bias
            )
            if inside:
                shape = (batch, 4 * size, size)
                multiply(sgemm, (now, 4 * size), (weight_hh, size), (grad_hidden, size), shape, 0.0)
        rows = (last - first) * batch
        if grad_x.size:
            shape = (rows, 4 * size, features)
            multiply(
                sgemm, (grad, 4 * size), (weight_ih, features), (grad_x[first], features), shape, 1.0 if d else 0.0
            )
        shape = (4 * size, rows, features)
        multiply(sgemm, (grad, -4 * size), (x[first], features), (grad_weight_ih, features), shape, 1.0)
        # The same with the states before; the first time step of the direction has none.
        lower = first if d else max(first, 1)
        upper = min(last, steps - 1) if d else last
        if upper > lower:
            states = (out[lower + 1 if d else lower - 1, 0, d:], width)
            shape = (4 * size, (upper - lower) * batch, size)
            multiply(sgemm, (grad[lower - first :], -4 * size), states, (grad_weight_hh, size), shape, 1.0)


def _swapped(array: np.ndarray) -> np.ndarray:
    """Return a copy of [A, B, ...] as [B, A, ...]."""
    turned = array.swapaxes(0, 1)
    copy = aligned(*turned.shape)
    np.copyto(copy, turned)
    return copy


def _run(x, weights, directions: int, keep: bool):
    """Run all layers and directions on x [N, T, I].

    Returns:
        (y, h, c) as Paddle's LSTM returns them, and, if it is to be kept, what a backward pass needs of every layer:
        its input [T, N, I], gates and cells of each direction, its output [T, N, D, H].
    """
    batch, steps, _ = x.shape
    size = weights[1].shape[1]
    layers = len(weights) // (4 * directions)
    last_hidden, last_cell = (paddle.empty([layers * directions, batch, size]) for _ in range(2))
    y = paddle.empty([batch, steps, directions * size])
    zeros = np.zeros((batch, size), np.float32)
    kept = []
    below = _swapped(view(x))
    for layer in range(layers):
        out = aligned(steps, batch, directions, size)
        gates = [aligned(steps if keep else min(steps, block_steps(batch)), batch, 4, size) for _ in range(directions)]
        cells = [aligned(steps if keep else 2, batch, size) for _ in range(directions)]
        for d in range(directions):
            index = layer * directions + d
            w_ih, w_hh, b_ih, b_hh = (view(weight) for weight in weights[4 * index : 4 * index + 4])
            bias = (b_ih + b_hh).reshape(4, size)
            _forward(SGEMM, below, w_ih, _swapped(w_hh), bias, zeros, d, gates[d], cells[d], out)
            end = 0 if d else steps - 1
            writable(last_hidden)[index] = out[end, :, d]
            writable(last_cell)[index] = cells[d][end % len(cells[d])]
        kept.append((below, gates, cells, out))
        below = out.reshape(steps, batch, directions * size)
    np.copyto(writable(y), below.swapaxes(0, 1))
    return (y, last_hidden, last_cell), kept if keep else None


class LSTMFunction(PyLayer):
    """x [N, T, I] -> y [N, T, D H], h and c [layers * D, N, H] of the last time steps; all float32 on the CPU.

    `weights` are W_ih [4 H, I], W_hh [4 H, H], b_ih, b_hh [4 H] of every layer and, in it, direction.
    """

    @staticmethod
    def forward(ctx, x, directions, *weights):
        ctx.save_for_backward(*weights)
        results, ctx.kept = _run(x, weights, directions, keep=True)
        ctx.directions, ctx.input_needs_gradient = directions, not x.stop_gradient
        return results

    @staticmethod
    def backward(ctx, grad_y, grad_h, grad_c):
        weights = ctx.saved_tensor()
        directions = ctx.directions
        size = weights[1].shape[1]
        batch, steps, _ = grad_y.shape
        zeros = np.zeros((batch, size), np.float32)
        scratch = aligned(min(steps, block_steps(batch)), batch, 4, size)
        row = aligned(4, size)
        last_hidden, last_cell = (view(grad).copy() for grad in (grad_h, grad_c))
        grads = [paddle.zeros_like(weight) for weight in weights]
        above = _swapped(view(grad_y))
        for layer in reversed(range(len(ctx.kept))):
            x, gates, cells, out = ctx.kept[layer]
            grad_x = aligned(*x.shape if layer or ctx.input_needs_gradient else (0, 0, 0))
            for d in range(directions):
                index = layer * directions + d
                w_ih, w_hh = (view(weight) for weight in weights[4 * index : 4 * index + 2])
                to_ih, to_hh, to_bias, same_bias = (writable(grad) for grad in grads[4 * index : 4 * index + 4])
                kept = (gates[d], cells[d], out)
                last = (last_hidden[index], last_cell[index])
                to_weights = (to_ih, to_hh, to_bias.reshape(4, size))
                grad_out = above.reshape(out.shape)
                _backward(SGEMM, x, w_ih, w_hh, zeros, d, kept, grad_out, last, row, scratch, grad_x, to_weights)
                same_bias[...] = to_bias
            above = grad_x
        grad_x = None
        if ctx.input_needs_gradient:
            grad_x = paddle.empty([batch, steps, above.shape[2]])
            np.copyto(writable(grad_x), above.swapaxes(0, 1))
        # Paddle wants None where no gradient was asked for.
        return (grad_x, *(None if weight.stop_gradient else grad for weight, grad in zip(weights, grads)))


def suits_lstm(layer: nn.Layer) -> bool:
    """Return whether `fast_lstm` computes what this layer does."""
    return (
        SGEMM != 0
        and type(layer) in (nn.LSTM, QuantizedLSTM)
        and not layer.time_major
        and not layer.dropout
        and not layer.proj_size
        and all(hasattr(layer, name) for name in ("bias_ih_l0", "bias_hh_l0"))
        and all(weight.dtype == paddle.float32 for weight in layer.parameters())
    )


def _weights(layer: nn.LSTM) -> list[paddle.Tensor]:
    cells = [(part.cell,) if layer.num_directions == 1 else (part.cell_fw, part.cell_bw) for part in layer]
    return [
        weight
        for pair in cells
        for cell in pair
        for weight in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    ]


def fast_lstm(layer: nn.LSTM, inputs: paddle.Tensor, initial_states=None, sequence_length=None):
    """Return what `layer(inputs)` returns.

    The layer's own forward runs where states or lengths are given, on another device, with another dtype, while a
    static graph is traced, and for inputs of a wrong shape, which it reports.

    Args:
        layer: one that `suits_lstm`.
        inputs: [N, T, I].
        initial_states: as of `nn.LSTM`.
        sequence_length: as of `nn.LSTM`.

    Returns:
        y [N, T, D H], (h, c).
    """
    if not (
        initial_states is None
        and sequence_length is None
        and paddle.in_dynamic_mode()
        and inputs.place.is_cpu_place()
        and inputs.dtype == paddle.float32
        and inputs.ndim == 3
        and inputs.shape[2] == layer.input_size
        and inputs.size
    ):
        return nn.LSTM.forward(layer, inputs, initial_states, sequence_length)
    weights = _weights(layer)
    if paddle.is_grad_enabled() and not all(tensor.stop_gradient for tensor in (inputs, *weights)):
        y, h, c = LSTMFunction.apply(inputs, layer.num_directions, *weights)
    else:
        (y, h, c), _ = _run(inputs, weights, layer.num_directions, keep=False)
    return y, (h, c)
