"""The font that pictures are labelled with: DejaVu Sans, which has all Vietnamese letters with their marks."""

from __future__ import annotations

from pathlib import Path

FONT_FILE = Path(__file__).with_name("DejaVuSans.ttf")
