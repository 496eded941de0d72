"""Kinds of pages: forms, registers, tables, letters, documents, receipts, notes, cards, empty sheets.

A kind is a function that fills the sheet of a `Draft` and draws everything from its random generator. Lengths are in
pixels of the sheet; `em` is the size of the page's common print.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from ppocr_slim.synth import phrases
from ppocr_slim.synth.clutter import bar_code, photo, scribble
from ppocr_slim.synth.faces import Face, print_width, printed_mark
from ppocr_slim.synth.handwriting import Writer
from ppocr_slim.synth.phrases import Phrases, choose
from ppocr_slim.synth.real_lines import RealLine, real_line_mark
from ppocr_slim.synth.sheets import Colour, Line, Mark, Sheet, filled_mark, handwritten_mark, stroke_mark


@dataclass
class Draft:
    """A sheet that is being filled, and what it is filled with: a hand, a typeface, phrases, real lines."""

    sheet: Sheet
    rng: np.random.Generator
    phrases: Phrases
    writer: Writer
    face: Face
    print_colour: Colour
    em: float
    real_lines: Sequence[RealLine] = ()
    real: float = 0.0  # fraction of handwritten lines that are real ones
    machine_filled: bool = False
    hand: float = 1.0  # size of the hand against the print
    skew: float = 0.0  # mean slope of lines of this hand
    margin: float = field(init=False)

    def __post_init__(self) -> None:
        """Draw the margin."""
        self.margin = self.sheet.width * self.rng.uniform(0.05, 0.1)

    @property
    def left(self) -> float:
        """Left edge of the text area."""
        return self.margin

    @property
    def right(self) -> float:
        """Right edge of the text area."""
        return self.sheet.width - self.margin

    @property
    def bottom(self) -> float:
        """Lower edge of the text area."""
        return self.sheet.height - self.margin

    def chance(self, probability: float) -> bool:
        """Return True with that probability."""
        return bool(self.rng.random() < probability)

    def print_line(
        self, text: str, x: float, baseline: float, size: float = 0.0, align: float = 0.0, room: float = np.inf,
        bold: bool = False, italic: bool = False, colour: Colour | None = None,
    ) -> float:  # fmt: skip
        """Print a line.

        Args:
            text: what to print.
            x: where the line stands.
            baseline: its y.
            size: pixels an em; 0 for the page's common print.
            align: 0: the line begins at x, 0.5: it is centred there, 1: it ends there.
            room: greatest width; a wider line is printed smaller.
            bold: in bold type.
            italic: in italics.
            colour: of the print; without it, the page's.

        Returns:
            The x at which the line ends.
        """
        size = max(5.0, size or self.em)
        width = print_width(text, self.face, size, bold, italic)
        if width > room:
            size = max(5.0, np.floor(size * room / width))
            width = print_width(text, self.face, size, bold, italic)
        begin = x - align * width
        mark = printed_mark(text, self.face, size, begin, baseline, colour or self.print_colour, bold, italic)
        self.sheet.add_line(mark, text)
        return begin + width

    def write_line(
        self, text: str, x: float, baseline: float, x_height: float, room: float, climb: float | None = None
    ) -> Line | None:
        """Write a line by hand, or set a real line in its place.

        Args:
            text: what to write.
            x: where the line begins.
            baseline: its y.
            x_height: size of the hand.
            room: greatest width.
            climb: slope of the baseline; without it, about that of the other lines.

        Returns:
            The line; None where the sheet has no place for it.
        """
        slope = self.skew + self.rng.normal(0.0, 0.006) if climb is None else climb
        if self.real_lines and room > 20 * x_height and self.chance(self.real):
            line = self.real_lines[int(self.rng.integers(len(self.real_lines)))]
            mark = real_line_mark(line, x, baseline, x_height, room)
            if mark is not None:
                return self.sheet.add_line(mark, line.text)
        scale = x_height / self.writer.x_height
        # a small hand has no thinner pen, only smaller letters; but a photo from afar shows it thinner
        writer = replace(self.writer, x_height=x_height, pen=max(0.8, self.writer.pen * scale**0.7))
        mark = handwritten_mark(text, writer, self.rng, x, baseline, room, slope)
        return self.sheet.add_line(mark, text, slope)

    def rule(self, begin: Sequence[float], end: Sequence[float], pen: float = 1.0, dotted: bool = False) -> None:
        """Draw a printed rule, solid or dotted, from one point (x, y) to another."""
        line = np.array([begin, end], np.float64)
        if dotted:
            count = max(2, int(np.hypot(*(line[1] - line[0])) / (0.28 * self.em)))
            starts = line[0] + np.linspace(0, 1, count)[:, None] * (line[1] - line[0])
            dot = max(1.0, 0.08 * self.em)
            self.sheet.add(stroke_mark([np.stack([at, at + (0.6 * dot, 0)]) for at in starts], dot, self.print_colour))
        else:
            self.sheet.add(stroke_mark([line], pen, self.print_colour))

    def box(self, left: float, top: float, right: float, bottom: float, pen: float = 1.0) -> None:
        """Draw the outline of a rectangle."""
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
        self.sheet.add(stroke_mark([corners], pen, self.print_colour))

    def bar(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Draw a filled rectangle."""
        self.sheet.add(filled_mark(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), colour))

    def fill_in(self, left: float, baseline: float, right: float, kind: str = "short") -> None:
        """Fill in a field of a `kind`, "short" or "address", by hand or by machine; some fields stay empty."""
        if right - left < 3 * self.em or self.chance(0.1):
            return
        text = self.phrases.address(self.rng) if kind == "address" else phrases.short(self.rng)
        if kind == "address" and right - left < 18 * self.em:
            text = self.phrases.place(self.rng)
        begin = left + self.rng.uniform(0.2, 1.2) * self.em
        if self.machine_filled:
            self.print_line(text, begin, baseline - 0.1 * self.em, room=right - begin)
        else:
            x_height = self.em * self.rng.uniform(0.48, 0.66) * self.hand
            self.write_line(text, begin, baseline - self.rng.uniform(0.0, 0.25) * self.em, x_height, right - begin)

    def wrap(self, words: list[str], size: float, room: float) -> list[str]:
        """Return words as printed lines of that size, no wider than `room`."""
        space = print_width(" ", self.face, size)
        lines, line, width = [], [], 0.0
        for word in words:
            wide = print_width(word, self.face, size)
            if line and width + wide > room:
                lines.append(" ".join(line))
                line, width = [], 0.0
            line.append(word)
            width += wide + space
        return [*lines, " ".join(line)]

    def paragraph(
        self,
        words: list[str],
        left: float,
        top: float,
        right: float,
        size: float,
        lead: float = 1.5,
        bottom: float = 0.0,
    ) -> float:
        """Print words as lines between left and right.

        Args:
            words: of the paragraph.
            left: left edge.
            top: baseline of the first line.
            right: right edge.
            size: pixels an em.
            lead: distance of the baselines, in sizes.
            bottom: where it is cut off; 0 for the lower edge of the text area.

        Returns:
            The baseline below.
        """
        y = top
        indent = self.rng.uniform(1.0, 2.5) * size if self.chance(0.5) else 0.0
        for number, text in enumerate(self.wrap(words, size, right - left - indent)):
            if y > (bottom or self.bottom):
                break
            self.print_line(text, left + (indent if number == 0 else 0.0), y, size)
            y += lead * size
        return y


