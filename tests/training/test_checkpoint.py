from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig
from rlmba.data import Modality
from rlmba.errors import CheckpointError, StorageError
from rlmba.models import build_classifier
from rlmba.training import config_hash, load_model, load_tensors, save_model, save_tensors

CONFIG = {"model": {"width": 6, "dropout": 0.1}, "fusion": "amcb"}
MODALITIES = [
    Modality("x", "features", (4,)),
    Modality("snd", "waveform", (400,), sample_rate=8000),
]


def model(seed=0, width=6):
    return build_classifier(MODALITIES, 3, ModelConfig(width=width), "amcb", seed=seed)


def test_round_trip_with_buffers(tmp_path):
    one, other = model(0), model(1)
    one.set_fusion_weights([0.25, 0.75])
    path = tmp_path / "m.safetensors"
    save_model(path, one, config=CONFIG)
    load_model(path, other, config={"fusion": "amcb", "model": {"dropout": 0.1, "width": 6}})
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    np.testing.assert_allclose(other.fusion_weights, [0.25, 0.75])


def test_another_configuration_is_refused_by_name(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, model(), config=CONFIG)
    wanted = {"model": {"width": 8, "dropout": 0.1}, "seed": 1}
    with pytest.raises(CheckpointError) as caught:
        load_model(path, model(), config=wanted)
    message = str(caught.value)
    assert "model.width was 6 and is 8" in message
    assert "fusion was 'amcb' and is 'absent'" in message
    assert "seed was 'absent' and is 1" in message
    assert "dropout" not in message
    assert config_hash(CONFIG) != config_hash(wanted)


def test_other_weights_are_refused_and_leave_the_model_alone(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, model(width=7), config=CONFIG)
    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"heads\.0\.weight has shape \(3, 7\), not \(3, 6\)|more"
    ):
        load_model(path, target, config=CONFIG)
    state = target.state_dict()
    assert all(torch.equal(before[k], state[k]) for k in before)
    save_tensors(path, {"stray": torch.ones(2)}, config=CONFIG)
    with pytest.raises(CheckpointError, match="fusion_weights is missing"):
        load_model(path, target, config=CONFIG)


def test_damaged_missing_and_foreign_files(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match=r"m\.safetensors: no such file"):
        load_tensors(path, config=CONFIG)
    save_tensors(path, {"a": torch.arange(1000.0)}, config=CONFIG)
    whole = path.read_bytes()
    for content in (b"", b"garbage", whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="expected a readable safetensors"):
            load_tensors(path, config=CONFIG)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not written by this package"):
        load_tensors(path, config=CONFIG)


def test_shared_and_strided_tensors_are_kept(tmp_path):
    path = tmp_path / "t.safetensors"
    base = torch.arange(12.0).reshape(3, 4)
    save_tensors(path, {"a": base.T, "b": base[:, 1], "c": base}, config={})
    loaded = load_tensors(path, config={})
    assert torch.equal(loaded["a"], base.T)
    assert torch.equal(loaded["b"], base[:, 1])


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_tensors(path, {"a": torch.ones(3)}, config={})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        save_tensors(path, {"a": torch.zeros(3)}, config={})
    assert torch.equal(load_tensors(path, config={})["a"], torch.ones(3))
    assert len(list(tmp_path.iterdir())) == 1
