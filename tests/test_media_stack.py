"""The declared versions of torch, torchvision, torchaudio and PyAV work in one process."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
import torchaudio
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

RATE = 16_000
TONE = 1000.0


def test_png_survives_encoding_and_decoding(tmp_path):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 37, 23), generator=generator, dtype=torch.uint8)
    path = tmp_path / "image.png"
    to_pil_image(image).save(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with Image.open(path) as opened:
        assert torch.equal(pil_to_tensor(opened), image)


def test_image_transforms_keep_content():
    half = torch.zeros(3, 64, 64)
    half[:, :, 32:] = 1
    small = v2.Resize((16, 16), antialias=True)(half)
    assert small.shape == (3, 16, 16)
    assert small[:, :, :6].abs().max() < 1e-3
    assert small[:, :, 10:].min() > 0.999


@pytest.fixture
def wav(tmp_path):
    """A second of a 1 kHz tone at half scale, written as 16-bit PCM by PyAV."""
    time = np.arange(RATE) / RATE
    samples = np.rint(0.5 * 32767 * np.sin(2 * np.pi * TONE * time)).astype(np.int16)
    path = tmp_path / "tone.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path, samples


def test_audio_decodes_resamples_and_becomes_a_spectrogram(wav):
    path, samples = wav
    with av.open(str(path)) as container:
        assert container.streams.audio[0].rate == RATE
        frames = [f.to_ndarray() for f in container.decode(audio=0)]
    decoded = np.concatenate(frames, axis=1)[0]
    np.testing.assert_array_equal(decoded, samples)

    wave = torch.from_numpy(decoded.astype(np.float32) / 32768)[None]
    low = torchaudio.functional.resample(wave, RATE, 8000)
    assert low.shape == (1, 8000)
    spectrum = torch.fft.rfft(low[0]).abs()
    assert int(spectrum.argmax()) == int(TONE)
    assert float(low[0, 1000:-1000].abs().max()) == pytest.approx(0.5, abs=0.01)

    power = torchaudio.transforms.Spectrogram(n_fft=512, hop_length=128)(low)[0]
    assert power.shape == (257, 8000 // 128 + 1)
    peaks = power[:, 2:-2].argmax(dim=0)
    assert (peaks == round(TONE * 512 / 8000)).all()
