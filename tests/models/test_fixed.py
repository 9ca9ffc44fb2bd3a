"""Encoders without weights."""

from __future__ import annotations

import pytest
import torch

from rlmba.data import Modality
from rlmba.data.media.spectrogram import log_spectrogram
from rlmba.errors import UsageError
from rlmba.models import build_encoder

TEXT = Modality("text", "tokens", (6,), "int64", vocabulary=1000, padding=-1)


def test_ngrams_count_ids_and_ignore_order_and_padding():
    encoder = build_encoder("ngrams", TEXT, {"width": 512})
    rows = encoder(
        torch.tensor([[5, 7, 7, -1, -1, -1], [7, -1, 5, 7, -1, -1], [8, 9, -1, -1, -1, -1]])
    )
    assert rows.shape == (3, 512)
    torch.testing.assert_close(rows[0], rows[1])
    assert rows[0] @ rows[2] < 0.5 < rows.norm(dim=1).min()
    nothing = encoder(torch.full((1, 6), -1))
    assert not nothing.any()


def test_ngrams_need_a_vocabulary():
    with pytest.raises(UsageError, match="vocabulary"):
        build_encoder("ngrams", Modality("text", "tokens", (6,), "int64"))


@pytest.mark.parametrize("size", [(1, 1), (7, 30)])
def test_image_statistics_of_any_size(size):
    encoder = build_encoder("image-statistics", Modality("image", "image", (3, *size)))
    found = encoder(torch.randn(2, 3, *size))
    assert found.shape == (2, encoder.out_features)
    assert found.isfinite().all()


def test_image_statistics_tell_directions_and_colors():
    encoder = build_encoder("image-statistics", Modality("image", "image", (3, 32, 32)))
    stripes = (torch.arange(32) // 2 % 2).float().expand(3, 32, 32)
    red = torch.zeros(3, 32, 32)
    red[0] = 1
    found = encoder(torch.stack([stripes, stripes.transpose(1, 2), red, -stripes]))
    edges = found[:, 2 * 3 * 16 :]
    assert edges[0] @ edges[1] < 0.1
    torch.testing.assert_close(edges[0], edges[3])  # the opposite gradient is the same edge
    assert not edges[2].any()
    assert (found[2, :16] == 1).all()


def test_a_video_is_the_mean_of_its_frames():
    video = build_encoder("image-statistics", Modality("v", "video", (3, 4, 20, 24)))
    image = build_encoder("image-statistics", Modality("i", "image", (3, 20, 24)))
    x = torch.randn(2, 3, 4, 20, 24)
    torch.testing.assert_close(video(x)[1], image(x[1].transpose(0, 1)).mean(dim=0))


def test_sound_statistics_of_waveforms_are_those_of_their_spectrograms():
    sound = (8000 * torch.randn(3, 4000)).clamp(-(2**15), 2**15 - 1).short()
    spectrogram = log_spectrogram(sound)
    shape = tuple(spectrogram.shape[1:])
    found, expected = (
        build_encoder("sound-statistics", Modality("audio", kind, shape))
        for kind, shape in (("waveform", (4000,)), ("spectrogram", shape))
    )
    assert found.out_features == expected.out_features
    torch.testing.assert_close(found(sound / 2**15), expected(spectrogram))
    with pytest.raises(UsageError, match="at least 257 samples, got 256; use longer sounds"):
        build_encoder("sound-statistics", Modality("audio", "waveform", (256,)))


@pytest.mark.parametrize("shape", [(1, 257, 100), (2, 5, 1), (1, 1, 3)])
def test_sound_statistics(shape):
    encoder = build_encoder("sound-statistics", Modality("audio", "spectrogram", shape))
    torch.testing.assert_close(encoder.weights.sum(dim=1), torch.ones(len(encoder.weights)))
    found = encoder(torch.randn(3, *shape))
    assert found.shape == (3, encoder.out_features)
    assert found.isfinite().all()
    constant = encoder(torch.full((1, *shape), 2.0))
    assert set(constant.round(decimals=4).unique().tolist()) <= {0.0, 2.0}
