"""top_k compared with NumPy and torch, and its growth with N.

Bytes counted: one read of the values. A pure read may exceed the bandwidth of a copy, which also writes, and
the values may stay in a large last-level cache between rounds.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import record_traffic

from rlmba import kernels
from rlmba.kernels.top_k import spec

N, K = spec.BENCH_SIZES["large"]
GROWTH = [10_000, 100_000, 1_000_000, 10_000_000]


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(0).standard_normal(N, dtype=np.float32)


def ours(x, k):
    return kernels.top_k(x, k, backend="cpu").values


def numpy_form(x, k):
    best = np.argpartition(x, len(x) - k)[len(x) - k :]
    return x[best[np.argsort(-x[best], kind="stable")]]


def torch_form(x, k):
    return torch.topk(torch.from_numpy(x), k).values.numpy()


FORMS = {"rlmba": ours, "numpy": numpy_form, "torch": torch_form}


@pytest.mark.parametrize("size", spec.BENCH_SIZES)
@pytest.mark.parametrize("form", FORMS)
def bench_form(benchmark, scores, size, form):
    n, k = spec.BENCH_SIZES[size]
    benchmark.group = f"top_k N={n:,} K={k:,}"
    x = scores[:n]
    np.testing.assert_array_equal(FORMS[form](x, k), np.sort(x)[::-1][:k])
    benchmark(FORMS[form], x, k)
    record_traffic(benchmark, x.nbytes, shape=[n, k], dtype="float32")


@pytest.mark.parametrize("n", GROWTH)
def bench_growth(benchmark, scores, n):
    benchmark.group = "top_k growth K=1,000"
    benchmark(ours, scores[:n], 1000)
    record_traffic(benchmark, 4 * n, shape=[n, 1000], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 3)
