"""Training lines: reproducible, complete, and still readable after augmentation."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from drawing import draw_row, write_rows

from ppocr_slim.config.schema import Augmentation
from ppocr_slim.data.augment import TRANSFORMS, Augmenter, LineImage, check_names
from ppocr_slim.data.batches import LoaderSettings
from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.ink import ink_columns, percentile, split_words
from ppocr_slim.data.labels import CheckedSample, read_label_file
from ppocr_slim.data.lines import ImageCache, TrainingLines
from ppocr_slim.errors import SlimError

TEXTS = [
    "Hà Nội",
    "Thôn Ba Làng Hạ",
    "Quận 1 Tp Hồ Chí Minh",
    "Ấp Mỹ",
    "Số 15/2 Đường Láng",
    "Cần Thơ",
    "Huế",
]
ALL = [Augmentation(name=name, p=0.6) for name in TRANSFORMS]


def rows_of(folder, ratios=None, workers=1, augment=ALL, steps=lambda width: width // 4, one_writer=None):
    samples, findings = read_label_file(write_rows(folder, TEXTS))
    assert not findings
    ratios = ratios or [1.0] * len(samples)
    charset = Charset.from_texts(TEXTS)
    flags = one_writer or [True] * len(samples)
    checked = [CheckedSample(*each) for each in zip(samples, ratios, flags)]
    return TrainingLines(checked, charset, 32, steps, LoaderSettings(3, augment, seed=5, workers=workers))


def lines_of_epoch(rows, epoch):
    """The label lines, counted from 1, of an epoch's samples in their order."""
    batches = islice(rows.batches(epoch * len(rows)), len(rows))
    return [int(source.rsplit(":", 1)[1]) for batch in batches for source in batch.sources]


def test_batches_do_not_depend_on_threads_or_on_where_one_starts(tmp_path):
    """Lost otherwise: a resumed run, or one on another machine, would see other data."""
    one = list(islice(rows_of(tmp_path, workers=1).batches(0), 9))
    many = list(islice(rows_of(tmp_path, workers=3).batches(0), 9))
    later = list(islice(rows_of(tmp_path).batches(4), 5))
    for a, b in [*zip(one, many), *zip(one[4:], later)]:
        assert a.sources == b.sources
        assert np.array_equal(a.image, b.image) and np.array_equal(a.labels, b.labels)


def test_an_epoch_shows_every_sample_as_often_as_its_ratio_says(tmp_path):
    """Lost otherwise: samples would be dropped silently, or a mix of sources would not be the one in the config."""
    rows = rows_of(tmp_path, ratios=[1.0] * 4 + [2.0] * 3, augment=[])
    for epoch in range(2):
        seen = lines_of_epoch(rows, epoch)
        assert [seen.count(line) for line in range(1, 8)] == [1, 1, 1, 1, 2, 2, 2]


def test_a_fraction_of_a_file_is_a_fresh_one_in_each_epoch(tmp_path):
    """Lost otherwise: of a large file with a small ratio, most lines would never be seen."""
    rows = rows_of(tmp_path, ratios=[1.0] * 1 + [0.5] * 6, augment=[])
    epochs = [[line for line in lines_of_epoch(rows, epoch) if line > 1] for epoch in range(8)]
    for lines in epochs:
        assert len(lines) == 3 == len(set(lines))
    assert set().union(*epochs) == set(range(2, 8))


def test_lines_of_a_batch_have_near_equal_widths(tmp_path):
    """Lost otherwise: a third of the computing time would go into padding."""
    rows = rows_of(tmp_path, ratios=[20.0] * 7, augment=[Augmentation(name="squeeze", p=1.0)])
    filled = [(b.image != 0).any(axis=(1, 2)).mean() for b in islice(rows.batches(0), TrainingLines.group_batches)]
    assert np.mean(filled) > 0.85


def test_epochs_differ(tmp_path):
    """Lost otherwise: training would see the same augmented lines in the same order again and again."""
    rows = rows_of(tmp_path)
    first, second = (next(rows.batches(epoch * len(rows))) for epoch in range(2))
    assert first.image.shape != second.image.shape or not np.array_equal(first.image, second.image)


