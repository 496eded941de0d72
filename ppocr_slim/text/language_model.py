"""An n-gram language model of characters: the probability of a character after the characters before it.

Counts are smoothed by Witten and Bell's interpolation (1991): a context's own counts, and for unseen characters the
context that is one character shorter. Rare n-grams may be left out of the file; their probability then goes to the
shorter context, too. `text.language_training` builds such models.
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

BEGIN, END = " ", "\n"  # of a text, as characters of n-grams
STEP = 1.5  # counts are kept as powers of this
_MAGIC = b"ppocr_slim n-grams 1\n"
_UP = 255  # in the file: after a node's last child
LONGEST = 16  # the highest order of a model
_CACHED = 200_000  # probabilities: 30 MB


class LanguageModel:
    """An n-gram model of characters.

    Args:
        counts: of n-grams by their text, of all lengths up to `order`; with a text's `BEGIN` and `END`.
        order: the length of the longest n-grams.
        least: the smallest count of an n-gram of three characters or more that was kept.

    Attributes:
        order: the length of the longest n-grams.
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
        self._unseen = 1 / (1 + kinds[""])  # probability of a character that was never seen
        self._cache: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return len(self._counts)

    def probability(self, context: str, character: str) -> float:
        """Return the probability, in (0, 1), of a character after a context of which `order` - 1 characters count."""
        return self._probability(context[max(0, len(context) - self.order + 1) :] if self.order > 1 else "", character)

    def log_probability(self, text: str) -> float:
        """Return the natural logarithm of the probability of a whole text with its end."""
        whole = BEGIN + text + END
        return sum(math.log(self.probability(whole[:at], whole[at])) for at in range(1, len(whole)))

    def _probability(self, context: str, character: str) -> float:
        gram = context + character
        cached = self._cache.get(gram)
        if cached is not None:
            return cached
        result = self._probability(context[1:], character) if context else self._unseen
        kinds = self._kinds.get(context, 0)
        if kinds:
            kept = self._kept[context]
            seen = max(self._counts.get(context, kept), kept)
            # n-grams that were left out were seen about half as often as those that were just kept
            whole = seen + kinds + (seen - kept) / max(1.3, (self._least - 1) / 2)
            result = self._counts.get(gram, 0) / whole + (1 - kept / whole) * result
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[gram] = result
        return result

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all; the same model has the same bytes.

        Raises:
            SlimError: the file cannot be written, or the model has too many characters or incomplete n-grams.
        """
        packed = _MAGIC + lzma.compress(self._pack(), preset=9 | lzma.PRESET_EXTREME)
        with replacing(Path(path)) as new:
            new.write_bytes(packed)

    def _pack(self) -> bytes:
        """Return the model as a header, the logarithms of its counts, and its n-grams as a tree, depth first."""
        characters = sorted({character for gram in self._counts for character in gram})
        if len(characters) >= _UP:
            raise SlimError(f"a language model of {len(characters)} characters cannot be written: at most {_UP - 1}")
        number = {character: at for at, character in enumerate(characters)}
        children: dict[str, list[str]] = {}
        for gram in sorted(self._counts):
            children.setdefault(gram[:-1], []).append(gram)
        tree, counts = bytearray(), bytearray()

        def write_children(context: str) -> None:
            for gram in children.get(context, ()):
                tree.append(number[gram[-1]])
                counts.append(round(math.log(self._counts[gram], STEP)))
                write_children(gram)
            tree.append(_UP)

        write_children("")
        if len(counts) != len(self._counts):
            raise SlimError("the language model lacks the beginnings of some of its n-grams and cannot be written")
        head = json.dumps({"order": self.order, "least": self._least, "letters": "".join(characters)}).encode() + b"\n"
        return head + len(counts).to_bytes(4, "little") + bytes(counts) + bytes(tree)

    @staticmethod
    def load(path: str | Path) -> LanguageModel:
        """Read a model from a file that `save` wrote.

        Raises:
            SlimError: the file is missing, damaged or no language model.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise SlimError(f"cannot read the language model {path}: {error.strerror}") from error
        if not raw.startswith(_MAGIC):
            raise SlimError(f"{path} is no language model; make one with `ppocr-slim language-model`")
        try:
            counts, order, least = _unpack(lzma.decompress(raw[len(_MAGIC) :]))
        except (lzma.LZMAError, ValueError, KeyError, IndexError, TypeError) as error:
            raise SlimError(f"{path} is damaged ({error}); make it again with `ppocr-slim language-model`") from error
        return LanguageModel(counts, order, least)


def _unpack(raw: bytes) -> tuple[dict[str, int], int, int]:
    """Return the counts, the order and the smallest kept count of a model that `_pack` wrote."""
    line, _, rest = raw.partition(b"\n")
    head = json.loads(line)
    number, rest = int.from_bytes(rest[:4], "little"), rest[4:]
    powers, tree = rest[:number], rest[number:]
    values = [round(STEP**power) for power in range(max(powers) + 1)]
    counts: dict[str, int] = {}
    path: list[str] = [""]
    read = 0
    for code in tree:
        if code == _UP:
            path.pop()
            continue
        gram = path[-1] + head["letters"][code]
        counts[gram] = values[powers[read]]
        read += 1
        path.append(gram)
    if path or read != number or not counts:
        raise ValueError("its tree is not whole")
    return counts, int(head["order"]), int(head["least"])


def count_grams(texts: Sequence[str], order: int) -> Counter:
    """Count the n-grams of up to `order` characters in texts, `BEGIN` and `END` included."""
    grams: Counter = Counter()
    for text in texts:
        whole = BEGIN + text + END
        for last in range(1, len(whole)):
            grams.update(whole[first : last + 1] for first in range(max(0, last - order + 1), last + 1))
    return grams
