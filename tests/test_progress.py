"""Progress of long work, on a terminal and in a log."""

from __future__ import annotations

import io
import time

import pytest
from tqdm import tqdm

from ppocr_slim import progress
from ppocr_slim.progress import TERMINAL, on_terminal, progress_bar


def shown(monkeypatch, terminal: str, seconds: float) -> str:
    monkeypatch.setenv(TERMINAL, terminal)
    monkeypatch.setattr(progress, "SECONDS", seconds)
    file = io.StringIO()
    for _ in progress_bar(range(200), unit="step", desc="train", file=file):
        time.sleep(0.001)
    return file.getvalue()


def test_a_log_gets_a_line_every_so_often(monkeypatch):
    """Lost otherwise: a night's training fills its log with a line per step, and what it says is not found in it."""
    lines = shown(monkeypatch, "0", 0.05).splitlines()
    assert 3 <= len(lines) <= 20 and lines[-1].startswith("train: 200 of 200 steps, ")
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_other_output_leaves_a_log_alone(monkeypatch):
    """Lost otherwise: each message of a training would be followed by a line of progress."""
    monkeypatch.setenv(TERMINAL, "0")
    file = io.StringIO()
    with progress_bar(total=3, unit="step", file=file) as bar:
        bar.update()
        tqdm.write("a message", file=file)
        bar.update(2)
    assert file.getvalue().splitlines()[0] == "a message" and "\r" not in file.getvalue()
    assert len(file.getvalue().splitlines()) == 2


def test_a_log_of_little_work_has_its_end_alone(monkeypatch):
    """Lost otherwise: how long it took would stand nowhere."""
    lines = shown(monkeypatch, "0", 30).splitlines()
    assert len(lines) == 1 and lines[-1].startswith("train: 200 of 200 steps, ")


def test_a_terminal_gets_a_bar(monkeypatch):
    """Lost otherwise: nobody sees how long it still takes."""
    assert "\r" in shown(monkeypatch, "1", 30)


@pytest.mark.parametrize(("said", "expected"), [("1", True), ("0", False)])
def test_a_process_believes_the_one_that_shows_its_output(monkeypatch, said, expected):
    """Lost otherwise: a training of several processes would write lines on a terminal, or a bar into a log."""
    monkeypatch.setenv(TERMINAL, said)
    assert on_terminal() is expected
