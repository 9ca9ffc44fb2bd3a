from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import (
    build_encoder,
    describe_encoder,
    encoder_names,
    register_encoder,
    register_family,
    seeded,
)
from tests.helpers.float64 import in_float64

MODALITIES = [
    Modality("numbers", "features", (7,)),
    Modality("tiny", "image", (1, 8, 8)),
    Modality("photo", "image", (3, 28, 20)),
    Modality("frames", "image", (8, 32, 32)),
    Modality("strip", "image", (1, 2, 9)),
    Modality("mel", "spectrogram", (1, 32, 40)),
    Modality("sound", "waveform", (1200,), sample_rate=8000),
    Modality("unrated", "waveform", (8000,)),
    Modality("sensor", "sequence", (64, 6)),
    Modality("moment", "sequence", (3, 2)),
    Modality("words", "tokens", (12,), "int64", vocabulary=30),
]


def sample(modality, n):
    generator = torch.Generator().manual_seed(0)
    if modality.kind == "tokens":
        return torch.randint(0, modality.vocabulary, (n, *modality.shape), generator=generator)
    return torch.randn((n, *modality.shape), generator=generator)


@pytest.mark.parametrize("modality", MODALITIES, ids=lambda m: m.name)
def test_auto_encoder_takes_its_kind(modality):
    """Finite, of the declared width, differentiable; each row depends only on its own sample."""
    with seeded(0):
        encoder = in_float64(build_encoder("auto", modality)).eval()
    x = sample(modality, 5)
    out = encoder(x)
    assert out.shape == (5, encoder.out_features)
    assert torch.isfinite(out).all()
    assert (out.std(dim=0) > 0).any()
    torch.testing.assert_close(encoder(x[2:3]), out[2:3])
    parameters = list(encoder.parameters())
    if parameters:
        encoder.train()
        encoder(x[:1]).square().sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


def test_cnn_of_a_video_is_the_mean_over_its_frames():
    video, image = (
        Modality("clip", "video", (3, 4, 16, 20)),
        Modality("frame", "image", (3, 16, 20)),
    )
    options = {"channels": [4, 8], "grid": 2}
    with seeded(0):
        encoder = in_float64(build_encoder("cnn", video, options))
    with seeded(0):
        of_frames = in_float64(build_encoder("cnn", image, options))
    x = sample(video, 2)
    expected = torch.stack([of_frames(x[:, :, t]) for t in range(4)]).mean(dim=0)
    torch.testing.assert_close(encoder(x), expected)
    assert encoder.out_features == 8 * 4


def test_text_ignores_padding_and_survives_an_empty_text():
    modality = MODALITIES[-1]
    with seeded(0):
        encoder = in_float64(build_encoder("auto", modality, {"width": 16, "layers": 1})).eval()
    x = torch.zeros((2, 12), dtype=torch.int64)
    x[0, :4] = torch.tensor([3, 1, 4, 2])
    before = encoder(x)
    assert torch.isfinite(before).all()
    # Padded positions must not matter: only their embeddings vary here.
    with torch.no_grad():
        encoder.places[4:] += 10
    torch.testing.assert_close(encoder(x)[0], before[0])
    with torch.no_grad():
        encoder.places[2] += 10 * torch.randn(16, generator=torch.Generator().manual_seed(1))
    assert (encoder(x)[0] - before[0]).abs().max() > 1e-3


def test_spectrogram_is_blind_to_level():
    with seeded(0):
        encoder = in_float64(build_encoder("auto", MODALITIES[6])).eval()
    x = sample(MODALITIES[6], 3)
    torch.testing.assert_close(encoder(0.1 * x), encoder(x), rtol=1e-3, atol=1e-3)
    assert torch.isfinite(encoder(torch.zeros_like(x))).all()


