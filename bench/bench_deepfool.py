"""deepfool_distance compared with DeepFool's iteration by autograd and with torch, and its growth with N.

The iteration, as published and as used by public active-learning code, processes one sample at a time
with one backward pass per class. It is timed on 200 samples; ``seconds_for_all`` is scaled to the whole
pool. The torch form uses the same closed form as ours, with a table of norms. Bytes counted: each logit
read once, each distance and class written once.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import record_traffic

from bench.plain import deepfool_iteration
from rlmba import kernels
from rlmba.kernels.deepfool_distance import spec
from rlmba.types import LinearHead

N, C, D = spec.BENCH_SHAPE
FEW = 200


def problem(n):
    rng = np.random.default_rng(0)
    weight, bias = (rng.standard_normal(s, dtype=np.float32) / 20 for s in ((C, D), C))
    z = rng.standard_normal((min(n, N), D), dtype=np.float32)
    logits = np.resize(z @ weight.T + bias, (n, C))
    return LinearHead(weight, bias), z, logits, weight


def torch_form(logits, weight):
    f, w = torch.from_numpy(logits), torch.from_numpy(weight).double()
    norms = torch.cdist(w, w, compute_mode="donot_use_mm_for_euclid_dist")
    norms.fill_diagonal_(0)
    top, y = f.max(dim=1, keepdim=True)
    away = (top - f) / norms[y[:, 0]]
    away.scatter_(1, y, torch.inf)
    return away.min(dim=1)


def ours(logits, weight):
    return kernels.deepfool_distance(logits, weight, backend="cpu")


def moved(n):
    return n * (4 * C + 16)


@pytest.mark.parametrize("form", ["rlmba", "torch", "iterative"])
def bench_form(benchmark, form):
    benchmark.group = f"deepfool_distance N={N:,} C={C} D={D}"
    head, z, logits, weight = problem(N)
    expected = kernels.deepfool_distance(logits[:FEW], weight, backend="reference")
    if form == "iterative":
        found = deepfool_iteration(head, z[:FEW])
        np.testing.assert_allclose(found[0], expected.distances, rtol=1e-2, atol=1e-5)
        np.testing.assert_array_equal(found[1], expected.classes)
        benchmark.pedantic(deepfool_iteration, (head, z[:FEW]), rounds=1)
        scaled = benchmark.stats.stats.min * N / FEW
        benchmark.extra_info.update(samples=FEW, seconds_for_all=round(scaled, 1))
        print(f"iteration: {scaled:.1f} s for {N:,} samples")
        return
    call = ours if form == "rlmba" else torch_form
    distances, classes = call(logits, weight)
    np.testing.assert_allclose(distances[:FEW], expected.distances, rtol=1e-5)
    np.testing.assert_array_equal(classes[:FEW], expected.classes)
    benchmark(call, logits, weight)
    record_traffic(benchmark, moved(N), shape=[N, C, D], dtype="float32")


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, n):
    benchmark.group = f"deepfool_distance growth C={C} D={D}"
    _, _, logits, weight = problem(n)
    benchmark(ours, logits, weight)
    record_traffic(benchmark, moved(n), shape=[n, C, D], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 2)
