"""The data doctor: every fault that a label file can have, planted and found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from ppocr_slim.config.loading import load_config
from ppocr_slim.config.schema import EvalFile, TrainFile
from ppocr_slim.data.charset import Charset
from ppocr_slim.data.doctor import SHOWN, compare, diagnose_samples, line_problem, time_steps_for_height
from ppocr_slim.data.labels import read_label_file
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.tasks.checkpoint import CARD, ModelCard
from ppocr_slim.tasks.checks import check_config, prepare_data

ROOT = Path(__file__).resolve().parents[1]
CHARSET = Charset.from_texts(["abc 123"])


def draw(path: Path, width: int = 80, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def label_file(folder: Path, lines: list[str], name: str = "train.txt", **keys) -> TrainFile:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return TrainFile(path=path, **keys)


def diagnose(*files: EvalFile, for_training: bool = True, height: int = 40):
    return diagnose_samples(
        files, read_label_file, line_problem(CHARSET, time_steps_for_height(height)), for_training, progress=False
    )


def kinds(findings) -> list:
    return [(one.kind, int(one.where.rpartition(":")[2])) for one in findings]


def test_clean_data_is_clean(tmp_path: Path):
    """False alarms teach people to ignore the doctor; what the config says of a file must reach its samples."""
    draw(tmp_path / "w" / "1.png", 80, 20)
    draw(tmp_path / "w" / "2.png", 120, 30)
    diagnosis = diagnose(label_file(tmp_path, ["w/1.png\tab", "w/2.png\tc 1"], ratio=0.5, writer_folders=False))
    assert diagnosis.is_clean and diagnosis.findings == []
    assert [(one.sample.path.name, one.ratio, one.one_writer) for one in diagnosis.samples] == [
        ("1.png", 0.5, False),
        ("2.png", 0.5, False),
    ]
    diagnosis.require_clean(0.0)


def test_every_fault_is_found_by_file_and_line(tmp_path: Path):
    """Each of these trains wrong, crashes later or vanishes silently elsewhere."""
    for name in ("1", "2", "3", "4"):
        draw(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("this is no image")
    whole = draw(tmp_path / "cut.jpg", 400, 60).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "nothing.png").touch()
    lines = [
        "1.png\tab",
        "",
        "2.png ab",
        "2.png\t ",
        "none.png\tab",
        "text.png\tab",
        "cut.jpg\tab",
        "nothing.png\tab",
        "3.png\txyz",
        "4.png\t" + "abc" * 14,
        "1.png\tab",
        "./1.png\tac",
    ]
    diagnosis = diagnose(label_file(tmp_path, lines))
    assert [one.sample.path.name for one in diagnosis.samples] == ["1.png"]
    assert sorted(kinds(diagnosis.findings), key=lambda one: one[1]) == [
        ("blank line", 2),
        ("no TAB", 3),
        ("empty text", 4),
        ("missing image", 5),
        ("broken image", 6),
        ("broken image", 7),
        ("broken image", 8),
        ("unknown character", 9),
        ("label too long", 10),
        ("duplicate", 11),
        ("duplicate", 12),
    ]
    details = {one.where.rpartition(":")[2]: one.detail for one in diagnosis.findings}
    assert "'x' 'y' 'z'" in details["9"]
    assert "needs 42 time steps" in details["10"] and "has 40" in details["10"]
    assert "the same text" in details["11"]
    assert "another text, 'ab'" in details["12"]
    assert len(diagnosis.samples) + len(diagnosis.findings) == len(lines)


def test_a_blank_line_is_no_error(tmp_path: Path):
    """Text lines without writing measure whether a recognizer invents text; training has nothing to learn from them."""
    draw(tmp_path / "1.png")
    draw(tmp_path / "2.png")
    lines = ["1.png\tab", "2.png\t", "none.png\t"]
    train = diagnose(label_file(tmp_path, lines[:2]))
    assert [one.sample.path.name for one in train.samples] == ["1.png"]
    assert kinds(train.findings) == [("blank text line", 2)]
    assert train.bad_fraction == 0 and train.is_clean
    train.require_clean(0.0)
    assert "1 left out (0.0% are bad)" in train.report("train") and "blank text line: 1" in train.report("train")
    evaluation = diagnose(label_file(tmp_path, lines), for_training=False)
    assert [one.sample.text for one in evaluation.samples] == ["ab", ""]
    assert kinds(evaluation.findings) == [("missing image", 3)] and evaluation.notes == []
    with pytest.raises(SlimError, match="all 1 label lines are blank text lines"):
        diagnose(label_file(tmp_path, ["2.png\t"])).require_clean(1.0)


def test_a_label_fits_by_its_repeats(tmp_path: Path):
    """CTC needs a blank between equal letters: 'abab' fits four steps, 'aabb' does not and its loss is infinite."""
    draw(tmp_path / "1.png", 16, 40)
    draw(tmp_path / "2.png", 16, 40)
    diagnosis = diagnose(label_file(tmp_path, ["1.png\tabab", "2.png\taabb"]))
    assert kinds(diagnosis.findings) == [("label too long", 2)]


def test_the_last_columns_of_a_line_count_as_a_time_step(tmp_path: Path):
    """The network's output rounds up; a doctor that rounds down leaves out what training could use."""
    draw(tmp_path / "1.png", 42, 40)
    assert diagnose(label_file(tmp_path, ["1.png\t" + "abc" * 3 + "ab"])).is_clean
    assert not diagnose(label_file(tmp_path, ["1.png\t" + "abc" * 4])).is_clean


