"""Even minibatches, and the number of steps that follows from the number of labels."""

from __future__ import annotations

import numpy as np
import pytest

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import Modality
from rlmba.models import build_classifier
from rlmba.training import ProcessGroup, minibatch_size_for, steps_for
from rlmba.training.minibatches import MinibatchPlan
from rlmba.training.optimizer import make_optimizer


def plan_of(n, epochs=None, **config):
    return MinibatchPlan(n, TrainingConfig(**config), epochs=epochs, seed=3, group=ProcessGroup())


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 65, 129, 200, 513])
@pytest.mark.parametrize("size", [1, 8, 32, 128, None])
def test_minibatches_are_even_and_cover_every_epoch(n, size):
    plan = plan_of(n, epochs=2, minibatch_size=size)
    largest = size or minibatch_size_for(n)
    assert plan.per_epoch == -(-n // largest)
    for epoch in range(2):
        steps = range(epoch * plan.per_epoch, (epoch + 1) * plan.per_epoch)
        orders = [plan.minibatch(step).order for step in steps]
        sizes = [len(order) for order in orders]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= largest
        np.testing.assert_array_equal(np.sort(np.concatenate(orders)), np.arange(n))


def test_steps_and_minibatch_size_grow_smoothly():
    n = np.arange(1, 10_001)
    for rule, first, last in ((steps_for, 80, 637), (minibatch_size_for, 32, 141)):
        values = np.array([rule(int(k)) for k in n])
        assert (values[0], values[-1]) == (first, last)
        assert np.isin(np.diff(values), (0, 1)).all()


@pytest.mark.parametrize("n", [1, 10, 33, 100, 1_000, 10_000])
def test_a_training_has_the_steps_of_its_number_of_labels(n):
    plan = plan_of(n)
    assert plan.steps == plan.epochs * plan.per_epoch
    assert abs(plan.steps - steps_for(n)) <= plan.per_epoch / 2
    assert plan_of(n, min_steps=900).steps >= 900
    assert plan_of(n, epochs=3).epochs == 3
    whole = plan_of(n, minibatch_size=10**6)
    assert (whole.per_epoch, whole.steps) == (1, steps_for(n))


def test_heads_have_their_own_learning_rate():
    modalities = [Modality("a", "features", (3,)), Modality("b", "features", (2,))]
    model = build_classifier(modalities, 2, ModelConfig(width=4), "uniform", seed=0)
    heads = {id(p) for part in (model.heads, model.fused_head) for p in part.parameters()}
    for own, expected in ((0.5, 0.5), (None, 0.1)):
        config = TrainingConfig(learning_rate=0.1, head_learning_rate=own)
        rates = {
            id(p): group["lr"]
            for group in make_optimizer(model, config).param_groups
            for p in group["params"]
        }
        assert len(rates) == len(list(model.parameters()))
        assert {rate for p, rate in rates.items() if p in heads} == {expected}
        assert {rate for p, rate in rates.items() if p not in heads} == {0.1}
