from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig
from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_classifier
from rlmba.training import dropout_logits
from tests.helpers.float64 import dot_error


def build(dropout=0.5, fusion="uniform"):
    modalities = [Modality(name, "features", (4,)) for name in ("a", "b")]
    return build_classifier(
        modalities, 3, ModelConfig(width=6, dropout=dropout), fusion, seed=0
    ).eval()


def draw(model, z, passes=8, batch_size=20, seed=3):
    return dropout_logits(model, z, passes, batch_size=batch_size, seed=seed)


@pytest.mark.parametrize("fusion", ["uniform", "concat"])
def test_passes_are_those_of_the_head(rng, fusion):
    """Every pass is the head on the features with some of them zeroed and the rest doubled."""
    model = build(fusion=fusion)
    width = model.fused_head.in_features
    z = rng.normal(size=(50, width)).astype(np.float32)
    x = draw(model, z)
    assert x.shape == (8, 50, 3)
    assert x.dtype == np.float32
    w, b = (p.detach().double().numpy() for p in model.fused_head.parameters())
    masks = np.array(np.meshgrid(*[[0, 2]] * width)).reshape(width, -1).T
    few = slice(0, 3) if fusion == "uniform" else slice(0, 1)
    possible = (masks[:, None] * z[few]) @ w.T + b
    bound = dot_error(2 * z[few], model.fused_head).max(axis=1)
    for k in range(8):
        nearest = np.abs(possible - x[k, few]).max(axis=2).min(axis=0)
        assert (nearest <= bound).all()


def test_masks_differ_between_passes_and_samples_and_average_out(rng):
    model = build()
    z = np.tile(rng.normal(size=6).astype(np.float32), (60, 1))
    x = draw(model, z, passes=200)
    assert len(np.unique(x[0].round(4), axis=0)) > 20
    assert len(np.unique(x[:, 0].round(4), axis=0)) > 20
    with torch.inference_mode():
        plain = model.head(torch.from_numpy(z)).numpy()
    spread = x.std(axis=(0, 1)) / np.sqrt(200 * 60)
    assert (np.abs(x.mean(axis=(0, 1)) - plain[0]) < 4 * spread).all()


def test_a_seed_decides_and_nothing_else_changes(rng):
    model = build()
    z = rng.normal(size=(50, 6)).astype(np.float32)
    before = z.copy(), {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    a = draw(model, z)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(9)
    np.testing.assert_array_equal(draw(model, z), a)
    assert not np.array_equal(draw(model, z, seed=4), a)
    np.testing.assert_array_equal(z, before[0])
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mode", [True, False])
def test_mode_is_restored(rng, mode):
    model = build().train(mode)
    draw(model, rng.normal(size=(5, 6)).astype(np.float32))
    assert {m.training for m in model.modules()} == {mode}
    with pytest.raises((RuntimeError, ValueError)):
        draw(model, np.zeros((5, 7), np.float32))
    assert {m.training for m in model.modules()} == {mode}


def test_edges(rng):
    model = build()
    assert draw(model, np.zeros((0, 6), np.float32)).shape == (8, 0, 3)
    with pytest.raises(UsageError, match="at least one pass"):
        draw(model, np.zeros((4, 6), np.float32), passes=0)
    without = draw(build(dropout=0.0), rng.normal(size=(4, 6)).astype(np.float32))
    assert (without == without[0]).all()
