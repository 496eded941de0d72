"""Checks of the labelled data before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppocr_slim.config.schema import Config, EvalFile, TrainFile
from ppocr_slim.data.charset import Charset, needed_time_steps
from ppocr_slim.data.labels import CheckedSample, Finding, Sample, read_label_file
from ppocr_slim.data.page_labels import PageSample, read_page_file
from ppocr_slim.errors import SlimError
from ppocr_slim.progress import progress_bar
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import time_steps_for_width

SHOWN = 5  # findings of each kind that a report lists by default; counts are of all
BLANK_LINE = "blank text line"  # the only kind of finding that is not an error
Steps = Callable[[int, int], int]  # (width, height) of an image in pixels -> time steps of the model's output
# (label file, folder of its images) -> samples, findings
Read = Callable[[Path, Path | None], tuple[list[Any], list[Finding]]]
Problem = Callable[[Any, int, int], Finding | None]  # (sample, width, height of its image in pixels)


@dataclass
class Diagnosis:
    """The result of `diagnose_samples`. Every line of the label files is a usable sample or left out for one finding.

    Attributes:
        samples: usable samples, in the order of the files.
        findings: why lines are left out, one finding per line.
        notes: suspicious samples, which are used nevertheless.
    """

    samples: list[CheckedSample] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    @property
    def bad(self) -> list[Finding]:
        """The findings that are errors. Blank text lines are legal: there is only nothing in them to learn from."""
        return [one for one in self.findings if one.kind != BLANK_LINE]

    @property
    def bad_fraction(self) -> float:
        """The fraction of the label lines that is left out because of an error."""
        return len(self.bad) / max(1, len(self.findings) + len(self.samples))

    @property
    def is_clean(self) -> bool:
        """True where there are neither errors nor notes."""
        return not self.bad and not self.notes

    def require_clean(self, max_bad_fraction: float) -> None:
        """Check that there are usable samples and not too many errors.

        Raises:
            SlimError: no sample is usable, or more than `max_bad_fraction` of the label lines have errors.
        """
        total = len(self.findings) + len(self.samples)
        if self.samples and self.bad_fraction <= max_bad_fraction:
            return
        if not self.bad:
            raise SlimError(f"all {total} label lines are blank text lines: at least one needs a text")
        first = "; ".join(f"{one.where} {one.kind} ({one.detail})" for one in self.bad[:3])
        raise SlimError(
            f"{len(self.bad)} of {total} label lines ({self.bad_fraction:.1%}) cannot be used, at most "
            f"{max_bad_fraction:.1%} may: {first}: correct them (`ppocr-slim doctor` lists all) "
            f"or raise Global.max_bad_fraction"
        )

    def report(self, title: str, shown: int | None = SHOWN) -> str:
        """Return the diagnosis as text: the count of each kind and its first `shown` findings (None: all)."""
        left_out = f", {len(self.findings)} left out ({self.bad_fraction:.1%} are bad)" if self.findings else ""
        lines = [f"{title}: {len(self.samples)} samples usable{left_out}"]
        for heading, found in (("left out", self.findings), ("note", self.notes)):
            for kind, count in Counter(one.kind for one in found).most_common():
                lines.append(f"  {heading}: {kind}: {count}")
                listed = [one for one in found if one.kind == kind][:shown]
                lines += [f"    {one.where}: {one.detail}" for one in listed]
                if count > len(listed):
                    lines.append(f"    ... and {count - len(listed)} more")
        return "\n".join(lines)


def time_steps_for_height(model_height: int) -> Steps:
    """Return a function from an image's size to the time steps of a recognizer of height `model_height`."""

    def steps(width: int, height: int) -> int:
        return time_steps_for_width(max(1, round(width * model_height / height)))

    return steps


