from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import dirichlet as scipy_dirichlet

from rlmba.errors import UsageError
from rlmba.method import efda
from rlmba.types import PoolOutputs

alphas = hnp.arrays(np.float64, (3, 4, 5), elements=st.floats(1, 50))


@given(alphas, st.integers(0, 2))
def test_unit_vector_selects_its_modality(stack, k):
    np.testing.assert_allclose(efda.fuse(list(stack), np.eye(3)[k]), stack[k], rtol=1e-14)


@given(alphas, hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1)))
def test_fused_alpha_lies_between_the_modalities(stack, raw):
    fused = efda.fuse(list(stack), raw / raw.sum())
    assert (fused >= stack.min(axis=0) - 1e-9).all()
    assert (fused <= stack.max(axis=0) + 1e-9).all()


@pytest.mark.parametrize("evidence", efda.EVIDENCE)
def test_alpha_is_at_least_one_and_rises_with_the_logit(evidence):
    a = efda.dirichlet(np.linspace(-30, 30, 61)[None], 2.0, evidence)
    assert (a >= 1).all()
    assert (np.diff(a[0]) >= 0).all()


@pytest.mark.parametrize("evidence", efda.EVIDENCE)
def test_difficulty_is_the_mean_variance_of_the_fused_dirichlet(pool, evidence):
    w, t = np.array([0.3, 0.7]), np.array([1.5, 0.8])
    heads = [efda.dirichlet(z, ti, evidence) for z, ti in zip(pool.logits.values(), t, strict=True)]
    result = efda.difficulty(pool, w, t, evidence=evidence)
    for i in range(0, len(pool), 17):
        expected = [scipy_dirichlet.var(a[i]).mean() for a in heads]
        np.testing.assert_allclose(result.modality[i], expected, rtol=2e-5)
        fused = efda.fuse(heads, w)[i]
        assert result.fused[i] == pytest.approx(scipy_dirichlet.var(fused).mean(), rel=2e-5)


def test_closed_form_of_the_variance():
    a = np.array([1.0, 2.5, 7.0, 1.2])
    a0 = a.sum()
    by_class = (a * (a0 - a) / (a0**2 * (a0 + 1))).sum()
    assert by_class == pytest.approx((1 - ((a / a0) ** 2).sum()) / (a0 + 1), rel=1e-14)


def test_weights_of_absent_modalities_are_shared_out():
    w = np.array([0.2, 0.3, 0.5])
    present = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0]], dtype=bool)
    rows = efda.sample_weights(w, present)
    np.testing.assert_allclose(rows, [w, [0, 0.375, 0.625], [1, 0, 0]])
    np.testing.assert_allclose(
        efda.sample_weights(np.array([1.0, 0.0, 0.0]), present[1:2]), [[0, 0.5, 0.5]]
    )
    assert efda.sample_weights(w, None) is w


def test_entropy_ablation(pool):
    result = efda.entropy(pool, np.ones(2))
    p = np.exp(pool.fused_logits - pool.fused_logits.max(axis=1, keepdims=True)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.fused, -(p * np.log(p)).sum(axis=1), rtol=1e-5)
    assert result.modality.shape == (len(pool), 2)


def test_unknown_evidence():
    with pytest.raises(UsageError, match="evidence: expected one of"):
        efda.dirichlet(np.zeros((1, 2)), 1.0, "sigmoid")
    with pytest.raises(UsageError, match="temperature"):
        efda.dirichlet(np.zeros((1, 2)), 0.0)


def degree_of_conflict(a, b):
    """Of two modalities of one sample, by its definition."""
    sure = [1 - len(x) / x.sum() for x in (a, b)]
    return 0.5 * np.abs(a / a.sum() - b / b.sum()).sum() * sure[0] * sure[1]


@pytest.mark.parametrize("evidence", efda.EVIDENCE)
def test_vacuity_and_conflict_are_their_definitions(rng, evidence):
    n, c, names = 30, 4, ("image", "audio", "text")
    logits = {m: rng.normal(size=(n, c), scale=2) for m in names}
    present = rng.random((n, 3)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    pool = PoolOutputs(
        ids=np.arange(n).astype(str),
        features=logits,
        logits=logits,
        fused_features=logits["image"],
        fused_logits=logits["image"],
        present=present,
    )
    w, t = np.array([0.2, 0.3, 0.5]), np.array([1.0, 0.5, 2.0])
    alphas = [efda.dirichlet(z, ti, evidence) for z, ti in zip(logits.values(), t, strict=True)]
    fused = efda.fuse(alphas, efda.sample_weights(w, present))
    vacuity = efda.vacuity(pool, w, t, evidence=evidence)
    conflict = efda.conflict(pool, w, t, evidence=evidence)
    both = efda.vacuity_and_conflict(pool, w, t, evidence=evidence)
    for i in range(n):
        assert vacuity.fused[i] == pytest.approx(c / fused[i].sum())
        here = np.flatnonzero(present[i])
        pairs = {
            frozenset((a, b)): degree_of_conflict(alphas[a][i], alphas[b][i])
            for a in here
            for b in here
            if a < b
        }
        assert conflict.fused[i] == pytest.approx(np.mean([*pairs.values()] or [0]))
        for m in range(3):
            assert vacuity.modality[i, m] == pytest.approx(c / alphas[m][i].sum())
            own = [x for pair, x in pairs.items() if m in pair]
            assert conflict.modality[i, m] == pytest.approx(np.mean(own or [0]))
    np.testing.assert_allclose(both.fused, 1 - (1 - vacuity.fused) * (1 - conflict.fused))
    np.testing.assert_allclose(both.modality, 1 - (1 - vacuity.modality) * (1 - conflict.modality))


def test_agreement_and_ignorance_are_no_conflict():
    sure, other, empty = (
        np.array([[9.0, -9, -9]]),
        np.array([[-9.0, 9, -9]]),
        np.full((1, 3), -90.0),
    )

    def between(a, b):
        z = {"a": a, "b": b}
        pool = PoolOutputs(np.array(["s"]), z, z, a, a, evidence="exp")
        return efda.conflict(pool, np.full(2, 0.5), np.ones(2)).fused[0]

    assert between(sure, other) > 0.99
    assert between(sure, sure) == 0
    assert between(sure, empty) == pytest.approx(0, abs=1e-12)