def test_spectrogram_sees_where_a_tone_is():
    """The mel band that a tone excites rises with its frequency."""
    with seeded(0):
        encoder = build_encoder("auto", MODALITIES[6])
    time = torch.arange(1200) / 8000
    tones = torch.stack([torch.sin(2 * np.pi * f * time) for f in (300.0, 700.0, 1500.0, 3000.0)])
    bands = encoder.spectrogram(tones).mean(dim=2).argmax(dim=1).tolist()
    assert bands == sorted(set(bands))


def test_unknown_encoder_option_and_modality():
    numbers = MODALITIES[0]
    tokens = next(m for m in MODALITIES if m.kind == "tokens")
    with pytest.raises(UsageError, match=r"'numbers': unknown encoder 'bert': expected .*, mlp, "):
        build_encoder("bert", numbers)
    with pytest.raises(UsageError, match=r"no option 'depth': expected one of \['hidden'\]"):
        build_encoder("mlp", numbers, {"depth": 3})
    with pytest.raises(UsageError, match=r"is 'tokens'; use one of \['auto', 'all-minilm-l6-v2', "):
        build_encoder("mlp", tokens)
    with pytest.raises(UsageError, match="registered already"):
        register_encoder("mlp", kinds=["features"])
    assert {"bert-base", "ngrams", "text-transformer", "two-tower"} < set(encoder_names("tokens"))
    assert encoder_names("sequence") == ("mlp", "sequence-cnn")
    assert {"mlp", "cnn", "spectrogram-cnn", "text-transformer"} < set(encoder_names())


def test_registering():
    """A name or a prefix is registered per kind; an encoder found by name is found with the prefix."""
    with pytest.raises(UsageError, match="registered already"):
        register_encoder("mlp", kinds=["image", "features"])
    with pytest.raises(UsageError, match="registered already"):
        register_encoder("a:b", kinds=["features"])
    with pytest.raises(UsageError, match="torchvision:NAME are registered already"):
        register_family("torchvision", kinds=["image"])


def test_descriptions():
    described = {name: describe_encoder(name) for name in encoder_names()}
    assert described["transformers:NAME"].kinds == ("image", "waveform", "tokens")
    assert described["two-tower"].kinds == ("image", "tokens")
    assert described["r2plus1d-18"].kinds == ("video",)
    assert described["cnn"].summary == (
        "A ConvStack for images with any number of channels; for videos, averaged over frames."
    )
    assert all(d.summary.endswith(".") for d in described.values())


@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        (0, {"hidden": 5}, "hidden: expected a list"),
        (0, {"hidden": [0]}, "hidden: expected a list"),
        (1, {"channels": []}, "channels: expected a list"),
        (6, {"grid": [1]}, "grid: expected two"),
        (6, {"window_ms": 1000}, "window of 8 to 1200 samples, got 8000"),
        (10, {"width": 30, "heads": 4}, "multiple of heads"),
        (10, {"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_options(index, options, message):
    with pytest.raises(UsageError, match=message):
        build_encoder("auto", MODALITIES[index], options)


def test_options_change_the_encoder():
    assert build_encoder("mlp", MODALITIES[0], {"hidden": [9, 5]}).out_features == 5
    assert build_encoder("mlp", MODALITIES[0]).out_features == 7
    flat = build_encoder("mlp", MODALITIES[2])
    assert flat.out_features == int(np.prod(MODALITIES[2].shape))
    assert flat(torch.zeros(3, *MODALITIES[2].shape)).shape == (3, flat.out_features)
    assert build_encoder("cnn", MODALITIES[2], {"channels": [4, 6], "grid": 1}).out_features == 6


@pytest.mark.parametrize(
    ("kind", "shape"), [("waveform", ()), ("image", (8, 8)), ("sequence", (4,))]
)
def test_samples_with_other_axes_than_their_kind_are_refused(kind, shape):
    with pytest.raises(UsageError, match=rf"expected samples with \d axes for the kind '{kind}'"):
        build_encoder("auto", Modality("odd", kind, shape))