def test_evaluation_keeps_what_the_model_cannot_read(tmp_path: Path):
    """Leaving such lines out of an evaluation would make the error rate look better than it is."""
    draw(tmp_path / "1.png")
    draw(tmp_path / "2.png")
    file = label_file(tmp_path, ["1.png\txyz", "2.png\t" + "abc" * 20, "none.png\ta"])
    diagnosis = diagnose(file, for_training=False)
    assert len(diagnosis.samples) == 2
    assert kinds(diagnosis.notes) == [("unknown character", 1), ("label too long", 2)]
    assert kinds(diagnosis.findings) == [("missing image", 3)]


def test_a_duplicate_is_found_across_files(tmp_path: Path):
    """Two label files of one training often overlap."""
    draw(tmp_path / "1.png")
    first = label_file(tmp_path, ["1.png\ta"], "one.txt")
    second = label_file(tmp_path, ["1.png\ta"], "two.txt")
    finding = diagnose(first, second).findings[0]
    assert finding.where.endswith("two.txt:1") and "one.txt:1" in finding.detail


def test_too_much_left_out_stops_with_the_way_out(tmp_path: Path):
    """More than the allowed share of bad lines is a broken data set, not noise; less is counted and passes."""
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    diagnosis = diagnose(label_file(tmp_path, ["0.png\ta", "1.png\ta", "2.png\ta", "3.png\ta"]))
    diagnosis.require_clean(0.25)
    with pytest.raises(SlimError) as caught:
        diagnosis.require_clean(0.24)
    told = str(caught.value)
    for part in ("1 of 4", "25.0%", "train.txt:4 missing image", "max_bad_fraction"):
        assert part in told


def test_a_report_shows_all_where_all_is_asked_for(tmp_path: Path):
    """Whoever corrects the data needs every line; whoever starts a training must not lose its figures among them."""
    count = SHOWN + 3
    diagnosis = diagnose(label_file(tmp_path, [f"{number}.png\ta" for number in range(count)]))
    assert diagnosis.report("train").count("there is no file") == SHOWN
    assert "... and 3 more" in diagnosis.report("train")
    everything = diagnosis.report("train", shown=None)
    assert everything.count("there is no file") == count and "more" not in everything