def test_labels_and_padding(tmp_path):
    """Lost otherwise: the loss would compare lines with other lines' texts, or learn from padding."""
    rows = rows_of(tmp_path, augment=[])
    for batch in islice(rows.batches(0), len(rows)):
        for image, label, length, source in zip(batch.image, batch.labels, batch.lengths, batch.sources):
            text = TEXTS[int(source.rsplit(":", 1)[1]) - 1]
            assert "".join(rows.charset.classes[i] for i in label[:length]) == text
            assert (label[length:] == 0).all()
            own_width = round(draw_row(text).shape[1] * 32 / 48)
            assert (image[:, :, own_width + 2 :] == 0).all() and (image[:, :, : own_width - 2] != 0).any()


def test_another_pen_leaves_the_writing():
    """Lost otherwise: fine strokes would vanish, and a blank line be trained with a text."""
    image = np.full((60, 300, 3), 220, np.uint8)
    image[20:40, 50:52] = 40  # a stroke two pixels wide
    transform, ink = TRANSFORMS["pen"](1.0), []
    for seed in range(40):
        changed = transform(LineImage(image, "l", lambda rng: None), np.random.default_rng(seed)).image
        ink.append((220.0 - changed[..., 0]).sum() / (220.0 - image[..., 0]).sum())
    assert min(ink) > 0.5 and max(ink) > 1.5 and sum(share < 1 for share in ink) > 5


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_each_augmentation_changes_the_image_and_keeps_it_a_line(name):
    """Lost otherwise: an augmentation named in a config would do nothing, or hand on something that is no image."""
    rng = np.random.default_rng(0)
    text = "Thôn Ba Làng Hạ"
    image = draw_row(text)
    row = LineImage(
        image, text, lambda rng: LineImage(draw_row("Huyện Nam Đàn Nghệ An"), "Huyện Nam Đàn Nghệ An", None)
    )
    augment = Augmenter([Augmentation(name=name, p=1.0)])
    results = [augment(row, rng, lambda row: True) for _ in range(5)]
    assert any(r.image.shape != image.shape or not np.array_equal(r.image, image) for r in results)
    for result in results:
        assert result.image.dtype == np.uint8 and result.image.ndim == 3 and result.image.shape[0] == 48
        assert result.image.std() > 5  # the ink is still there
        assert name == "glue_words" or result.text == text


@pytest.mark.parametrize("strength", [0.05, 3.0])
@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_each_augmentation_works_at_every_strength_that_a_config_may_name(name, strength):
    """Lost otherwise: a weak or a strong augmentation would end the training in a worker's stack trace."""
    text = "Thôn Ba Làng Hạ"
    row = LineImage(draw_row(text), text, lambda rng: row)
    augment = Augmenter([Augmentation(name=name, p=1.0, strength=strength)])
    rng = np.random.default_rng(0)
    for _ in range(8):
        result = augment(row, rng, lambda row: True)
        assert result.image.dtype == np.uint8 and result.image.ndim == 3 and result.image.shape[0] == 48
        assert result.image.shape[1] > 0 and result.text
    if strength > 1:
        assert result.image.shape != row.image.shape or not np.array_equal(result.image, row.image)


def test_glued_words_carry_the_text_of_the_words_that_were_glued():
    """Lost otherwise: the augmentation would teach wrong readings."""
    row = LineImage(draw_row("Ba Làng Hạ"), "Ba Làng Hạ", lambda rng: LineImage(draw_row("Nam Đàn"), "Nam Đàn", None))
    result = Augmenter([Augmentation(name="glue_words", p=1.0)])(row, np.random.default_rng(1), lambda row: True)
    assert set(result.text.split()) <= {"Ba", "Làng", "Hạ", "Nam", "Đàn"}
    inks = [(draw_row(word) < 120).any(axis=2).sum() for word in result.text.split()]
    assert (result.image < 120).any(axis=2).sum() == pytest.approx(sum(inks), rel=0.1)


