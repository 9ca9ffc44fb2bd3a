from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlmba import strategies
from rlmba.errors import UsageError
from rlmba.strategies.alfa_mix import critical_mixing
from tests.helpers.contract import StrategyContract, make_context, make_pool
from tests.helpers.pools import headed


def changed_by_mixing(features, anchors, weight, bias, epsilon):
    """Whether any anchor changes the class: the published closed form, with torch's own gradient."""
    f = torch.tensor(features, requires_grad=True)
    w, b = torch.tensor(weight), torch.tensor(bias)
    predicted = (f @ w.T + b).argmax(dim=1)
    loss = torch.nn.functional.cross_entropy(f @ w.T + b, predicted)
    (gradient,) = torch.autograd.grad(loss, f)
    changed = torch.zeros(len(f), dtype=torch.bool)
    for anchor in torch.tensor(anchors):
        z = anchor - f.detach()
        scale = epsilon / np.sqrt(f.shape[1]) * z.norm(dim=1) / gradient.norm(dim=1)
        alpha = scale[:, None] * gradient / z
        mixed = (1 - alpha) * f.detach() + alpha * anchor
        changed |= (mixed @ w.T + b).argmax(dim=1) != predicted
    return changed.numpy()


def prepared(seed=0, n=90):
    pool = make_pool(n=n, seed=seed, dtype=np.float64)
    context = make_context(pool, seed=seed)
    return headed(pool, context.head.weight, context.head.bias), context


class TestAlfaMix(StrategyContract):
    name = "alfa-mix"
    draws_by_position = True

    def check_permuting_keeps_the_law(self):
        """Two candidates of one cluster are equally near to its center, and ties go by position."""
        super().check_permuting_keeps_the_law(40, skip=0, seeds=200, step=1.0)

    @pytest.mark.parametrize("epsilon", [0.05, 0.2, 0.7])
    def test_critical_ratio_is_where_the_published_mixing_changes_the_class(self, epsilon):
        pool, context = prepared(n=300)
        anchors = context.labeled_features[:4]
        ratio = critical_mixing(pool.fused_logits, pool.fused_features, anchors, context.head)
        expected = changed_by_mixing(
            pool.fused_features, anchors, context.head.weight, context.head.bias, epsilon
        )
        assert 0 < expected.sum() < 300
        np.testing.assert_array_equal(ratio < epsilon, expected)

    def test_candidates_are_those_of_the_first_ratio_with_more_than_a_batch(self):
        pool, context = prepared()
        y, f = context.labels, context.labeled_features
        anchors = np.stack(
            [f[y == c].mean(axis=0) if (y == c).any() else f.mean(axis=0) for c in range(4)]
        )
        for cap in np.arange(1, 33) / 32:
            changed = changed_by_mixing(
                pool.fused_features, anchors, context.head.weight, context.head.bias, cap
            )
            if changed.sum() > 8:
                break
        chosen = self.create().query(pool, context, 8)
        assert set(chosen.positions) <= set(np.flatnonzero(changed))
        assert (chosen.scores > 1 / (1 + cap)).all()

    def test_without_candidates_the_batch_is_drawn(self):
        pool, _ = prepared()
        sure = replace(pool, fused_logits=1e9 * np.eye(4)[np.arange(90) % 4])
        picks = {
            tuple(self.create().query(sure, make_context(pool, seed=s), 3).positions)
            for s in range(4)
        }
        assert len(picks) == 4

    def test_labels_are_required(self):
        pool, context = prepared()
        with pytest.raises(UsageError, match=r"alfa-mix: expected .* got no labels; pass"):
            self.create().query(pool, replace(context, labels=None), 3)
        with pytest.raises(UsageError, match=r"expected 12 labels within 0\.\.3"):
            self.create().query(pool, replace(context, labels=np.full(12, 4)), 3)

    @pytest.mark.parametrize("step", [0.0, 1.5])
    def test_step_out_of_range(self, step):
        with pytest.raises(UsageError, match="alfa-mix: expected step"):
            strategies.create("alfa-mix", step=step)
