"""bald_score of ten passes compared with NumPy and torch at Food101's size, and its growth with N.

The peers compute the difference of two entropies of a softmax in float32, as active-learning code usually
does. Bytes counted: each logit read once, each score written once. Growth is measured with four passes,
because ten passes of a million rows would take 4 GB.
"""

from __future__ import annotations

import numpy as np
import pytest
from common import record_traffic

from bench.plain import bald_difference
from rlmba import kernels
from rlmba.kernels.bald_score import spec

K, N, C = spec.BENCH_SHAPE


def problem(k, n, c):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((k, n, c), dtype=np.float32)
    x += 3 * rng.standard_normal((n, c), dtype=np.float32)
    return x


def ours(x):
    return kernels.bald_score(x, backend="cpu")


def numpy_form(x):
    p = np.exp(x - x.max(axis=2, keepdims=True))
    p /= p.sum(axis=2, keepdims=True)
    mean = p.mean(axis=0)
    tiny = np.float32(1e-12)
    entropy = -(mean * np.log(mean + tiny)).sum(axis=1)
    return entropy + (p * np.log(p + tiny)).sum(axis=2).mean(axis=0)


FORMS = {"rlmba": ours, "numpy": numpy_form, "torch": bald_difference}


def moved(k, n, c):
    return n * (4 * k * c + 8)


@pytest.mark.parametrize("form", FORMS)
def bench_form(benchmark, form):
    benchmark.group = f"bald_score K={K} N={N:,} C={C}"
    x = problem(K, N, C)
    few = kernels.bald_score(x[:, :2000].astype(np.float64), backend="reference")
    np.testing.assert_allclose(FORMS[form](x)[:2000], few, rtol=1e-4, atol=1e-5)
    benchmark(FORMS[form], x)
    record_traffic(benchmark, moved(K, N, C), shape=[K, N, C], dtype="float32")


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, n):
    k = spec.GROWTH_PASSES
    benchmark.group = f"bald_score growth K={k} C={C}"
    benchmark(ours, problem(k, n, C))
    record_traffic(benchmark, moved(k, n, C), shape=[k, n, C], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 2)
