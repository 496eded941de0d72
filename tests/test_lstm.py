"""The fast LSTM must be Paddle's LSTM, only faster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from ppocr_slim.training.kernels import mkl
from ppocr_slim.training.kernels.lstm import fast_lstm, suits_lstm


def test_paddle_brings_mkl():
    """Lost otherwise: the LSTM would quietly be Paddle's own, and a training half as fast."""
    assert mkl.SGEMM != 0


def outputs_and_gradients(layer, run, data, targets):
    """Return y, h, c and the gradients of x and every weight, of one call of `run` on behalf of `layer`."""
    x = paddle.to_tensor(data, stop_gradient=False)
    y, (h, c) = run(x)
    sum((result * paddle.to_tensor(target)).sum() for result, target in zip((y, h, c), targets)).backward()
    gradients = [x.grad, *(weight.grad for weight in layer.parameters())]
    layer.clear_gradients()
    return [result.numpy() for result in (y, h, c)], [gradient.numpy() for gradient in gradients]


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 40),
    steps=st.integers(1, 70),
    features=st.integers(1, 40),
    hidden=st.sampled_from([1, 3, 16, 48, 64]),
    layers=st.integers(1, 3),
    direction=st.sampled_from(["forward", "bidirect"]),
    spread=st.sampled_from([0.1, 1.0, 20.0]),
    seed=st.integers(0, 10_000),
)
def test_output_and_gradients_are_paddles(batch, steps, features, hidden, layers, direction, spread, seed):
    """Lost otherwise: training on a CPU would follow wrong gradients, and nobody would see why accuracy is poor."""
    paddle.seed(seed)
    random = np.random.default_rng(seed)
    layer = nn.LSTM(features, hidden, layers, direction=direction)
    assert suits_lstm(layer)
    data = (spread * random.standard_normal((batch, steps, features))).astype(np.float32)
    ends = (layers * layer.num_directions, batch, hidden)
    shapes = ((batch, steps, hidden * layer.num_directions), ends, ends)
    targets = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    plain = outputs_and_gradients(layer, layer, data, targets)
    fast = outputs_and_gradients(layer, lambda x: fast_lstm(layer, x), data, targets)
    for ours, paddles in zip(fast[0], plain[0]):
        assert ours.shape == paddles.shape
        assert np.abs(ours - paddles).max() < 2e-6
    for ours, paddles in zip(fast[1], plain[1]):
        assert ours.shape == paddles.shape
        assert np.abs(ours - paddles).max() <= 1e-5 * max(1.0, np.abs(paddles).max())
    with paddle.no_grad():
        assert np.array_equal(fast_lstm(layer, paddle.to_tensor(data))[0].numpy(), fast[0][0])


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 4, time_major=True),
        nn.LSTM(4, 4, 2, dropout=0.5),
        nn.LSTM(4, 4, proj_size=2),
        nn.LSTM(4, 4, bias_ih_attr=False),
        nn.LSTM(4, 4, bias_hh_attr=False),
        nn.GRU(4, 4),
        nn.SimpleRNN(4, 4),
        nn.Linear(4, 4),
    ],
)
def test_other_layers_do_not_suit(layer):
    """Lost otherwise: a layer that the kernel cannot compute would be computed wrongly."""
    assert not suits_lstm(layer)


def test_other_calls_take_the_layers_own_forward():
    """Lost otherwise: states or lengths would be ignored, and a wrong shape would be read beyond its end."""
    layer = nn.LSTM(3, 4, direction="bidirect")
    x, lengths = paddle.randn([2, 5, 3]), paddle.to_tensor([5, 2])
    states = (paddle.randn([2, 2, 4]), paddle.randn([2, 2, 4]))
    ours = fast_lstm(layer, x, states, lengths)[0].numpy()
    assert np.array_equal(ours, layer(x, states, lengths)[0].numpy())
    assert not np.array_equal(ours, fast_lstm(layer, x)[0].numpy())
    with pytest.raises(ValueError):
        fast_lstm(layer, paddle.randn([2, 5, 7]))


