"""Language models of characters, and CTC decoding with one and with the map."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ppocr_slim.errors import SlimError
from ppocr_slim.runtime.recognizer import open_bundle_decoder
from ppocr_slim.text.beam import KEPT, BeamSearch
from ppocr_slim.text.ctc import greedy_decode, log_likelihoods
from ppocr_slim.text.language_model import END, LanguageModel
from ppocr_slim.text.language_training import build_language_model
from ppocr_slim.text.vietnamese.address import AddressSearch
from ppocr_slim.text.vietnamese.lexicon import Lexicon

LABELS = ["Hà Nội", "Hà Nam", "Tổ 5 Hà Nội", "An Giang", "Kiên Giang"]
CLASSES = ("", *sorted(set("".join(LABELS)) - {" "}), *"0/Ạ", " ")


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return build_language_model(LABELS, order=4, least=1)


def spoken(text: str, doubt: dict, sure: float = 0.9) -> np.ndarray:
    """[T, K]: each character at one time step, a blank after it; doubt: {place in text: {character: probability}}."""
    steps = []
    for place, character in enumerate(text):
        step = np.full(len(CLASSES), 1e-5)
        step[CLASSES.index(character)] = sure
        for other, probability in doubt.get(place, {}).items():
            step[CLASSES.index(other)] = probability
        blank = np.full(len(CLASSES), 1e-5)
        blank[0] = 1
        steps += [step / step.sum(), blank / blank.sum()]
    return np.array(steps, np.float32)


def test_the_probabilities_of_all_letters_add_up_to_one(language):
    """Lost otherwise: the beam search would prefer some texts for no reason that lies in language."""
    characters = sorted(set("".join(LABELS)) | {END})
    for context in ("", "Hà ", " Gi", "zz", "Hà N"):
        total = sum(language.probability(context, character) for character in [*characters, "€"])
        assert total == pytest.approx(1)
    assert language.probability("Hà N", "ộ") > language.probability("Hà N", "G") > 0


def test_rare_grams_left_out_leave_a_model_that_still_adds_up(tmp_path):
    """Lost otherwise: a small file would make whatever is rare look impossible."""
    small = build_language_model(LABELS * 3, order=4, least=7, label_weight=1)
    whole = build_language_model(LABELS * 3, order=4, least=1, label_weight=1)
    assert len(small) < len(whole)
    characters = sorted(set("".join(LABELS)) | {END})
    assert sum(small.probability("Hà ", character) for character in [*characters, "€"]) == pytest.approx(1)
    assert small.probability("Hà N", "ộ") > 1e-4


def test_a_saved_model_is_read_back(language, tmp_path):
    """Lost otherwise: what was measured would not be what ships."""
    language.save(tmp_path / "a.bin")
    read = LanguageModel.load(tmp_path / "a.bin")
    read.save(tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    for text in ("Hà Nội", "An Nam", "xyz"):  # counts are kept to powers of 1.5
        assert read.log_probability(text) == pytest.approx(language.log_probability(text), abs=0.3 * (len(text) + 1))
    assert read.log_probability("Hà Nội") > read.log_probability("Hà Nộa")


def test_texts_of_one_word_are_kept_whole(tmp_path):
    """Lost otherwise: n-grams that begin a text would vanish from the file where no text has a space."""
    single = build_language_model(["abc", "abd"], order=4, least=1)
    single.save(tmp_path / "a.bin")
    assert len(LanguageModel.load(tmp_path / "a.bin")) == len(single)
    with pytest.raises(SlimError, match="beginnings"):
        LanguageModel({"ab": 2}, 2).save(tmp_path / "b.bin")


def test_a_long_run_does_not_fill_the_memory(language, monkeypatch):
    """Lost otherwise: reading a year of forms would end in swap."""
    monkeypatch.setattr("ppocr_slim.text.language_model._CACHED", 50)
    for number in range(200):
        language.probability("Hà ", chr(0x4E00 + number))
    assert len(language._cache) <= 50


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: b"", "is no language model"),
        (lambda raw: raw[: len(raw) // 2], "is damaged"),
        (lambda raw: raw[:30] + b"\0\0\0\0" + raw[34:], "is damaged"),
    ],
)
def test_a_damaged_file_is_one_clear_error(language, tmp_path, damage, words):
    """Lost otherwise: a stack trace, or a model of nonsense."""
    language.save(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(damage((tmp_path / "a.bin").read_bytes()))
    with pytest.raises(SlimError, match=words):
        LanguageModel.load(tmp_path / "a.bin")
    with pytest.raises(SlimError, match="cannot read"):
        LanguageModel.load(tmp_path / "none.bin")


def test_without_a_say_of_the_language_the_beam_finds_the_likeliest_text(language):
    """Lost otherwise: the search would lose or count paths twice, and no weight of a language mend that."""
    rng = np.random.default_rng(4)
    classes = ("", "a", "b", "c")
    for _ in range(20):
        probabilities = rng.dirichlet(np.full(4, 0.6), 5).astype(np.float32)
        totals: dict = {}
        for path in itertools.product(range(4), repeat=5):
            text = "".join(classes[at] for at, _ in itertools.groupby(path))
            totals[text] = totals.get(text, 0.0) + math.prod(float(probabilities[i, at]) for i, at in enumerate(path))
        search = BeamSearch(language, weight=0.0, insertion_bonus=0.0, width=400, floor=0.0)
        readings = search.readings(probabilities, classes)
        assert readings[0].text == max(totals, key=totals.get)
        assert {reading.text for reading in readings} == totals.keys()
        for reading in readings:
            assert reading.score == pytest.approx(math.log(totals[reading.text]), abs=1e-3)


def test_the_language_settles_what_the_network_doubts(language):
    """Lost otherwise: the beam search would cost its time and read as before."""
    doubted = spoken("Hà Gội", {3: {"N": 0.08}})
    assert greedy_decode(doubted[None], CLASSES)[0][0] == "Hà Gội"
    ((text, confidence),) = BeamSearch(language)(doubted[None], CLASSES)
    assert text == "Hà Nội" and confidence == greedy_decode(doubted[None], CLASSES)[0][1]
    sure = spoken("Hà Gội", {3: {"N": 1e-4}}, sure=0.999)
    assert BeamSearch(language)(sure[None], CLASSES)[0][0] == "Hà Gội"


def test_digits_and_slashes_are_never_rewritten(language):
    """Lost otherwise: knowledge of addresses would move people to another house."""
    likely = {place: {"i": 0.45, "n": 0.4} for place in range(6)}
    for text in ("5", "5/5 Hà", "0 Hà Nội", "Tổ 5 Hà Nội"):
        places = {place: likely[0] for place, character in enumerate(text) if character in KEPT}
        read = BeamSearch(language, weight=3.0)(spoken(text, places, sure=0.5)[None], CLASSES)[0][0]
        assert [one for one in read if one in KEPT] == [one for one in text if one in KEPT]
    probabilities = spoken("An", {1: {"5": 0.3}}, sure=0.6)
    assert not KEPT & set(BeamSearch(language)(probabilities[None], CLASSES)[0][0])


@pytest.mark.parametrize("search", [BeamSearch, AddressSearch])
def test_no_word_with_a_number_changes_whatever_the_network_doubts(search, language):
    """Lost otherwise: 78 Dray becomes 78Dray, and 12 5 becomes 125."""
    rng = np.random.default_rng(7)
    decode = search(language, weight=1.0)
    changed = 0
    for _ in range(60):
        probabilities = rng.dirichlet(np.full(len(CLASSES), 0.04), 24).astype(np.float32)
        probabilities[:, 0] += rng.uniform(0, 1, 24)
        probabilities[:, [CLASSES.index("5"), CLASSES.index(" ")]] += rng.uniform(0, 0.3, (24, 2))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        plain = greedy_decode(probabilities[None], CLASSES)[0][0]
        read = decode(probabilities[None], CLASSES)[0][0]
        numbers = [[word for word in text.split() if KEPT & set(word)] for text in (plain, read)]
        assert numbers[0] == numbers[1], (plain, read)
        changed += plain != read
    assert changed > 20


def test_a_row_in_doubt_everywhere_takes_no_longer():
    """Lost otherwise: scribble would take ten times as long as writing."""
    counted = {"calls": 0}

    class Counting(LanguageModel):
        def probability(self, context, character):
            counted["calls"] += 1
            return super().probability(context, character)

    model = build_language_model(LABELS, order=4, least=1)
    counting = Counting(model._counts, 4)
    flat = np.full((40, len(CLASSES)), 1 / len(CLASSES), np.float32)
    search = BeamSearch(counting)
    search.readings(flat, CLASSES)
    assert counted["calls"] <= 40 * search.width * (search.most + 1)


def test_a_row_without_letters_stays_empty(language):
    """Lost otherwise: the language model would fill in addresses where none is written."""
    blank = np.zeros((1, 12, len(CLASSES)), np.float32)
    blank[:, :, 0] = 1
    assert BeamSearch(language)(blank, CLASSES) == [("", 0.0)]


MAP = {
    "Hà Nam": {"Lý Nhân": ("Nhân Mỹ", "Nhân Chính"), "Bình Lục": ("Bối Cầu",)},
    "An Giang": {"An Phú": ("Đa Phước",)},
}


def test_the_map_settles_what_lies_within_a_known_place(language):
    """Lost otherwise: a misread ward of a province that is read right would stay wrong."""
    text = "Tổ 5 Nhân Nỹ Lý Nhân Hà Nam"
    classes = ("", *sorted(set(text + "Mn5") - {" "}), " ")
    place = text.index("Nỹ")
    line = np.full((2 * len(text), len(classes)), 1e-6, np.float32)
    for at, character in enumerate(text):
        line[2 * at, classes.index(character)], line[2 * at + 1, 0] = 1, 1
    line[2 * place, classes.index("M")] = 0.1
    search = AddressSearch(language, lexicon=Lexicon(tree=MAP))
    assert search(line[None], classes)[0][0] == "Tổ 5 Nhân Mỹ Lý Nhân Hà Nam"
    line[2 * place, classes.index("M")] = 1e-6  # the strokes are clear: a place that the map lacks
    assert search(line[None], classes)[0][0] == text


def test_the_texts_that_the_map_allows():
    """Lost otherwise: names would be taken from other provinces, or a house number be changed."""
    found = Lexicon(tree=MAP).variants("8d/2 Nhan Mỹ Lý Nhân Hà Nam")
    assert found["8d/2 Nhan Mỹ Lý Nhân Hà Nam"] == 2 and found["8d/2 Nhân Mỹ Lý Nhân Hà Nam"] == 3
    assert all(text.startswith("8d/2 ") and text.endswith("Hà Nam") for text in found)
    assert Lexicon(tree=MAP).variants("Đa Phước An Phú An Giang")["Đa Phước An Phú An Giang"] == 3
    assert Lexicon(tree=MAP).variants("") == {"": 0}


def test_the_probability_of_a_text_is_that_of_all_its_paths():
    """Lost otherwise: texts would be weighed by their likeliest path, and long ones lose."""
    rng, classes = np.random.default_rng(1), ("", "a", "b", " ")
    probabilities = rng.dirichlet(np.full(4, 0.5), 6)
    totals: dict = {}
    for path in itertools.product(range(4), repeat=6):
        text = "".join(classes[at] for at, _ in itertools.groupby(path))
        totals[text] = totals.get(text, 0.0) + math.prod(probabilities[step, at] for step, at in enumerate(path))
    found = log_likelihoods(probabilities, list(totals), classes)
    assert np.allclose(found, np.log(list(totals.values())))
    assert log_likelihoods(probabilities, ["abababab", "x"], classes).tolist() == [-np.inf, -np.inf]


def test_a_way_of_decoding_that_cannot_be_is_said(tmp_path):
    """Lost otherwise: who asks for knowledge would read without, and not know it."""
    with pytest.raises(SlimError, match="no decoder is called 'bean'"):
        open_bundle_decoder("bean", tmp_path)
    with pytest.raises(SlimError, match="there is no text"):
        build_language_model([""])
