"""Models trained together get the same weights as alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rlmba.config import EncoderConfig, ModelConfig, TrainingConfig
from rlmba.data import InMemoryDataset
from rlmba.errors import NonFiniteError, UsageError
from rlmba.models import build_classifier
from rlmba.training import LabeledSamples, Loader, can_stack, fit, fit_stacked
from tests.helpers.float64 import in_float64

N = 60


def dataset(present=None):
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 3
    arrays = {
        "image": (rng.integers(0, 200, (N, 8, 8)) + 10 * labels[:, None, None]).astype(np.uint8),
        "text": rng.normal(size=(N, 6)) + labels[:, None],
        "motion": rng.normal(size=(N, 8, 3)) - labels[:, None, None],
    }
    return InMemoryDataset(
        "made",
        arrays,
        kinds={"image": "image", "text": "features", "motion": "sequence"},
        labels=labels,
        classes=["a", "b", "c"],
        ids=[f"s{i}" for i in range(N)],
        split=np.arange(N) >= 50,
        present=present,
    )


def models(data, encoders, fusion="uniform", dropout=0.2, count=3):
    config = ModelConfig(
        width=8,
        dropout=dropout,
        encoders={m: EncoderConfig.model_validate(e) for m, e in encoders.items()},
    )
    made = []
    for seed in range(count):
        made.append(in_float64(build_classifier(data.modalities, 3, config, fusion, seed=seed)))
        if fusion != "concat":
            made[-1].set_fusion_weights(np.array([0.2 + 0.1 * seed, 0.3, 0.5 - 0.1 * seed]))
    return made


def samples(data, size, count=3):
    rng = np.random.default_rng(5)
    drawn = [rng.permutation(data.train_positions)[:size] for _ in range(count)]
    return [LabeledSamples(p, data.labels[p], 10 + k) for k, p in enumerate(drawn)]


FLAT = {"image": {"name": "mlp"}, "motion": {"name": "mlp", "hidden": [5]}}
SMALL = {
    "image": {"name": "cnn", "channels": [8], "grid": 2},
    "motion": {"name": "sequence-cnn", "channels": [8]},
}


@pytest.mark.parametrize("encoders", [FLAT, SMALL], ids=["flat", "convolutions"])
@pytest.mark.parametrize("fusion", ["adaptive", "concat"])
@pytest.mark.parametrize("augment", [False, True])
def test_weights_are_those_of_each_alone(encoders, fusion, augment):
    data = dataset()
    together = models(data, encoders, fusion)
    alone = copy.deepcopy(together)
    config = TrainingConfig(
        minibatch_size=8,
        augment=augment,
        warmup_epochs=1,
        encoder_learning_rates={"text": 3e-3},
        precision="fp32",
    )
    chosen = samples(data, 20)
    assert can_stack(together[0], data, config)
    found = fit_stacked(together, Loader(data), chosen, config, epochs=4)
    for model, other, s, diagnostics in zip(together, alone, chosen, found, strict=True):
        expected = fit(other, Loader(data), s.positions, s.labels, config, epochs=4, seed=s.seed)
        for name, values in other.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], values, msg=name)
        assert not model.training
        assert vars(diagnostics) == pytest.approx(vars(expected))


def test_a_model_that_diverges_leaves_the_others_alone():
    data = dataset()
    made = models(data, FLAT, dropout=0.0)
    control = copy.deepcopy(made)
    with torch.no_grad():
        made[1].fused_head.weight.fill_(float("inf"))
    config = TrainingConfig(minibatch_size=8, augment=False, precision="fp32")
    found = fit_stacked(made, Loader(data), samples(data, 20), config, epochs=2)
    expected = fit_stacked(control, Loader(data), samples(data, 20), config, epochs=2)
    assert isinstance(found[1], NonFiniteError)
    for k in (0, 2):
        assert found[k] == expected[k]
        assert torch.equal(made[k].fused_head.weight, control[k].fused_head.weight)


def test_what_goes_alone():
    data = dataset()
    (model,) = models(data, SMALL, count=1)
    assert can_stack(model, data, TrainingConfig())
    for change in (
        {"patience": 2},
        {"gradient_accumulation": 2},
        {"max_grad_norm": 1.0},
        {"compile": True},
        {"precision": "bf16"},
        {"checkpoint_minutes": 1.0},
    ):
        assert not can_stack(model, data, TrainingConfig(**change)), change
    present = np.ones((N, 3), bool)
    present[3, 1] = False
    assert not can_stack(model, dataset(present), TrainingConfig())


def test_numbers_of_samples_must_agree():
    data = dataset()
    made = models(data, FLAT)
    uneven = [*samples(data, 20)[:2], *samples(data, 10)[2:]]
    with pytest.raises(UsageError, match=r"same number of labeled samples.* got \[20, 20, 10\]"):
        fit_stacked(made, Loader(data), uneven, TrainingConfig(), epochs=1)
    with pytest.raises(UsageError, match="at least one"):
        fit_stacked(made, Loader(data), samples(data, 0), TrainingConfig(), epochs=1)
