from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.plackett_luce import spec

BACKENDS = ["cpu", "reference"]

pytestmark = pytest.mark.usefixtures("poisoned")


def probability(logits, order):
    """The sequential product of Eq 10, as it stands."""
    odds = np.exp(logits)
    left = odds.sum()
    p = 1.0
    for i in order:
        p *= odds[i] / left
        left -= odds[i]
    return p


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_law(backend, n):
    logits = np.array([0.3, -1.0, 1.2, 0.0])
    orders = list(itertools.permutations(range(4), n))
    place = {order: j for j, order in enumerate(orders)}
    draws = 20_000 if backend == "cpu" else 8_000
    counts = np.zeros(len(orders))
    for seed in range(draws):
        drawn = kernels.plackett_luce(logits, n, rng=seed, backend=backend).indices
        counts[place[tuple(drawn.tolist())]] += 1
    expected = np.array([probability(logits, order) for order in orders]) * draws
    assert expected.sum() == pytest.approx(draws)
    # The seeds are fixed, so this either always passes or always fails.
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize(("size", "n"), spec.SIZES)
@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_every_instruction_set_matches_reference(rng, isa, size, n, spread):
    logits = rng.normal(size=size) * spread
    limit = spec.gradient_tolerance(n, np.abs(logits).max())
    a = kernels.plackett_luce(logits, n, rng=5, backend="cpu")
    b = kernels.plackett_luce(logits, n, rng=5, backend="reference")
    np.testing.assert_array_equal(a.indices, b.indices)
    assert a.indices.dtype == np.int64
    assert len(set(a.indices.tolist())) == n
    assert a.log_prob == pytest.approx(
        b.log_prob, abs=spec.LOG_PROB_TOLERANCE * (1 + abs(b.log_prob))
    )
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=0, atol=limit)
    # An order that the draw would not produce: log-probabilities down to -1e7.
    order = rng.permutation(size)[:n]
    c = kernels.plackett_luce_log_prob(logits, order, backend="cpu")
    d = kernels.plackett_luce_log_prob(logits, order, backend="reference")
    assert c.log_prob == pytest.approx(
        d.log_prob, abs=spec.LOG_PROB_TOLERANCE * (1 + abs(d.log_prob))
    )
    np.testing.assert_allclose(c.gradient, d.gradient, rtol=0, atol=limit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_log_probability_is_the_sequential_product(rng, backend):
    logits = rng.normal(size=6)
    for n in range(7):
        total = 0.0
        for order in itertools.permutations(range(6), n):
            value = kernels.plackett_luce_log_prob(logits, list(order), backend=backend).log_prob
            assert value == pytest.approx(math.log(probability(logits, order)), abs=1e-12)
            total += math.exp(value)
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [0, 1, 7, 20])
def test_gradient_is_the_derivative(rng, backend, n):
    logits = rng.normal(size=20) * 3
    draw = kernels.plackett_luce(logits, n, rng=1, backend=backend)
    z = torch.tensor(logits, requires_grad=True)
    left = torch.ones(20, dtype=torch.bool)
    value = torch.zeros((), dtype=torch.float64)
    for i in draw.indices.tolist():
        value = value + z[i] - torch.logsumexp(z[left.clone()], dim=0)
        left[i] = False
    (value + 0 * z.sum()).backward()
    assert draw.log_prob == pytest.approx(value.item(), abs=1e-12)
    np.testing.assert_allclose(draw.gradient, z.grad.numpy(), rtol=0, atol=1e-12)
    assert draw.gradient.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-5
    for i in range(20):
        up, down = logits.copy(), logits.copy()
        up[i] += step
        down[i] -= step
        high = kernels.plackett_luce_log_prob(up, draw.indices, backend=backend).log_prob
        low = kernels.plackett_luce_log_prob(down, draw.indices, backend=backend).log_prob
        assert draw.gradient[i] == pytest.approx((high - low) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("constant", [-1e4, 1e4])
def test_a_constant_changes_nothing(rng, backend, constant):
    logits = np.round(rng.normal(size=200) * 8) / 8
    a = kernels.plackett_luce(logits, 50, rng=3, backend=backend)
    b = kernels.plackett_luce(logits + constant, 50, rng=3, backend=backend)
    np.testing.assert_array_equal(a.indices, b.indices)
    assert a.log_prob == pytest.approx(b.log_prob, rel=1e-10)
    np.testing.assert_allclose(a.gradient, b.gradient, atol=1e-10)


@pytest.mark.parametrize("backend", [*BACKENDS, "triton"])
def test_certain_and_hopeless_orders(backend):
    logits = np.array([1e4, 0.0, -1e4])
    sure = kernels.plackett_luce(logits, 3, rng=0, backend=backend)
    assert sure.indices.tolist() == [0, 1, 2]
    assert sure.log_prob == 0
    never = kernels.plackett_luce_log_prob(logits, [2, 1, 0], backend=backend)
    assert never.log_prob == -3e4
    np.testing.assert_allclose(never.gradient, [-2, 1, 1])
    # Nearly certain: the log-probability keeps its digits.
    close = kernels.plackett_luce_log_prob(np.array([50.0, 0.0]), [0], backend=backend)
    assert close.log_prob == pytest.approx(-math.exp(-50), rel=1e-12)


@given(st.integers(1, 30), st.data())
def test_property_exactly_n_distinct(size, data):
    n = data.draw(st.integers(0, size))
    logits = np.array(data.draw(st.lists(st.floats(-50, 50), min_size=size, max_size=size)))
    draw = kernels.plackett_luce(logits, n, rng=data.draw(st.integers(0, 2**64 - 1)))
    assert len(draw.indices) == len(set(draw.indices.tolist())) == n
    assert draw.log_prob <= 0
    again = kernels.plackett_luce_log_prob(logits, draw.indices)
    assert again.log_prob == draw.log_prob
    np.testing.assert_array_equal(again.gradient, draw.gradient)


def test_generators_and_kinds(rng):
    logits = torch.from_numpy(rng.normal(size=40))
    a = kernels.plackett_luce(logits, 5, rng=np.random.default_rng(2))
    b = kernels.plackett_luce(logits, 5, rng=np.random.default_rng(2))
    assert isinstance(a.indices, torch.Tensor)
    assert a.indices.dtype == torch.int64
    assert a.gradient.dtype == torch.float64
    assert isinstance(a.log_prob, float)
    assert torch.equal(a.indices, b.indices)
    generator = torch.Generator().manual_seed(3)
    c = kernels.plackett_luce(logits.float(), 5, rng=generator)
    d = kernels.plackett_luce(logits.float(), 5, rng=generator)
    assert not torch.equal(c.indices, d.indices)
    strided = rng.normal(size=(40, 2))[:, 1]
    e = kernels.plackett_luce(strided, 5, rng=9)
    assert isinstance(e.indices, np.ndarray)
    same = kernels.plackett_luce(strided.copy(), 5, rng=9)
    np.testing.assert_array_equal(e.indices, same.indices)
    empty = kernels.plackett_luce(np.zeros(0), 0, rng=0)
    assert len(empty.indices) == len(empty.gradient) == 0
    assert empty.log_prob == 0


def test_errors():
    logits = np.zeros(4)
    with pytest.raises(UsageError, match="n: expected 0 to 4, got 5"):
        kernels.plackett_luce(logits, 5, rng=0)
    with pytest.raises(UsageError, match="rng: expected"):
        kernels.plackett_luce(logits, 2, rng="seed")
    with pytest.raises(NonFiniteError, match=r"logits\[2\]"):
        kernels.plackett_luce(np.array([0, 1, np.nan, np.inf]), 1, rng=0)
    with pytest.raises(ShapeError, match="1-D"):
        kernels.plackett_luce(np.zeros((2, 2)), 1, rng=0)
    with pytest.raises(BackendError, match="available"):
        kernels.plackett_luce(logits, 1, rng=0, backend="cuda")
    with pytest.raises(DataError, match=r"indices\[1\] is 4: expected 0 to 3"):
        kernels.plackett_luce_log_prob(logits, [0, 4])
    with pytest.raises(DataError, match="distinct positions, 2 repeats"):
        kernels.plackett_luce_log_prob(logits, np.array([2, 1, 2]))
    with pytest.raises(ShapeError, match="expected integers"):
        kernels.plackett_luce_log_prob(logits, [0.5])
