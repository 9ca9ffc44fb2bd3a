from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig
from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_classifier, fuse
from tests.helpers.float64 import in_float64

MODALITIES = [Modality(name, "features", (4,)) for name in ("a", "b", "c")]
CONFIG = ModelConfig(width=6, dropout=0.5)


def build(fusion="amcb", m=3, seed=0):
    return in_float64(build_classifier(MODALITIES[:m], 5, CONFIG, fusion, seed=seed)).eval()


def inputs(n=8, m=3):
    generator = torch.Generator().manual_seed(1)
    return {x.name: torch.randn(n, 4, generator=generator) for x in MODALITIES[:m]}


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("fusion", ["amcb", "adaptive", "uniform", "concat"])
def test_shapes_and_heads(fusion, m):
    model = build(fusion, m)
    out = model(inputs(m=m))
    assert tuple(out.features) == ("a", "b", "c")[:m]
    assert all(f.shape == (8, 6) for f in out.features.values())
    assert all(z.shape == (8, 5) for z in out.logits.values())
    assert out.fused_features.shape == (8, 6 * m if fusion == "concat" else 6)
    torch.testing.assert_close(model.head(out.fused_features), out.fused_logits)
    w, b = model.fused_head.weight, model.fused_head.bias
    torch.testing.assert_close(out.fused_features @ w.T + b, out.fused_logits)


def test_fusion_is_the_convex_combination():
    model = build()
    w = [0.7, 0.1, 0.2]
    model.set_fusion_weights(w)
    out = model(inputs())
    expected = sum(k * f for k, f in zip(w, out.features.values(), strict=True))
    torch.testing.assert_close(out.fused_features, expected)
    assert "fusion_weights" in model.state_dict()
    assert "fusion_weights" not in dict(model.named_parameters())


def test_missing_modalities_are_renormalized():
    model = build()
    model.set_fusion_weights([0.5, 0.5, 0.0])
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 1, 1]], dtype=torch.bool)
    out = model({m: x[:4] for m, x in inputs().items()}, present)
    a, b, c = out.features.values()
    expected = torch.stack([(a[0] + b[0]) / 2, a[1], c[2], b[3]])
    torch.testing.assert_close(out.fused_features, expected)
    nothing = fuse(
        torch.ones(2, 1, 3), torch.tensor([0.5, 0.5]), torch.zeros(1, 2, dtype=torch.bool)
    )
    assert nothing.tolist() == [[0, 0, 0]]


def test_missing_modalities_are_zero_in_a_concatenation():
    model = build("concat")
    present = torch.ones(8, 3, dtype=torch.bool)
    present[2, 1] = False
    out = model(inputs(), present)
    assert (out.fused_features[2, 6:12] == 0).all()
    torch.testing.assert_close(out.fused_features[2, :6], out.features["a"][2])
    torch.testing.assert_close(out.fused_features[3, 6:12], out.features["b"][3])


def test_absent_content_does_not_reach_the_fused_head():
    for fusion in ("amcb", "concat"):
        model = build(fusion)
        present = torch.ones(8, 3, dtype=torch.bool)
        present[:, 2] = False
        one, other = inputs(), inputs()
        other["c"] = other["c"] + 100
        torch.testing.assert_close(
            model(one, present).fused_logits, model(other, present).fused_logits
        )


def test_dropout_acts_on_heads_alone():
    model = build().train()
    x = inputs()
    first, second = model(x), model(x)
    assert torch.equal(first.fused_features, second.fused_features)
    assert all(torch.equal(first.features[m], second.features[m]) for m in x)
    assert not torch.equal(first.fused_logits, second.fused_logits)
    assert not torch.equal(model.head(first.fused_features), model.head(first.fused_features))


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.5, 0.6, 0.0], [1.2, -0.2, 0.0], [np.nan, 1, 0]])
def test_weights_off_the_simplex_are_refused(weights):
    model = build()
    with pytest.raises(UsageError, match="expected 3 numbers >= 0 with sum 1"):
        model.set_fusion_weights(weights)
    assert torch.equal(model.fusion_weights, build().fusion_weights)


def test_seed_decides_the_weights_and_leaves_no_trace():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, same, other = (build(seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["fused_head.weight"], other["fused_head.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bad_requests():
    with pytest.raises(UsageError, match=r"expected modalities of \['a', 'b', 'c'\], got \['d'\]"):
        build_classifier(
            MODALITIES, 5, ModelConfig(encoders={"d": {"name": "mlp"}}), "uniform", seed=0
        )
    with pytest.raises(UsageError, match="distinct names"):
        build_classifier([MODALITIES[0]] * 2, 5, CONFIG, "uniform", seed=0)
    with pytest.raises(UsageError, match="two classes"):
        build_classifier(MODALITIES, 1, CONFIG, "uniform", seed=0)
    with pytest.raises(UsageError, match="no option 'hiden'"):
        build_classifier(
            MODALITIES, 5, ModelConfig(encoders={"a": {"hiden": [3]}}), "uniform", seed=0
        )
