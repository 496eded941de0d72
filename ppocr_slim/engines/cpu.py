"""The processor of this machine: its cores and instructions."""

from __future__ import annotations

import os
from pathlib import Path

SAFE_BITS = 7  # of INT8 weights: with 8 the 16-bit sums of two products overflow on x86 processors without VNNI


def cpuinfo() -> str:
    """Return the text of /proc/cpuinfo, or "" where there is none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mkl_code_path(cpuinfo: str) -> str:
    """Return the value of MKL_DEBUG_CPU_TYPE that suits a processor; "" if MKL chooses well by itself.

    Paddle's wheel carries an MKL of 2019 that takes its slowest path on processors that are not Intel's; this
    variable, which that version still reads, names the AVX2 (5) or AVX-512 (7) path instead: 4 to 6 times faster
    matrix products.

    Args:
        cpuinfo: the text of /proc/cpuinfo, or "".
    """
    cpu = cpuinfo.split("\n\n")[0]
    if "AuthenticAMD" not in cpu:
        return ""
    features = set(cpu.split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= features:
        return "7"
    return "5" if {"avx2", "fma"} <= features else ""


def overflows(cpuinfo: str, machine: str) -> bool:
    """Return whether sums of two products of 8-bit numbers saturate on a processor: an x86 one without VNNI.

    ONNX Runtime and OpenVINO use the instruction VPMADDUBSW there, which adds two products in 16 bits: 2 x 255 x 127
    does not fit, 2 x 255 x 63 does. An unknown x86 processor is taken for one of these.

    Args:
        cpuinfo: the text of /proc/cpuinfo, or "".
        machine: the architecture, as `platform.machine` names it.
    """
    if machine.lower() not in ("x86_64", "amd64", "i686", "x86"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & set(cpuinfo.split("\n\n")[0].split())
