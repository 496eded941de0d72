"""ppocr_slim: OCR models made slim.

The names that most programs need are here, loaded when they are first used:

    from ppocr_slim import Pipeline, load_image

    for line in Pipeline.from_bundles().read(load_image("page.jpg")).lines:
        print(line.text)

Importing the package also sets the environment that Paddle needs before its own first import.
"""

import os
import pkgutil
import warnings

from ppocr_slim.engines.cpu import cpuinfo, mkl_code_path

__version__ = "0.2.0"

_NAMES = {
    "Pipeline": "ppocr_slim.runtime.pipeline",
    "Detector": "ppocr_slim.runtime.detector",
    "DirectionClassifier": "ppocr_slim.runtime.direction",
    "Recognizer": "ppocr_slim.runtime.recognizer",
    "TextLine": "ppocr_slim.runtime.types",
    "load_image": "ppocr_slim.runtime.images",
    "read_pages": "ppocr_slim.runtime.documents",
    "SlimError": "ppocr_slim.errors",
}
__all__ = [
    "Detector",
    "DirectionClassifier",
    "Pipeline",
    "Recognizer",
    "SlimError",
    "TextLine",
    "load_image",
    "read_pages",
]


def __getattr__(name: str):
    """Load one of the names above (PEP 562)."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(f"{_NAMES[name]}:{name}")


# Paddle 3's new program format is unknown to paddle2onnx 1.3 and PaddleSlim 2.6; the old one also writes
# inference.pdmodel + inference.pdiparams, which PaddleOCR 2.x and its users' tools load.
os.environ.setdefault("FLAGS_enable_pir_api", "0")
if _path := mkl_code_path(cpuinfo()):
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", _path)

# Said by paddle at every import, of a compiler cache that only building C++ extensions would use.
warnings.filterwarnings("ignore", message="No ccache found")
# Said once a run of every batch norm that trains, whatever one sets.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
