"""The test template every strategy inherits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from rlmba import strategies
from rlmba.errors import NonFiniteError, UsageError
from rlmba.method.completing import completed_features
from rlmba.types import Evaluation, HeadMetrics, LinearHead, PoolOutputs, QueryContext
from tests.helpers.option_cases import OPTION_CASES, OptionCase, check_options

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_pool(n=90, c=4, d=6, m=2, seed=0, dtype=np.float32) -> PoolOutputs:
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(m)]
    features = {k: rng.normal(size=(n, d)).astype(dtype) for k in names}
    logits = {k: (2 * rng.normal(size=(n, c))).astype(dtype) for k in names}
    return PoolOutputs(
        ids=np.array([f"id-{i}" for i in rng.permutation(n)]),
        features=features,
        logits=logits,
        fused_features=sum(features.values()) / m,
        fused_logits=sum(logits.values()) / m,
        dropout_logits=(sum(logits.values()) / m + rng.normal(size=(10, n, c))).astype(dtype),
        input_features={
            k: unit_rows(rng.normal(size=(n, 3 + i)), dtype) for i, k in enumerate(names)
        },
    )


def unit_rows(x: np.ndarray, dtype=np.float32) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype)


def make_context(pool: PoolOutputs, seed=0, **kwargs) -> QueryContext:
    heads = {h: HeadMetrics(0.5, 0.5, 1.0, 0.1) for h in ("mm", *pool.modalities)}
    m = len(pool.modalities)
    labeled = np.random.default_rng(77)
    d = pool.fused_features.shape[1]
    dtype = pool.fused_features.dtype
    defaults = {
        "labeled_features": labeled.normal(size=(12, d)).astype(dtype),
        "labels": labeled.integers(pool.n_classes, size=12),
        "labeled_modalities": {
            k: labeled.normal(size=(12, a.shape[1])).astype(dtype) for k, a in pool.features.items()
        },
        "fusion_weights": np.arange(m, 0, -1) / np.arange(1, m + 1).sum(),
        "labeled_input_features": {
            k: unit_rows(labeled.normal(size=(12, a.shape[1])), dtype)
            for k, a in (pool.input_features or {}).items()
        }
        or None,
        "head": LinearHead(
            labeled.normal(size=(pool.n_classes, d)).astype(dtype),
            labeled.normal(size=pool.n_classes).astype(dtype),
        ),
        "weights": np.arange(1, m + 1) / np.arange(1, m + 1).sum(),
        "temperatures": np.full(m, 1.3),
        "contributions": np.linspace(-0.2, 0.1, m),
        "validation": Evaluation(heads, 20),
    }
    return QueryContext(rng=np.random.default_rng(seed), **(defaults | kwargs))


def make_incomplete_pool(n=700, absent=7, seed=0) -> PoolOutputs:
    """Two views of five classes, of which ``absent`` samples lack one; fused as a model fuses."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(5, size=n)
    features = {
        m: np.maximum(rng.normal(size=(5, 16))[truth] + rng.normal(size=(n, 16)), 0)
        for m in ("m0", "m1")
    }
    logits = {m: f @ rng.normal(size=(16, 5)) / 4 for m, f in features.items()}
    present = np.ones((n, 2), bool)
    present[np.arange(absent), rng.integers(2, size=absent)] = False
    weights = present / present.sum(axis=1, keepdims=True)

    def fused(parts):
        return np.einsum("nm,mnd->nd", weights, list(parts.values())).astype(np.float32)

    pool = PoolOutputs(
        ids=np.array([f"id-{i}" for i in range(n)]),
        features={m: f.astype(np.float32) for m, f in features.items()},
        logits={m: z.astype(np.float32) for m, z in logits.items()},
        fused_features=fused(features),
        fused_logits=fused(logits),
        dropout_logits=np.repeat(fused(logits)[None], 2, axis=0),
        input_features=completed_features({m: unit_rows(f) for m, f in features.items()}, present),
        present=present,
    )
    return pool.take(rng.permutation(n))


def only_needed(pool: PoolOutputs, needs: frozenset[str]) -> PoolOutputs:
    """The pool with NaN wherever a strategy with these needs must not look."""

    def kept(need: str, array: np.ndarray) -> np.ndarray:
        return array if need in needs else np.full_like(array, np.nan)

    return replace(
        pool,
        features={m: kept("modality_features", a) for m, a in pool.features.items()},
        logits={m: kept("modality_logits", a) for m, a in pool.logits.items()},
        fused_features=kept("features", pool.fused_features),
        fused_logits=kept("logits", pool.fused_logits),
        dropout_logits=kept("dropout", pool.dropout_logits),
        input_features={m: kept("input_features", a) for m, a in pool.input_features.items()},
    )