def test_words_are_glued_within_a_writer_and_within_a_line_where_none_is_known(tmp_path):
    """Lost otherwise: half of a line would be in one hand on one paper and half in another, as no real line is."""
    glue = [Augmentation(name="glue_words", p=1.0)]
    flags = [True, True, True, False, False, False, False]  # the first three are one writer's
    rows = rows_of(tmp_path, ratios=[20.0] * 7, augment=glue, one_writer=flags)
    mixed, reordered = False, False
    for batch in islice(rows.batches(0), len(rows)):
        for label, length, source in zip(batch.labels, batch.lengths, batch.sources):
            line = int(source.rsplit(":", 1)[1]) - 1
            text = "".join(rows.charset.classes[i] for i in label[:length])
            own, writers = set(TEXTS[line].split()), set(" ".join(TEXTS[:3]).split())
            assert set(text.split()) <= (writers if flags[line] else own)
            mixed |= flags[line] and not set(text.split()) <= own
            reordered |= not flags[line] and text != TEXTS[line]
    assert mixed and reordered


def test_a_word_that_is_longer_than_a_line_may_be_is_kept_whole():
    """Lost otherwise: one odd label would crash a training in the middle."""
    text = f"{'a' * 80} b"
    row = LineImage(draw_row(text), text, lambda rng: LineImage(draw_row("c d"), "c d", None))
    augment = Augmenter([Augmentation(name="glue_words", p=1.0)])
    for seed in range(20):
        assert augment(row, np.random.default_rng(seed), lambda row: True).text


def test_words_are_cut_where_the_gaps_are_and_doubtful_lines_are_left_alone():
    """Lost otherwise: cut words would carry the wrong label."""
    text = "Thôn Ba Làng Hạ"
    pieces = split_words(draw_row(text), text)
    assert [word for _, _, word in pieces] == text.split()
    columns = ink_columns(draw_row(text))
    for left, right, _ in pieces[1:]:
        assert not columns[left] and columns[left:right].any()
    assert split_words(draw_row("ThônBaLàngHạ"), text) is None  # no gaps to tell the words apart
    assert split_words(draw_row(""), text) is None


def test_an_augmentation_that_leaves_too_few_steps_is_taken_back(tmp_path):
    """Lost otherwise: squeezed lines would give CTC an impossible label, an infinite loss."""
    squeeze = [Augmentation(name="squeeze", p=1.0, strength=2.0)]
    narrow = rows_of(tmp_path, augment=squeeze, steps=lambda width: width // 7)
    for batch in islice(narrow.batches(0), 3 * len(narrow)):
        for image, label, length in zip(batch.image, batch.labels, batch.lengths):
            own_width = np.flatnonzero((image != 0).any(axis=(0, 1)))[-1] + 1
            text = "".join(narrow.charset.classes[i] for i in label[:length])
            assert needed_time_steps(text) <= (own_width + 1) // 7


def test_an_unknown_augmentation_is_named_with_its_nearest():
    """Lost otherwise: a typo would surface as a KeyError."""
    with pytest.raises(SlimError, match=r"Train.augment.1.name.*'blurr'.*blur"):
        check_names([Augmentation(name="color"), Augmentation(name="blurr")])


@pytest.mark.parametrize("share", [0, 30, 50, 99.5, 100])
def test_percentile_is_numpys(share: float):
    """Lost otherwise: words would be cut at other places, and patches painted in another tone."""
    rng = np.random.default_rng(int(share))
    for shape in ((1, 1), (1, 2), (7, 9), (60, 301)):
        plane = rng.normal(100, 60, shape).clip(0, 255).astype(np.uint8)
        assert percentile(plane, share) == pytest.approx(np.percentile(plane, share), abs=1e-9)


def test_decoded_images_are_cached_as_far_as_there_is_room():
    """Lost otherwise: memory would grow without limit, or every line would be decoded in every epoch."""
    cache, made = ImageCache(0.0001), []  # 100 bytes

    def make(number: int) -> np.ndarray:
        made.append(number)
        return np.full((2, 20, 1), number, np.uint8)

    for number in (1, 2, 3, 1, 2, 3):
        image = cache.get(number, lambda number=number: make(number))
        assert (image == number).all()
        with pytest.raises(ValueError, match="read-only"):
            image[0, 0] = 9  # an augmentation that did so would change the row for good
    assert made == [1, 2, 3, 3]