def diagnose_samples(
    label_files: Sequence[EvalFile],
    read: Read,
    problem: Problem,
    for_training: bool = True,
    threads: int = 2,
    progress: bool = True,
) -> Diagnosis:
    """Check every line of the label files and decode every image completely.

    Lines that are invalid, missing and broken images and images that were listed before are left out, and for training
    also samples with a `problem`. In an evaluation the latter are kept, with a note: the model cannot get them right,
    and leaving them out would flatter it.

    Args:
        read: reads a label file into samples and findings.
        problem: returns what is wrong with a sample whose image has the size (width, height), or None.
        for_training: leave out samples with a `problem`.
        threads: threads that decode images.
        progress: show a progress bar on stderr.

    Returns:
        The samples, findings and notes.

    Raises:
        SlimError: a label file cannot be read.
    """
    diagnosis = Diagnosis()
    unique: list[CheckedSample] = []
    first_of: dict[Path, Any] = {}
    for label_file in label_files:
        samples, findings = read(label_file.path, label_file.image_root)
        diagnosis.findings += findings
        ratio, one_writer = 1.0, True
        if isinstance(label_file, TrainFile):
            ratio, one_writer = label_file.ratio, label_file.writer_folders
        for sample in samples:
            first = first_of.setdefault(sample.path.resolve(), sample)
            if first is sample:
                unique.append(CheckedSample(sample, ratio, one_writer))
                continue
            same = "the same text" if first.text == sample.text else f"another text, {first.text!r},"
            detail = f"{sample.path} has {same} in {first.where} already"
            diagnosis.findings.append(Finding("duplicate", sample.where, detail))
    sizes = _decode([one.sample for one in unique], threads, progress)
    for size, checked in zip(sizes, unique):  # in this order the progress is shown to its end
        found = size if isinstance(size, Finding) else problem(checked.sample, *size)
        if isinstance(size, Finding) or (found and for_training):
            diagnosis.findings.append(found)
            continue
        if found and found.kind != BLANK_LINE:
            diagnosis.notes.append(found)
        diagnosis.samples.append(checked)
    return diagnosis


def diagnose_lines(
    config: Config, charset: Charset, steps: Steps, progress: bool = True, read: Read = read_label_file
) -> tuple[Diagnosis, Diagnosis]:
    """Check a recognizer's training and evaluation data; what both contain is among the evaluation's notes.

    Left out of training are blank text lines (which are legal, see `Diagnosis.bad`) and labels with characters that are
    not in the dictionary or that need more time steps than the model's output has.

    Returns:
        The diagnoses of the training data and of the evaluation data.
    """
    return _diagnose_both(config, read, line_problem(charset, steps), progress)


def diagnose_crops(config: Config, progress: bool = True) -> tuple[Diagnosis, Diagnosis]:
    """Check a direction classifier's training and evaluation data; only blank text lines cannot be used.

    Returns:
        The diagnoses of the training data and of the evaluation data.
    """
    return _diagnose_both(config, read_label_file, lambda line, width, height: _blank(line), progress)


def diagnose_pages(config: Config, progress: bool = True) -> tuple[Diagnosis, Diagnosis]:
    """Check a detector's training and evaluation data; a page with a box outside of its image cannot be used.

    Returns:
        The diagnoses of the training data and of the evaluation data.

    Raises:
        SlimError: a label file cannot be read, or no page has a box.
    """
    train, evaluation = _diagnose_both(config, read_page_file, _outside, progress, writers=False)
    if not any(one.sample.outlines for one in train.samples):
        paths = ", ".join(str(label_file.path) for label_file in config.train.label_files)
        raise SlimError(f"no page of {paths} has a box: a label line is 'path<TAB>[{{\"transcription\": ...}}]'")
    return train, evaluation


def _diagnose_both(
    config: Config, read: Read, problem: Problem, progress: bool, writers: bool = True
) -> tuple[Diagnosis, Diagnosis]:
    train = diagnose_samples(config.train.label_files, read, problem, progress=progress)
    evaluation = diagnose_samples(config.eval.label_files, read, problem, for_training=False, progress=progress)
    evaluation.notes += compare(train, evaluation, writers)
    return train, evaluation


def line_problem(charset: Charset, steps: Steps) -> Problem:
    """Return the `problem` function of a recognizer's text lines, for `diagnose_samples`."""

    def problem(line: Sample, width: int, height: int) -> Finding | None:
        return _blank(line) or _label_problem(line, charset, steps(width, height))

    return problem


def _blank(line: Sample) -> Finding | None:
    if line.text:
        return None
    return Finding(BLANK_LINE, line.where, f"{line.path} has no text to learn from")


def _outside(page: PageSample, width: int, height: int) -> Finding | None:
    for number, points in enumerate(page.outlines):
        low, high = points.min(axis=0), points.max(axis=0)
        if (high < 0).any() or low[0] >= width or low[1] >= height:
            detail = f"box {number} of {page.path} lies outside of its {width} x {height} pixels"
            return Finding("box outside of the page", page.where, detail)
    return None


