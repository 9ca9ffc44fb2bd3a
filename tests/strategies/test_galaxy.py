from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from rlmba.errors import UsageError
from rlmba.strategies.galaxy import bisect
from tests.helpers.contract import StrategyContract, make_context, make_pool


def next_by_shortest_path(marks):
    """The graph of the paper on one line: ``marks`` are True, False, or None without a label.

    A path joins two labeled samples that differ, without another label between them.
    """
    size, paths = len(marks), []
    for i in range(size):
        for j in range(i + 2, size):
            inside = marks[i + 1 : j]
            if None not in (marks[i], marks[j]) and marks[i] != marks[j] and set(inside) == {None}:
                paths.append((j - i, i, j))
    if paths:
        _, i, j = min(paths)
        return (i + j) // 2
    near = []
    for i in range(size - 1):
        if None not in marks[i : i + 2] and marks[i] != marks[i + 1]:
            near += [(min(abs(u - i), abs(u - i - 1)), u) for u in range(size) if marks[u] is None]
    return min(near)[1] if near else None


class TestGalaxy(StrategyContract):
    name = "galaxy"
    uses_kernels = False

    @pytest.mark.parametrize("seed", range(60))
    def test_place_is_that_of_the_graph(self, seed):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(3, 14))
        marks = [[None, True, False][i] for i in rng.choice(3, size, p=[0.5, 0.25, 0.25])]
        labeled, unlabeled = rng.choice(size, 2, replace=False)
        marks[labeled], marks[unlabeled] = bool(seed % 2), None
        known = np.array([i for i, m in enumerate(marks) if m is not None], dtype=np.int64)
        member = np.array([marks[i] for i in known])
        assert bisect(known, member, size) == next_by_shortest_path(marks)

    @pytest.mark.parametrize("classes", [2, 4])
    def test_picks_those_of_the_naive_form(self, classes):
        pool = make_pool(n=70, c=classes, dtype=np.float64)
        context = make_context(pool, seed=3)
        chosen = self.create().query(pool, context, 12)
        rng = np.random.default_rng(3)
        rng.integers(2**63)  # for draws without a boundary
        head = context.head
        z = np.concatenate(
            [pool.fused_logits, context.labeled_features @ head.weight.T + head.bias]
        )
        p = softmax(z, axis=1)
        answer = {70 + i: int(y) for i, y in enumerate(context.labels)}
        picks = []
        for _ in range(12):
            k = rng.integers(classes) if classes > 2 else 0
            order = sorted(range(82), key=lambda i: (p[i].max() - p[i, k], -p[i, k]))
            if classes == 2:
                order = sorted(range(82), key=lambda i: -p[i, 0])
            place = next_by_shortest_path([answer[i] == k if i in answer else None for i in order])
            picks.append(order[place])
            answer[picks[-1]] = int(p[picks[-1]].argmax())
        assert chosen.positions.tolist() == picks

    def test_a_rare_class_gets_its_share(self):
        """2 % of the pool; the least certain samples by margin lie elsewhere."""
        rng = np.random.default_rng(0)
        truth = np.where(np.arange(1000) < 20, 2, np.arange(1000) % 2)
        z = 4.0 * np.eye(3)[truth] + rng.normal(size=(1000, 3))
        pool = make_pool(n=1000, c=3, d=3, dtype=np.float64)
        pool = replace(pool, fused_logits=z, fused_features=z)
        context = make_context(pool)
        labeled = 4.0 * np.eye(3)[[0, 0, 1, 1, 2]] + rng.normal(size=(5, 3))
        head = replace(context.head, weight=np.eye(3), bias=np.zeros(3))
        context = replace(
            context, head=head, labeled_features=labeled, labels=np.array([0, 0, 1, 1, 2])
        )
        chosen = self.create().query(pool, context, 30)
        near = np.sort(z, axis=1)[:, -2:] @ [-1, 1]
        assert (truth[chosen.positions] == 2).sum() > 30 * 0.1
        assert (truth[np.argsort(near)[:30]] == 2).sum() <= 3

    def test_labels_are_required(self):
        pool = make_pool()
        with pytest.raises(UsageError, match=r"galaxy: expected .* got no labels; pass"):
            self.create().query(pool, make_context(pool, labels=None), 3)
