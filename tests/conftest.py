"""Import the package before any test module imports paddle, which reads its environment only once."""

import ppocr_slim  # noqa: F401
