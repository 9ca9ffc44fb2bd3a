from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers import media_files, media_sets


def read(path):
    """Frames uint8 [n, h, w, 3] and sound [channels, t] of a clip; None if it has none."""
    with av.open(str(path)) as clip:
        streams = {s.type for s in clip.streams}
        frames = None
        if "video" in streams:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in clip.decode(video=0)])
    sound = None
    if "audio" in streams:
        with av.open(str(path)) as clip:
            parts = [f.to_ndarray() for f in clip.decode(audio=0)]
            sound = np.concatenate([p.reshape(p.shape[0], -1) for p in parts], axis=1)
    return frames, sound


@pytest.mark.parametrize("suffix", media_files.CODECS)
def test_clips_hold_what_was_asked_for(tmp_path, suffix):
    path = media_files.write_clip(
        tmp_path / f"c{suffix}", seconds=1.5, fps=8, size=(80, 64), label=2
    )
    frames, sound = read(path)
    assert frames.shape == (12, 64, 80, 3)
    assert sound.shape[1] / 44_100 == pytest.approx(1.5, abs=0.2)
    assert np.abs(frames.astype(int) - frames[0]).max() > 50
    color = np.median(frames.reshape(-1, 3), axis=0)
    np.testing.assert_allclose(color, media_files.color(2), atol=30)


def test_clips_without_sound_without_pictures_and_still_ones(tmp_path):
    assert read(media_files.write_clip(tmp_path / "a.mp4", audio=False, seconds=1))[1] is None
    assert read(media_files.write_clip(tmp_path / "b.mp4", video=False, seconds=1))[0] is None
    for suffix in (".mp4", ".avi"):
        frames, _ = read(media_files.write_clip(tmp_path / f"c{suffix}", still=True, seconds=1))
        assert len(frames) == 10
        assert (frames == frames[0]).all()
    pcm = media_files.write_clip(tmp_path / "d.avi", codecs=("mpeg4", "pcm_s16le"), seconds=1)
    assert read(pcm)[1].size == 2 * 44_100


def test_the_pitch_of_a_sound_tells_its_class(tmp_path):
    import wave

    for label in range(3):
        path = media_files.write_wav(tmp_path / "a.wav", label=label, seconds=1.0)
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(16_000), np.int16)
        peak = np.argmax(np.abs(np.fft.rfft(samples)))
        assert peak == pytest.approx(media_files.pitch(label), rel=0.1)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P"])
def test_images_have_the_mode_and_the_orientation(tmp_path, mode):
    path = media_files.write_image(tmp_path / "a.jpg", mode=mode, exif_orientation=6, size=(60, 40))
    with Image.open(path) as image:
        assert image.mode == mode
        assert image.size == (60, 40)
        assert ImageOps.exif_transpose(image).size == (40, 60)


def test_damaged_clips_are_damaged(tmp_path):
    made = media_sets.make_vggsound(tmp_path, train=0, test=0, damages=media_sets.CLIP_DAMAGES)
    paths = {m.damage: tmp_path / f"{m.id}.mp4" for m in made}
    assert read(paths["no-audio"])[1] is None
    assert read(paths["short"])[0].shape[0] == 10
    assert (read(paths["still"])[0] == read(paths["still"])[0][0]).all()
    with av.open(str(paths["wrong-extension"])) as clip:
        assert "webm" in clip.format.name
    with pytest.raises(av.error.InvalidDataError):
        read(paths["truncated"])
    assert paths["empty-file"].stat().st_size == 0
    assert not paths["missing"].exists()


def test_the_same_seed_writes_the_same_files(tmp_path):
    for root in ("a", "b"):
        media_sets.make_food101(tmp_path / root, train=1, test=1, damages=media_sets.FOOD_DAMAGES)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
