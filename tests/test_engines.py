"""OpenVINO behind the same small interface as ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from drawing import draw_row
from exported import TEXTS, save_lively_checkpoint
from PIL import Image

from ppocr_slim.data.labels import Sample
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError
from ppocr_slim.export.bundle import export_bundle
from ppocr_slim.runtime.bundle import INT8, ONNX, read_bundle
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.sessions import open_bundle_session


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    save_lively_checkpoint(folder / "checkpoint")
    samples = []
    for number, text in enumerate(TEXTS):
        Image.fromarray(draw_row(text)).save(folder / f"{number}.png")
        samples.append(Sample(folder / f"{number}.png", text, "a"))
    export_bundle(folder / "checkpoint", folder / "bundle", ["onnx", "onnx_int8"], 5, samples, samples)
    return read_bundle(folder / "bundle")


def batch(count=3):
    lines = [resize_to_height(draw_row(text), 32) for text in TEXTS[:count]]
    return to_batch(lines, padded_width(max(line.shape[1] for line in lines)))


def test_openvino_gives_the_probabilities_of_onnx_runtime(bundle):
    """Another engine would read other texts: OpenVINO by itself computes in bfloat16 where it can."""
    x = batch()
    ours = open_bundle_session(bundle, "openvino", 1, "fp32")
    np.testing.assert_allclose(ours(x), open_bundle_session(bundle, "onnxruntime", 1, "fp32")(x), atol=1e-4)
    wide = np.concatenate([x, x], axis=3)
    assert ours(wide).shape[1] == 2 * ours(x).shape[1]


def test_openvino_reads_the_int8_file(bundle):
    """With a batch of unknown size OpenVINO computes some INT8 convolutions wrong, and reads nonsense."""
    x = batch()
    plain = open_bundle_session(bundle, "onnxruntime", 1, "fp32")(x)
    # The error of rounding to INT8 is ONNX Runtime's error; the convolutions that are wrong made it 2.7 times as large.
    ours, theirs = (
        np.abs(open_bundle_session(bundle, name, 1, "int8")(x) - plain).mean() for name in ("openvino", "onnxruntime")
    )
    assert 0 < ours < 1.5 * theirs


def test_a_file_that_openvino_cannot_load_is_named(bundle):
    """The user would get OpenVINO's stack trace, and not know which file it is about."""
    path = bundle.folder / ONNX
    content = path.read_bytes()
    try:
        path.write_bytes(b"some bytes")
        with pytest.raises(SlimError, match="model.onnx: OpenVINO"):
            open_bundle_session(bundle, "openvino", 1, "fp32")
    finally:
        path.write_bytes(content)


def test_a_signal_after_openvino_sessions_have_gone_does_no_harm(bundle):
    """Lost otherwise: Ctrl-C, caught or not, would be a segmentation fault instead of the program's own end."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from ppocr_slim.engines.openvino import OpenVinoSession\n"
        "first, second = (OpenVinoSession(pathlib.Path(sys.argv[1]), 1) for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGINT, lambda *_: print('caught'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle.file(ONNX))], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "caught\n"), done.stderr


def test_a_missing_openvino_is_named_with_the_command_that_installs_it(bundle, monkeypatch):
    """The user would get an ImportError."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SlimError, match="pip install openvino"):
        open_bundle_session(bundle, "openvino", 1, "fp32")


def test_a_file_with_other_classes_than_its_card_is_refused(bundle):
    """Every character would be read as another."""
    other = replace(bundle, spec=replace(bundle.spec, classes=bundle.spec.classes[:-1]))
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(SlimError, match="do not belong together"):
            open_bundle_session(other, engine, 1, "fp32")
    assert {ONNX, INT8} == set(bundle.sizes)


def test_times_are_taken_in_turns():
    """What slows the machine down for a while would count against one of two that are compared."""
    order = []
    times = time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2, repeats=1)
    assert "".join(order) == "aaabbbbbbaaa"
    assert {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}
    assert compared([2.0, 4.0, 90.0], [4.0, 8.0, 10.0]) == {"ms": 4.0, "base_ms": 8.0, "ratio": 0.5}