def _title(draft: Draft, y: float) -> float:
    """Print a title and perhaps a subtitle; return the baseline below."""
    rng = draft.rng
    size = draft.em * rng.uniform(1.4, 2.3)
    align, x = (0.5, draft.sheet.width / 2) if draft.chance(0.8) else (0.0, draft.left)
    y += size
    draft.print_line(choose(phrases.TITLES, rng), x, y, size, align, draft.right - draft.left, bold=True)
    if draft.chance(0.5):
        y += 1.7 * draft.em
        draft.print_line(choose(phrases.SUBTITLES, rng), x, y, 0.95 * draft.em, align, italic=draft.chance(0.7))
    return y + draft.em * rng.uniform(1.8, 2.8)


def _letterhead(draft: Draft) -> float:
    """Print the country's motto and an office at the left, or nothing; return the baseline below."""
    rng, em, y = draft.rng, draft.em, draft.margin + 0.6 * draft.em
    if draft.chance(0.5):
        return y
    middle = draft.left + 0.68 * (draft.right - draft.left)
    room = 0.6 * (draft.right - draft.left)
    size = 0.9 * em
    draft.print_line(phrases.MOTTO[0], middle, y, size, 0.5, room, bold=True)
    draft.print_line(phrases.MOTTO[1], middle, y + 1.5 * em, size, 0.5, room, bold=True)
    draft.rule((middle - 4 * em, y + 2.0 * em), (middle + 4 * em, y + 2.0 * em))
    if draft.chance(0.7):
        at, room = draft.left + 0.17 * (draft.right - draft.left), 0.32 * (draft.right - draft.left)
        draft.print_line("UBND " + draft.phrases.place(rng).upper(), at, y, size, 0.5, room)
        draft.print_line(f"Số: {phrases.digits(rng, 3)}/BC", at, y + 1.5 * em, size, 0.5, room)
    return y + 3.6 * em


