"""fused_score (Eq 4 to 6) of two modalities compared with NumPy and torch, and its growth with N.

Bytes counted: each logit and distance read once, [N, M] written twice and read once, and the three
results of shape [N] written.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import record_traffic

from rlmba import kernels
from rlmba.kernels.fused_score import spec

N, C, M = spec.BENCH_SHAPE
WEIGHTS = np.array([0.3, 0.7])


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    x = [4 * rng.standard_normal((N, C), dtype=np.float32) for _ in range(M)]
    return x, np.abs(rng.standard_normal(N, dtype=np.float32))


def ours(x, d):
    return kernels.fused_score(x, WEIGHTS, distances=d, backend="cpu").score


def numpy_form(x, d):
    def variance(alpha):
        total = alpha.sum(axis=1)
        square = np.einsum("nc,nc->n", alpha, alpha)
        return (1 - square / total**2) / (total + 1) / C

    def unit(v):
        return (v - v.min(axis=0)) / (v.max(axis=0) - v.min(axis=0))

    w = WEIGHTS.astype(np.float32)
    alphas = [1 + np.logaddexp(0, a) for a in x]
    u = np.stack([variance(a) for a in alphas], axis=1)
    variance(w[0] * alphas[0] + w[1] * alphas[1])
    return unit(u) @ w + unit(d)


def torch_form(x, d):
    def variance(alpha):
        total = alpha.sum(dim=1)
        return (1 - (alpha * alpha).sum(dim=1) / total**2) / (total + 1) / C

    def unit(v):
        low, high = torch.aminmax(v, dim=0)
        return (v - low) / (high - low)

    w = torch.from_numpy(WEIGHTS).float()
    alphas = [1 + torch.nn.functional.softplus(torch.from_numpy(a)) for a in x]
    u = torch.stack([variance(a) for a in alphas], dim=1)
    variance(w[0] * alphas[0] + w[1] * alphas[1])
    return (unit(u) @ w + unit(torch.from_numpy(d))).numpy()


FORMS = {"rlmba": ours, "numpy": numpy_form, "torch": torch_form}


def moved(n):
    return 4 * (M * n * C + n + 3 * M * n + 3 * n)


@pytest.mark.parametrize("form", FORMS)
def bench_form(benchmark, pool, form):
    benchmark.group = f"fused_score N={N:,} C={C} M={M}"
    x, d = pool
    few = [a[:2000] for a in x]
    wide = [a.astype(float) for a in few]
    expected = kernels.fused_score(wide, WEIGHTS, distances=d[:2000], backend="reference").score
    np.testing.assert_allclose(FORMS[form](few, d[:2000]), expected, atol=2e-3)
    benchmark(FORMS[form], x, d)
    record_traffic(benchmark, moved(N), shape=[N, C, M], dtype="float32")


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, pool, n):
    benchmark.group = f"fused_score growth C={C} M={M}"
    x, d = pool
    benchmark(ours, [a[:n] for a in x], d[:n])
    record_traffic(benchmark, moved(n), shape=[n, C, M], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 2)
