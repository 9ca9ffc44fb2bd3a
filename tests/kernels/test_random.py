from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from rlmba.errors import UsageError
from rlmba.kernels.common.random import seed_from, uniform01, unit_interval


def test_ends_of_the_interval_are_open():
    bits = np.array([0, 2**64 - 1], dtype=np.uint64)
    low, high = unit_interval(bits)
    assert 0 < low < high < 1
    assert np.isfinite(np.log(-np.log([low, high]))).all()


def test_stream_is_a_function_of_seed_and_counter():
    np.testing.assert_array_equal(uniform01(7, 0, 100)[40:60], uniform01(7, 40, 20))
    assert not np.array_equal(uniform01(7, 0, 10), uniform01(8, 0, 10))
    assert kstest(uniform01(123, 0, 20_000), "uniform").pvalue > 1e-3


def test_seeds():
    assert seed_from(5) == 5
    assert seed_from(np.random.default_rng(1)) == seed_from(np.random.default_rng(1))
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert seed_from(generators[0]) == seed_from(generators[1])
    assert seed_from(None) != seed_from(None)
    with pytest.raises(UsageError, match="seed >= 0"):
        seed_from(-1)
    with pytest.raises(UsageError, match="rng: expected an int"):
        seed_from("abc")