def _field(draft: Draft, left: float, y: float, right: float, leader: str, label: str = "") -> None:
    """Print a labelled field and fill it in; `leader` is "dots", "rule", "box" or "none"."""
    rng, em = draft.rng, draft.em
    wide = right - left > 25 * em
    label = label or choose(phrases.WIDE_LABELS if wide and draft.chance(0.5) else phrases.LABELS, rng)
    kind = "address" if label in phrases.WIDE_LABELS else "short"
    end = draft.print_line(label + (":" if draft.chance(0.85) else ""), left, y, room=0.6 * (right - left))
    if leader == "box":
        draft.box(end + 0.5 * em, y - 1.25 * em, right, y + 0.5 * em)
    elif leader != "none":
        draft.rule((end + 0.4 * em, y + 0.15 * em), (right, y + 0.15 * em), dotted=leader == "dots")
    draft.fill_in(end + 0.5 * em, y, right, kind)


def _check_boxes(draft: Draft, left: float, y: float, right: float) -> None:
    """Print a label and check boxes, some of them ticked."""
    rng, em = draft.rng, draft.em
    x = draft.print_line(choose(phrases.LABELS, rng) + ":", left, y) + em
    while x < right - 7 * em:
        size = 0.85 * em
        draft.box(x, y - size, x + size, y)
        if draft.chance(0.35):
            tick = np.array([(0.1, -0.6), (0.4, -0.1), (1.2, -1.3)]) if draft.chance(0.6) else None
            strokes = [tick] if tick is not None else [np.array([(0, 0), (1, -1)]), np.array([(0, -1), (1, 0)])]
            pen = max(1.0, 0.1 * em)
            draft.sheet.add(stroke_mark([(x, y) + size * stroke for stroke in strokes], pen, draft.writer.ink))
        x = draft.print_line(choose(phrases.CHOICES, rng), x + 1.4 * em, y) + rng.uniform(1.2, 3.0) * em


def _comb(draft: Draft, left: float, y: float, right: float) -> None:
    """Write a number into a comb of little boxes, a digit in each: one line of text."""
    rng, em = draft.rng, draft.em
    x = draft.print_line(choose(("Số CCCD", "Mã số thuế", "Số điện thoại", "Mã hồ sơ"), rng) + ":", left, y) + em
    cell = rng.uniform(1.3, 1.7) * em
    count = min(int(rng.integers(8, 14)), int((right - x) / cell))
    if count < 4:
        return
    top, bottom = y - 1.15 * cell + 0.3 * em, y + 0.3 * em
    draft.box(x, top, x + count * cell, bottom)
    for at in range(1, count):
        draft.rule((x + at * cell, top), (x + at * cell, bottom))
    text = phrases.digits(rng, count)
    x_height = 0.42 * cell
    # all digits as one mark
    scale = x_height / draft.writer.x_height
    writer = replace(draft.writer, x_height=x_height, pen=max(0.8, draft.writer.pen * scale**0.7))
    marks = [
        handwritten_mark(digit, writer, rng, x + (at + 0.3) * cell, bottom - 0.22 * cell, 0.55 * cell)
        for at, digit in enumerate(text)
    ]
    draft.sheet.add_line(_merge(marks), text)


def _merge(marks: Sequence[Mark]) -> Mark:
    """Return several marks of one colour as one."""
    left, top = min(mark.x for mark in marks), min(mark.y for mark in marks)
    right = max(mark.x + mark.mask.shape[1] for mark in marks)
    bottom = max(mark.y + mark.mask.shape[0] for mark in marks)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for mark in marks:
        part = mask[mark.y - top :, mark.x - left :][: mark.mask.shape[0], : mark.mask.shape[1]]
        np.maximum(part, mark.mask, out=part)
    return Mark(mask, left, top, marks[0].colour)