class StrategyContract:
    name: str
    options: dict = {}
    permutation_options: dict | None = None
    """Options under which permuting the pool permutes the answer exactly; None: the same ones."""
    draws_by_position = False
    """Whether permuting the pool keeps only the law of the answer, under any options."""
    uses_kernels = True
    """Whether every answer involves a kernel."""

    option_cases: Mapping[str, Sequence[OptionCase]] | None = None
    """Cases of every option; None: those of the strategy in ``OPTION_CASES``."""

    def create(self, **more):
        return strategies.create(self.name, **{**self.options, **more})

    @pytest.mark.parametrize("n", [0, 1, 7, 90])
    def test_exactly_n_distinct_positions(self, n):
        pool = make_pool()
        selection = self.create().query(pool, make_context(pool), n)
        assert selection.positions.dtype == np.int64
        assert len(selection) == len(np.unique(selection.positions)) == n
        assert selection.scores.shape == (n,)
        assert ((selection.positions >= 0) & (selection.positions < len(pool))).all()
        if n:
            assert selection.seconds
            assert bool(selection.backends) == self.uses_kernels

    def test_every_option_does_what_is_declared(self, tmp_path):
        """An option without a case fails, and so does one that nothing reads."""
        if self.options:
            pytest.skip("tested by the class without options")
        cases = OPTION_CASES.get(self.name, {}) if self.option_cases is None else self.option_cases
        check_options(self.name, cases, self.answers, tmp_path)

    @staticmethod
    def answers(strategy) -> list[Any]:
        """What a strategy asks for, chooses and reports in three rounds, from what it needs alone."""
        pool = only_needed(make_pool(n=40), strategy.needs | strategy.optional)
        found = [strategy.dropout_passes]
        for t, reward in enumerate((0.3, 0.8, 0.5)):
            selection = strategy.query(pool, make_context(pool, seed=t), 6)
            figures = strategy.learn(strategies.Feedback(reward, t, 10 * (t + 2), (10, 0.25)))
            found += [selection.positions, selection.scores, [*figures.values()]]
        return found

    def test_single_sample_pool(self):
        pool = make_pool(n=1)
        assert self.create().query(pool, make_context(pool), 1).positions.tolist() == [0]

    @pytest.mark.parametrize("m", [1, 3])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_any_number_of_modalities(self, m, dtype):
        pool = make_pool(m=m, dtype=dtype)
        assert len(self.create().query(pool, make_context(pool), 5)) == 5

    def test_inputs_are_unchanged(self):
        pool = make_pool()
        context = make_context(pool)
        arrays = [*pool.features.values(), *pool.logits.values(), pool.fused_features]
        arrays += [pool.fused_logits, pool.dropout_logits, context.labeled_features, context.labels]
        arrays += [context.head.weight, context.head.bias]
        arrays += [context.weights, context.temperatures, context.contributions]
        arrays += [*pool.input_features.values(), *context.labeled_input_features.values()]
        before = [a.copy() for a in arrays]
        self.create().query(pool, context, 9)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_tensors_are_computed_with_where_they_lie(self):
        """On a GPU where there is one; the answer is that of NumPy arrays, up to rounding."""
        pool = make_pool(dtype=np.float64)
        on = replace(pool, **pool._mapped(lambda a: torch.from_numpy(a).to(DEVICE)))
        strategy, other = self.create(), self.create()
        expected = strategy.query(pool, make_context(pool, seed=4), 12)
        selection = other.query(on, make_context(pool, seed=4), 12)
        assert isinstance(selection.positions, np.ndarray)
        np.testing.assert_array_equal(selection.positions, expected.positions)
        np.testing.assert_allclose(selection.scores, expected.scores, rtol=1e-9)
        if strategy.on_device and self.uses_outputs and DEVICE == "cuda":
            assert {"cuda", "triton"} & {*selection.backends.values()}

    def test_a_seed_reproduces(self):
        pool = make_pool()
        runs = [self.create().query(pool, make_context(pool, seed=4), 12) for _ in range(2)]
        np.testing.assert_array_equal(runs[0].positions, runs[1].positions)
        np.testing.assert_array_equal(runs[0].scores, runs[1].scores)

    def test_permuting_the_pool_permutes_the_answer(self):
        if self.draws_by_position:
            self.check_permuting_keeps_the_law()
            return
        pool = make_pool(dtype=np.float64)  # sums of a row may depend on where it lies
        order = np.random.default_rng(8).permutation(len(pool))
        more = self.permutation_options or {}
        a = self.create(**more).query(pool, make_context(pool), 11)
        b = self.create(**more).query(pool.take(order), make_context(pool), 11)
        assert pool.ids[a.positions].tolist() == pool.ids[order[b.positions]].tolist()

    def check_permuting_keeps_the_law(self, size=12, skip=1, seeds=600, **options):
        """Options may exclude ties; the first ``skip`` of three picks are not drawn."""
        pool = make_pool(n=size)
        order = np.random.default_rng(8).permutation(size)
        permuted, strategy = pool.take(order), self.create(**options)
        counts = np.zeros((2, size))
        for seed in range(seeds):
            for row, other, ids in ((0, pool, np.arange(size)), (1, permuted, order)):
                drawn = strategy.query(other, make_context(other, seed=seed + 1000 * row), 3)
                counts[row, ids[drawn.positions[skip:]]] += 1
        assert chi2_contingency(counts[:, counts.sum(axis=0) > 20]).pvalue > 1e-3

    def test_duplicated_samples(self):
        """A pool of copies of one sample still yields n distinct positions."""
        pool = make_pool()
        same = replace(pool.take(np.zeros(1, dtype=np.int64).repeat(1)), ids=pool.ids[:1])
        copies = PoolOutputs(
            ids=np.array([f"copy-{i}" for i in range(30)]),
            features={m: np.repeat(a, 30, axis=0) for m, a in same.features.items()},
            logits={m: np.repeat(a, 30, axis=0) for m, a in same.logits.items()},
            fused_features=np.repeat(same.fused_features, 30, axis=0),
            fused_logits=np.repeat(same.fused_logits, 30, axis=0),
            dropout_logits=np.repeat(same.dropout_logits, 30, axis=1),
            input_features={m: np.repeat(a, 30, axis=0) for m, a in same.input_features.items()},
        )
        assert len(np.unique(self.create().query(copies, make_context(copies), 10).positions)) == 10

    @pytest.mark.parametrize("n", [-1, 91, 2.5, True])
    def test_n_out_of_range(self, n):
        pool = make_pool()
        with pytest.raises(UsageError, match=r"expected n within 0\.\.90"):
            self.create().query(pool, make_context(pool), n)

    def test_empty_pool(self):
        pool = make_pool().take(np.empty(0, dtype=np.int64))
        assert len(self.create().query(pool, make_context(pool), 0)) == 0
        with pytest.raises(UsageError, match=r"0\.\.0"):
            self.create().query(pool, make_context(pool), 1)

    def test_missing_modalities(self):
        pool = make_pool()
        present = np.random.default_rng(1).random((len(pool), 2)) < 0.6
        present[~present.any(axis=1), 1] = True
        selection = self.create().query(
            replace(pool, present=present), make_context(pool, fusion_weights=None), 8
        )
        assert len(np.unique(selection.positions)) == 8

    def test_samples_that_lack_a_modality_are_not_preferred(self):
        """1 % lack one of two: 0.6 of the 60 picks would be their share."""
        if not {"features", "input_features"} & self.create().needs:
            pytest.skip("takes no distances between features")
        picked = 0
        for seed in range(3):
            pool = make_incomplete_pool(seed=seed)
            context = make_context(
                pool,
                seed=seed,
                weights=None,
                fusion_weights=None,
                labeled_features=pool.fused_features[-20:],
                labeled_modalities={m: a[-20:] for m, a in pool.features.items()},
                labeled_input_features={m: a[-20:] for m, a in pool.input_features.items()},
                labeled_present=pool.present[-20:],
                labels=np.arange(20) % 5,
            )
            mine = pool.take(np.arange(len(pool) - 20))
            chosen = self.create().query(mine, context, 20).positions
            picked += int((~mine.present[chosen].all(axis=1)).sum())
        assert picked <= 4

    uses_outputs = True

    def test_non_finite_outputs_name_the_sample(self):
        if not self.uses_outputs:
            pytest.skip("looks at ids alone")
        pool = make_pool()
        arrays = [pool.fused_logits, pool.dropout_logits[3], *pool.logits.values()]
        arrays += pool.input_features.values()
        for array in [*arrays, pool.fused_features, *pool.features.values()]:
            array[33, 1] = np.nan
        with pytest.raises(NonFiniteError, match=str(pool.ids[33])):
            self.create().query(pool, make_context(pool), 5)

    def test_state_round_trip(self):
        strategy, other = self.create(), self.create()
        pool = make_pool()
        strategy.query(pool, make_context(pool), 5)
        strategy.learn(strategies.Feedback(0.4, 1, 20))
        other.load_state_dict(strategy.state_dict())
        a = strategy.query(pool, make_context(pool, seed=2), 6)
        b = other.query(pool, make_context(pool, seed=2), 6)
        np.testing.assert_array_equal(a.positions, b.positions)
