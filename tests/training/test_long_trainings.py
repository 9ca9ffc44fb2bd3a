"""Early stopping, and continuing an interrupted training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import load_digits
from rlmba.errors import UsageError
from rlmba.models import build_classifier
from rlmba.training import FitCheckpoint, Loader, evaluate, fit, predict
from tests.helpers.float64 import in_float64

UNSTEADY = {
    "seed": 1,
    "learning_rate": 0.2,
    "head_learning_rate": None,
    "weight_decay": 0.01,
    "schedule": "constant",
}
SMALL = ModelConfig(width=16, encoders={"image": {"channels": [4, 8]}, "audio": {"channels": [4]}})


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def trained(
    digits, *, epochs=4, n=70, seed=0, progress=None, checkpoint=None, v=30, double=False, **config
):
    model = build_classifier(digits.modalities, 10, SMALL, "uniform", seed=0)
    if double:
        in_float64(model)
    positions = digits.train_positions[:n]
    validation = digits.train_positions[100 : 100 + v]
    diagnostics = fit(
        model,
        Loader(digits),
        positions,
        digits.labels[positions],
        TrainingConfig(minibatch_size=16, **config),
        epochs=epochs,
        seed=seed,
        progress=progress,
        validation=(validation, digits.labels[validation]),
        checkpoint=checkpoint,
    )
    return model, diagnostics


def nll(model, digits, v=30):
    positions = digits.train_positions[100 : 100 + v]
    outputs = predict(model, Loader(digits), positions, batch_size=64)
    return evaluate(outputs, digits.labels[positions]).mm.nll


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.fixture(scope="module")
def by_epochs(digits):
    """Validation NLL and weights after separate trainings of 1, 2, ... epochs."""
    torch.set_num_threads(1)
    after = []
    for epochs in range(1, 6):
        model, _ = trained(digits, epochs=epochs, double=True, **UNSTEADY)
        after.append((nll(model, digits), model.state_dict()))
    return after


@pytest.mark.parametrize(("patience", "epochs", "ran"), [(2, 6, 5), (1, 6, 4), (9, 4, 4)])
def test_the_best_epoch_is_kept_and_training_stops_after_it(
    digits, by_epochs, patience, epochs, ran
):
    values = [value for value, _ in by_epochs]
    assert values[2] < min(values[:2] + values[3:])  # the reference of the cases
    seen = []
    model, diagnostics = trained(
        digits,
        epochs=epochs,
        double=True,
        patience=patience,
        predict_batch_size=7,
        progress=lambda done, total: seen.append((done, total)),
        **UNSTEADY,
    )
    assert diagnostics.epochs == ran
    assert diagnostics.steps == 5 * ran
    assert seen[-1] == (5 * ran, 5 * epochs)
    assert same(model.state_dict(), by_epochs[2][1])
    assert not model.training


def test_patience_needs_something_to_go_by(digits):
    with pytest.raises(UsageError, match=r"training\.patience needs a validation set"):
        trained(digits, patience=1, v=0)


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done, total):
        if done == step:
            raise Stop

    return progress


@pytest.mark.parametrize("config", [{}, {"patience": 2, **UNSTEADY}])
@pytest.mark.slow
def test_a_training_broken_off_anywhere_ends_as_if_it_were_not(digits, tmp_path, config):
    config = {"gradient_accumulation": 2, "max_grad_norm": 3.0, **config}
    whole, expected = trained(digits, **config)
    total = expected.steps
    for step in {2, 5, 6, total - 1, total}:
        path = tmp_path / f"{step}.safetensors"

        def saved(path=path, minutes=1e-9, samples=1):
            return FitCheckpoint(path, minutes, {"round": 3, "samples": samples})

        with pytest.raises(Stop):
            trained(digits, progress=stop_at(step), checkpoint=saved(), **config)
        seen = []
        torch.manual_seed(step)
        again, diagnostics = trained(
            digits,
            progress=lambda done, _, seen=seen: seen.append(done),
            checkpoint=saved(),
            **config,
        )
        assert seen[0] == step  # the step that was not saved
        assert diagnostics == expected
        assert same(again.state_dict(), whole.state_dict())
        # A file of another training is not used.
        restarted = []
        with pytest.raises(Stop):
            trained(
                digits,
                progress=lambda done, _, seen=restarted: seen.append(done) or stop_at(1)(done, 0),
                checkpoint=saved(samples=2),
                **config,
            )
        assert restarted == [1]


def test_encoders_that_draw_go_on_with_their_own_draws(tmp_path, rng):
    from rlmba.data import InMemoryDataset

    tokens = rng.integers(1, 50, size=(40, 12))
    data = InMemoryDataset(
        "text",
        {"text": tokens},
        kinds={"text": "tokens"},
        labels=np.arange(40) % 2,
        classes=["no", "yes"],
        ids=[str(i) for i in range(40)],
        split=np.zeros(40, int),
    )

    def run(progress=None, checkpoint=None):
        encoders = {"text": {"dropout": 0.5, "width": 16, "layers": 1}}
        model = build_classifier(
            data.modalities, 2, ModelConfig(width=8, encoders=encoders), "uniform", seed=0
        )
        fit(
            model,
            Loader(data),
            np.arange(40),
            data.labels,
            TrainingConfig(minibatch_size=8),
            epochs=2,
            seed=5,
            progress=progress,
            checkpoint=checkpoint,
        )
        return model.state_dict()

    def checkpoint():
        return FitCheckpoint(tmp_path / "fit.safetensors", 1e-9, {})

    with pytest.raises(Stop):
        run(stop_at(4), checkpoint())
    assert same(run(checkpoint=checkpoint()), run())


def test_saving_goes_by_the_clock(digits, tmp_path, monkeypatch):
    from rlmba.training import fit_state

    clock = itertools.count(step=20)  # seconds: the clock is read once per step
    monkeypatch.setattr(fit_state.time, "monotonic", lambda: next(clock))
    checkpoint = FitCheckpoint(tmp_path / "fit.safetensors", 1.0, {})
    saved = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda state, *rest: (saved.append(state.step), save(state, *rest))
    )
    trained(digits, checkpoint=checkpoint)
    assert saved == [3, 6, 9, 12, 15, 18]


def test_diverging_is_found_at_the_step_it_began(digits):
    from rlmba.errors import NonFiniteError

    with pytest.raises(NonFiniteError, match=r"at step \d+ of 20") as caught:
        trained(digits, learning_rate=1e38)
    step = caught.value.row
    assert f"step {step + 1} of" in str(caught.value)
    assert 0 < step < 5
