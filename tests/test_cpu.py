"""The code path of Paddle's MKL: a wrong one is slow at best, and ends the program at worst."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppocr_slim.engines.cpu import mkl_code_path, overflows

AVX512 = "avx2 fma avx512f avx512dq avx512bw avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "path"),
    [
        ("AuthenticAMD", AVX512, "7"),
        ("AuthenticAMD", "avx2 fma", "5"),
        ("AuthenticAMD", "avx2 fma avx512f", "5"),
        ("AuthenticAMD", "sse4_2 avx", ""),
        ("GenuineIntel", AVX512, ""),
        ("", "", ""),
    ],
)
def test_the_code_path_suits_the_processor(vendor: str, flags: str, path: str):
    """Lost otherwise: AMD processors are four times slower, or run instructions that they do not have."""
    cpuinfo = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n"
    assert mkl_code_path(cpuinfo) == path


def test_a_setting_of_the_users_stays():
    """Lost otherwise: users could not try another path, or none."""
    code = "import os, ppocr_slim; print(os.environ['MKL_DEBUG_CPU_TYPE'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MKL_DEBUG_CPU_TYPE": "4"},
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "4", done.stderr


@pytest.mark.parametrize(
    ("machine", "flags", "overflow"),
    [
        ("x86_64", "avx2 fma", True),
        ("x86_64", AVX512, True),
        ("x86_64", "", True),
        ("x86_64", f"{AVX512} avx512_vnni", False),
        ("AMD64", "avx2 avx_vnni", False),
        ("aarch64", "", False),
    ],
)
def test_processors_without_vnni_are_told_apart(machine: str, flags: str, overflow: bool):
    """INT8 files for VNNI would read nonsense elsewhere, or would not be used where they are faster."""
    assert overflows(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n", machine) is overflow
