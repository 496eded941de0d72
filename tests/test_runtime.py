"""The runtime: decoding and pre-processing by hand counts, lines that do not disturb each other, bad files."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from drawing import draw_row
from PIL import Image

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime import bundle as bundle_module
from ppocr_slim.runtime.blank import is_blank
from ppocr_slim.runtime.bundle import read_bundle, shipped, write_card
from ppocr_slim.runtime.images import find_images, load_image
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.sessions import open_bundle_session
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.synth.dataset import LineGenerator
from ppocr_slim.text.ctc import greedy_decode

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("", "a", "b", " ")


def probabilities(steps) -> np.ndarray:
    """(class, probability) of every step -> [1, T, 4] float32; the rest is shared by the other classes."""
    out = np.zeros((1, len(steps), 4), np.float32)
    for at_step, (winner, value) in zip(out[0], steps):
        at_step[:] = (1 - value) / 3
        at_step[winner] = value
    return out


def test_greedy_decoding_by_hand():
    """Doubled characters would be lost, or blanks and repeats be read as characters."""
    steps = [(0, 0.9), (1, 0.9), (1, 0.5), (0, 0.9), (1, 0.7), (2, 0.8), (2, 0.6), (3, 0.6), (1, 1.0)]
    [(text, confidence)] = greedy_decode(probabilities(steps), CLASSES)
    assert text == "aab a"
    assert confidence == pytest.approx((0.9 + 0.7 + 0.8 + 0.6 + 1.0) / 5)


@pytest.mark.parametrize("steps", [[(0, 0.9)] * 5, [(0, 0.9), (3, 0.8), (0, 0.9)]])
def test_blanks_or_spaces_alone_are_no_text(steps):
    """An empty line would read as " " or carry the confidence NaN."""
    assert greedy_decode(probabilities(steps), CLASSES) == [("", 0.0)]


def test_spaces_at_the_ends_are_stripped():
    """A line with a margin would never be exactly right."""
    steps = [(3, 0.9), (1, 0.9), (3, 0.9), (2, 0.9), (3, 0.9)]
    assert greedy_decode(probabilities(steps), CLASSES)[0][0] == "a b"


def test_decoded_text_is_nfc():
    """A dictionary with combining marks would give texts that compare unequal to their labels."""
    steps = [(1, 0.9), (2, 0.9)]
    assert greedy_decode(probabilities(steps), ("", "e", "\u0301", " "))[0][0] == "é"


def test_resizing_keeps_the_aspect_ratio_and_squeezes_at_the_limit():
    """Text would be distorted in another way than in training, or cut off at the right."""
    image = draw_row("Hà Nội", height=48)
    height, width = image.shape[:2]
    assert resize_to_height(image, 32).shape == (32, round(width * 32 / height), 3)
    assert resize_to_height(image, 64).shape == (64, round(width * 64 / height), 3)
    assert resize_to_height(image, 48) is image
    ramp = np.repeat(np.linspace(0, 255, 900).astype(np.uint8)[None, :, None], 32, axis=0).repeat(3, axis=2)
    squeezed = resize_to_height(ramp, 32, max_width=300)
    assert squeezed.shape == (32, 300, 3) and squeezed[0, -1, 0] > 250
    assert resize_to_height(np.zeros((500, 2, 3), np.uint8), 32).shape == (32, 1, 3)


def test_normalization_and_padding():
    """Exported models would see other numbers than PaddleOCR's runtimes feed them."""
    image = np.array([[[0, 255, 51]]], np.uint8)
    assert np.allclose(to_batch([image], image.shape[1])[0, :, 0, 0], [-1, 1, -0.6])
    wide, narrow = np.full((4, 6, 3), 255, np.uint8), np.zeros((4, 2, 3), np.uint8)
    batch = to_batch([wide, narrow], 8)
    assert batch.shape == (2, 3, 4, 8) and batch.dtype == np.float32
    assert (batch[0, :, :, :6] == 1).all() and (batch[0, :, :, 6:] == 0).all()
    assert (batch[1, :, :, :2] == -1).all() and (batch[1, :, :, 2:] == 0).all()
    assert [padded_width(w) for w in (1, 32, 33, 64)] == [32, 32, 64, 64]


