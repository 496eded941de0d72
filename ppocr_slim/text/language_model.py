"""A language model of characters: how likely a letter is after the letters before it.

Counts of n-grams, smoothed by Witten and Bell's interpolation (1991): a context's own counts, and for what it has not
seen the context that is one letter shorter. Rare n-grams may be left out of the file; their share then goes to the
shorter context, too. `text.language_training` makes such models.
"""

from __future__ import annotations

import json
import lzma
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import replacing

BEGIN, END = " ", "\n"  # what stands before and after a text
STEP = 1.5  # counts are kept as powers of this
_MAGIC = b"ppocr_slim n-grams 1\n"
_UP = 255  # in the file: a node's last child has been told
LONGEST = 16  # letters that a model may look at
_REMEMBERED = 200_000  # probabilities that are kept: 30 MB


class LanguageModel:
    """Probabilities of characters.

    Args:
        counts: of n-grams by their text, of all lengths up to `order`; with a text's `BEGIN` and `END`.
        order: letters that are looked at, the one that is told among them.
        least: the smallest count of an n-gram of three letters and more that was kept.

    Attributes:
        order: as given.
    """

    def __init__(self, counts: Mapping[str, int], order: int, least: int = 1):
        self.order = order
        self._counts = counts
        self._least = least
        kept: dict[str, int] = Counter()
        kinds: dict[str, int] = Counter()
        for gram, count in counts.items():
            kept[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        self._kept, self._kinds = kept, kinds
        self._share = 1 / (1 + kinds[""])  # of a letter that was never seen
        self._known: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many n-grams it holds."""
        return len(self._counts)

    def probability(self, context: str, letter: str) -> float:
        """Return the probability of `letter` after `context`, whose last `order` - 1 letters count; in (0, 1)."""
        return self._probability(context[max(0, len(context) - self.order + 1) :] if self.order > 1 else "", letter)

    def log_probability(self, text: str) -> float:
        """Natural logarithm, of a whole text with its end."""
        whole = BEGIN + text + END
        return sum(math.log(self.probability(whole[:at], whole[at])) for at in range(1, len(whole)))

    def _probability(self, context: str, letter: str) -> float:
        gram = context + letter
        known = self._known.get(gram)
        if known is not None:
            return known
        shorter = self._probability(context[1:], letter) if context else self._share
        kinds = self._kinds.get(context, 0)
        if kinds:
            kept = self._kept[context]
            seen = max(self._counts.get(context, kept), kept)
            # those that were left out were seen about half as often as those that were just kept
            whole = seen + kinds + (seen - kept) / max(1.3, (self._least - 1) / 2)
            shorter = self._counts.get(gram, 0) / whole + (1 - kept / whole) * shorter
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[gram] = shorter
        return shorter

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all; the same model gives the same bytes.

        Raises:
            SlimError: it cannot be.
        """
        packed = _MAGIC + lzma.compress(self._pack(), preset=9 | lzma.PRESET_EXTREME)
        with replacing(Path(path)) as new:
            new.write_bytes(packed)

    def _pack(self) -> bytes:
        letters = sorted({letter for gram in self._counts for letter in gram})
        if len(letters) >= _UP:
            raise SlimError(f"a model of {len(letters)} letters cannot be written: at most {_UP - 1}")
        number = {letter: at for at, letter in enumerate(letters)}
        children: dict[str, list[str]] = {}
        for gram in sorted(self._counts):
            children.setdefault(gram[:-1], []).append(gram)
        tree, counts = bytearray(), bytearray()

        def tell(context: str) -> None:
            for gram in children.get(context, ()):
                tree.append(number[gram[-1]])
                counts.append(round(math.log(self._counts[gram], STEP)))
                tell(gram)
            tree.append(_UP)

        tell("")
        if len(counts) != len(self._counts):
            raise SlimError("the model has n-grams whose beginnings it lacks, and cannot be written")
        head = json.dumps({"order": self.order, "least": self._least, "letters": "".join(letters)}).encode() + b"\n"
        return head + len(counts).to_bytes(4, "little") + bytes(counts) + bytes(tree)

    @staticmethod
    def load(path: str | Path) -> LanguageModel:
        """Read a model that `save` wrote.

        Raises:
            SlimError: the file is missing, damaged or something else.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise SlimError(f"cannot read the language model {path}: {error.strerror}") from error
        if not raw.startswith(_MAGIC):
            raise SlimError(f"{path} is no language model; make one with tools/make_language_model.py")
        try:
            counts, order, least = _unpack(lzma.decompress(raw[len(_MAGIC) :]))
        except (lzma.LZMAError, ValueError, KeyError, IndexError, TypeError) as error:
            raise SlimError(f"{path} is damaged ({error}); make it again with tools/make_language_model.py") from error
        return LanguageModel(counts, order, least)


def _unpack(raw: bytes) -> tuple[dict[str, int], int, int]:
    line, _, rest = raw.partition(b"\n")
    head = json.loads(line)
    number, rest = int.from_bytes(rest[:4], "little"), rest[4:]
    powers, tree = rest[:number], rest[number:]
    values = [round(STEP**power) for power in range(max(powers) + 1)]
    counts: dict[str, int] = {}
    path: list[str] = [""]
    told = 0
    for code in tree:
        if code == _UP:
            path.pop()
            continue
        gram = path[-1] + head["letters"][code]
        counts[gram] = values[powers[told]]
        told += 1
        path.append(gram)
    if path or told != number or not counts:
        raise ValueError("its tree is not whole")
    return counts, int(head["order"]), int(head["least"])


def count_grams(texts: Sequence[str], order: int) -> Counter:
    """Return how often each n-gram of up to `order` letters stands in the texts, `BEGIN` and `END` included."""
    grams: Counter = Counter()
    for text in texts:
        whole = BEGIN + text + END
        for last in range(1, len(whole)):
            grams.update(whole[first : last + 1] for first in range(max(0, last - order + 1), last + 1))
    return grams
