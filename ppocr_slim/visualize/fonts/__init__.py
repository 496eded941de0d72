"""The font of the labels in images: DejaVu Sans, which has all Vietnamese letters with their diacritics."""

from __future__ import annotations

from pathlib import Path

FONT_FILE = Path(__file__).with_name("DejaVuSans.ttf")
