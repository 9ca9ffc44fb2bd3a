"""minmax of one long column compared with NumPy and torch, and its growth with N.

Bytes counted: two reads and one write. The second read may be served by a cache that holds the input, so a
fraction above 1 is possible. With ``out``, the pages of the result exist already; "new memory" and the
peers also include the time in which the operating system clears new pages.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from common import record_traffic

from rlmba import kernels
from rlmba.kernels.minmax import spec

N = spec.BENCH_SIZE


@pytest.fixture(scope="module")
def column():
    return np.random.default_rng(0).standard_normal(N, dtype=np.float32)


def numpy_form(x, _):
    low, high = x.min(), x.max()
    return (x - low) / (high - low)


def numpy_out(x, out):
    low, high = x.min(), x.max()
    np.subtract(x, low, out=out)
    return np.divide(out, high - low, out=out)


def torch_form(x, _):
    t = torch.from_numpy(x)
    low, high = torch.aminmax(t)
    return ((t - low) / (high - low)).numpy()


def torch_out(x, out):
    t, o = torch.from_numpy(x), torch.from_numpy(out)
    low, high = torch.aminmax(t)
    torch.sub(t, low, out=o)
    return o.div_(high - low).numpy()


def ours(x, _):
    return kernels.minmax(x, backend="cpu")


def ours_out(x, out):
    return kernels.minmax(x, out=out, backend="cpu")


FORMS = {
    "new memory": {"rlmba": ours, "numpy": numpy_form, "torch": torch_form},
    "out": {"rlmba": ours_out, "numpy": numpy_out, "torch": torch_out},
}


@pytest.mark.parametrize("where", FORMS)
@pytest.mark.parametrize("form", ["rlmba", "numpy", "torch"])
def bench_form(benchmark, column, where, form):
    benchmark.group = f"minmax N={N:,} {where}"
    function = FORMS[where][form]
    out = np.zeros_like(column)
    expected = kernels.minmax(column, backend="reference")
    np.testing.assert_array_equal(function(column, out), expected)
    benchmark(function, column, out)
    record_traffic(benchmark, 3 * column.nbytes, shape=[N], dtype="float32", memory=where)


@pytest.mark.parametrize("n", spec.GROWTH)
def bench_growth(benchmark, column, n):
    benchmark.group = "minmax growth (out)"
    out = np.zeros(n, dtype=np.float32)
    benchmark(ours_out, column[:n], out)
    record_traffic(benchmark, 12 * n, shape=[n], dtype="float32")
    benchmark.extra_info["nanoseconds_per_row"] = round(benchmark.stats.stats.min / n * 1e9, 3)
