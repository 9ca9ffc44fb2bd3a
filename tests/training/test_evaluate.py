from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import f1_score, roc_auc_score

from rlmba.errors import ShapeError, UsageError
from rlmba.method.amcb import balance_weights, contribution_gaps
from rlmba.training import evaluate, fit_temperature, fit_temperatures, head_log_probs
from rlmba.types import PoolOutputs


def outputs(fused, *modal, present=None):
    fused = np.asarray(fused, dtype=np.float32)
    names = "abc"[: len(modal)]
    return PoolOutputs(
        ids=np.array([f"s{i}" for i in range(len(fused))]),
        features={m: np.zeros((len(fused), 2), np.float32) for m in names},
        logits={m: np.asarray(z, dtype=np.float32) for m, z in zip(names, modal, strict=True)},
        fused_features=np.zeros((len(fused), 2), np.float32),
        fused_logits=fused,
        present=present,
    )


def random_outputs(rng, n=200, c=4, present=None):
    return outputs(*(2 * rng.normal(size=(3, n, c))), present=present)


def plain_ece(probs, y, bins):
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(
        abs(confidence[bin_of == b].sum() - right[bin_of == b].sum()) for b in range(bins)
    ) / len(y)


def test_figures_against_plain_formulas(rng):
    pool = random_outputs(rng)
    y = rng.integers(3, size=200)
    result = evaluate(pool, y)
    assert list(result.heads) == ["mm", "a", "b"]
    assert result.size == 200
    for head, logits in {"mm": pool.fused_logits, **pool.logits}.items():
        log_p = log_softmax(logits.astype(np.float64), axis=1)
        right = log_p.argmax(axis=1) == y
        got = result.heads[head]
        assert got.top1 == pytest.approx(right.mean(), abs=1e-6)
        macro = np.mean([right[y == c].mean() for c in range(3)])
        assert got.top1_macro == pytest.approx(macro, abs=1e-6)
        assert got.nll == pytest.approx(-log_p[np.arange(200), y].mean(), abs=1e-9)
        assert got.ece == pytest.approx(plain_ece(np.exp(log_p), y, 15), abs=1e-5)


def test_macro_counts_only_classes_that_occur():
    """Class 2 is predicted but never true: it must not enter the mean as a zero."""
    pool = outputs(np.eye(3)[[0, 0, 2, 1]] * 5, np.eye(3)[[0, 0, 2, 1]] * 5)
    result = evaluate(pool, np.array([0, 0, 0, 1]))
    assert result.mm.top1 == pytest.approx(0.75)
    assert result.mm.top1_macro == pytest.approx((2 / 3 + 1) / 2)


def test_f1_auroc_and_per_class_against_scikit_learn(rng):
    """Class 3 is predicted but never true: it enters no mean, and its own accuracy is unknown."""
    pool = random_outputs(rng)
    y = rng.integers(3, size=200)
    result = evaluate(pool, y, per_class=True)
    for head, logits in {"mm": pool.fused_logits, **pool.logits}.items():
        got = result.heads[head]
        p = softmax(logits.astype(np.float64), axis=1)
        guess = p.argmax(axis=1)
        assert (guess == 3).any()
        f1 = f1_score(y, guess, labels=[0, 1, 2], average="macro")
        assert got.f1 == pytest.approx(f1, abs=1e-6)
        areas = [roc_auc_score(y == c, p[:, c]) for c in range(3)]
        assert got.auroc == pytest.approx(np.mean(areas), abs=1e-12)
        assert got.per_class[3] is None
        each = [(guess[y == c] == c).mean() for c in range(3)]
        assert got.per_class[:3] == pytest.approx(each, abs=1e-6)
    without = evaluate(pool, y)
    assert without.mm == replace(result.mm, per_class=())


def test_auroc_of_ties_is_half_and_of_one_class_unknown():
    tied = outputs(np.zeros((6, 3)), np.eye(3)[[0, 1, 2, 0, 1, 2]])
    y = np.array([0, 1, 2, 0, 1, 2])
    assert evaluate(tied, y).mm.auroc == 0.5
    assert evaluate(tied, y).heads["a"].auroc == 1.0
    alone = evaluate(tied, np.zeros(6, np.int64), per_class=True).mm
    assert (alone.auroc, alone.f1) == (None, 1.0)
    assert alone.per_class == (1.0, None, None)


def test_certain_predictions():
    pool = outputs(np.eye(3) * 500, np.eye(3) * 500)
    result = evaluate(pool, np.arange(3)).mm
    assert (result.top1, result.ece) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert result.nll == pytest.approx(0.0, abs=1e-9)


