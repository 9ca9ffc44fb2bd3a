from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chisquare

from rlmba import strategies
from rlmba.errors import ShapeError, UsageError
from rlmba.strategies.bmmal import modality_scales
from rlmba.types import LinearHead
from tests.helpers.contract import StrategyContract, make_context, make_pool


def naive_embeddings(logits, parts):
    """Gradients of the head's cross-entropy at the predicted label, by torch."""
    import torch

    rows = []
    for z, f in zip(logits, np.concatenate(parts, axis=1), strict=True):
        feature = torch.tensor(f, dtype=torch.float64)
        weight = torch.zeros(len(z), len(f), dtype=torch.float64, requires_grad=True)
        out = weight @ feature + torch.tensor(z, dtype=torch.float64)
        torch.nn.functional.cross_entropy(out[None], torch.tensor([int(z.argmax())])).backward()
        rows.append(weight.grad.numpy().ravel())
    return np.array(rows)


def pair_law(x):
    """Law of the second row: proportional to the squared distance to the row of largest norm."""
    first = int((x**2).sum(axis=1).argmax())
    weights = ((x - x[first]) ** 2).sum(axis=1)
    return first, weights / weights.sum()


def second_row_p_value(strategy, pool, context, x, repeats=4000):
    first, law = pair_law(x)
    counts = np.zeros(len(pool))
    for seed in range(repeats):
        drawn = strategy.query(pool, replace(context, rng=np.random.default_rng(seed)), 2)
        assert drawn.positions[0] == first
        counts[drawn.positions[1]] += 1
    some = law * repeats >= 5
    assert (counts[law == 0] == 0).all()
    observed = np.append(counts[some], counts[~some].sum())
    expected = np.append(law[some], law[~some].sum()) * repeats
    keep = expected > 0
    return chisquare(observed[keep], expected[keep]).pvalue


class TestBadge(StrategyContract):
    name = "badge"
    draws_by_position = True

    def test_law_on_the_gradients_themselves(self):
        pool = make_pool(n=25, dtype=np.float64)
        x = naive_embeddings(pool.fused_logits, [pool.fused_features])
        assert second_row_p_value(self.create(), pool, make_context(pool), x) > 1e-3

    def test_scores_are_distances_between_gradients(self):
        pool = make_pool(n=40, dtype=np.float64)
        x = naive_embeddings(pool.fused_logits, [pool.fused_features])
        drawn = self.create().query(pool, make_context(pool), 40)
        assert drawn.scores[0] == pytest.approx(np.linalg.norm(x, axis=1).max())
        for j in range(1, 40):
            others = x[drawn.positions[:j]]
            nearest = np.linalg.norm(others - x[drawn.positions[j]], axis=1).min()
            assert drawn.scores[j] == pytest.approx(nearest)

    def test_one_class(self):
        pool = make_pool(n=20, c=1)
        drawn = self.create().query(pool, make_context(pool), 6)
        assert len(set(drawn.positions.tolist())) == 6
        assert (drawn.scores == 0).all()


class TestBmmal(StrategyContract):
    name = "bmmal"
    draws_by_position = True

    def embeddings(self, pool, head, weights):
        """Straight from the definition: two modalities, four coalitions."""
        y = pool.fused_logits.argmax(axis=1)
        (a, b), rows = pool.features.values(), np.arange(len(pool))

        def p(*coalition):
            f = sum((w * z for w, z in coalition), np.zeros_like(a))
            return softmax(f @ head.weight.T + head.bias, axis=1)[rows, y]

        one, two = (weights[0], a), (weights[1], b)
        none, both = p(), p(one, two)
        phi = np.abs([(p(one) - none + both - p(two)) / 2, (p(two) - none + both - p(one)) / 2])
        phi = phi / phi.sum(axis=0)
        scale = np.where(phi >= phi[::-1], 1, 1 - (phi[::-1] - phi))
        return naive_embeddings(pool.fused_logits, [scale[0][:, None] * a, scale[1][:, None] * b])

    @pytest.mark.slow
    def test_law_on_the_scaled_gradients(self):
        pool = make_pool(n=25, dtype=np.float64)
        context = make_context(pool, fusion_weights=np.array([0.3, 0.7]))
        x = self.embeddings(pool, context.head, [0.3, 0.7])
        assert second_row_p_value(self.create(), pool, context, x) > 1e-3

    def test_scores_are_distances_between_scaled_gradients(self):
        pool = make_pool(n=40, dtype=np.float64)
        context = make_context(pool, fusion_weights=np.array([0.6, 0.4]))
        x = self.embeddings(pool, context.head, [0.6, 0.4])
        drawn = self.create().query(pool, context, 20)
        for j in range(1, 20):
            others = x[drawn.positions[:j]]
            nearest = np.linalg.norm(others - x[drawn.positions[j]], axis=1).min()
            assert drawn.scores[j] == pytest.approx(nearest)

    def test_one_modality_is_badge(self):
        pool = make_pool(m=1)
        ours = self.create().query(pool, make_context(pool, head=None), 30)
        badge = strategies.create("badge").query(pool, make_context(pool), 30)
        np.testing.assert_array_equal(ours.positions, badge.positions)

    def test_what_an_absent_modality_holds_does_not_matter(self):
        pool = make_pool()
        present = np.random.default_rng(1).random((len(pool), 2)) < 0.6
        present[~present.any(axis=1), 1] = True
        pool = replace(pool, present=present)
        features = {m: f.copy() for m, f in pool.features.items()}
        for k, f in enumerate(features.values()):
            f[~present[:, k]] = 1e3
        other = replace(pool, features=features)
        a, b = (self.create().query(p, make_context(p), 20) for p in (pool, other))
        np.testing.assert_array_equal(a.positions, b.positions)

    def test_what_it_needs(self):
        pool = make_pool()
        with pytest.raises(UsageError, match=r"QueryContext\.head: expected the fused head"):
            self.create().query(pool, make_context(pool, head=None), 3)
        wrong = LinearHead(np.zeros((3, 6)), np.zeros(3))
        with pytest.raises(ShapeError, match="expected 4 classes"):
            self.create().query(pool, make_context(pool, head=wrong), 3)
        narrow = LinearHead(np.zeros((4, 5)), np.zeros(4))
        with pytest.raises(ShapeError, match=r"widths \[6, 6\]"):
            self.create().query(pool, make_context(pool, head=narrow), 3)
        with pytest.raises(ShapeError, match="fusion_weights: expected 2 numbers"):
            self.create().query(pool, make_context(pool, fusion_weights=np.ones(3) / 3), 3)


def test_scales():
    phi = np.array([[0.2, -0.6], [0.0, 0.0], [0.3, 0.0], [-0.1, 0.1]])
    expected = [[0.5, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    np.testing.assert_allclose(modality_scales(phi), expected)
    three = modality_scales(np.array([[0.5, 0.3, 0.2]]))
    np.testing.assert_allclose(three, [[1.0, 0.8, 0.7]])
    absent = np.array([[True, False]] * 4)
    assert (modality_scales(phi, absent)[:, 1] == 0).all()
