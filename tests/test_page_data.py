"""Pages and crops on their way into a training: label files, the doctor, and batches whose maps fit their pictures."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_row, write_rows
from labelled_pages import PAGES, box, write_page, write_pages

from ppocr_slim.config.schema import Augmentation, Config
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.directions import TrainingCrops
from ppocr_slim.data.doctor import diagnose_crops, diagnose_pages
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.page_labels import read_page_file
from ppocr_slim.data.pages import PageBatch, TrainingPages
from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.preprocess import PAGE_NORMALIZED, resize_to_height, to_batch
from ppocr_slim.runtime.specs import ClsSpec, DetSpec

AUGMENT = [Augmentation(name=name, p=0.5) for name in ("color", "blur", "noise")]
CROP = 96
BLACK = [float(table[0]) for table in PAGE_NORMALIZED]
WHITE = [float(table[255]) for table in PAGE_NORMALIZED]


def pages_of(path: Path, augment=(), workers=1, part=(0, 1), crop=CROP, batch_size=2, longer_side=960):
    samples, findings = read_page_file(path)
    assert not findings
    spec = DetSpec(longer_side)
    checked = [CheckedSample(sample) for sample in samples]
    return TrainingPages(checked, spec, crop, LoaderSettings(batch_size, augment, 5, workers, part))


def assert_equal(one: PageBatch, other: PageBatch) -> None:
    assert one.sources == other.sources
    for field in fields(PageBatch):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name != "sources":
            assert np.abs(mine - theirs).max() == 0, field.name


BAD_LINES = {
    "no json": "{",
    "cut json": '[{"transcription": "a", "points": [[1, 1], [9, 1], [9, 9]',
    "text, as a recognizer's": "Hà Nội",
    "nothing": "",
    "no list": json.dumps(box(1, 1, 9, 9)),
    "a number": "[1]",
    "no transcription": json.dumps([{"points": box(1, 1, 9, 9)["points"]}]),
    "a transcription that is no text": json.dumps([{**box(1, 1, 9, 9), "transcription": 5}]),
    "no points": '[{"transcription": "a"}]',
    "points that are null": '[{"transcription": "a", "points": null}]',
    "points that are words": '[{"transcription": "a", "points": [["x", "y"], [1, 2], [3, 4]]}]',
    "points of unequal length": '[{"transcription": "a", "points": [[1, 2], [1], [3, 4]]}]',
    "points with three numbers": '[{"transcription": "a", "points": [[1, 2, 3], [1, 2, 3], [3, 4, 5]]}]',
    "two corners": '[{"transcription": "a", "points": [[1, 2], [3, 4]]}]',
    "no corner": '[{"transcription": "a", "points": []}]',
    "not a number": '[{"transcription": "a", "points": [[NaN, 2], [3, 4], [5, 6]]}]',
    "endless": '[{"transcription": "a", "points": [[Infinity, 2], [3, 4], [5, 6]]}]',
    "far away": '[{"transcription": "a", "points": [[1e9, 2], [3, 4], [5, 6]]}]',
    "a number of 400 digits": f'[{{"transcription": "a", "points": [[1{"0" * 400}, 2], [3, 4], [5, 6]]}}]',
    "brackets without end": "[" * 100_000,
    "a good box before a bad one": json.dumps([box(1, 1, 9, 9), {"transcription": "a"}]),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_line_that_is_no_page_is_a_finding(tmp_path, name):
    """Lost otherwise: one bad line of ten thousand would end a run in a stack trace, or vanish."""
    lines = [f"a.png\t{json.dumps([box(1, 1, 9, 9)])}", f"b.png\t{BAD_LINES[name]}", f"c.png\t{json.dumps([])}"]
    (tmp_path / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    samples, findings = read_page_file(tmp_path / "train.txt")
    assert [sample.path.name for sample in samples] == ["a.png", "c.png"]
    assert len(findings) == 1 and findings[0].where.endswith("train.txt:2")
    assert findings[0].kind == "unusable boxes" and "b.png" in findings[0].detail and len(findings[0].detail) < 600


def test_a_page_is_read_as_it_is_written(tmp_path):
    """Lost otherwise: a detector would learn to overlook lines, or to find what nobody can read."""
    entries = [box(1.5, 2, 30, 9, "Hà Nội"), box(3, 40, 30, 9, "###"), box(3, 60, 30, 9, "*"), box(3, 80, 30, 9, "")]
    entries[0]["points"].append([0, 5])
    text = json.dumps(entries, ensure_ascii=False)
    (tmp_path / "train.txt").write_text(f"w1/a.png\t{text}\n\nb.png {text}\n", encoding="utf-8")
    samples, findings = read_page_file(tmp_path / "train.txt", tmp_path / "elsewhere")
    assert [one.kind for one in findings] == ["blank line", "no TAB"]
    (page,) = samples
    assert page.path == tmp_path / "elsewhere" / "w1" / "a.png" and page.where.endswith("train.txt:1")
    assert page.texts == ("Hà Nội", "###", "*", "") and page.ignored == (False, True, True, False)
    assert page.outlines[0].tolist() == entries[0]["points"] and page.outlines[0].dtype == np.float32


def config_of(folder: Path, model: str = "db_mv3_slim") -> Config:
    raw = {
        "Global": {"output_dir": str(folder / "run")},
        "Architecture": {"name": model},
        "Train": {"label_files": [{"path": str(folder / "train.txt")}]},
        "Eval": {"label_files": [{"path": str(folder / "val.txt")}]},
        "Recipe": [{"stage": "train", "epochs": 1}],
    }
    return Config.model_validate(raw)


def found(findings) -> list:
    return [(one.kind, int(one.where.rpartition(":")[2])) for one in findings]


def test_the_doctor_finds_what_is_wrong_with_pages(tmp_path):
    """Lost otherwise: labels of another picture, or of a scaled one, would be learned; a figure would be too good."""
    beside = [[box(1, 1, 30, 20), box(210, 20, 60, 20)], [box(20, -40, 60, 20)], [box(-30, 20, 20, 20)]]
    at_the_rim = [[box(-10, -10, 60, 40)], [box(150, 130, 90, 60)]]
    write_pages(tmp_path, [*PAGES, *beside, *at_the_rim])
    with open(tmp_path / "train.txt", "a", encoding="utf-8") as file:
        file.write("images/none.png\t[]\nbroken.png\t[]\nimages/train/0.png\t[]\nimages/train/1.png\t{\n")
    (tmp_path / "broken.png").write_text("no image")
    write_pages(tmp_path, [PAGES[0], [box(300, 1, 20, 20)]], "val.txt")
    with open(tmp_path / "val.txt", "a", encoding="utf-8") as file:
        file.write(f"images/train/2.png\t{json.dumps(PAGES[2])}\n")
    train, evaluation = diagnose_pages(config_of(tmp_path), progress=False)
    assert sorted(found(train.findings), key=lambda one: one[1]) == [
        ("box outside of the page", 6),
        ("box outside of the page", 7),
        ("box outside of the page", 8),
        ("missing image", 11),
        ("broken image", 12),
        ("duplicate", 13),
        ("unusable boxes", 14),
    ]
    assert "box 1 of" in next(one.detail for one in train.findings if one.where.endswith(":6"))
    assert len(train.samples) == 7 and not train.notes
    # An evaluation keeps what it can look at: leaving it out would flatter.
    assert len(evaluation.samples) == 3 and not evaluation.findings
    assert found(evaluation.notes) == [("box outside of the page", 2), ("image on both sides", 3)]


def test_pages_of_one_folder_are_no_writers(tmp_path):
    """Lost otherwise: each clean set of pages would be reported, and nobody would look at the doctor again."""
    write_pages(tmp_path, PAGES)
    other = [f"images/train/x{number}.png\t[]" for number in range(2)]
    for number in range(2):
        write_page(tmp_path / "images" / "train" / f"x{number}.png", [])
    (tmp_path / "val.txt").write_text("\n".join(other), encoding="utf-8")
    train, evaluation = diagnose_pages(config_of(tmp_path), progress=False)
    assert train.is_clean and evaluation.is_clean


def test_a_training_on_empty_pages_is_refused(tmp_path):
    """Lost otherwise: a detector would train for hours to find nothing."""
    write_pages(tmp_path, [[], []])
    write_pages(tmp_path, PAGES, "val.txt")
    with pytest.raises(SlimError, match="no page of .*train.txt has a box"):
        diagnose_pages(config_of(tmp_path), progress=False)


def test_blank_lines_teach_no_direction(tmp_path):
    """Lost otherwise: lines without writing would be learned as upright or upside down, by chance."""
    write_rows(tmp_path, ["ab", "", "cd"])
    write_rows(tmp_path, ["ab"], "val.txt")
    train, evaluation = diagnose_crops(config_of(tmp_path, "dir_cls_mv3_slim"), progress=False)
    assert found(train.findings) == [("blank text line", 2)] and not train.bad and len(train.samples) == 2
    assert evaluation.is_clean


def test_page_batches_do_not_depend_on_threads_or_on_where_one_starts(tmp_path):
    """Lost otherwise: a resumed run, or one on another machine, would see other data."""
    path = write_pages(tmp_path, PAGES)
    one = list(islice(pages_of(path, AUGMENT, workers=1).batches(0), 7))
    many = list(islice(pages_of(path, AUGMENT, workers=3).batches(0), 7))
    later = list(islice(pages_of(path, AUGMENT).batches(4), 3))
    for a, b in [*zip(one, many), *zip(one[4:], later)]:
        assert_equal(a, b)
    assert not np.array_equal(one[0].image, one[3].image)  # the next epoch begins otherwise


def test_processes_share_an_epoch_of_pages(tmp_path):
    """Lost otherwise: two processes would learn from the same half of the pages, or from other crops than one."""
    path = write_pages(tmp_path, PAGES[:4])
    parts = [pages_of(path, part=(rank, 2), batch_size=1) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2] and parts[0].digest == parts[1].digest
    seen = [batch for part in parts for batch in islice(part.batches(0), 2)]
    assert len({batch.sources for batch in seen}) == 4
    alone = {batch.sources: batch for batch in islice(pages_of(path, batch_size=1).batches(0), 4)}
    for batch in seen:
        assert_equal(batch, alone[batch.sources])


def test_other_boxes_are_other_data(tmp_path):
    """Lost otherwise: a run would go on after its labels were corrected, with a curve of two experiments."""
    path = write_pages(tmp_path, PAGES)
    before = pages_of(path).digest
    assert pages_of(path).digest == before
    path.write_text(path.read_text(encoding="utf-8").replace("150", "151"), encoding="utf-8")
    assert pages_of(path).digest != before


def assert_maps_on_text(batch: PageBatch) -> int:
    """Where a map says text there is black, but for rounding at the rim; gives the number of those pixels."""
    count = 0
    darkness = (batch.image - np.reshape(WHITE, (3, 1, 1))) / np.reshape(np.subtract(BLACK, WHITE), (3, 1, 1))
    for dark, shrink, mask in zip(darkness.mean(axis=1), batch.shrink, batch.shrink_mask):
        inner = shrink == 1
        assert set(np.unique(shrink)) <= {0, 1} and set(np.unique(mask)) <= {0, 1}
        assert (dark[inner] > 0.8).all()
        # All that is black, is trained on and has room for a core has one: none is farther away than a line is high.
        black = ((dark > 0.8) & (mask == 1)).astype(np.uint8)
        _, parts, figures, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
        for number in range(1, len(figures)):
            if figures[number, cv2.CC_STAT_AREA] > 300 and min(figures[number, 2:4]) > 15:
                assert (inner & (parts == number)).any()
        count += int(inner.sum())
    return count


@pytest.mark.parametrize("longer_side", [960, 150])
def test_maps_lie_where_the_text_is(tmp_path, longer_side):
    """Lost otherwise: a detector would learn boxes beside the text, after any of zoom, turn, crop and scaling."""
    path = write_pages(tmp_path, PAGES * 2, size=(220, 170))
    pages = pages_of(path, longer_side=longer_side)
    batches = list(islice(pages.batches(0), 2 * len(pages)))
    assert all(batch.image.shape == (2, 3, CROP, CROP) and batch.shrink.shape == (2, CROP, CROP) for batch in batches)
    counts = [assert_maps_on_text(batch) for batch in batches]
    assert np.mean([count > 0 for count in counts]) > 0.7  # crops are laid over text, as most should
    turned = [slope for batch in batches for slope in slopes(batch)]
    assert min(turned) < -4 and max(turned) > 4 and max(map(abs, turned)) <= 11  # degrees


def slopes(batch: PageBatch) -> list[float]:
    """Degrees by which the long cores of a batch are turned."""
    found_slopes = []
    for plane in batch.shrink:
        for outline in cv2.findContours(plane.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
            corners = outline.reshape(-1, 2)
            inside = (corners > 1).all() and (corners < CROP - 2).all()
            (width, height), angle = cv2.minAreaRect(outline)[1:]
            if inside and max(width, height) > 30 and min(width, height) > 3:
                found_slopes.append(angle if width > height else angle - 90)
    return found_slopes


def test_lines_that_are_to_be_ignored_are_masked(tmp_path):
    """Lost otherwise: a detector would be punished for finding, or for not finding, what nobody can read."""
    path = write_pages(tmp_path, [[box(40, 30, 100, 60, "###")]])
    seen = 0
    for batch in islice(pages_of(path, batch_size=1).batches(0), 8):
        assert not batch.shrink.any() and not batch.threshold_mask.any()
        dark = batch.image[0, 0] < (BLACK[0] + WHITE[0]) / 2
        assert (batch.shrink_mask[0][cv2.erode(dark.astype(np.uint8), np.ones((5, 5))) == 1] == 0).all()
        assert (batch.shrink_mask[0][cv2.dilate(dark.astype(np.uint8), np.ones((5, 5))) == 0] == 1).all()
        seen += int(dark.sum())
    assert seen


def test_pages_without_text_are_batches_like_others(tmp_path):
    """Lost otherwise: one empty page would end a training, and nothing would teach what is no text."""
    path = write_pages(tmp_path, [[], []])
    for batch in islice(pages_of(path, AUGMENT).batches(0), 3):
        assert not batch.shrink.any() and not batch.threshold_mask.any() and batch.shrink_mask.all()
        assert np.isfinite(batch.image).all()


@pytest.mark.parametrize("size", [(40, 30), (400, 20), (31, 300), (1, 1)])
def test_pages_smaller_than_the_crop_lie_in_it(tmp_path, size):
    """Lost otherwise: a small picture among large ones would end a training; its text would be cut for nothing."""
    boxes = [box(0, 0, size[0] - 1, size[1] - 1)]
    path = write_pages(tmp_path, [boxes], size=size)
    for batch in islice(pages_of(path, AUGMENT, batch_size=1).batches(0), 6):
        assert batch.image.shape == (1, 3, CROP, CROP) and np.isfinite(batch.image).all()


def test_a_crop_lies_on_its_page(tmp_path):
    """Lost otherwise: half of what a detector sees would be the colour beside the page."""
    path = tmp_path / "train.txt"
    page = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), page)
    path.write_text(f"a.png\t{json.dumps([box(2, 2, 60, 20), box(240, 270, 50, 20)])}\n", encoding="utf-8")
    fill = [float(table[round(mean)]) for table, mean in zip(PAGE_NORMALIZED, cv2.mean(page)[:3])]
    beside = []
    for batch in islice(pages_of(path, batch_size=1).batches(0), 24):
        near = (np.abs(batch.image[0] - np.reshape(fill, (3, 1, 1))) < 0.03).all(axis=0)
        beside.append(cv2.erode(near.astype(np.uint8), np.ones((5, 5))).mean())
    assert np.mean(beside) < 0.03 and max(beside) < 0.15  # what turning uncovers


def test_plain_pages_are_their_middles(tmp_path):
    """Lost otherwise: ranges for INT8 would be taken from pictures that no detector sees."""
    path = write_pages(tmp_path, PAGES)
    first, second = pages_of(path, AUGMENT).plain(3), pages_of(path, AUGMENT, part=(1, 2)).plain(3)
    assert [len(batch.sources) for batch in first] == [2, 1]
    for a, b in zip(first, second):
        assert_equal(a, b)
        assert_maps_on_text(a)
    page = cv2.imread(str(tmp_path / "images" / "train" / "0.png"))
    middle = page[80 - CROP // 2 : 80 + CROP // 2, 100 - CROP // 2 : 100 + CROP // 2]
    assert np.array_equal(first[0].image[0, 0] < 0, middle[:, :, 0] < 128)


ROWS = ["Hà Nội", "Thôn Ba", "Quận 1 Tp Hồ Chí Minh Việt Nam", "Huế", "Ấp Mỹ"]
SPEC = ClsSpec(height=32, width=96)


def crops_of(path: Path, augment=(), workers=1, part=(0, 1), cache_mb=10):
    samples, findings = read_label_file(path)
    assert not findings
    checked = [CheckedSample(sample) for sample in samples]
    return TrainingCrops(checked, SPEC, LoaderSettings(2, augment, 5, workers, part, cache_mb))


def test_crops_are_turned_as_their_labels_say(tmp_path):
    """Lost otherwise: a classifier would learn directions from wrong labels, or see one of them only."""
    crops = crops_of(write_rows(tmp_path, ROWS))
    seen = []
    for batch in [*islice(crops.batches(0), 5 * len(crops)), *crops.plain(5)]:
        assert batch.image.shape[1:] == (3, 32, 96) and batch.labels.dtype == np.int64
        for image, label, source in zip(batch.image, batch.labels, batch.sources):
            row = draw_row(ROWS[int(source.rsplit(":", 1)[1]) - 1])
            both = [resize_to_height(np.ascontiguousarray(one), 32, 96) for one in (row, row[::-1, ::-1])]
            distances = [np.abs(image - to_batch([one], 96)[0]).mean() for one in both]
            assert distances[label] < 0.05 < distances[1 - label]
            seen.append(int(label))
    assert 0.3 < np.mean(seen) < 0.7


def test_long_crops_are_squeezed_and_short_ones_padded(tmp_path):
    """Lost otherwise: a classifier would be trained on other pictures than the runtime gives it."""
    crops = crops_of(write_rows(tmp_path, ROWS))
    for batch in islice(crops.batches(0), len(crops)):
        for image, source in zip(batch.image, batch.sources):
            row = draw_row(ROWS[int(source.rsplit(":", 1)[1]) - 1])
            width = min(96, round(row.shape[1] * 32 / 48))
            assert (image[:, :, :width].std(axis=(0, 1)) > 0).any() and (image[:, :, width + 2 :] == 0).all()
            assert (image[:, :, width - 2] != 0).all()


def test_crop_batches_do_not_depend_on_threads_or_on_where_one_starts(tmp_path):
    """Lost otherwise: a resumed run would see other crops, or the same ones with other labels."""
    path = write_rows(tmp_path, ROWS)
    augment = [Augmentation(name=name, p=0.5) for name in ("color", "trim", "squeeze", "perspective")]
    one = list(islice(crops_of(path, augment).batches(0), 7))
    many = list(islice(crops_of(path, augment, workers=3, cache_mb=0).batches(0), 7))
    later = list(islice(crops_of(path, augment).batches(4), 3))
    for a, b in [*zip(one, many), *zip(one[4:], later)]:
        assert a.sources == b.sources and np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels)
    parts = [crops_of(path, part=(rank, 2)) for rank in range(2)]
    assert len({source for part in parts for b in islice(part.batches(0), len(part)) for source in b.sources}) == 5
