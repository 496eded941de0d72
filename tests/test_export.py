"""Export: the bundle reads what the checkpoint reads, or there is no bundle."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawing import draw_row, write_rows
from exported import TEXTS, save_lively_checkpoint
from PIL import Image

from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.lines import evaluate
from ppocr_slim.evaluation.verification import LineParityCheck, evenly_spaced
from ppocr_slim.export import bundle as export_module
from ppocr_slim.export.bundle import export_bundle, measure_parity
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.folders import publish_folder, recover_folder
from ppocr_slim.models import build_model
from ppocr_slim.runtime.bundle import read_bundle
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import load_model, load_weights, read_arrays, read_states
from ppocr_slim.tasks.networks import open_recognizer
from ppocr_slim.visualize.line_sheet import marked_spans, reading_sheet

ROOT = Path(__file__).resolve().parents[1]
FORMATS = ("paddle", "onnx")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with rows (val.txt), a checkpoint and the bundle made from it."""
    folder = tmp_path_factory.mktemp("export")
    write_rows(folder, TEXTS, "val.txt")
    save_lively_checkpoint(folder / "checkpoint")
    export_bundle(folder / "checkpoint", folder / "bundle", FORMATS, 50, samples_of(folder))
    return folder


def samples_of(place: Path):
    return read_label_file(place / "val.txt")[0]


def contents(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_bundle_has_its_files_and_figures(place: Path):
    """The bundle would lack what other runtimes and a later training look for, or carry a pickle."""
    assert sorted(contents(place / "bundle")) == [
        "inference.pdiparams",
        "inference.pdmodel",
        "inference.yml",
        "model.onnx",
    ]
    bundle = read_bundle(place / "bundle")
    _, card = load_model(place / "checkpoint")
    assert bundle.spec == card.spec
    assert bundle.architecture == card.architecture
    assert bundle.parity["samples"] == len(TEXTS)
    assert max(bundle.parity["largest_difference"].values()) <= 1e-4
    assert not (place / "bundle.new").exists()


def test_rapidocr_finds_the_dictionary_in_the_onnx_file(place: Path):
    """RapidOCR would read wrong characters: it takes them from the file and adds blank and space."""
    metadata = {entry.key: entry.value for entry in onnx.load(str(place / "bundle" / "model.onnx")).metadata_props}
    assert tuple(metadata["character"].split("\n")) == read_bundle(place / "bundle").spec.characters


def test_checkpoint_and_every_backend_read_the_same(place: Path):
    """Users would deploy something other than what was evaluated."""
    rows = [draw_row(text, height=height) for text in TEXTS for height in (32, 50, 90)]
    expected = open_recognizer(place / "checkpoint").read(rows)
    assert len({line.text for line in expected}) > len(TEXTS) / 2, "this network is too dull to compare anything"
    for engine in ("onnxruntime", "paddle"):
        read = Recognizer.from_bundle(place / "bundle", engine, threads=1).read(rows)
        assert [line.text for line in read] == [line.text for line in expected]
        assert np.allclose([line.confidence for line in read], [line.confidence for line in expected], atol=1e-4)


def test_bundle_weights_come_back_bit_for_bit(place: Path):
    """A training that starts from a bundle would start from something else, without a word."""
    model, card = load_model(place / "checkpoint")
    other = build_model(card.name, card.args, len(card.spec.classes))
    load_weights(other, read_bundle_weights(place / "bundle"), place / "bundle")
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name].numpy(), theirs[name].numpy()) for name in mine)


def test_bundle_weights_that_do_not_fit_are_refused(place: Path):
    """A network of another size would keep random weights where the bundle's do not fit."""
    _, card = load_model(place / "checkpoint")
    other = build_model(card.name, {**card.args, "layers": 1}, len(card.spec.classes))
    with pytest.raises(SlimError, match="do not fit"):
        load_weights(other, read_bundle_weights(place / "bundle"), place / "bundle")


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data + b"x", lambda data: b"\1" + data[1:]])
def test_damaged_weights_are_refused(place: Path, tmp_path: Path, damage):
    """A cut file would give shifted or zero weights."""
    shutil.copytree(place / "bundle", tmp_path / "copy")
    file = tmp_path / "copy" / "inference.pdiparams"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SlimError, match="inference.pdiparams is damaged"):
        read_bundle_weights(tmp_path / "copy")


