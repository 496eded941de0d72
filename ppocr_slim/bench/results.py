"""What comes of an experiment, for docs/results: figures as JSON, and a page, tables and plots made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Mapping

from ppocr_slim.errors import SlimError


def write_results(out: Path, figures: Mapping[str, Any], page: str, **others: Callable[[Path], None]) -> Path:
    """Write OUT.json, OUT.md with the page, and by each of `others` a file OUT.<its name>; gives the page's path.

    Raises SlimError where they cannot be written.
    """
    # not with_suffix: the name may have a dot of its own
    paths = {kind: out.with_name(f"{out.name}.{kind}") for kind in ("json", *others, "md")}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(figures, indent=1, ensure_ascii=False)
        paths["json"].write_text(text + "\n", encoding="utf-8")
        for kind, write in others.items():
            write(paths[kind])
        paths["md"].write_text(page, encoding="utf-8")
    except OSError as error:
        raise SlimError(f"cannot write {out}.*: {error.strerror or error}") from error
    return paths["md"]
