from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import InMemoryDataset, load_digits
from rlmba.errors import NonFiniteError, UsageError
from rlmba.models import ModelOutput, build_classifier
from rlmba.training import (
    Loader,
    dropout_logits,
    evaluate,
    fit,
    fits_on_gpu,
    multimodal_loss,
    predict,
)
from tests.helpers.float64 import dot_error, in_float64

SMALL = ModelConfig(width=16, encoders={"image": {"channels": [4, 8]}, "audio": {"channels": [4]}})


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def train(
    dataset, positions, *, seed=0, model_seed=0, epochs=2, model=SMALL, progress=None, **config
):
    classifier = build_classifier(
        dataset.modalities, len(dataset.classes), model, "uniform", seed=model_seed
    )
    diagnostics = fit(
        classifier,
        Loader(dataset),
        positions,
        dataset.labels[positions],
        TrainingConfig(**config),
        epochs=epochs,
        seed=seed,
        progress=progress,
    )
    return classifier, diagnostics


def toy(n=40, present=None, scale=1.0):
    """Two classes that each modality separates."""
    y = np.arange(n) % 2
    rng = np.random.default_rng(0)
    arrays = {
        m: (rng.normal(size=(n, 3)) + 4 * y[:, None]).astype(np.float32) * scale for m in "ab"
    }
    return InMemoryDataset(
        "toy",
        arrays,
        kinds=dict.fromkeys("ab", "features"),
        labels=y,
        classes=["no", "yes"],
        ids=[f"t{i}" for i in range(n)],
        split=np.zeros(n, int),
        present=present,
    )


def test_equal_seeds_give_bit_identical_weights_and_leave_no_trace(digits):
    positions = digits.train_positions[:41]
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    one, first = train(digits, positions)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(12)
    same, second = train(digits, positions)
    other, _ = train(digits, positions, seed=1)
    assert first == second
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    assert not torch.equal(one.fused_head.weight, other.fused_head.weight)


@pytest.mark.slow
def test_learns_from_few_labels(digits):
    """60 labels: better with both modalities than with either, and far better than chance."""
    positions = np.concatenate(
        [digits.train_positions[digits.labels[digits.train_positions] == c][:6] for c in range(10)]
    )
    model, diagnostics = train(
        digits,
        positions,
        model=ModelConfig(width=64),
        epochs=15,
        min_steps=100,
        learning_rate=1e-3,
        head_learning_rate=None,
    )
    outputs = predict(model, Loader(digits), digits.test_positions, batch_size=512)
    result = evaluate(outputs, digits.labels[digits.test_positions])
    assert result.mm.top1 > 0.65
    assert result.mm.top1 > max(result.heads[m].top1 for m in ("image", "audio"))
    assert diagnostics.loss_slope < 0
    assert diagnostics.gradient_norm > 0
    assert not model.training


def test_steps_and_progress():
    data = toy()
    seen = []
    _, diagnostics = train(
        data,
        np.arange(33),
        model=ModelConfig(width=4),
        minibatch_size=16,
        min_steps=10,
        epochs=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert diagnostics.steps == 12
    assert seen == [(k, 12) for k in range(1, 13)]
    _, diagnostics = train(
        data, np.arange(33), model=ModelConfig(width=4), minibatch_size=16, epochs=5
    )
    assert diagnostics.steps == 15


@pytest.mark.parametrize("schedule", ["step", "cosine", "constant"])
def test_a_last_minibatch_of_one_and_every_schedule(schedule):
    model, diagnostics = train(
        toy(), np.arange(33), model=ModelConfig(width=4), epochs=3, schedule=schedule
    )
    assert np.isfinite(diagnostics.final_loss)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_rates_by_encoder(digits):
    """With a rate close to zero an encoder does not change, while the other one does."""
    start = build_classifier(digits.modalities, 10, SMALL, "uniform", seed=0)
    model, _ = train(
        digits,
        digits.train_positions[:32],
        encoder_learning_rates={"image": 1e-12},
        weight_decay=0.0,
    )
    moved = [
        max(
            float((p - q).detach().abs().max())
            for p, q in zip(e.parameters(), f.parameters(), strict=True)
        )
        for e, f in zip(model.encoders, start.encoders, strict=True)
    ]
    assert moved[0] < 1e-8 < 1e-4 < moved[1]
    with pytest.raises(UsageError, match=r"got \['smell'\]"):
        train(digits, digits.train_positions[:8], encoder_learning_rates={"smell": 1.0})


def test_loss_adds_every_head_equally_and_leaves_out_absent_modalities():
    generator = torch.Generator().manual_seed(0)
    a, b, fused = torch.randn((3, 6, 3), generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    output = ModelOutput({}, {"a": a, "b": b}, fused, fused)
    ce = functional.cross_entropy
    torch.testing.assert_close(multimodal_loss(output, y), ce(fused, y) + ce(a, y) + ce(b, y))
    present = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [1, 1], [1, 0]], dtype=torch.bool)
    there_a, there_b = present.T
    torch.testing.assert_close(
        multimodal_loss(output, y, present),
        ce(fused, y) + ce(a[there_a], y[there_a]) + ce(b[there_b], y[there_b]),
    )
    # A sample without any modality is not in the fused head's mean either.
    lost = present.clone()
    lost[0] = False
    a_there, b_there, any_there = lost[:, 0], lost[:, 1], lost.any(dim=1)
    torch.testing.assert_close(
        multimodal_loss(output, y, lost),
        ce(fused[any_there], y[any_there])
        + ce(a[a_there], y[a_there])
        + ce(b[b_there], y[b_there]),
    )
    none = torch.zeros_like(present)
    assert multimodal_loss(output, y, none) == 0