def test_a_wrong_export_is_not_written(place: Path, monkeypatch):
    """A converter's mistake would ship; the bundle that was there before must stay as it was."""
    before = contents(place / "bundle")
    true_session = export_module.open_bundle_session

    def disturbed(bundle, engine):
        session = true_session(bundle, engine)
        return session if engine == "paddle" else lambda x: session(x) + np.float32(2e-3)

    monkeypatch.setattr(export_module, "open_bundle_session", disturbed)
    with pytest.raises(SlimError, match="checkpoint and onnx differ by 0.002"):
        export_bundle(place / "checkpoint", place / "bundle", FORMATS, 50, samples_of(place))
    assert contents(place / "bundle") == before
    assert not (place / "bundle.new").exists()


def constant_session(first: float, third: float):
    """A network of three classes that gives the same probabilities at every step."""

    def session(x):
        out = np.zeros((x.shape[0], x.shape[3] // 4, 3), np.float32)
        out[:] = (first, 1 - first - third, third)
        return out

    return session


def test_parity_refuses_a_single_text_that_differs():
    """Differences below the tolerance can still tip a character over."""
    spec = RecSpec(32, ("", "a", " "))
    with pytest.raises(SlimError, match="reads ''.*reads 'a'"):
        measure_parity(
            constant_session(0.50001, 0), {"onnx": constant_session(0.49999, 0)}, LineParityCheck(spec, [draw_row("a")])
        )


def test_parity_refuses_nan_and_other_shapes():
    """A network that gives NaN, or forgets steps, would pass every comparison of numbers."""
    spec, rows = RecSpec(32, ("", "a", " ")), [draw_row("a")]
    good = constant_session(0.9, 0)
    with pytest.raises(SlimError, match="differ by nan"):
        measure_parity(good, {"onnx": lambda x: good(x) * np.float32("nan")}, LineParityCheck(spec, rows))
    with pytest.raises(SlimError, match="for one input"):
        measure_parity(good, {"onnx": lambda x: good(x)[:, 1:]}, LineParityCheck(spec, rows))
    assert measure_parity(good, {"onnx": good}, LineParityCheck(spec, rows))["texts_that_differ"] == 0


def test_parity_compares_a_batch():
    """A graph that mixes the rows of a batch would pass as long as rows are compared one by one."""
    spec, good = RecSpec(32, ("", "a", " ")), constant_session(0.9, 0)
    mixing = lambda x: good(x) * np.float32(1 if len(x) < 3 else 0.9)  # noqa: E731
    with pytest.raises(SlimError, match="differ by 0.09"):
        measure_parity(good, {"onnx": mixing}, LineParityCheck(spec, [draw_row("a"), draw_row("abc"), draw_row("ab")]))


def test_what_is_compared_is_spread_over_the_file():
    """An export would be compared on one writer's rows, the first ones."""
    assert evenly_spaced(range(100), 4) == [0, 33, 66, 99]
    assert evenly_spaced(range(3), 32) == [0, 1, 2]
    assert evenly_spaced([], 32) == []


DAMAGES = {
    "a number for an array": ("model.pdparams", lambda s: {**s, next(iter(s)): 1.5}),
    "whole numbers": ("model.pdparams", lambda s: {**s, next(iter(s)): s[next(iter(s))].astype(np.int64)}),
    "no state": ("model.pdparams", lambda s: [1, 2]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoint_weights_are_one_clear_line(place: Path, tmp_path: Path, name):
    """A damaged checkpoint would end in a stack trace that names no file."""
    shutil.copytree(place / "checkpoint", tmp_path / "copy")
    file, damage = DAMAGES[name]
    path = tmp_path / "copy" / file
    path.write_bytes(pickle.dumps(damage(read_arrays(path)), protocol=2))
    with pytest.raises(SlimError, match=file):
        load_model(tmp_path / "copy")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("model.yml", "  args:", "  args: [1]\n  rest:"),
        ("model.yml", "height: 32\nchar", "height: tall\nchar"),
        ("model.yml", "characters:", "characters: 5\nrest:"),
        ("model.states", '"step": 0', '"step": "many"'),
        ("model.states", "{", "["),
    ],
)
def test_damaged_checkpoint_texts_are_one_clear_line(place: Path, tmp_path: Path, file, old, new):
    """A hand-edited or cut card would end in a stack trace."""
    shutil.copytree(place / "checkpoint", tmp_path / "copy")
    path = tmp_path / "copy" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SlimError, match=f"{file} is damaged"):
        load_model(tmp_path / "copy")
        read_states(tmp_path / "copy")


def test_reading_a_checkpoint_that_is_being_replaced_changes_nothing(place: Path, tmp_path: Path):
    """An evaluation during a training would rename the folder that the training works on, and end it."""
    shutil.copytree(place / "checkpoint", tmp_path / "last.old")
    assert load_model(tmp_path / "last")[1] == load_model(place / "checkpoint")[1]
    assert [path.name for path in tmp_path.iterdir()] == ["last.old"]


def test_a_folder_is_replaced_whole_and_recovered(tmp_path: Path):
    """A kill between the renames would lose the checkpoint, or the next save would fail on what it left behind."""
    target, new = tmp_path / "last", tmp_path / "last.new"

    def fill(folder: Path, text: str) -> None:
        folder.mkdir()
        (folder / "file").write_text(text)

    for text in ("first", "second"):
        fill(new, text)
        publish_folder(new, target)
        assert (target / "file").read_text() == text and [p.name for p in tmp_path.iterdir()] == ["last"]
    target.rename(tmp_path / "last.old")  # the kill
    fill(new, "third")
    recover_folder(target)
    assert (target / "file").read_text() == "second"
    target.rename(tmp_path / "last.old")
    publish_folder(new, target)
    assert (target / "file").read_text() == "third" and [p.name for p in tmp_path.iterdir()] == ["last"]


def test_over_budget_nothing_is_written(place: Path, tmp_path: Path):
    """A model too large for the challenge or a phone would be noticed only after delivery."""
    arguments = [place / "checkpoint", "--out", tmp_path / "out", "--data", place / "val.txt"]
    done = run_tool("export.py", *arguments, "--budget-mb", "0.1")
    assert done.returncode == 2 and "over the budget of 0.1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_export_tool_prints_sizes_and_writes_the_formats_asked_for(place: Path, tmp_path: Path):
    """--formats would be ignored, or the sizes that users compare would not be shown."""
    arguments = [
        place / "checkpoint",
        "--out",
        tmp_path / "out",
        "--data",
        place / "val.txt",
        "--formats",
        "onnx",
    ]
    done = run_tool("export.py", *arguments, "--rows", "2")
    assert done.returncode == 0, done.stderr
    megabytes = (tmp_path / "out" / "model.onnx").stat().st_size / 1e6
    assert f"{megabytes:.2f} MB" in done.stdout and "on 2 samples" in done.stdout
    assert sorted(contents(tmp_path / "out")) == ["inference.yml", "model.onnx"]


def test_a_folder_with_other_things_is_not_replaced(place: Path, tmp_path: Path):
    """`--out .` would delete the user's files."""
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(SlimError, match="thesis.txt"):
        export_bundle(place / "checkpoint", tmp_path, FORMATS, 50, samples_of(place))
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_bad_arguments_are_refused(place: Path, tmp_path: Path):
    """A typo, an empty label file or a broken row would export something that was never compared."""
    samples = samples_of(place)
    with pytest.raises(SlimError, match="'tflite'"):
        export_bundle(place / "checkpoint", tmp_path / "out", ["onnx", "tflite"], 50, samples)
    with pytest.raises(SlimError, match="one labelled image"):
        export_bundle(place / "checkpoint", tmp_path / "out", FORMATS, 50, [])
    with pytest.raises(SlimError, match="not a checkpoint"):
        export_bundle(place / "bundle", tmp_path / "out", FORMATS, 50, samples)
    assert list(tmp_path.iterdir()) == []


def run_tool(name: str, *arguments) -> subprocess.CompletedProcess:
    """Run a tool from elsewhere, as a user would."""
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_paddle_imported_too_early_is_explained(place: Path, tmp_path: Path):
    """A script that imports paddle before this package would fail with a missing file."""
    code = (
        f"import sys, paddle; sys.path.insert(0, {str(ROOT)!r})\n"
        "from ppocr_slim.export.bundle import export_bundle\n"
        "from ppocr_slim.data.labels import read_label_file\n"
        "samples, _ = read_label_file(sys.argv[3])\n"
        "export_bundle(sys.argv[1], sys.argv[2], ['onnx'], 50, samples)\n"
    )
    command = [sys.executable, "-c", code, place / "checkpoint", tmp_path / "out", place / "val.txt"]
    environment = {key: value for key, value in os.environ.items() if key != "FLAGS_enable_pir_api"}
    done = subprocess.run(
        list(map(str, command)), cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "import ppocr_slim before paddle" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_eval_gives_the_same_numbers_for_checkpoint_and_bundle(place: Path, tmp_path: Path):
    """Published figures would hold for a network that nobody deploys."""
    results, tables = [], []
    for folder in ("checkpoint", "bundle"):
        out, sheet = tmp_path / f"{folder}.json", tmp_path / f"{folder}.png"
        arguments = [place / folder, "--data", place / "val.txt", "--json", out, "--worst-sheet", sheet]
        done = run_tool("eval.py", *arguments)
        assert done.returncode == 0, done.stderr
        tables.append([line for line in done.stdout.splitlines() if not line.startswith("wrote")])
        results.append(json.loads(out.read_text(encoding="utf-8")))
        assert Image.open(sheet).size[0] > 500
    assert tables[0] == tables[1] and tables[0][-1].split()[:2] == ["all", str(len(TEXTS))]
    first, second = results
    assert first["scores"] == second["scores"] and first["by_group"] == second["by_group"]
    assert [line["reading"] for line in first["lines"]] == [line["reading"] for line in second["lines"]]


def test_eval_says_what_is_wrong_with_its_folder(place: Path, tmp_path: Path):
    """A mistyped folder would end in a stack trace."""
    done = run_tool("eval.py", tmp_path, "--data", place / "val.txt")
    assert done.returncode == 2 and "neither a checkpoint" in done.stderr and "Traceback" not in done.stderr


def test_differences_are_marked_by_hand_count():
    """The red on the sheet would be at the wrong characters."""
    assert marked_spans("Hà Nội", "Ha Nội") == [("H", False), ("a", True), (" Nội", False)]
    assert marked_spans("ab", "a") == [("a", False), ("_", True)]
    assert marked_spans("a", "ab") == [("a", False), ("b", True)]


def test_the_sheet_shows_errors_in_red_and_survives_broken_images(place: Path, tmp_path: Path):
    """The picture would show a wrong reading as right, or fail on the very images that matter."""
    rows, _ = read_label_file(write_rows(tmp_path, ["Hà Nội", "Huế"]))
    rows[1].path.write_bytes(b"broken")
    evaluation = evaluate(open_recognizer(place / "checkpoint"), rows)
    reading_sheet(evaluation.lines, tmp_path / "sheet.png", "two lines")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert ((pixels[:, :, 0] > 180) & (pixels[:, :, 1] < 60)).sum() > 50