def test_nothing_usable_stops_always(tmp_path: Path):
    """Training on no sample at all must not start, whatever is allowed."""
    with pytest.raises(SlimError, match="1 of 1"):
        diagnose(label_file(tmp_path, ["none.png\ta"])).require_clean(1.0)


def sides(folder: Path, train: list[str], evaluation: list[str], evaluation_folder: Path | None = None, **keys):
    for root, names in ((folder, train), (evaluation_folder or folder, evaluation)):
        for name in names:
            draw(root / name)
    first = diagnose(label_file(folder, [f"{name}\ta" for name in train], "train.txt", **keys))
    lines = [f"{name}\ta" for name in evaluation]
    second = diagnose(label_file(evaluation_folder or folder, lines, "val.txt"), for_training=False)
    return compare(first, second)


def test_a_writer_on_both_sides_is_found(tmp_path: Path):
    """Scores on writers that training has seen are far too good."""
    findings = sides(tmp_path, ["w1/1.png", "w2/1.png"], ["w2/2.png", "w2/3.png", "w3/1.png"])
    assert kinds(findings) == [("writer on both sides", 1)]
    assert "w2 has 2 evaluation and 1 training" in findings[0].detail


def test_a_writer_is_found_in_a_copy_of_the_data(tmp_path: Path):
    """The two sides often lie in folders of their own."""
    findings = sides(tmp_path / "a", ["w1/1.png", "w2/1.png"], ["w2/2.png", "w3/1.png"], tmp_path / "b")
    assert [one.kind for one in findings] == ["writer on both sides"]


def test_a_common_folder_name_is_no_writer(tmp_path: Path):
    """train/images and val/images are how most sets look; an alarm there is a false one."""
    assert sides(tmp_path / "a", ["images/1.png"], ["images/2.png"], tmp_path / "b") == []


def test_folders_that_say_nothing_of_writers_share_none(tmp_path: Path):
    """Synthetic lines are numbered into folders; 000 on both sides is no leak, though one and the same image is."""
    names = ["000/1.png", "001/1.png"], ["000/2.png", "001/2.png"]
    assert sides(tmp_path, *names, writer_folders=False) == []
    assert sides(tmp_path, *names) != []
    findings = sides(tmp_path, ["000/1.png"], ["000/1.png"], writer_folders=False)
    assert [one.kind for one in findings] == ["image on both sides"]


def test_an_image_on_both_sides_is_found(tmp_path: Path):
    """An evaluation of training images measures memory."""
    findings = sides(tmp_path, ["w1/1.png"], ["w1/1.png"])
    assert [one.kind for one in findings] == ["image on both sides", "writer on both sides"]


CONFIG = """
Global: {{output_dir: output/x}}
Architecture: {{name: crnn_mv3_slim, args: {{height: 40}}}}
Train: {{label_files: [{{path: {folder}/train.txt}}]}}
Eval: {{label_files: [{{path: {folder}/val.txt}}]}}
Recipe: [{{stage: train, epochs: 1}}]
"""


def config_file(folder: Path) -> Path:
    path = folder / "config.yml"
    path.write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return path


def test_the_doctor_asks_what_the_configs_own_model_can_carry(tmp_path: Path):
    """A doctor that examines for another model passes what the training then leaves out."""
    draw(tmp_path / "w1" / "1.png", 40, 40)
    draw(tmp_path / "w2" / "1.png", 40, 40)
    label_file(tmp_path, ["w1/1.png\tabcabcabcabc"], "train.txt")  # 12 steps; 10 at a height of 40, 12 at 48
    label_file(tmp_path, ["w2/1.png\tab"], "val.txt")
    path = config_file(tmp_path)
    _, train, _ = prepare_data(check_config(load_config(path)))
    assert kinds(train.findings) == [("label too long", 1)]
    teacher = ["Architecture.name=crnn_teacher", "Architecture.args={}"]  # its own height is 48
    _, train, _ = prepare_data(check_config(load_config(path, teacher)))
    assert train.is_clean


