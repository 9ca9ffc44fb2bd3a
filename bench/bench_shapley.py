"""shapley_contributions compared with NumPy and torch at Food101's size, and its growth with N and M.

Bytes counted: each part read once, each value written once. The peers evaluate one coalition after the
other, each over all rows, in float32.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from common import record_traffic

from rlmba import kernels
from rlmba.kernels.shapley_contributions import spec

N, C, M = spec.BENCH_SHAPE


def problem(n, m):
    rng = np.random.default_rng(0)
    parts = [2 * rng.standard_normal((n, C), dtype=np.float32) for _ in range(m)]
    return parts, rng.integers(C, size=n), rng.standard_normal(C, dtype=np.float32)


def ours(parts, y, bias):
    return kernels.shapley_contributions(parts, y, bias=bias, backend="cpu")


def shares(values, worth):
    m = values.shape[1]
    for s in range(1 << m):
        for k in range(m):
            if not s >> k & 1:
                size = s.bit_count()
                share = math.factorial(size) * math.factorial(m - size - 1) / math.factorial(m)
                values[:, k] += share * (worth[s | 1 << k] - worth[s])
    return values


def numpy_form(parts, y, bias):
    n, m = len(y), len(parts)
    worth = []
    for s in range(1 << m):
        z = np.tile(bias, (n, 1))
        for k in range(m):
            if s >> k & 1:
                z += parts[k]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        worth.append(e[np.arange(n), y] / e.sum(axis=1))
    return shares(np.zeros((n, m)), worth)


def torch_form(parts, y, bias):
    n, m = len(y), len(parts)
    tensors, classes = [torch.from_numpy(p) for p in parts], torch.from_numpy(y)[:, None]
    worth = []
    for s in range(1 << m):
        z = torch.from_numpy(bias).expand(n, -1)
        for k in range(m):
            if s >> k & 1:
                z = z + tensors[k]
        worth.append(torch.softmax(z, dim=1).gather(1, classes)[:, 0])
    return shares(torch.zeros((n, m), dtype=torch.float64), worth).numpy()


FORMS = {"rlmba": ours, "numpy": numpy_form, "torch": torch_form}


def moved(n, m):
    return n * (4 * m * C + 8 * m)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("form", FORMS)
def bench_form(benchmark, m, form):
    benchmark.group = f"shapley_contributions N={N:,} C={C} M={m}"
    parts, y, bias = problem(N, m)
    wide = [p[:2000].astype(np.float64) for p in parts]
    few = kernels.shapley_contributions(wide, y[:2000], bias=bias, backend="reference")
    np.testing.assert_allclose(FORMS[form](parts, y, bias)[:2000], few, atol=1e-6)
    benchmark(FORMS[form], parts, y, bias)
    record_traffic(benchmark, moved(N, m), shape=[N, C, m], dtype="float32")


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, n):
    benchmark.group = f"shapley_contributions growth C={C} M={M}"
    benchmark(ours, *problem(n, M))
    record_traffic(benchmark, moved(n, M), shape=[n, C, M], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 2)
