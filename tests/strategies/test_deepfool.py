from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlmba.errors import ShapeError, UsageError
from rlmba.types import LinearHead
from tests.helpers.contract import StrategyContract, make_context, make_pool


def with_logits(pool, head):
    """The pool as the head sees its fused features."""
    z = pool.fused_features.astype(np.float64)
    return replace(pool, fused_logits=z @ head.weight.T.astype(np.float64) + head.bias)


class TestDeepFool(StrategyContract):
    name = "deepfool"

    def test_takes_what_a_search_by_gradients_finds_nearest(self):
        pool = make_pool(n=30)
        context = make_context(pool)
        pool = with_logits(pool, context.head)
        w = torch.from_numpy(context.head.weight).double()
        b = torch.from_numpy(context.head.bias).double()
        lengths = []
        for z in torch.from_numpy(pool.fused_features).double():
            x = z.clone().requires_grad_()
            y = int((w @ x + b).argmax())
            steps = []
            for k in range(len(w)):
                if k != y:
                    f = w @ x + b
                    (gradient,) = torch.autograd.grad(f[k] - f[y], x)
                    steps.append(float(((f[y] - f[k]) / gradient.norm()).detach()))
            lengths.append(min(steps))
        selection = self.create().query(pool, context, 30)
        assert selection.positions.tolist() == np.argsort(lengths).tolist()
        np.testing.assert_allclose(-selection.scores, np.sort(lengths), rtol=1e-12)
        assert selection.backends == {"deepfool_distance": "cpu", "top_k": "cpu"}

    def test_a_distance_and_no_margin(self):
        """Sample 0 has the smaller margin; sample 1 is nearer, because its classes' weights differ more."""
        head = LinearHead(np.array([[0.0, 0], [1, 0], [0, 50]]), np.zeros(3))
        z = np.array([[0.9, -1.0], [-1.0, 0.1]])
        pool = with_logits(replace(make_pool(n=2, c=3, d=2), fused_features=z), head)
        top_two = np.sort(pool.fused_logits, axis=1)[:, -2:]
        assert np.diff(top_two, axis=1).ravel().tolist() == pytest.approx([0.9, 5.0])
        selection = self.create().query(pool, make_context(pool, head=head), 2)
        assert selection.positions.tolist() == [1, 0]
        np.testing.assert_allclose(selection.scores, [-0.1, -0.9])

    def test_classes_that_cannot_be_met_come_last(self):
        pool = make_pool(n=6, c=2)
        head = LinearHead(np.ones((2, 6)), np.zeros(2))
        z = np.array([[1.0, 0], [2, 2], [0, 1], [3, 3], [5, 0], [0, 0]])
        selection = self.create().query(
            replace(
                pool, fused_logits=z, logits=dict.fromkeys(pool.logits, z), dropout_logits=None
            ),
            make_context(pool, head=head),
            6,
        )
        assert selection.positions.tolist() == [1, 3, 5, 0, 2, 4]
        assert (selection.scores[:3] == 0).all()
        assert (selection.scores[3:] == np.finfo(np.float64).min).all()

    def test_without_a_head(self):
        pool = make_pool()
        with pytest.raises(UsageError, match=r"QueryContext\.head.*LinearHead\(weight \[C, D\]"):
            self.create().query(pool, make_context(pool, head=None), 3)

    @pytest.mark.parametrize(
        ("shape", "match"),
        [((3, 6), "expected 4 classes"), ((4, 5), "features of width 6"), ((5, 6), "4 classes")],
    )
    def test_a_head_of_another_pool(self, shape, match):
        pool = make_pool()
        head = LinearHead(np.zeros(shape), np.zeros(shape[0]))
        with pytest.raises(ShapeError, match=match):
            self.create().query(pool, make_context(pool, head=head), 3)
