"""What comes of an experiment, for docs/results: figures as JSON, and a page, tables and plots made from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppocr_slim.folders import replacing

Figures = Mapping[str, Any]


def write_results(
    out: Path, figures: Figures, page: Callable[[str, Figures], str], **others: Callable[[Path, Figures], None]
) -> Path:
    """Write OUT.json, then OUT.md made by `page` of OUT's name, and by each of `others` a file OUT.<its name>; gives
    the page's path.

    The figures come first: a page or a plot that fails takes nothing with it. SlimError where they cannot be written.
    """
    _write(out, "json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    for kind, write in others.items():
        with replacing(_named(out, kind)) as new:
            write(new, figures)
    return _write(out, "md", page(out.name, figures))


def _write(out: Path, kind: str, text: str) -> Path:
    with replacing(_named(out, kind)) as new:
        new.write_text(text, encoding="utf-8")
    return _named(out, kind)


def _named(out: Path, kind: str) -> Path:
    return out.with_name(f"{out.name}.{kind}")  # not with_suffix: the name may have a dot of its own