def test_the_characters_are_those_of_the_weights_that_training_starts_from(tmp_path: Path):
    """A dictionary made anew from few labels would throw away what the starting weights can read."""
    draw(tmp_path / "w1" / "1.png")
    draw(tmp_path / "w2" / "1.png")
    label_file(tmp_path, ["w1/1.png\tab"], "train.txt")
    label_file(tmp_path, ["w2/1.png\tc1"], "val.txt")
    path = config_file(tmp_path)
    spec, _, evaluation = prepare_data(check_config(load_config(path)))
    assert spec.characters == ("a", "b") and kinds(evaluation.notes) == [("unknown character", 1)]
    start = tmp_path / "start"
    start.mkdir()
    card = ModelCard("crnn_mv3_slim", {}, RecSpec(40, CHARSET.classes)).to_dict()
    (start / CARD).write_text(yaml.safe_dump(card), encoding="utf-8")
    started = f"Global.pretrained={start}"
    spec, _, evaluation = prepare_data(check_config(load_config(path, [started])))
    assert spec == RecSpec(40, CHARSET.classes) and evaluation.is_clean
    (tmp_path / "own.txt").write_text("a\nb\nz\n", encoding="utf-8")
    named = [started, f"Global.character_dict_path={tmp_path / 'own.txt'}"]
    assert prepare_data(check_config(load_config(path, named)))[0].characters == ("a", "b", "z")
    label_file(tmp_path, ["w1/1.png\tabz"], "train.txt")
    assert prepare_data(check_config(load_config(path, [started])))[0].characters == ("a", "b", "z")
    with pytest.raises(SlimError, match="there is no folder .*nowhere"):
        prepare_data(check_config(load_config(path, ["Global.pretrained=nowhere"])))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Architecture.args.hieght=40", "Architecture.args.hieght: crnn_mv3_slim has no such argument"),
        ("Architecture.args.layers=0", "Architecture.args.layers: 0 is not allowed; it may be 1 or more"),
        ("Architecture.name=crnn", "Architecture.name: no model is called 'crnn'"),
        (
            "Train.augment=[{name: blurr}]",
            "Train.augment.0.name: no augmentation is called 'blurr'; did you mean blur?",
        ),
    ],
)
def test_a_wrong_name_of_a_model_or_an_augmentation_is_reported_at_its_place(
    tmp_path: Path, override: str, message: str
):
    """With files based on each other, an error without a file's name sends the reader to the wrong one."""
    path = config_file(tmp_path)
    with pytest.raises(SlimError) as caught:
        check_config(load_config(path, [override]))
    assert str(caught.value).startswith(f"-o {override}: {message}")
    path.write_text(path.read_text(encoding="utf-8").replace("height", "hieght"), encoding="utf-8")
    with pytest.raises(SlimError) as caught:
        check_config(load_config(path))
    assert str(caught.value).startswith(f"{path}: Architecture.args.hieght: ")


def doctor(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "doctor.py"), "-c", str(config_file(folder))]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=str(folder))


def test_the_tool_tells_clean_from_faulty_from_impossible(tmp_path: Path):
    """Scripts go by the exit status: 0 clean, 1 something found, 2 it could not look."""
    draw(tmp_path / "w1" / "1.png")
    draw(tmp_path / "w2" / "1.png")
    label_file(tmp_path, ["w1/1.png\tab"], "train.txt")
    label_file(tmp_path, ["w2/1.png\tba"], "val.txt")
    clean = doctor(tmp_path)
    assert clean.returncode == 0 and "1 samples usable" in clean.stdout
    label_file(tmp_path, ["w2/1.png\tba", "w2/2.png\tb"], "val.txt")
    faulty = doctor(tmp_path)
    assert faulty.returncode == 1
    assert "missing image: 1" in faulty.stdout and "val.txt:2" in faulty.stdout
    (tmp_path / "train.txt").unlink()
    impossible = doctor(tmp_path)
    assert impossible.returncode == 2
    assert impossible.stderr.startswith("error: cannot read label file") and impossible.stderr.count("\n") == 1
