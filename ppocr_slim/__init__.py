"""ppocr_slim: OCR models made slim. The version, and the environment that Paddle needs before its first import."""

import os
import warnings

from ppocr_slim.engines.cpu import cpuinfo, mkl_code_path

__version__ = "0.1.0"


# Paddle 3's new program format is unknown to paddle2onnx 1.3 and PaddleSlim 2.6; the old one also writes
# inference.pdmodel + inference.pdiparams, which PaddleOCR 2.x and its users' tools load.
os.environ.setdefault("FLAGS_enable_pir_api", "0")
if _path := mkl_code_path(cpuinfo()):
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", _path)

# Said by paddle at every import, of a compiler cache that only building C++ extensions would use.
warnings.filterwarnings("ignore", message="No ccache found")
# Said once a run of every batch norm that trains, whatever one sets.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
