from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from rlmba import kernels
from rlmba.kernels import dispatch

ISAS = ["generic", "avx2", "avx512"]


@pytest.fixture
def poisoned(monkeypatch):
    """``empty`` of NumPy and torch whose memory is NaN, or -1: what a kernel forgets to write shows."""
    empty, torch_empty = np.empty, torch.empty

    def poison_tensor(*args, **options):
        t = torch_empty(*args, **options)
        return t.fill_(torch.nan if t.is_floating_point() else -1)

    monkeypatch.setattr(torch, "empty", poison_tensor)

    def poison(shape, dtype=float, **options):
        a = empty(shape, dtype, **options)
        a.fill(np.nan if a.dtype.kind == "f" else -1)
        return a

    monkeypatch.setattr(np, "empty", poison)


@contextlib.contextmanager
def using(name):
    """An instruction set in use; skips where this machine or build lacks it."""
    core = dispatch.core()
    if core is None:
        pytest.skip("the compiled extension is not available")
    if ISAS.index(name) > ISAS.index(core.best_isa()):
        pytest.skip(f"this machine or build has no {name}")
    before = core.isa()
    core.set_isa(name)
    try:
        yield core
    finally:
        core.set_isa(before)


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set that this machine has, in use for the length of a test."""
    with using(request.param):
        yield request.param


@pytest.fixture(params=[*ISAS, "avx512 without tiles"])
def product_isa(request):
    """As ``isa``, and AVX-512 without the matrix tiles it would use for large products."""
    name, _, restriction = request.param.partition(" ")
    with using(name) as core:
        core.allow_matrix_tiles(not restriction)
        yield request.param
        core.allow_matrix_tiles(True)


@pytest.fixture
def with_threads():
    """Call a function under a number of threads of the compiled kernels."""
    before = kernels.num_threads()

    def call(n, function):
        kernels.set_num_threads(n)
        try:
            return function()
        finally:
            kernels.set_num_threads(before)

    return call
