"""The sound of a clip or a sound file: one channel of 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import MediaContent, Recipe
from rlmba.data.media.problems import unusable

__all__ = ["mix", "to_content"]

# A complete file may be this much shorter than declared, because of a codec's last frame or rounding.
_TOLERANCE = 0.25


def to_content(frames: Iterable[Any], recipe: Recipe, declared: float | None) -> MediaContent:
    """Mix sound to one channel, and cut or pad it.

    Parameters
    ----------
    frames : iterable of av.AudioFrame
        Frames from the beginning of the track; no more are consumed than needed.
    recipe : Recipe
        Only ``seconds`` and ``sample_rate`` are used.
    declared : float or None
        The length in seconds that the track should have, if the file is known to be damaged.

    Returns
    -------
    MediaContent
        int16 [seconds * sample_rate]. It may have the flags "silent", "short" and "truncated".
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

    Channels are mixed as FFmpeg does (the mean of two), or by their mean if FFmpeg does not know their
    speakers. If the format changes between frames, the resampler returns its remaining samples and
    starts again.

    Raises
    ------
    ValueError
        If a frame of floats has NaN, infinity or a number beyond float32.
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
    """Consecutive frames with the same format, layout and rate, in groups of up to a second."""
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
    """Join frames of one kind: the call overhead of a resampler equals the work for one frame."""
    import av

    first = group[0]
    values = np.concatenate([frame.to_ndarray() for frame in group], axis=1)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a finite double may be infinite in float32
            finite = np.isfinite(values.astype(np.float32, copy=False)).all()
        if not finite:  # converted to 16 bits, these would be noise
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
    """Whether FFmpeg knows the speakers of a layout's channels."""
    return "channels" not in layout.name or layout.name == "2 channels"


def _mean(values: NDArray[Any]) -> NDArray[np.float32]:
    """The mean over channels [channels, n], scaled to -1..1: float32 [1, n]."""
    mean: NDArray[np.float64] = values.mean(axis=0, keepdims=True, dtype=np.float64)
    if values.dtype.kind == "u":
        mean = (mean - 128) / 128
    elif values.dtype.kind == "i":
        mean /= -float(np.iinfo(values.dtype).min)
    return mean.astype(np.float32)
