"""The sound of a clip or a sound file: one channel of 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import MediaContent, Recipe
from rlmba.data.media.problems import unusable

__all__ = ["mix", "to_content"]

# What may be missing at the end of a file that is whole: a codec's last frame, rounding of headers.
_TOLERANCE = 0.25


def to_content(frames: Iterable[Any], recipe: Recipe, declared: float | None) -> MediaContent:
    """Sound as content: mixed, cut or padded.

    Parameters
    ----------
    frames : iterable of av.AudioFrame
        From the beginning of the track; no more are taken than are needed.
    recipe : Recipe
        ``seconds`` and ``sample_rate`` are used.
    declared : float or None
        Seconds the track should have where the file is known to be damaged, else None.

    Returns
    -------
    MediaContent
        int16 [seconds * sample_rate]. Flags "silent", "short", "truncated" as of content.
    """
    wanted = round(recipe.seconds * recipe.sample_rate)
    samples = mix(frames, recipe.sample_rate, wanted)
    seconds = len(samples) / recipe.sample_rate
    if not len(samples):
        return unusable("the audio track holds no sound that can be decoded")
    flags: tuple[str, ...] = ()
    expected = min(recipe.seconds, declared or 0.0)
    if seconds < expected - _TOLERANCE:
        if 2 * seconds < expected:
            return unusable(
                f"truncated: {seconds:.1f} of {expected:.1f} s of sound could be decoded"
            )
        flags += ("truncated",)
    if 2 * seconds < recipe.seconds:
        flags += ("short",)
    if not samples.any():
        flags += ("silent",)
    sound = np.zeros(wanted, np.int16)
    sound[: len(samples)] = samples
    return MediaContent(sound, flags=flags)


def mix(frames: Iterable[Any], rate: int, limit: int) -> NDArray[np.int16]:
    """Sound frames as one channel at ``rate``, at most ``limit`` samples: int16 [n].

    Channels are mixed as FFmpeg does (the mean of two), and as their mean where it does not know where
    they belong. Frames of another format than those before begin anew: what the resampler still holds
    is given out first.

    Raises
    ------
    ValueError
        If a frame of floats holds NaN or infinity.
    """
    parts: list[NDArray[np.int16]] = []
    count = 0
    for part in _resampled(frames, rate):
        parts.append(part)
        count += len(part)
        if count >= limit:
            break
    return np.concatenate(parts)[:limit] if parts else np.zeros(0, np.int16)


def _resampled(frames: Iterable[Any], rate: int) -> Iterator[NDArray[np.int16]]:
    import av

    def flush(resampler: Any) -> Iterator[NDArray[np.int16]]:
        for out in resampler.resample(None) if resampler is not None else ():
            yield out.to_ndarray().reshape(-1)

    resampler: Any = None
    before = None
    for kind, group in _groups(frames):
        if kind != before:
            yield from flush(resampler)
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
            before = kind
        for out in resampler.resample(_joined(group)):
            yield out.to_ndarray().reshape(-1)
    yield from flush(resampler)


_Kind = tuple[str, str, int]


def _groups(frames: Iterable[Any]) -> Iterator[tuple[_Kind, list[Any]]]:
    """Frames of one format, layout and rate that follow each other, up to a second of them."""
    kind: _Kind = ("", "", 0)
    group: list[Any] = []
    count = 0
    for frame in frames:
        own = (frame.format.name, frame.layout.name, frame.sample_rate)
        if group and (own != kind or count >= frame.sample_rate):
            yield kind, group
            group, count = [], 0
        kind = own
        group.append(frame)
        count += frame.samples
    if group:
        yield kind, group


def _joined(group: Sequence[Any]) -> Any:
    """Frames of one kind as one: a resampler takes as long to be called as for a frame's samples."""
    import av

    first = group[0]
    values = np.concatenate([frame.to_ndarray() for frame in group], axis=1)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a double may be finite, and infinite in float32
            finite = np.isfinite(values.astype(np.float32, copy=False)).all()
        if not finite:  # 16 bits have neither: they would be noise
            raise ValueError("it holds NaN, infinity or a number beyond float32")
    format_name, layout = first.format.name, first.layout
    if not _known(layout):
        if not first.format.is_planar:
            values = values.reshape(-1, layout.nb_channels).T
        values, format_name, layout = _mean(values), "flt", av.AudioLayout("mono")
    frame = av.AudioFrame.from_ndarray(values, format=format_name, layout=layout.name)
    frame.sample_rate = first.sample_rate
    return frame


def _known(layout: Any) -> bool:
    """Whether FFmpeg knows which speakers a layout's channels belong to."""
    return "channels" not in layout.name or layout.name == "2 channels"


def _mean(values: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of channels [channels, n], scaled to -1..1: float32 [1, n]."""
    mean: NDArray[np.float64] = values.mean(axis=0, keepdims=True, dtype=np.float64)
    if values.dtype.kind == "u":
        mean = (mean - 128) / 128
    elif values.dtype.kind == "i":
        mean /= -float(np.iinfo(values.dtype).min)
    return mean.astype(np.float32)
