"""Kernels for training on a CPU, compiled by Numba when they are first used and cached.

Numba looks for changes in a kernel's own file only, but kernels inline functions of several files. So its cache is a
folder named by a hash of all of them.
"""

import hashlib
from pathlib import Path

import numba

_FOLDER = Path(__file__).parent
_SOURCES = b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.py")))
if not numba.config.CACHE_DIR:  # a setting of the user's wins
    _CACHE = _FOLDER / "__pycache__" / f"numba-{hashlib.sha256(_SOURCES).hexdigest()[:12]}"
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        numba.config.CACHE_DIR = str(_CACHE)
    except OSError:
        pass  # Numba then has a place of its own in the user's folder