def test_missing_modalities_train_and_predict():
    present = np.ones((40, 2), bool)
    present[::4, 0] = False
    present[1::4, 1] = False
    data = toy(present=present)
    model, _ = train(data, np.arange(30), model=ModelConfig(width=16), min_steps=150)
    outputs = predict(model, Loader(data), np.arange(30, 40), batch_size=3)
    np.testing.assert_array_equal(outputs.present, present[30:])
    assert evaluate(outputs, data.labels[30:]).mm.top1 == 1.0


def test_diverging_training_is_an_error():
    with pytest.raises(NonFiniteError, match=r"at step \d+ of .*lower training\.learning_rate"):
        train(toy(), np.arange(32), model=ModelConfig(width=8), learning_rate=1e38, epochs=10)
    with pytest.raises(UsageError, match="at least one labeled sample"):
        train(toy(), np.arange(0), model=ModelConfig(width=8))


def test_predict_is_the_model_in_evaluation_mode(digits):
    model, _ = train(digits, digits.train_positions[:32], epochs=1)
    in_float64(model)
    positions = digits.test_positions[[5, 2, 30, 7, 8]]
    seen = []
    outputs = predict(
        model,
        Loader(digits),
        positions,
        batch_size=2,
        progress=lambda done, n: seen.append((done, n)),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert outputs.ids.tolist() == digits.ids[positions].tolist()
    with torch.no_grad():
        direct = model(digits.batch(positions, train=False, generator=None).inputs)
    pairs = [
        (outputs.fused_logits, direct.fused_logits),
        (outputs.fused_features, direct.fused_features),
        *((outputs.features[m], direct.features[m]) for m in model.names),
        *((outputs.logits[m], direct.logits[m]) for m in model.names),
    ]
    for ours, expected in pairs:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6, atol=1e-9)
    model.train()
    predict(model, Loader(digits), positions, batch_size=2)
    assert model.training


def test_predict_of_nothing(digits):
    model = build_classifier(digits.modalities, 10, SMALL, "concat", seed=0)
    outputs = predict(model, Loader(digits), np.zeros(0, np.int64), batch_size=8)
    assert len(outputs) == 0
    assert outputs.fused_features.shape == (0, 32)
    assert outputs.features["audio"].shape == (0, 16)


def test_outputs_kept_with_the_model_are_tensors_of_the_same_numbers(digits):
    model = build_classifier(digits.modalities, 10, SMALL, "concat", seed=0)
    positions = np.arange(40)
    host = predict(model, Loader(digits), positions, batch_size=16)
    kept = predict(model, Loader(digits), positions, batch_size=16, keep_on_device=True)
    assert all(isinstance(a, torch.Tensor) for a in [*kept.features.values(), kept.fused_logits])
    np.testing.assert_array_equal(kept.host().fused_logits, host.fused_logits)
    for m, a in host.features.items():
        np.testing.assert_array_equal(kept.features[m].cpu().numpy(), a)
    few = kept.take(np.array([3, 1]))
    np.testing.assert_array_equal(few.host().fused_features, host.fused_features[[3, 1]])
    assert few.ids.tolist() == host.ids[[3, 1]].tolist()
    passes = dropout_logits(model, kept.fused_features, 2, batch_size=16, seed=3)
    assert isinstance(passes, torch.Tensor)
    expected = dropout_logits(model, host.fused_features, 2, batch_size=16, seed=3)
    bound = dot_error(2 * host.fused_features, model.fused_head)
    assert (np.abs(passes.cpu().numpy() - expected) <= 2 * bound).all()
    assert not fits_on_gpu(model, 40) or model.device.type == "cuda"