def padding_sensitive(x: np.ndarray) -> np.ndarray:
    """A fake network: a step's class follows its brightness, and the last step's the padded width."""
    n, _, _, width = x.shape
    levels = x.mean(axis=(1, 2)).reshape(n, width // 4, 4).mean(axis=2)
    winners = np.digitize(levels, [-0.33, 0.33])
    winners[:, -1] = width // 32 % 3
    return np.eye(4, dtype=np.float32)[winners]


def test_rows_do_not_depend_on_their_neighbours_and_keep_their_order():
    """An image would read differently alone and in a folder, or texts land at the wrong files."""
    rng = np.random.default_rng(0)
    images = []
    for width in rng.integers(20, 400, 25):
        levels = np.repeat(rng.integers(0, 156, width // 8 + 1), 8)[None, :width, None]
        images.append((levels + rng.integers(0, 100, (32, width, 3))).astype(np.uint8))
    images += [draw_row("Thôn 7"), draw_row("Quận 1 Phường Bến Nghé")]
    recognizer = Recognizer(padding_sensitive, RecSpec(32, ("", "x", "y", "z")))
    alone = [recognizer.read([image])[0] for image in images]
    assert len({line.text for line in alone}) > 10
    for batch_size in (1, 3, 8):
        assert recognizer.read(images, batch_size) == alone
    assert recognizer.read(images[::-1]) == alone[::-1]
    assert recognizer.read([]) == []


def form_row(text: str = "") -> np.ndarray:
    """A form's row: shaded and noisy paper, a rule below, a slanted one at the right, and a text."""
    rng = np.random.default_rng(4)
    paper = np.linspace(150, 225, 900)[None, :, None] + rng.normal(0, 6, (64, 900, 3))
    row = np.ascontiguousarray(np.clip(paper, 0, 255).astype(np.uint8))
    cv2.line(row, (0, 58), (899, 61), (40, 40, 40), 2)
    cv2.line(row, (840, 0), (833, 63), (40, 40, 40), 2)
    if text:
        drawn = draw_row(text, height=64)
        width = drawn.shape[1]
        row[:, 20 : 20 + width] = np.minimum(row[:, 20 : 20 + width], drawn)
    return row


BLANK_ROWS = {
    "white": np.full((64, 900, 3), 255, np.uint8),
    "black": np.zeros((64, 900, 3), np.uint8),
    "noise": np.random.default_rng(1).normal(190, 12, (40, 900, 3)).clip(0, 255).astype(np.uint8),
    "form": form_row(),
    "small": np.full((40, 30, 3), 200, np.uint8),
}


@pytest.mark.parametrize("name", BLANK_ROWS)
def test_a_blank_row_gives_no_text(name):
    """An empty field of a form would get an address that is not written there."""

    def invents(x):
        return np.eye(4, dtype=np.float32)[np.ones((x.shape[0], x.shape[3] // 4), int)]

    [line] = Recognizer(invents, RecSpec(40, CLASSES)).read([BLANK_ROWS[name]])
    assert (line.text, line.confidence) == ("", 0.0)


def test_blank_rows_of_made_forms_are_told_from_written_ones():
    """Rules and the neighbours' tails would be read as an address, or the writing of a faint hand be thrown away."""
    generator = LineGenerator()
    for height in (40, 48):
        blank = [resize_to_height(generator.generate(3, 0, index, blank=1.0)[0], height) for index in range(100)]
        written = [resize_to_height(generator.generate(3, 0, index)[0], height) for index in range(50)]
        assert sum(map(is_blank, blank)) >= 97
        assert not any(map(is_blank, written))


@pytest.mark.parametrize("text", ["Hà Nội", "7", "l"])
def test_writing_is_not_taken_for_blank(text):
    """A short entry, a light one, one on a form or one cut tightly would be thrown away unread."""
    line = draw_row(text)
    ink = np.flatnonzero(line[:, :, 0].min(axis=0) < 100), np.flatnonzero(line[:, :, 0].min(axis=1) < 100)
    tight = line[ink[1][0] : ink[1][-1] + 1, ink[0][0] - 2 : ink[0][-1] + 3]
    for image in (line, 255 - line, draw_row(text, ink=150), form_row(text), tight):
        assert not is_blank(resize_to_height(np.ascontiguousarray(image), 40))


def test_image_kinds_become_bgr(tmp_path: Path):
    """Grey, 16-bit, palette or transparent files would fail, come out black, or with red and blue swapped."""
    grey = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (8, 1))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("grey.png", "deep.png"):
        assert np.array_equal(load_image(tmp_path / name), np.repeat(grey[:, :, None], 3, axis=2))
    Image.new("RGB", (5, 4), (255, 10, 20)).save(tmp_path / "red.png")
    assert load_image(tmp_path / "red.png")[0, 0].tolist() == [20, 10, 255]
    glass = np.zeros((4, 5, 4), np.uint8)
    glass[:, 2] = (0, 0, 0, 255)
    Image.fromarray(glass).save(tmp_path / "glass.png")
    assert load_image(tmp_path / "glass.png")[0, :, 0].tolist() == [255, 255, 0, 255, 255]
    palette = Image.new("P", (5, 4), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert load_image(tmp_path / "palette.png")[0, :2, 0].tolist() == [255, 9]


def test_exif_orientation_is_followed(tmp_path: Path):
    """A line photographed with the phone held upright would be read sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    picture = Image.new("RGB", (60, 20), "white")
    picture.paste("black", (0, 0, 20, 20))
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = load_image(tmp_path / "turned.jpg")
    assert image.shape == (60, 20, 3)
    assert image[:15].mean() < 20 and image[-15:].mean() > 235


def broken_files(folder: Path) -> dict:
    """Bad image files by the reason that must be given for them."""
    good = folder / "good.jpg"
    Image.fromarray(draw_row("Quận 1 Phường Bến Nghé")).save(good)
    (folder / "cut.jpg").write_bytes(good.read_bytes()[:900])
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    (folder / "empty.png").write_bytes(b"")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 6000, 8, 2, 0, 0, 0))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return {
        "cut.jpg": "truncated",
        "text.png": "not an image",
        "empty.png": "not an image",
        "missing.png": "No such file",
        "huge.png": "too large",  # it has no pixels at all: only its header can have said so
        "bomb.png": "too large",
    }


def test_broken_images_are_named_with_a_reason(tmp_path: Path):
    """One bad file would stop a folder with a stack trace, be read half, or fill the memory."""
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(SlimError, match=reason) as error:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_find_images(tmp_path: Path):
    """Images in subfolders would be missed, other files tried, or the order change from run to run."""
    for name in ("b/2.png", "b/1.JPG", "a.webp", "notes.txt", "b/c/3.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_images([tmp_path, tmp_path / "missing.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.webp",
        "b/1.JPG",
        "b/2.png",
        "b/c/3.jpeg",
        "missing.png",
    ]
    (tmp_path / "bare").mkdir()
    with pytest.raises(SlimError, match="no image in"):
        find_images([tmp_path / "bare"])


def test_find_images_follows_links_and_ends(tmp_path: Path):
    """A data set whose images are a link would be said to have none; a link that leads back would never end."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "1.png").write_bytes(b"")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "deep" / "back").symlink_to(tmp_path / "real", target_is_directory=True)
    assert find_images([tmp_path / "set"]) == [tmp_path / "set" / "images" / "deep" / "1.png"]


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    """A bundle whose card is right and whose network file is some bytes."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"some bytes")
    architecture = {"name": "crnn_mv3_slim", "args": {"height": 40}}
    spec = RecSpec(40, ("", "1", "n", "y", "ế", " "))
    write_card(folder, architecture, spec, {"rows": 3}, ["model.onnx"], {})
    return folder


def test_a_bundle_card_comes_back(small_bundle: Path):
    """Characters such as 1, n and y would come back from YAML as numbers and booleans."""
    bundle = read_bundle(small_bundle)
    assert bundle.spec == RecSpec(40, ("", "1", "n", "y", "ế", " "), 3200)
    assert bundle.architecture == {"name": "crnn_mv3_slim", "args": {"height": 40}} and bundle.parity == {"rows": 3}
    assert bundle.sizes == {"model.onnx": 10}


def test_a_changed_or_missing_file_is_refused(small_bundle: Path):
    """A damaged download would read nonsense without a word."""
    (small_bundle / "model.onnx").write_bytes(b"some bytez")
    with pytest.raises(SlimError, match="model.onnx is damaged"):
        read_bundle(small_bundle)
    (small_bundle / "model.onnx").unlink()
    with pytest.raises(SlimError, match="model.onnx is missing"):
        read_bundle(small_bundle)


def test_a_bundle_that_is_being_replaced_is_read_from_its_old_place(small_bundle: Path):
    """A reader between the two renames of an export would find no bundle, or rename what the export works on."""
    aside = small_bundle.rename(small_bundle.with_name("bundle.old"))
    assert read_bundle(small_bundle).file("model.onnx") == aside / "model.onnx"
    assert not small_bundle.exists()


def change(card: dict, path: str, value) -> None:
    *parents, last = path.split(".")
    for key in parents:
        card = card[key]
    if value is None:
        del card[last]
    else:
        card[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Bundle.format", 99),
        ("Bundle.task", "det"),
        ("Bundle", None),
        ("Bundle.input.height", "tall"),
        ("Bundle.input.height", 0),
        ("PostProcess.character_dict", [1, 2]),
        ("PostProcess.character_dict", None),
        ("Bundle.files", ["model.onnx"]),
        ("Bundle.files", {"../bundle/model.onnx": {"bytes": 10, "sha256": "0"}}),
    ],
)
def test_a_damaged_card_is_refused(small_bundle: Path, path, value):
    """A card of another version or a hand-edited one would end in a stack trace or in wrong characters."""
    file = small_bundle / "inference.yml"
    card = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(card, path, value)
    file.write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(SlimError, match="inference.yml|bundle"):
        read_bundle(small_bundle)


@pytest.mark.parametrize("content", [b"", b"a: [", b"\xff\xfe\x00", b"!!python/object/apply:os.getcwd []"])
def test_a_card_that_is_no_yaml_is_refused(small_bundle: Path, content):
    """A cut file would end in a stack trace; a hostile one would run code."""
    (small_bundle / "inference.yml").write_bytes(content)
    with pytest.raises(SlimError, match="damaged"):
        read_bundle(small_bundle)
    (small_bundle / "inference.yml").unlink()
    with pytest.raises(SlimError, match="is not a bundle"):
        read_bundle(small_bundle)


def test_backends_that_cannot_be_used_say_why(small_bundle: Path):
    """A typo, a missing package, format or network would be a stack trace."""
    bundle = read_bundle(small_bundle)
    with pytest.raises(SlimError, match="onnxruntime, openvino, paddle"):
        open_bundle_session(bundle, "onnx")
    with pytest.raises(SlimError, match="threads"):
        open_bundle_session(bundle, "onnxruntime", threads=0)
    with pytest.raises(SlimError, match="ONNX Runtime"):
        open_bundle_session(bundle, "onnxruntime")
    with pytest.raises(SlimError, match="has no inference.pdmodel"):
        open_bundle_session(bundle, "paddle")


def test_the_shipped_bundle_is_found_or_missed_clearly(small_bundle: Path, monkeypatch):
    """A tool without --bundle would fail with the name of some file."""
    monkeypatch.setattr(bundle_module, "PRETRAINED", small_bundle.parent)
    assert shipped("bundle") == small_bundle
    with pytest.raises(SlimError, match="no det bundle ships.*name one of your own"):
        shipped("det")


def test_the_runtime_imports_no_paddle_and_no_training():
    """Reading a line would need the half gigabyte of the training stack."""
    code = (
        "import sys; import ppocr_slim.runtime.predict; "
        "print([m for m in sys.modules if m.split('.')[0] in ('paddle', 'albumentations') or m.startswith("
        "('ppocr_slim.training', 'ppocr_slim.models', 'ppocr_slim.data', 'ppocr_slim.tasks'))])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