def test_a_traced_graph_holds_paddles_own_layer():
    """Lost otherwise: a model whose layers were swapped could not be exported."""

    class Reader(nn.Layer):
        def __init__(self):
            super().__init__()
            self.encoder = nn.LSTM(3, 4, direction="bidirect")

        def forward(self, x):
            return self.encoder(x)[0]

    reader, x = Reader(), paddle.randn([2, 5, 3])
    expected = reader(x).numpy()

    def forward(inputs, initial_states=None, sequence_length=None, layer=reader.encoder):
        return fast_lstm(layer, inputs, initial_states, sequence_length)

    reader.encoder.forward = forward
    specification = [paddle.static.InputSpec([None, 5, 3], name="x")]
    traced = paddle.jit.to_static(reader, input_spec=specification, full_graph=True)
    assert np.abs(traced(x).numpy() - expected).max() < 1e-6
    assert "rnn" in {operator.type for operator in traced.forward.concrete_program.main_program.global_block().ops}


def test_only_asked_for_gradients():
    """Lost otherwise: a network whose trunk or some weights are frozen could not be trained."""
    layer = nn.LSTM(3, 4, direction="bidirect")
    layer.weight_hh_l0.stop_gradient = True
    y, _ = fast_lstm(layer, paddle.randn([2, 5, 3]))
    y.sum().backward()
    assert layer.weight_hh_l0.grad is None and float(layer.weight_ih_l0.grad.abs().sum()) > 0


def test_results_of_one_pass_stay_when_another_begins():
    """Lost otherwise: two passes before one backward pass, as in accumulation or two views of a line, would mix."""
    layer = nn.LSTM(3, 4, 2, direction="bidirect")
    data = [paddle.randn([2, 5, 3]), paddle.randn([2, 5, 3])]
    expected = []
    for run in (layer, lambda x: fast_lstm(layer, x)):
        first, second = run(data[0])[0], run(data[1])[0]
        ((first * first).sum() + second.sum()).backward()
        expected.append([weight.grad.numpy() for weight in layer.parameters()])
        layer.clear_gradients()
    for ours, paddles in zip(*expected):
        assert np.abs(ours - paddles).max() < 1e-5 * max(1.0, np.abs(paddles).max())


def test_not_a_number_stays_one():
    """Lost otherwise: a diverged network would go on training on numbers that look like numbers."""
    layer = nn.LSTM(3, 16, direction="bidirect")
    data = np.zeros((2, 4, 3), np.float32)
    data[1, 2, 0] = np.nan
    y = fast_lstm(layer, paddle.to_tensor(data))[0].numpy()
    assert np.isnan(y[1, 2]).all() and np.isfinite(y[0]).all()


PROBE = """
import hashlib, sys
import numpy as np
import ppocr_slim, paddle
from paddle import nn
from ppocr_slim.training.kernels.lstm import fast_lstm
kept = [np.ones(int(sys.argv[1]) * 7 + 1, np.float32)]  # other addresses
threads = len(__import__("os").listdir("/proc/self/task"))
paddle.seed(5)
layer = nn.LSTM(30, 24, 2, direction="bidirect")
x = paddle.randn([3, 40, 30])
x.stop_gradient = False
for _ in range(2):
    layer.clear_gradients()
    x.clear_grad()
    kept.append(np.ones(len(kept) * 1001, np.float32))
    y = fast_lstm(layer, x)[0]
    (y * y).sum().backward()
    results = [y, x.grad, *(weight.grad for weight in layer.parameters())]
    print(hashlib.sha256(b"".join(result.numpy().tobytes() for result in results)).hexdigest())
assert len(__import__("os").listdir("/proc/self/task")) == threads, "threads were started"
"""


def test_the_same_input_gives_the_same_bits_and_no_threads_start():
    """Lost otherwise: two runs from one seed would drift apart, or data loading would fight MKL for the cores."""
    seen = set()
    for shift in ("1", "1003"):
        command = [sys.executable, "-c", PROBE, shift]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=str(Path(__file__).parents[1]))
        assert done.returncode == 0, done.stderr
        seen.update(done.stdout.split())
    assert len(seen) == 1