def test_absent_modalities_are_not_judged(rng):
    present = np.ones((200, 2), bool)
    present[50:, 1] = False
    pool = random_outputs(rng, present=present)
    y = rng.integers(4, size=200)
    result = evaluate(pool, y)
    there = evaluate(pool.take(np.arange(50)), y[:50])
    assert result.heads["b"] == replace(there.heads["b"], samples=50, fused_top1=there.mm.top1)
    assert result.fused_top1("b") == there.mm.top1 != result.mm.top1
    assert (result.heads["a"].samples, result.fused_top1("a")) == (None, result.mm.top1)
    none = random_outputs(rng, present=np.tile([True, False], (200, 1)))
    guess = evaluate(none, y).heads["b"]
    assert (guess.top1, guess.nll) == (0.25, pytest.approx(np.log(4)))
    assert (guess.f1, guess.auroc, guess.per_class) == (None, None, ())
    assert (guess.samples, evaluate(none, y).fused_top1("b")) == (0, None)
    assert evaluate(none, y, per_class=True).heads["b"].per_class == (None,) * 4


@pytest.mark.parametrize("predictor", ["fused", "pooled"])
def test_a_modality_of_the_easier_samples_is_not_preferred(rng, predictor):
    """All heads agree everywhere; "b" is present where they are right, and "c" nowhere."""
    y = rng.integers(4, size=200)
    said = np.where(np.arange(200) < 100, y, (y + rng.integers(2, size=200)) % 4)
    logits = 6 * np.eye(4)[said]
    present = np.ones((200, 3), bool)
    present[100:, 1] = present[:, 2] = False
    result = evaluate(outputs(*[logits] * 4, present=present), y, predictor=predictor)
    assert result.heads["b"].top1 == 1 > result.mm.top1 + 0.1
    delta = contribution_gaps(result)
    np.testing.assert_array_equal(delta, 0)
    np.testing.assert_allclose(balance_weights(delta, tau=0.1), 1 / 3)


def test_pooled_is_the_normalized_sum_over_present_heads(rng):
    present = rng.random((200, 2)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    pool = random_outputs(rng, present=present)
    t = {"mm": 2.0, "a": 0.5, "b": 3.0}
    got = head_log_probs(pool, predictor="pooled", temperatures=t)
    a, b, fused = (
        softmax(z.astype(np.float64) / t[m], axis=1)
        for m, z in [*pool.logits.items(), ("mm", pool.fused_logits)]
    )
    product = fused * np.where(present[:, :1], a, 1) * np.where(present[:, 1:], b, 1)
    product /= product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(got["mm"]), product, rtol=1e-7)
    fused = head_log_probs(pool, temperatures=t)
    np.testing.assert_allclose(logsumexp(fused["mm"], axis=1), 0, atol=1e-9)
    np.testing.assert_array_equal(fused["a"], got["a"])
    y = rng.integers(4, size=200)
    assert evaluate(pool, y, predictor="pooled", temperatures=t).mm.nll == pytest.approx(
        -got["mm"][np.arange(200), y].mean()
    )


def test_bad_requests(rng):
    pool = random_outputs(rng)
    with pytest.raises(UsageError, match="one or more labels of 0 to 3"):
        evaluate(pool, np.full(200, 4))
    with pytest.raises(UsageError, match="one or more"):
        evaluate(pool.take(np.zeros(0, np.int64)), np.zeros(0, np.int64))
    with pytest.raises(ShapeError, match="expected 200 labels"):
        evaluate(pool, np.zeros(3, int))
    with pytest.raises(UsageError, match='"fused" or "pooled"'):
        head_log_probs(pool, predictor="mean")


@pytest.mark.parametrize("factor", [0.4, 1.0, 5.0])
def test_temperature_undoes_a_known_factor(rng, factor):
    z = 2 * rng.normal(size=(20_000, 5))
    p = softmax(z, axis=1)
    y = (p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(max=4)
    assert fit_temperature(z * factor, y) == pytest.approx(factor, rel=0.05)


@given(
    hnp.arrays(np.float64, (9, 3), elements=st.floats(-20, 20, width=16)),
    hnp.arrays(np.int64, 9, elements=st.integers(0, 2)),
)
def test_property_temperature_is_the_best_in_its_bounds(z, y):
    def nll(t):
        return -log_softmax(z / t, axis=1)[np.arange(9), y].mean()

    fitted = fit_temperature(z, y)
    assert 0.1 <= fitted <= 10
    assert nll(fitted) <= min(nll(t) for t in np.geomspace(0.1, 10, 40)) + 1e-4


def test_temperature_of_degenerate_sets():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.ones((4, 3)), np.zeros(4, int)) == 1.0
    assert fit_temperature(np.eye(3) * 4, np.arange(3)) == pytest.approx(0.1)
    assert fit_temperature(np.array([[9.0, 0.0]]), np.array([1])) == pytest.approx(10.0)
    with pytest.raises(ShapeError, match="labels"):
        fit_temperature(np.eye(3), np.arange(2))


def test_temperatures_of_all_heads_respect_presence(rng):
    present = np.ones((200, 2), bool)
    present[50:, 1] = False
    pool = random_outputs(rng, present=present)
    y = rng.integers(4, size=200)
    t = fit_temperatures(pool, y)
    assert list(t) == ["mm", "a", "b"]
    assert t["mm"] == fit_temperature(pool.fused_logits, y)
    assert t["b"] == fit_temperature(pool.logits["b"][:50], y[:50])
