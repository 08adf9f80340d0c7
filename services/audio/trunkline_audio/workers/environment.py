"""The environment of worker processes: what a program needs to run, and nothing that the service was entrusted with.

A decoder reads bytes that a stranger sent. What it does not have it cannot tell: keys, tokens and addresses of the
service stand in its environment, so the names that are handed on are listed here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        *("VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "GRPC_ENABLE_FORK_SUPPORT"),
        "TRUNKLINE_MODELS_FOLDER",
    }
)
_FAMILIES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "COV_CORE_")
# One thread a process: there are as many processes as cores.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def cleaned(also: Mapping[str, str], env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a worker is started with: the harmless part of `env`, one thread, and `also` over both."""
    handed = {name: value for name, value in env.items() if name in _NAMES or name.startswith(_FAMILIES)}
    return handed | _THREADS | dict(also)
