"""Evaluation of detectors and of end-to-end pipelines on labelled pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from ppocr_slim.data.page_labels import PageSample
from ppocr_slim.errors import SlimError
from ppocr_slim.evaluation.hmean import MIN_INSIDE, MIN_IOU, Found, score_page
from ppocr_slim.evaluation.lines import Unreadable, unreadable_to_json
from ppocr_slim.evaluation.metrics import PageScores, normal_form
from ppocr_slim.progress import progress_bar
from ppocr_slim.runtime import polygons
from ppocr_slim.runtime.detector import Detector
from ppocr_slim.runtime.images import load_image


@dataclass(frozen=True)
class Matches:
    """Matched ground truths and detections, by index.

    Attributes:
        pairs: (ground truth, detection), the largest IoU first.
        missed: ground truths without a detection, except ignored ones.
        wrong: detections without a ground truth, except those within ignored ones.
    """

    pairs: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    wrong: tuple[int, ...]


def match_lines(truths: Sequence[np.ndarray], ignored: Sequence[bool], detections: Sequence[np.ndarray]) -> Matches:
    """Match outlines [P_i, 2] in pixels with an IoU of more than 0.5, the largest IoU first.

    A detection that matches an ignored ground truth, or lies within ignored ones by more than half of its area, is not
    counted.

    Returns:
        The indices of matches and errors.
    """
    found = [_simple(points) for points in detections]
    wanted = [_simple(points) for points in truths]
    common = np.array([[polygons.intersection_area(a, b) for b in found] for a in wanted], float)
    common = common.reshape(len(wanted), len(found))
    sizes = np.array([polygons.area(points) for points in found])
    union = np.array([polygons.area(points) for points in wanted])[:, None] + sizes - common
    iou = common / np.maximum(union, 1e-6)
    pairs: list[tuple[int, int]] = []
    unwanted = {i for i, ignore in enumerate(ignored) if ignore}
    order = sorted(zip(*np.nonzero(iou > MIN_IOU)), key=lambda place: -iou[place])
    seen_truths, seen = set(), set()
    for truth, detection in ((int(i), int(j)) for i, j in order):
        if truth not in seen_truths and detection not in seen:
            seen_truths.add(truth)
            seen.add(detection)
            if truth not in unwanted:
                pairs.append((truth, detection))
    for number in range(len(found)):
        if common[sorted(unwanted), number].sum() > MIN_INSIDE * sizes[number]:
            seen.add(number)
    return Matches(
        pairs=tuple(pairs),
        missed=tuple(i for i in range(len(wanted)) if i not in unwanted | seen_truths),
        wrong=tuple(j for j in range(len(found)) if j not in seen),
    )


def _simple(points: np.ndarray) -> np.ndarray:
    """Return the outline, or its convex hull where it crosses itself."""
    points = np.asarray(points, np.float32)
    return points if polygons.is_simple(points) else polygons.hull(points)


@dataclass(frozen=True)
class ReadingErrors:
    """Character errors of end-to-end recognition of pages; `+` adds them.

    Attributes:
        wrong: sum of the edit distances of lines that were found.
        missed: characters of lines that were not found.
        added: characters that were read where there is no line.
        characters: characters of all ground truth lines.
        lines: number of ground truth lines.
        found: number of them that were found.
    """

    wrong: int = 0
    missed: int = 0
    added: int = 0
    characters: int = 0
    lines: int = 0
    found: int = 0

    def __add__(self, other: ReadingErrors) -> ReadingErrors:
        return ReadingErrors(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def cer(self) -> float:
        """Errors per ground truth character; without any character, 0 if nothing was read and 1 otherwise."""
        errors = self.wrong + self.missed + self.added
        return errors / self.characters if self.characters else float(errors > 0)


def score_reading(
    page: PageSample, ignored: Sequence[bool], outlines: Sequence[np.ndarray], texts: Sequence[str]
) -> ReadingErrors:
    """Compare the recognized lines of a page with its labels.

    All characters of a line that was not found are errors, and so are those that were read where there is no line.

    Args:
        ignored: flags of the page's lines that are not counted.
        outlines: polygons [P, 2] of the recognized lines, in pixels.
        texts: their texts.

    Returns:
        The counts of errors.
    """
    matches = match_lines(page.outlines, ignored, outlines)
    truths, readings = [normal_form(text) for text in page.texts], [normal_form(text) for text in texts]
    kept = [text for text, ignore in zip(truths, ignored) if not ignore]
    return ReadingErrors(
        wrong=sum(Levenshtein.distance(truths[i], readings[j]) for i, j in matches.pairs),
        missed=sum(len(truths[i]) for i in matches.missed),
        added=sum(len(readings[j]) for j in matches.wrong),
        characters=sum(map(len, kept)),
        lines=len(kept),
        found=len(matches.pairs),
    )


@dataclass(frozen=True, eq=False)
class EvaluatedPage:
    """A labelled page and the outlines [P, 2] that were found on it, in pixels."""

    sample: PageSample
    found: tuple[np.ndarray, ...]
    counts: Found

    @property
    def errors(self) -> int:
        """Number of missed lines and of wrong boxes."""
        return self.counts.truths + self.counts.detections - 2 * self.counts.matched

    def to_json(self) -> dict[str, Any]:
        """Return the page as dicts and lists."""
        return {
            "path": str(self.sample.path),
            "group": self.sample.group,
            **asdict(self.counts),
            "boxes": [np.asarray(points).round(1).tolist() for points in self.found],
        }


@dataclass(frozen=True)
class PageEvaluation:
    """The evaluation of a detector.

    Attributes:
        pages: one for each sample, in their order; on an unreadable page nothing is found.
        scores: over all pages.
        by_group: over the pages of each group (folder), sorted by name.
        unreadable: images that could not be read.
    """

    pages: tuple[EvaluatedPage, ...]
    scores: PageScores
    by_group: Mapping[str, PageScores]
    unreadable: Unreadable

    def worst(self, count: int) -> list[EvaluatedPage]:
        """Return the `count` pages with the most errors, worst first; pages without errors are left out."""
        return sorted((page for page in self.pages if page.errors), key=lambda page: -page.errors)[:count]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as dicts and lists."""
        return {
            "scores": asdict(self.scores),
            "by_group": {group: asdict(scores) for group, scores in self.by_group.items()},
            "unreadable": unreadable_to_json(self.unreadable),
            "pages": [page.to_json() for page in self.pages],
        }


def evaluate_pages(detector: Detector, samples: Sequence[PageSample], progress: bool = False) -> PageEvaluation:
    """Detect the lines of every page and compare them with its labels.

    Args:
        progress: show a progress bar on stderr.

    Returns:
        All detections and their metrics.

    Raises:
        SlimError: there are no pages.
    """
    pages, unreadable = [], []
    for sample in progress_bar(samples, desc="evaluate", unit="page", disable=not progress):
        found: tuple[np.ndarray, ...] = ()
        try:
            found = tuple(box.points for box in detector.detect(load_image(sample.path)))
        except SlimError as error:
            unreadable.append((sample.path, str(error)))
        pages.append(EvaluatedPage(sample, found, score_page(sample.outlines, sample.ignored, found)))
    groups = sorted({page.sample.group for page in pages})
    by_group = {group: score_pages([page for page in pages if page.sample.group == group]) for group in groups}
    return PageEvaluation(tuple(pages), score_pages(pages), by_group, tuple(unreadable))


def score_pages(pages: Sequence[EvaluatedPage]) -> PageScores:
    """Return the metrics over some pages.

    Raises:
        SlimError: there are none.
    """
    return PageScores.of(sum((page.counts for page in pages), Found()), len(pages))
