"""dirichlet_variance from logits compared with NumPy and torch, and its growth with N.

Bytes counted: each logit read once, each result written once.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import record_traffic

from rlmba import kernels
from rlmba.kernels.dirichlet_variance import spec

N, C = spec.BENCH_SHAPE
WEIGHTS = np.array([0.3, 0.7])


@pytest.fixture(scope="module")
def modalities():
    rng = np.random.default_rng(0)
    return [4 * rng.standard_normal((N, C), dtype=np.float32) for _ in range(2)]


def variance_numpy(alpha):
    total = alpha.sum(axis=1)
    square = np.einsum("nc,nc->n", alpha, alpha)
    return (1 - square / total**2) / (total + 1) / alpha.shape[1]


def numpy_form(x):
    alphas = [1 + np.logaddexp(0, a) for a in x]
    modality = np.stack([variance_numpy(a) for a in alphas], axis=1)
    if len(x) == 1:
        return modality[:, 0]
    fused = variance_numpy(
        sum(w * a for w, a in zip(WEIGHTS.astype(np.float32), alphas, strict=True))
    )
    return fused, modality


def variance_torch(alpha):
    total = alpha.sum(dim=1)
    return (1 - (alpha * alpha).sum(dim=1) / total**2) / (total + 1) / alpha.shape[1]


def torch_form(x):
    alphas = [1 + torch.nn.functional.softplus(torch.from_numpy(a)) for a in x]
    modality = torch.stack([variance_torch(a) for a in alphas], dim=1)
    if len(x) == 1:
        return modality[:, 0]
    return variance_torch(sum(w * a for w, a in zip(WEIGHTS, alphas, strict=True))), modality


def ours(x):
    if len(x) == 1:
        return kernels.dirichlet_variance(x[0], kind="logits", backend="cpu")
    return kernels.dirichlet_variance(x, kind="logits", weights=WEIGHTS, backend="cpu")


FORMS = {"rlmba": ours, "numpy": numpy_form, "torch": torch_form}


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def bench_form(benchmark, modalities, m, form):
    benchmark.group = f"dirichlet_variance N={N:,} C={C} M={m}"
    x = modalities[:m]
    result = FORMS[form](x)
    options = {"weights": WEIGHTS, "kind": "logits", "backend": "reference"}
    few = kernels.dirichlet_variance([a[:2000].astype(float) for a in modalities], **options)
    if m == 1:
        np.testing.assert_allclose(result[:2000], few.modality[:, 0], rtol=1e-4)
    else:
        np.testing.assert_allclose(result[0][:2000], few.fused, rtol=1e-4)
        np.testing.assert_allclose(result[1][:2000], few.modality, rtol=1e-4)
    del result
    benchmark(FORMS[form], x)
    moved = 4 * (m * N * C + (N if m == 1 else N * (m + 1)))
    record_traffic(benchmark, moved, shape=[N, C, m], dtype="float32")


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, modalities, n):
    benchmark.group = f"dirichlet_variance growth C={C} M=1"
    benchmark(ours, [modalities[0][:n]])
    record_traffic(benchmark, 4 * n * (C + 1), shape=[n, C, 1], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 2)
