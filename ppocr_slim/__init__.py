"""ppocr_slim: OCR models made slim. The version, and the environment that Paddle needs before its first import."""

import os
import warnings
from pathlib import Path

__version__ = "0.1.0"


def mkl_code_path(cpuinfo: str) -> str:
    """The value of MKL_DEBUG_CPU_TYPE that suits a processor, as /proc/cpuinfo describes it; "" if MKL chooses well.

    Paddle's wheel carries an MKL of 2019 that takes its slowest path on processors that are not Intel's; this
    variable, which that version still reads, names the AVX2 (5) or AVX-512 (7) path instead: 4 to 6 times faster
    matrix products.
    """
    cpu = cpuinfo.split("\n\n")[0]
    if "AuthenticAMD" not in cpu:
        return ""
    features = set(cpu.split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= features:
        return "7"
    return "5" if {"avx2", "fma"} <= features else ""


def cpuinfo() -> str:
    """/proc/cpuinfo, or "" where there is none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


# Paddle 3's new program format is unknown to paddle2onnx 1.3 and PaddleSlim 2.6; the old one also writes
# inference.pdmodel + inference.pdiparams, which PaddleOCR 2.x and its users' tools load.
os.environ.setdefault("FLAGS_enable_pir_api", "0")
if _path := mkl_code_path(cpuinfo()):
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", _path)

# Said by paddle at every import, of a compiler cache that only building C++ extensions would use.
warnings.filterwarnings("ignore", message="No ccache found")
# Said once a run of every batch norm that trains, whatever one sets.
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