def _signatures(draft: Draft, y: float) -> None:
    """Draw one or two signature blocks side by side, with a date, a signer, a signature and a name."""
    rng, em = draft.rng, draft.em
    centres = (0.25, 0.75) if draft.chance(0.5) else (0.72,)
    for centre in centres:
        x = draft.left + centre * (draft.right - draft.left)
        if draft.chance(0.5):
            draft.print_line(
                "Ngày ..... tháng ..... năm 20.....", x, y, 0.9 * em, 0.5, 0.5 * draft.sheet.width, italic=True
            )
        draft.print_line(choose(phrases.SIGNERS, rng), x, y + 1.7 * em, em, 0.5, bold=True)
        draft.print_line("(Ký, ghi rõ họ tên)", x, y + 3.2 * em, 0.9 * em, 0.5, italic=True)
        if draft.chance(0.7):
            scribble(draft.sheet, rng, np.array([x, y + 6.2 * em]), 6 * em)
        if draft.chance(0.6):
            draft.write_line(phrases.name(rng), x - 4 * em, y + 9.5 * em, 0.55 * em * draft.hand, 9 * em)


def _small_print(draft: Draft) -> None:
    """Print, now and then, a footnote that can hardly be read, or not at all."""
    if draft.chance(0.2):
        words, size = draft.phrases.running(draft.rng, 25), draft.em * draft.rng.uniform(0.45, 0.7)
        foot = draft.bottom + 0.3 * draft.margin
        draft.paragraph(words, draft.left, foot, draft.right, size, 1.3, bottom=draft.sheet.height)


def form(draft: Draft) -> None:
    """Draw a printed form, filled in by hand or by machine."""
    rng, em = draft.rng, draft.em
    pitch = em * (rng.uniform(1.7, 2.7) if draft.machine_filled else rng.uniform(2.2, 3.1) * max(1.0, draft.hand))
    leader = choose(("dots", "dots", "rule", "box", "none"), rng)
    y = _title(draft, _letterhead(draft))
    if draft.chance(0.25):
        width = 0.16 * draft.sheet.width
        photo(draft.sheet, draft.right - width, y - 0.5 * em, width, 1.33 * width, rng)
        narrow, until = draft.right - width - em, y + 1.33 * width + em
    else:
        narrow, until = draft.right, 0.0
    end = draft.bottom - (11 * em if draft.chance(0.6) else 0)
    section = 0
    while y < end:
        right = narrow if y < until else draft.right
        kind = rng.random()
        if kind < 0.08:
            section += 1
            numeral = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")[min(section, 8) - 1]
            heading = f"{numeral}. {choose(phrases.HEADINGS, rng)}"
            draft.print_line(heading, draft.left, y, 1.05 * em, room=right - draft.left, bold=True)
        elif kind < 0.5:
            _field(draft, draft.left, y, right, leader)
        elif kind < 0.72:
            middle = draft.left + rng.uniform(0.42, 0.58) * (right - draft.left)
            _field(draft, draft.left, y, middle - em, leader)
            _field(draft, middle + em, y, right, leader)
        elif kind < 0.8:
            _check_boxes(draft, draft.left, y, right)
        elif kind < 0.87:
            _comb(draft, draft.left, y, right)
        elif kind < 0.93:  # an answer of several lines
            _field(draft, draft.left, y, right, leader, choose(phrases.WIDE_LABELS, rng))
            for _ in range(int(rng.integers(1, 3))):
                y += pitch
                if y < end:
                    draft.rule((draft.left, y + 0.15 * em), (right, y + 0.15 * em), dotted=leader == "dots")
                    draft.fill_in(draft.left, y, right, "address")
        else:
            y = draft.paragraph(draft.phrases.running(rng, int(rng.integers(8, 30))), draft.left, y, right, 0.9 * em)
            y += 0.5 * em
            continue
        y += pitch
    if end < draft.bottom - em:
        _signatures(draft, end + em)
    _small_print(draft)


