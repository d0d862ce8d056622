"""A description of this machine, for a report."""

import importlib
import os
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tinyconv
from tinyconv.devices import accelerators

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's


def describe() -> dict[str, Any]:
    """Describe this machine: processor, cores, memory, accelerators, BLAS and versions."""
    backend = importlib.import_module(keras.backend.backend())
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "accelerators": accelerators(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "blas": _blas(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (tinyconv, keras, backend, np)},
        },
    }


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16. True if its features are unknown."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return not flags or not BFLOAT16.isdisjoint(flags.split())


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    """The value of a key in Linux's description of the processor, or an empty string."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _blas() -> list[str]:
    """The BLAS libraries, each with the CPU that its kernels are for.

    Kernels for different CPUs round differently.
    """
    import scipy.linalg  # noqa: F401  loads the BLAS of the fast twin
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture")
    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return sorted(" ".join(str(info[key]) for key in keys if info.get(key)) for info in found)
