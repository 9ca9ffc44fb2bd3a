"""Sound of clips and of sound files."""

import struct
import wave
from dataclasses import replace

import av
import numpy as np
import pytest

from rlmba.data.media.clips import read_clip
from rlmba.data.media.content import Recipe
from tests.helpers import media_files

RECIPE = Recipe(seconds=2.0)


def audio(path, recipe=RECIPE):
    return read_clip(path, recipe, ["audio"])["audio"]


def tone(seconds=2.0, rate=16_000, pitch=440.0):
    return np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def write_wav(path, values, rate=16_000, kind="s16"):
    """A wav of float values in -1..1, [n] or [n, channels], in any of the usual encodings."""
    values = np.atleast_2d(values.T).T
    width = int(kind[1:]) // 8
    code = 3 if kind[0] == "f" else 1
    if kind == "u8":
        data = np.round(values * 127 + 128).astype(np.uint8).tobytes()
    elif kind[0] == "f":
        data = values.astype(f"<f{width}").tobytes()
    else:
        whole = np.round(values * (2 ** (8 * width - 1) - 1)).astype("<i8")
        data = whole.view(np.uint8).reshape(*values.shape, 8)[..., :width].tobytes()
    channels = values.shape[1]
    head = struct.pack(
        "<HHIIHH", code, channels, rate, rate * channels * width, channels * width, 8 * width
    )
    body = (
        b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data)) + data
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("kind", "off"), [("u8", 257), ("s16", 1), ("s24", 1), ("s32", 1), ("f32", 1)]
)
def test_wav(kind, off, tmp_path):
    values = 0.5 * tone()
    content = audio(write_wav(tmp_path / "a.wav", values, kind=kind))
    assert content.flags == ()
    assert content.array.dtype == np.int16
    assert content.array.shape == (32_000,)
    np.testing.assert_allclose(content.array, 32768 * values, atol=off)


def test_sixteen_bits_at_the_rate_are_taken_as_they_are(tmp_path):
    path = media_files.write_wav(tmp_path / "a.wav", seconds=2.0)
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(32_000), np.int16)
    np.testing.assert_array_equal(audio(path).array, samples)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampled(rate, tmp_path):
    path = write_wav(tmp_path / "a.wav", 0.5 * tone(rate=rate), rate)
    inner = slice(200, -200)
    np.testing.assert_allclose(audio(path).array[inner], (16_384 * tone())[inner], atol=40)


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 7])
def test_channels_are_mixed(channels, tmp_path):
    """Of two, the mean; of others, no clipping and every front channel heard."""
    one = 0.5 * tone()
    same = audio(write_wav(tmp_path / "a.wav", np.repeat(one[:, None], channels, 1)))
    assert same.problem == ""
    assert same.array.max() <= 16_500
    assert same.array.max() >= 8_000
    left = np.zeros((len(one), channels))
    left[:, 0] = one
    heard = audio(write_wav(tmp_path / "b.wav", left)).array
    assert heard.max() > 1_500
    if channels == 2:
        np.testing.assert_allclose(heard, 16_384 * one, atol=2)
        np.testing.assert_allclose(same.array, 32_768 * one, atol=2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (16_000, 7)])
def test_floats_that_are_no_numbers(value, rate, channels, tmp_path):
    values = np.repeat(0.5 * tone(rate=rate)[:, None], channels, 1)
    values[1000, 0] = value
    kind = "f32" if not np.isfinite(value) else "f64"
    content = audio(write_wav(tmp_path / "a.wav", values, rate, kind=kind))
    assert content.array is None
    reason = "it holds NaN, infinity or a number beyond float32"
    assert content.problem == f"the audio track cannot be decoded: {reason}"