def register(draft: Draft) -> None:
    """Draw a sheet of ruled rows, an address or a name in each."""
    rng, em = draft.rng, draft.em
    y = _title(draft, draft.margin) if draft.chance(0.7) else draft.margin + em
    pitch = em * rng.uniform(2.3, 3.4)
    numbers = draft.chance(0.5)
    left, right = draft.left, draft.right
    text_left = left + (2.5 * em if numbers else 0.0)
    count = max(1, int((draft.bottom - y) / pitch))
    pen = rng.uniform(0.8, 1.8)
    for at in range(count + 1):
        draft.rule((left, y + at * pitch), (right, y + at * pitch), pen)
    for x in {left, text_left, right}:
        draft.rule((x, y), (x, y + count * pitch), pen)
    kind = "name" if draft.chance(0.2) else "address"
    for at in range(count):
        baseline = y + (at + 0.68) * pitch
        if numbers:
            draft.print_line(str(at + 1), (left + text_left) / 2, baseline, align=0.5)
        if draft.chance(0.88):
            text = phrases.name(rng) if kind == "name" else draft.phrases.address(rng)
            begin = text_left + em * rng.uniform(0.3, 1.0)
            draft.write_line(text, begin, baseline, pitch * rng.uniform(0.24, 0.3), right - begin - 0.3 * em)