def compare(train: Diagnosis, evaluation: Diagnosis, writers: bool = True) -> list[Finding]:
    """Find images and writers that are in both training and evaluation data.

    A writer is known by the folder, except in training files whose folders are not writers'
    (`TrainFile.writer_folders`).

    Args:
        writers: compare writers, not only images.

    Returns:
        A finding for each image and each writer that both contain.
    """
    findings = []
    trained = {one.sample.path.resolve(): one.sample for one in train.samples}
    for one in evaluation.samples:
        twin = trained.get(one.sample.path.resolve())
        if twin:
            detail = f"{one.sample.path} is also training data, in {twin.where}"
            findings.append(Finding("image on both sides", one.sample.where, detail))
    if not writers:
        return findings
    train_folders, evaluation_folders = _folders(train), _folders(evaluation)
    reported: set[str] = set()
    for key, samples in evaluation_folders.items():
        if key in train_folders and samples[0].where not in reported:
            reported.add(samples[0].where)
            train_samples = train_folders[key]
            detail = (
                f"the folder {samples[0].group} has {len(samples)} evaluation and {len(train_samples)} training "
                f"lines, such as {train_samples[0].where}"
            )
            findings.append(Finding("writer on both sides", samples[0].where, detail))
    return findings


def config_charset(config: Config, read: Read = read_label_file) -> Charset:
    """Return the dictionary that a config names or, where it names none, the characters of its training labels.

    Raises:
        SlimError: a file cannot be used, or no training label has a text.
    """
    if config.run.character_dict_path is not None:
        return Charset.load(config.run.character_dict_path)
    texts = [
        sample.text
        for label_file in config.train.label_files
        for sample in read(label_file.path, label_file.image_root)[0]
    ]
    if not any(texts):
        paths = ", ".join(str(label_file.path) for label_file in config.train.label_files)
        raise SlimError(f"no line of {paths} has a text: a label line is 'path<TAB>text'")
    return Charset.from_texts(texts)


def _decode(samples: Sequence[Any], threads: int, progress: bool) -> Iterable[tuple[int, int] | Finding]:
    """Yield (width, height) of each sample's image, or why it cannot be read."""
    with ThreadPoolExecutor(threads) as pool:
        sizes = pool.map(_image_size, samples)
        yield from progress_bar(sizes, total=len(samples), desc="checking images", unit="img", disable=not progress)


def _image_size(sample: Any) -> tuple[int, int] | Finding:
    if not sample.path.is_file():
        return Finding("missing image", sample.where, f"there is no file {sample.path}")
    try:
        height, width = load_image(sample.path).shape[:2]
    except SlimError as error:
        return Finding("broken image", sample.where, str(error))
    return width, height


def _label_problem(sample: Sample, charset: Charset, steps: int) -> Finding | None:
    unknown = " ".join(repr(character) for character in sorted(charset.unknown(sample.text)))
    if unknown:
        detail = f"the dictionary lacks {unknown} of {sample.text!r}"
        return Finding("unknown character", sample.where, detail)
    needed = needed_time_steps(sample.text)
    if needed > steps:
        detail = f"{sample.text!r} needs {needed} time steps, an image of this shape has {steps}"
        return Finding("label too long", sample.where, detail)
    return None


def _folders(diagnosis: Diagnosis) -> dict[str | Path, list[Sample]]:
    """Return the samples by their image's folder and, where a label file has several folders, by the folder's name.

    A name identifies a writer only among others: two sets that each keep all images in `images/` have none in common.
    """
    names: dict[str, set[str]] = {}
    with_writer = [one for one in diagnosis.samples if one.one_writer]
    for one in with_writer:
        names.setdefault(_label_file(one.sample), set()).add(one.sample.group)
    folders: dict[str | Path, list[Sample]] = {}
    for one in with_writer:
        folders.setdefault(one.sample.path.parent.resolve(), []).append(one.sample)
        if len(names[_label_file(one.sample)]) > 1:
            folders.setdefault(one.sample.group, []).append(one.sample)
    return folders


def _label_file(sample: Sample) -> str:
    return sample.where.rpartition(":")[0]
