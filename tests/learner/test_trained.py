"""A run's trained network, loaded from its folder alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from rlmba.config import RunConfig
from rlmba.data import load_digits, load_features
from rlmba.errors import CheckpointError, RunFolderError
from rlmba.learner import Trained, run
from rlmba.training import Loader, evaluate, predict

SETTINGS = {
    "dataset": "features",
    "rounds": 1,
    "initial_labels": 9,
    "batch_size": 6,
    "epochs": 2,
    "model": {"width": 12},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def features_file(tmp_path_factory):
    """Three classes, two modalities, some samples without one of them."""
    rng = np.random.default_rng(3)
    y = np.arange(120) % 3
    present = rng.random((120, 2)) > 0.2
    present[~present.any(axis=1)] = True
    path = tmp_path_factory.mktemp("data") / "made.npz"
    np.savez(
        path,
        sound=np.eye(3)[y] * 2 + rng.normal(size=(120, 3)),
        motion=rng.normal(size=(120, 5, 4)).astype(np.float32) + y[:, None, None],
        y=y,
        split=(np.arange(120) >= 90).astype(int),
        classes=np.array(["low", "mid", "high"]),
        present=present,
    )
    return path


@pytest.fixture(scope="module", params=["amcb-fused", "concat-pooled"])
def finished(request, features_file, tmp_path_factory):
    fusion, predictor = request.param.split("-")
    settings = {**SETTINGS, "data": features_file, "fusion": fusion, "predictor": predictor}
    return run(RunConfig.model_validate(settings), tmp_path_factory.mktemp("runs") / "run")


def test_what_it_says_of_the_test_split_is_what_the_run_recorded(finished, features_file):
    trained = Trained.load(finished.path)
    dataset = load_features(features_file)
    record = finished.records[-1]
    assert trained.classes == ("low", "mid", "high")
    assert trained.modalities == dataset.modalities
    assert (trained.round, trained.labels, trained.dataset) == (1, 15, "made")
    assert trained.head_temperatures == record.temperatures
    assert not trained.model.training
    positions = dataset.test_positions
    with Loader(dataset, torch.device("cpu")) as loader:
        size = trained.config.training.predict_batch_size  # the run's: sums in the same order
        outputs = predict(trained.model, loader, positions, batch_size=size)
    found = evaluate(
        outputs,
        dataset.labels[positions],
        predictor=trained.predictor,
        temperatures=trained.head_temperatures,
    )
    for head, metrics in record.test.heads.items():
        assert found.heads[head].top1 == metrics.top1
        assert found.heads[head].nll == pytest.approx(metrics.nll)


def test_weights_are_those_that_this_round_left(finished):
    trained = Trained.load(finished.path)
    state = json.loads((finished.path / "checkpoints" / "round_001" / "state.json").read_text())
    assert trained.weights.tolist() == state["weights"]
    assert trained.model.fusion_weights.tolist() == pytest.approx(
        list(finished.records[-1].fusion_weights.values())
    )


def test_it_needs_no_data(finished, features_file, tmp_path):
    folder = shutil.copytree(finished.path, tmp_path / "elsewhere")
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace(str(features_file), "/nowhere/at/all.npz")
    )
    assert Trained.load(folder).config.data == features_file


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished.path, tmp_path / "copy")


def network(copy):
    return copy / "checkpoints" / "round_001" / "network.json"


def test_no_round_yet(copy):
    (copy / "rounds.jsonl").unlink()
    with pytest.raises(RunFolderError, match="found none yet"):
        Trained.load(copy)


def test_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"no run\.json"):
        Trained.load(tmp_path)


def test_written_by_an_earlier_version(copy):
    network(copy).unlink()
    with pytest.raises(CheckpointError, match=r"earlier version.*train another round"):
        Trained.load(copy)


def test_another_format(copy):
    said = json.loads(network(copy).read_text())
    network(copy).write_text(json.dumps({**said, "format": 99, "rlmba": "7.0"}))
    with pytest.raises(CheckpointError, match=r"format 99.*reads 1.*7\.0"):
        Trained.load(copy)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": 1}', '{"format": 1}', '{"format": 1, "config": 3}']
)
def test_a_damaged_description(copy, text):
    network(copy).write_text(text)
    with pytest.raises(CheckpointError, match=r"network\.json"):
        Trained.load(copy)


def test_damaged_weights(copy):
    weights = network(copy).with_name("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Trained.load(copy)


def test_parts_of_two_runs(copy):
    said = json.loads(network(copy).read_text())
    said["identity"]["seed"] = 5
    network(copy).write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="seed was 0 and is 5"):
        Trained.load(copy)


def test_no_checkpoint(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(CheckpointError, match="expected a checkpoint, found none"):
        Trained.load(copy)


def test_a_run_that_moves_on_meanwhile(finished, monkeypatch, tmp_path):
    """A round that is complete when the records are read may be gone when its weights are."""
    from rlmba.learner import trained as module

    folder = shutil.copytree(finished.path, tmp_path / "moving")
    seen = []

    def behind(path):
        view = original(path)
        seen.append(path)
        return type(view)(view.path, view.config, view.records[: len(seen)], view.info)

    original = module.read_run
    monkeypatch.setattr(module, "read_run", behind)
    assert Trained.load(folder).round == 1
    assert len(seen) == 2


@pytest.mark.slow
def test_frozen_encoders_come_along(tmp_path):
    """The run trains on features; what is loaded sees what the encoders saw, and needs no features."""
    settings = {
        **SETTINGS,
        "dataset": "digits",
        "initial_labels": 20,
        "model": {
            "width": 12,
            "frozen": True,
            "features_folder": tmp_path / "features",
            "encoders": {"image": {"name": "resnet18", "weights": "random"}},
        },
        "rounds": 2,
    }
    finished = run(RunConfig.model_validate(settings), tmp_path / "run")
    shutil.rmtree(tmp_path / "features")
    dataset = load_digits()
    trained = Trained.load(finished.path)
    assert trained.modalities == dataset.modalities
    assert trained.dataset == "digits"
    assert [type(e).__name__ for e in trained.model.encoders] == ["Standardized"] * 2
    positions = dataset.test_positions
    with Loader(dataset, torch.device("cpu")) as loader:
        size = trained.config.training.predict_batch_size  # the run's: sums in the same order
        outputs = predict(trained.model, loader, positions, batch_size=size)
    found = evaluate(outputs, dataset.labels[positions], temperatures=trained.head_temperatures)
    assert found.mm.top1 == finished.records[-1].test.mm.top1
    assert found.mm.nll == pytest.approx(finished.records[-1].test.mm.nll)
    kept = list((finished.path / "checkpoints").glob("*/encoders.safetensors"))
    assert len(kept) == 1, "each checkpoint has them, and only the last is there"


def test_frozen_encoders_that_are_gone(tmp_path):
    settings = {
        **SETTINGS,
        "dataset": "digits",
        "initial_labels": 20,
        "rounds": 0,
        "model": {"width": 8, "frozen": True, "features_folder": tmp_path},
    }
    folder = run(RunConfig.model_validate(settings), tmp_path / "run").path
    (folder / "checkpoints" / "round_000" / "encoders.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"encoders\.safetensors"):
        Trained.load(folder)