def table(draft: Draft) -> None:
    """Draw a table with printed heads and cells filled by hand or machine."""
    rng, em = draft.rng, draft.em
    y = _title(draft, _letterhead(draft))
    columns = int(rng.integers(3, 7))
    weights = rng.uniform(0.6, 1.8, columns)
    weights[0] = 0.35
    edges = draft.left + np.concatenate([[0], np.cumsum(weights / weights.sum())]) * (draft.right - draft.left)
    pitch = em * rng.uniform(1.7, 2.8)
    room = max(4, int((draft.bottom - y) / pitch) - 1)
    count = int(rng.integers(max(3, room // 3), room + 1))
    head = 1.15 * pitch
    dark = draft.chance(0.2)
    if draft.chance(0.45):
        tone = (110.0, 60.0, 30.0) if dark else (215.0, 215.0, 212.0)
        draft.bar(edges[0], y, edges[-1], y + head, tone)
    else:
        dark = False
    heads = ["STT", *(choose(phrases.COLUMNS, rng) for _ in range(columns - 1))]
    # a column is of one kind: words, or numbers aligned at the right
    kinds = [choose(("name", "date", "place", "price", "short", "empty"), rng) for _ in range(columns)]
    pen = rng.uniform(0.7, 1.6)
    upright = draft.chance(0.85)
    for at in range(count + 2):
        level = y + (head + (at - 1) * pitch if at else 0.0)
        draft.rule((edges[0], level), (edges[-1], level), pen)
    if upright:
        for x in edges:
            draft.rule((x, y), (x, y + head + count * pitch), pen)
    for column, (left, right) in enumerate(zip(edges, edges[1:])):
        colour = (245.0, 245.0, 245.0) if dark else None
        room = right - left - 0.4 * em
        draft.print_line(
            heads[column], (left + right) / 2, y + 0.68 * head, 0.95 * em, 0.5, room, bold=True, colour=colour
        )
        for at in range(count):
            baseline = y + head + (at + 0.7) * pitch
            _cell(draft, "number" if column == 0 else kinds[column], str(at + 1), left, right, baseline, pitch)


def _cell(draft: Draft, kind: str, number: str, left: float, right: float, baseline: float, pitch: float) -> None:
    """Fill a table's cell; `number` is its row's, for the kind "number"."""
    rng, em = draft.rng, draft.em
    room = right - left - 0.6 * em
    if kind == "empty" or (kind != "number" and draft.chance(0.12)):
        return
    if kind == "number":
        draft.print_line(number, (left + right) / 2, baseline, align=0.5, room=room)
        return
    texts = {"name": phrases.name, "date": phrases.date, "price": phrases.price, "short": phrases.short}
    text = draft.phrases.place(rng) if kind == "place" else texts[kind](rng)
    if draft.machine_filled:
        at, align = (right - 0.4 * em, 1.0) if kind == "price" else (left + 0.4 * em, 0.0)
        draft.print_line(text, at, baseline, align=align, room=room)
    else:
        draft.write_line(text, left + 0.4 * em, baseline, min(0.55 * em * draft.hand, 0.3 * pitch), room)


def letter(draft: Draft) -> None:
    """Draw a page of handwriting on ruled, squared or plain paper."""
    rng, em = draft.rng, draft.em
    x_height = 0.62 * em * draft.hand
    pitch = x_height * rng.uniform(2.9, 4.0)
    paper = choose(("rules", "squares", "plain"), rng)
    ink = ((200.0, 165.0, 130.0), (190.0, 185.0, 180.0), (205.0, 150.0, 190.0))[int(rng.integers(3))]
    top = draft.margin + pitch
    if paper == "rules":
        _ruling(draft.sheet, top, pitch, ink, False)
    elif paper == "squares":
        _ruling(draft.sheet, top, pitch / int(rng.integers(1, 4)), ink, True)
    left = draft.left
    if paper != "plain" and draft.chance(0.5):
        left = draft.sheet.width * rng.uniform(0.12, 0.18)
        edge = np.array([(left - 0.5 * em, 0), (left - 0.5 * em, draft.sheet.height)])
        draft.sheet.add(stroke_mark([edge], 1.0, (120.0, 110.0, 220.0)))
    words = draft.phrases.running(rng, 400)
    letters = max(8, int((draft.right - left) / (x_height * 1.05 * draft.writer.width)))
    y, end = top, draft.bottom if draft.chance(0.5) else rng.uniform(0.4, 0.9) * draft.bottom
    begins = True
    while y < end:
        indent = 2 * em if begins else rng.uniform(0, 0.4) * em
        begins = draft.chance(0.14)
        wanted = letters * (rng.uniform(0.2, 0.8) if begins else 1.0) - indent / x_height
        text = words.pop(0)
        while words and len(text) + 1 + len(words[0]) <= wanted:
            text += " " + words.pop(0)
        draft.write_line(text, left + indent, y - 0.12 * pitch, x_height, draft.right - left - indent)
        y += pitch * (1.6 if begins and paper == "plain" else 1.0)
        words = words if len(words) > 40 else draft.phrases.running(rng, 400)


def _ruling(sheet: Sheet, top: float, pitch: float, ink: Colour, squares: bool) -> None:
    """Draw a notebook's rules, or its squares."""
    first = top % pitch if squares else top
    levels = np.arange(first, sheet.height - 2, pitch)
    for y in levels:
        sheet.add(stroke_mark([np.array([(0, y), (sheet.width, y)])], 1.0, ink, 0.8))
    if squares:
        for x in np.arange(pitch, sheet.width - 2, pitch):
            sheet.add(stroke_mark([np.array([(x, 0), (x, sheet.height)])], 1.0, ink, 0.8))


def document(draft: Draft) -> None:
    """Draw a printed document: headings, paragraphs, lists and illustrations, in one column or two."""
    rng, em = draft.rng, draft.em
    top = _title(draft, _letterhead(draft)) if draft.chance(0.8) else draft.margin + em
    gap = 1.6 * em
    columns = 2 if draft.chance(0.4) else 1
    width = (draft.right - draft.left - (columns - 1) * gap) / columns
    size = em * (0.85 if columns == 2 else 1.0)
    lead = rng.uniform(1.35, 1.8)
    for column in range(columns):
        left, y = draft.left + column * (width + gap), top
        while y < draft.bottom:
            y = _document_block(draft, left, y, left + width, width, size, lead)
    _small_print(draft)
    if draft.chance(0.5):
        draft.print_line(str(rng.integers(1, 60)), draft.sheet.width / 2, draft.bottom + 2.2 * em, 0.9 * em, 0.5)


def _document_block(draft: Draft, left: float, y: float, right: float, width: float, size: float, lead: float) -> float:
    """Print a heading, a list, an illustration or a paragraph; return the baseline below."""
    rng = draft.rng
    kind = rng.random()
    if kind < 0.2:
        text = choose(phrases.HEADINGS, rng)
        draft.print_line(text, left, y + 0.4 * size, 1.15 * size, room=width, bold=True)
        return y + 2.3 * size
    if kind < 0.4:
        bullet = choose(("-", "•", "number", "letter"), rng)
        for item in range(int(rng.integers(2, 6))):
            sign = {"number": f"{item + 1}.", "letter": f"{'abcdef'[item]})"}.get(bullet, bullet)
            words = [sign, *draft.phrases.running(rng, 4)[: int(rng.integers(4, 12))]]
            y = draft.paragraph(words, left + size, y, right, size, lead)
        return y
    if kind < 0.46:
        height = rng.uniform(0.08, 0.2) * draft.sheet.height
        if y + height < draft.bottom:
            _illustration(draft, left, y - size, right, y - size + height)
        return y + (height + size)
    words = draft.phrases.running(rng, int(rng.integers(15, 70)))
    return draft.paragraph(words, left, y, right, size, lead) + 0.5 * size


def _illustration(draft: Draft, left: float, top: float, right: float, bottom: float) -> None:
    """Draw a picture in a document: a chart or a landscape, without words."""
    rng = draft.rng
    draft.bar(left, top, right, bottom, tuple(float(v) for v in rng.uniform(190, 245, 3)))
    width, height = right - left, bottom - top
    tone = tuple(float(v) for v in rng.uniform(40, 190, 3))
    if draft.chance(0.5):
        bars = int(rng.integers(3, 9))
        for at in range(bars):
            x = left + (at + 0.2) * width / bars
            draft.bar(x, bottom - rng.uniform(0.1, 0.9) * height, x + 0.6 * width / bars, bottom, tone)
    else:
        steps = np.linspace(left, right, 12)
        heights = np.clip(bottom - height * (0.4 + 0.2 * rng.normal(size=12)), top, bottom)
        outline = np.stack([steps, heights], 1)
        draft.sheet.add(filled_mark(np.concatenate([outline, [(right, bottom), (left, bottom)]]), tone))


def receipt(draft: Draft) -> None:
    """Draw a shop's receipt: a name, goods with prices at the right, a sum."""
    rng, em, middle = draft.rng, draft.em, draft.sheet.width / 2
    y = draft.margin + 1.5 * em
    room = draft.right - draft.left
    draft.print_line(choose(phrases.SHOPS, rng), middle, y, 1.6 * em, 0.5, room, bold=True)
    for text in (draft.phrases.address(rng), "ĐT: " + phrases.phone(rng))[: int(rng.integers(0, 3))]:
        y += 1.7 * em
        draft.print_line(text, middle, y, 0.9 * em, 0.5, room)
    y += 2.4 * em
    draft.print_line(
        choose(("HOÁ ĐƠN BÁN HÀNG", "PHIẾU TÍNH TIỀN", "RECEIPT"), rng), middle, y, 1.2 * em, 0.5, room, bold=True
    )
    y += 1.7 * em
    draft.print_line("Ngày: " + phrases.date(rng), draft.left, y, 0.9 * em)
    y += 0.8 * em
    pitch = em * rng.uniform(1.5, 2.1)
    draft.rule((draft.left, y), (draft.right, y), dotted=draft.chance(0.6))
    for _ in range(int(rng.integers(3, 16))):
        y += pitch
        if y > draft.bottom - 8 * em:
            break
        draft.print_line(choose(phrases.GOODS, rng), draft.left, y, room=0.55 * room)
        if draft.chance(0.7):
            draft.print_line(str(rng.integers(1, 10)), draft.left + 0.66 * room, y, align=0.5)
        draft.print_line(phrases.price(rng), draft.right, y, align=1.0)
    y += 0.7 * pitch
    draft.rule((draft.left, y), (draft.right, y), dotted=draft.chance(0.6))
    y += 2.0 * em
    draft.print_line("TỔNG CỘNG:", draft.left, y, 1.25 * em, bold=True)
    draft.print_line(phrases.price(rng), draft.right, y, 1.25 * em, 1.0, bold=True)
    if draft.chance(0.7):
        draft.print_line("Cảm ơn quý khách!", middle, y + 2.6 * em, em, 0.5, italic=draft.chance(0.5))
    if draft.chance(0.5):
        bar_code(draft.sheet, rng)


def note(draft: Draft) -> None:
    """Draw a few jotted lines, large and small, level or not."""
    rng = draft.rng
    y = draft.margin
    for _ in range(int(rng.integers(1, 9))):
        x_height = draft.em * np.exp(rng.normal(-0.1, 0.35)) * draft.hand
        y += x_height * rng.uniform(3.0, 5.5)
        if y > draft.bottom:
            break
        texts = (phrases.short(rng), draft.phrases.place(rng), " ".join(draft.phrases.running(rng, 4)[:4]))
        left = rng.uniform(draft.left, 0.5 * draft.sheet.width)
        draft.write_line(choose(texts, rng), left, y, x_height, draft.right - left, rng.normal(0.0, 0.05))


def card(draft: Draft) -> None:
    """Draw a small card: a head, a portrait, a few printed labels with values."""
    rng, em = draft.rng, draft.em
    tone = tuple(float(v) for v in rng.uniform(60, 200, 3))
    y = draft.margin + em
    if draft.chance(0.5):
        draft.bar(0, 0, draft.sheet.width - 1, y + 1.2 * em, tone)
        dark = sum(tone) < 400
        colour = (248.0, 248.0, 248.0) if dark else draft.print_colour
    else:
        colour = tone if sum(tone) < 360 else draft.print_colour
    middle = draft.sheet.width / 2
    draft.print_line(
        choose(phrases.TITLES, rng), middle, y, 1.3 * em, 0.5, draft.right - draft.left, bold=True, colour=colour
    )
    y += 3 * em
    left = draft.left
    if draft.chance(0.7):
        width = 0.22 * draft.sheet.width
        photo(draft.sheet, left, y - em, width, 1.3 * width, rng)
        left += width + 1.2 * em
    pitch = em * rng.uniform(1.7, 2.3)
    while y < draft.bottom:
        label = choose(phrases.LABELS, rng)
        end = draft.print_line(label + ":", left, y, 0.85 * em)
        text = draft.phrases.place(rng) if label in phrases.WIDE_LABELS else phrases.short(rng)
        if draft.machine_filled or draft.chance(0.6):
            draft.print_line(text, end + em, y, room=max(4 * em, draft.right - end - em), bold=draft.chance(0.3))
        else:
            draft.write_line(text, end + em, y, 0.5 * em * draft.hand, max(4 * em, draft.right - end - em))
        y += pitch


def empty(draft: Draft) -> None:
    """Draw a sheet without text: blank paper, a notebook's page, a form's bare rules."""
    rng, em = draft.rng, draft.em
    kind = rng.random()
    if kind < 0.35:
        _ruling(draft.sheet, draft.margin + 2 * em, rng.uniform(1.5, 3) * em, (195.0, 170.0, 140.0), draft.chance(0.5))
    elif kind < 0.7:
        rows, columns = int(rng.integers(2, 20)), int(rng.integers(1, 7))
        xs = np.sort(rng.uniform(draft.left, draft.right, columns + 1))
        ys = np.linspace(draft.margin, draft.bottom, rows + 1)
        for y in ys:
            draft.rule((xs[0], y), (xs[-1], y), dotted=draft.chance(0.1))
        for x in xs:
            draft.rule((x, ys[0]), (x, ys[-1]))
    if draft.chance(0.3):
        left, top = rng.uniform(0.1, 0.6, 2) * (draft.sheet.width, draft.sheet.height)
        _illustration(draft, left, top, left + 0.3 * draft.sheet.width, top + 0.2 * draft.sheet.height)


@dataclass(frozen=True)
class PageKind:
    """A kind of page: its layout and the sizes of its sheets."""

    lay_out: Callable[[Draft], None]
    shapes: tuple[float, ...]  # height / width, of which one is drawn
    ems: tuple[float, float]  # width of a sheet in ems: least and most


PAGE_KINDS: dict[str, PageKind] = {
    "form": PageKind(form, (1.41, 1.41, 1.3, 0.71, 1.1), (34, 58)),
    "register": PageKind(register, (1.41, 1.41, 0.71, 1.0), (26, 46)),
    "table": PageKind(table, (1.41, 0.71, 0.9), (36, 62)),
    "letter": PageKind(letter, (1.41, 1.45, 1.3, 0.75), (24, 42)),
    "document": PageKind(document, (1.41, 1.41, 0.71), (38, 70)),
    "receipt": PageKind(receipt, (1.9, 2.3, 1.5), (22, 32)),
    "note": PageKind(note, (1.0, 1.41, 0.7), (18, 34)),
    "card": PageKind(card, (0.63, 0.63, 0.7), (22, 34)),
    "empty": PageKind(empty, (1.41, 0.71, 1.0), (30, 60)),
}


def draw_paper(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return paper without anything on it, [height, width, 3] uint8: its tone, fibres, a slight unevenness."""
    tones = ((246, 247, 247), (232, 234, 234), (222, 212, 204), (208, 222, 230), (226, 233, 222), (220, 214, 236))
    chance = rng.random()
    tone = np.array(tones[int(rng.integers(2)) if chance < 0.65 else int(rng.integers(2, len(tones)))], np.float64)
    tone = np.clip(tone + rng.normal(0, 4, 3), 150, 255)
    rough = rng.normal(0.0, rng.uniform(0.3, 2.5), (height // 3 + 1, width // 3 + 1)).astype(np.float32)
    cloud = cv2.resize(
        rng.normal(0.0, 1.5, (5, 4)).astype(np.float32), rough.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    fibre = cv2.resize(rough + cloud, (width, height))
    return cv2.merge([cv2.convertScaleAbs(fibre, alpha=1, beta=float(value)) for value in tone])
