from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import InMemoryDataset, load_digits
from rlmba.errors import UsageError
from rlmba.models import build_classifier
from rlmba.training import Loader, ProcessGroup, compile_encoders, evaluate, fit, predict
from tests.helpers.float64 import in_float64

SMALL = ModelConfig(width=32, encoders={"image": {"channels": [8, 16]}, "audio": {"channels": [8]}})


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def trained(digits, precision):
    model = build_classifier(digits.modalities, 10, SMALL, "uniform", seed=0)
    positions = digits.train_positions[:150]
    dtypes = set()
    hook = model.projections[0][0].register_forward_hook(lambda *a: dtypes.add(a[2].dtype))
    heads = model.heads[0].register_forward_hook(lambda *a: dtypes.add(("head", a[2].dtype)))
    diagnostics = fit(
        model,
        Loader(digits),
        positions,
        digits.labels[positions],
        TrainingConfig(precision=precision, learning_rate=3e-3),
        epochs=5,
        seed=0,
    )
    hook.remove()
    heads.remove()
    return model, diagnostics, dtypes


def test_bf16_learns_as_fp32_does_and_keeps_heads_and_weights_in_float32(digits):
    """One process runs both in turn."""
    plain, a, dtypes = trained(digits, "fp32")
    assert dtypes == {torch.float32, ("head", torch.float32)}
    half, b, dtypes = trained(digits, "bf16")
    assert dtypes == {torch.bfloat16, ("head", torch.float32)}
    _, c, _ = trained(digits, "auto")
    assert c == a
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert b.final_loss == pytest.approx(a.final_loss, rel=0.05)
    assert b.final_loss != a.final_loss
    positions, truth = digits.test_positions, digits.labels[digits.test_positions]
    found = {}
    for name, model in (("fp32", plain), ("bf16", half)):
        group = ProcessGroup("cpu", name)
        outputs = predict(model, Loader(digits), positions, batch_size=256, group=group)
        assert outputs.fused_logits.dtype == np.float32
        found[name] = evaluate(outputs, truth).mm
    # Likelihoods, because a few of 497 predictions change with any rounding.
    assert found["bf16"].nll == pytest.approx(found["fp32"].nll, rel=0.05)
    # Logits rounded to bf16's 8 bits would leave far fewer distinct numbers.
    assert len(np.unique(outputs.fused_logits)) > 0.9 * outputs.fused_logits.size


@pytest.mark.slow
def test_compiled_encoders_give_the_same_numbers_under_the_same_names(rng):
    x = rng.normal(size=(64, 6)).astype(np.float32)
    data = InMemoryDataset(
        "one",
        {"x": x},
        kinds={"x": "features"},
        labels=(x[:, 0] > 0).astype(int),
        classes=["no", "yes"],
        ids=[str(i) for i in range(64)],
        split=np.zeros(64, int),
    )
    models, losses = [], []
    for compiled in (False, True):
        model = in_float64(
            build_classifier(data.modalities, 2, ModelConfig(width=8), "uniform", seed=0)
        )
        if compiled:
            compile_encoders(model)
            assert model.encoders[0]._compiled_call_impl is not None
        config = TrainingConfig(learning_rate=0.01)
        done = fit(model, Loader(data), np.arange(64), data.labels, config, epochs=6, seed=0)
        models.append(model)
        losses.append(done.final_loss)
    assert losses[1] == pytest.approx(losses[0])
    assert list(models[1].state_dict()) == list(models[0].state_dict())


@pytest.mark.slow
def test_compiling_without_a_compiler_is_an_error_before_any_work(tmp_path):
    code = """
from rlmba.config import RunConfig
from rlmba.learner import run
run(RunConfig(dataset="digits", device="cpu", training={"compile": True}), __import__("pathlib").Path("out"))
"""
    env = os.environ | {"CXX": "/no/such/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{UsageError.__name__}: training.compile: expected a machine" in done.stderr
    assert "set training.compile=false" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_gradients_of_3d_convolutions_at_bf16_are_right_on_a_cpu(layout):
    """For this shape, torch's own bfloat16 weight gradient is NaN on processors with AMX."""
    generator = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv3d(128, 288, (1, 3, 3), padding=(0, 1, 1), bias=False)
    conv = conv.to(memory_format=layout)
    x = torch.randn(4, 128, 3, 28, 28, generator=generator).contiguous(memory_format=layout)
    y = conv(x)
    push = torch.randn(y.shape, generator=generator)
    (wanted,) = torch.autograd.grad(y, conv.weight, push)
    with ProcessGroup("cpu", "bf16").autocast():
        z = conv(x)
    (found,) = torch.autograd.grad(z, conv.weight, push.to(z.dtype))
    assert float((found - wanted).norm() / wanted.norm()) < 0.01
