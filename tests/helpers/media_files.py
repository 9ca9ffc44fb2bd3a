"""Small real media files: images, sounds, frames and clips.

Their content depends on the class: the color of a picture and the pitch of a sound, so that a model can
learn it. Everything is drawn from seeds; two runs write the same files.
"""

from __future__ import annotations

import colorsys
import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

CODECS = {
    ".mp4": ("mp4", "libx264", "aac"),
    ".avi": ("avi", "mpeg4", "libmp3lame"),
    ".mkv": ("matroska", "libx264", "aac"),
    ".webm": ("webm", "libvpx", "libopus"),
}
"""Container, video and audio codec of each suffix of a clip."""


def color(label, jitter=0.0):
    """The color of a class, uint8 [3]: distant hues and alternating brightness."""
    hue = (0.61803 * label + jitter) % 1.0
    return np.round(255 * np.array(colorsys.hsv_to_rgb(hue, 0.8, 0.55 + 0.4 * (label % 2)))).astype(
        np.uint8
    )


def pitch(label):
    """Pitch of a class in Hz, below 4 kHz."""
    return 220.0 * 1.5 ** (label % 7)


def picture(seed, size, label=0, at=0.0):
    """uint8 [height, width, 3]: the class's color, noise, and a bar at a fraction of the width."""
    width, height = size
    rng = np.random.default_rng([seed, 1])
    noise = rng.integers(-20, 21, (height, width, 3))
    image = np.clip(color(label, 0.02 * rng.random()).astype(int) + noise, 0, 255).astype(np.uint8)
    bar = max(1, width // 8)
    left = int(at * (width - bar))
    image[:, left : left + bar] = 255 - image[:, left : left + bar]
    return image


def sound(seed, label, seconds, rate):
    """int16 [seconds * rate]: the class's pitch with an octave and noise."""
    rng = np.random.default_rng([seed, 2])
    t = np.arange(round(seconds * rate)) / rate
    f = pitch(label) * (1 + 0.02 * rng.standard_normal())
    tone = 0.5 * np.sin(2 * np.pi * f * t) + 0.2 * np.sin(4 * np.pi * f * t + 1)
    return np.round(12000 * (tone + 0.05 * rng.standard_normal(len(t)))).astype(np.int16)


def write_image(path, *, seed=0, label=0, size=(64, 48), mode="RGB", exif_orientation=None):
    """An image file; ``size`` is width and height as stored, whatever the orientation says."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture(seed, size, label))
    if mode == "RGBA":
        image.putalpha(128)
    elif mode == "P":
        image = image.quantize(64)
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    if exif_orientation is not None:
        exif[0x0112] = exif_orientation
    # JPEG has neither alpha nor a palette: such images come as PNG, often under the name of a JPEG.
    image.save(path, format="PNG" if mode in {"RGBA", "P", "LA"} else "JPEG", exif=exif)
    return path


def write_wav(path, *, seed=0, label=0, seconds=3.0, rate=16_000, channels=1):
    """A 16-bit PCM sound file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(sound(seed, label, seconds, rate)[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write_frames(path, *, seed=0, label=0, frames=10, size=(64, 48), still=False, first=0):
    """A folder of ``frame_<k>.jpg``, k from ``first``."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for k in range(frames):
        at = 0.0 if still else k / max(1, frames - 1)
        image = Image.fromarray(picture(seed, size, label, at))
        image.save(path / f"frame_{first + k}.jpg", quality=90)
    return path


def write_clip(
    path,
    *,
    seed=0,
    label=0,
    seconds=3.0,
    size=(64, 48),
    fps=10,
    audio=True,
    still=False,
    video=True,
    kind=None,
    codecs=None,
    rate=44_100,
    channels=2,
):
    """A clip whose bar crosses the picture once, with the class's tone.

    ``size`` is width and height, both even. ``kind`` is the suffix whose container and codecs are
    used, the path's own by default; ``codecs`` replaces the codecs alone. ``still`` repeats one
    frame, which all but WebM's codec keeps to the bit. ``fps`` is a whole number.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    container, *default = CODECS[kind or path.suffix]
    video_codec, audio_codec = codecs or default
    if audio_codec == "libopus":
        rate = 48_000
    with av.open(str(path), "w", format=container) as out:
        pictures = voice = None
        if video:
            pictures = out.add_stream(video_codec, rate=fps)
            pictures.width, pictures.height = size
            pictures.pix_fmt = "yuv420p"
            # A constant quantizer leaves repeated frames alone: they decode to equal pictures.
            if video_codec == "libx264":
                pictures.options = {"preset": "ultrafast", "qp": "26"}
            elif video_codec == "libvpx":
                pictures.options = {"deadline": "realtime", "cpu-used": "8"}
            else:
                pictures.bit_rate = 500_000
        if audio:
            voice = out.add_stream(audio_codec, rate=rate)
            voice.layout = "stereo" if channels == 2 else "mono"
            if audio_codec == "aac":
                voice.options = {"aac_coder": "fast"}
        n = max(1, round(seconds * fps)) if video else 0
        samples = np.repeat(sound(seed, label, seconds, rate)[:, None], channels, axis=1)
        samples = samples if audio else samples[:0]
        for second in range(max(-(-n // fps), -(-len(samples) // rate))):
            for k in range(second * fps, min(n, (second + 1) * fps)):
                at = 0.0 if still else k / max(1, n - 1)
                frame = av.VideoFrame.from_ndarray(picture(seed, size, label, at), format="rgb24")
                frame.pts = k
                out.mux(pictures.encode(frame))
            part = np.ascontiguousarray(samples[second * rate : (second + 1) * rate])
            if len(part):
                frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), "s16", voice.layout.name)
                frame.sample_rate = rate
                frame.pts = second * rate
                out.mux(voice.encode(frame))
        for stream in (pictures, voice):
            if stream is not None:
                out.mux(stream.encode(None))
    return path


def truncate(path, fraction=0.6):
    """Cut a file's end off, as an interrupted download leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