def test_padded_cut_short_silent(tmp_path):
    path = write_wav(tmp_path / "a.wav", 0.5 * tone(1.2))
    padded = audio(path)
    assert padded.flags == ()
    assert padded.array.shape == (32_000,)
    assert not padded.array[19_200:].any()
    assert padded.array[19_000:19_200].any()
    assert audio(path, replace(RECIPE, seconds=3.0)).flags == ("short",)
    long = audio(path, replace(RECIPE, seconds=0.5))
    np.testing.assert_array_equal(long.array, padded.array[:8_000])
    silent = audio(write_wav(tmp_path / "b.wav", np.zeros(32_000)))
    assert silent.flags == ("silent",)
    empty = audio(write_wav(tmp_path / "c.wav", np.zeros((0,))))
    assert empty.array is None
    assert empty.problem


def plain(path, count):
    """All of the sound, decoded and resampled frame after frame, as one writes it."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        parts = [o for f in container.decode(audio=0) for o in resampler.resample(f)]
        parts += resampler.resample(None)
    whole = np.concatenate([p.to_ndarray()[0] for p in parts])
    return np.pad(whole, (0, max(0, count - len(whole))))[:count]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".mkv"])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_clip_with_its_sound(suffix, seconds, tmp_path):
    """Both come of one pass over the file; the sound is that of decoding all of it."""
    path = media_files.write_clip(tmp_path / f"a{suffix}", seconds=seconds, label=2)
    both = read_clip(path, RECIPE, ["video", "audio"])
    np.testing.assert_array_equal(both["audio"].array, plain(path, 32_000))
    np.testing.assert_array_equal(
        both["video"].array, read_clip(path, RECIPE, ["video"])["video"].array
    )
    spectrum = np.abs(np.fft.rfft(both["audio"].array[:16_000].astype(float)))
    assert np.argmax(spectrum) == pytest.approx(media_files.pitch(2), rel=0.1)


def test_one_opening(tmp_path, monkeypatch):
    path = media_files.write_clip(tmp_path / "a.mp4", seconds=1)
    opened = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
    read_clip(path, RECIPE, ["video", "audio"])
    assert len(opened) == 1


def test_truncated(tmp_path):
    path = media_files.write_wav(tmp_path / "a.wav", seconds=2.0)
    media_files.truncate(path, 0.6)
    content = audio(path)
    assert content.flags == ("truncated",)
    assert content.array[:19_000].any()
    assert not content.array[19_300:].any()
    media_files.truncate(path, 0.5)
    assert audio(path).problem.startswith("truncated: ")


def test_format_that_changes_midway(tmp_path):
    """Joined streams change their rate and channels, so resampling starts again."""
    a = media_files.write_clip(
        tmp_path / "a.ts", video=False, kind=".mp4", codecs=("", "mp2"), seconds=1
    )
    b = tmp_path / "b.ts"
    for path, rate, channels in ((a, 44_100, 2), (b, 48_000, 1)):
        with av.open(str(path), "w", format="mp2") as out:
            voice = out.add_stream("mp2", rate=rate, layout="stereo" if channels == 2 else "mono")
            values = (8_000 * tone(1.0, rate)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.repeat(values, channels)[None], format="s16", layout=voice.layout.name
            )
            frame.sample_rate = rate
            out.mux(voice.encode(frame))
            out.mux(voice.encode(None))
    joined = tmp_path / "joined.mp2"
    joined.write_bytes(a.read_bytes() + b.read_bytes())
    content = audio(joined)
    assert content.problem == ""
    halves = np.split(content.array.astype(float), 2)
    for half in halves:
        assert np.argmax(np.abs(np.fft.rfft(half[2_000:12_000]))) == 275


def test_wav_of_unknown_length(tmp_path):
    """Programs that write to a pipe leave wrong sizes in the header."""
    path = write_wav(tmp_path / "a.wav", 0.5 * tone(1.5))
    data = bytearray(path.read_bytes())
    for at in (4, 40):
        data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    content = audio(path)
    assert content.flags == ()
    assert content.array[23_900:24_000].any()
