"""The machine of a measurement, and its two ceilings, measured in the same run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any

import torch

import rlmba
from bench.gpu import clock
from rlmba import environment

__all__ = ["ceilings", "describe", "here"]


def here() -> torch.device:
    """Return the current GPU, or the CPU without one."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def ceilings(device: torch.device) -> dict[str, float]:
    """Bytes per second of a device copy (read plus written), and operations per second of a product.

    The copy has 4 GiB; the product is of random bfloat16 matrices 8,192 x 8,192. Fractions refer to
    these rates. Without a GPU both are small and meaningless.
    """
    return {
        "copy_bytes_per_second": _copy_rate(device),
        "matmul_operations_per_second": _product_rate(device),
    }


def _copy_rate(device: torch.device) -> float:
    source = torch.ones(2**30 if device.type == "cuda" else 2**20, device=device)
    target = torch.empty_like(source)
    taken = clock.measure(lambda: target.copy_(source), device)
    return 2 * source.numel() * source.element_size() / taken.p50


def _product_rate(device: torch.device) -> float:
    n = 8192 if device.type == "cuda" else 128
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    return 2 * n**3 / clock.measure(lambda: a @ b, device).p50


def describe(device: torch.device) -> dict[str, Any]:
    """Describe the device, the driver and the versions, which every measurement needs."""
    found: dict[str, Any] = {
        "device": environment.processor(),
        "clock": "wall clock on a CPU: no measurement of a GPU",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rlmba": rlmba.__version__,
        "cuda_of_torch": torch.version.cuda,
        "torch": torch.__version__,
        **{name: _version(name) for name in ("triton", "numpy", "flash-kmeans")},
    }
    if device.type == "cuda":
        p = torch.cuda.get_device_properties(device)
        found |= {
            "device": p.name,
            "clock": "device events",
            "capability": f"{p.major}.{p.minor}",
            "multiprocessors": p.multi_processor_count,
            "memory_bytes": p.total_memory,
            "cache_bytes": p.L2_cache_size,
            "driver": _printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "nvcc": (_printed("nvcc", "--version") or "").split("release ")[-1].split(",")[0],
        }
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _printed(program: str, *arguments: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
