"""Read clips and sound files: video and sound in one pass over the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media import sound
from rlmba.data.media.content import MediaContent, Recipe
from rlmba.data.media.frames import is_still, midpoints
from rlmba.data.media.packets import Step, necessary
from rlmba.data.media.problems import missing_or_empty, reason, unusable

__all__ = ["read_clip"]

# Seconds of packets to read after the last requested time, because decoders and resamplers return frames
# late. A file that ends this much earlier than its header says still counts as complete.
_SLACK = 0.5


def read_clip(path: Path, recipe: Recipe, kinds: Iterable[str]) -> dict[str, MediaContent]:
    """Video frames and sound of a file, opened and read once.

    Parameters
    ----------
    path : path
        Any clip or sound file that FFmpeg reads.
    recipe : Recipe
        ``frames`` pictures are taken at the times (i + 0.5) L / frames after the first picture, where L
        is ``seconds``, or the video's length if that is shorter. Each is the picture displayed at that
        time. It is resized bilinearly over the area, in the same step as the conversion to RGB.
    kinds : iterable of str
        Which of "video" and "audio" to read.

    Returns
    -------
    dict of str to MediaContent
        The content of each kind. It comes from the first video stream that is not a cover picture, and
        from the first audio stream, each from its own beginning.
    """
    import av

    kinds = list(kinds)
    if problem := missing_or_empty(path):
        return dict.fromkeys(kinds, unusable(problem))
    try:
        # "file:" and the list of protocols keep names and playlists from opening anything but files.
        with av.open(
            f"file:{path}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file"},
        ) as container:
            tracks = {kind: _track(container, kind) for kind in kinds}
            damaged = _gather(container, [t for t in tracks.values() if t], recipe.seconds)
            return {kind: _content(kind, track, recipe, damaged) for kind, track in tracks.items()}
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        return dict.fromkeys(kinds, unusable(f"cannot be opened: {reason(error)}"))


@dataclass
class _Track:
    """A stream and its packets that were read; times are in units of ``unit`` seconds.

    ``declared`` is the length in seconds that the file's header states. ``timed`` says whether the
    frames carry their own times.
    """

    stream: Any
    unit: float
    declared: float | None
    timed: bool
    packets: list[Any] = field(default_factory=list)
    first: int | None = None
    done: bool = False

    def add(self, packet: Any, seconds: float) -> bool:
        """Store a packet; returns whether all packets of the first ``seconds`` are there."""
        self.packets.append(packet)
        if packet.pts is None:
            self.timed = False
        elif not packet.is_discard:
            self.first = packet.pts if self.first is None else min(self.first, packet.pts)
        # No later packet is displayed before this one is decoded.
        if packet.dts is not None and self.first is not None:
            self.done = (packet.dts - self.first) * self.unit > seconds + _SLACK
        return self.done


def _track(container: Any, kind: str) -> _Track | None:
    streams = container.streams.video if kind == "video" else container.streams.audio
    for stream in streams:
        if stream.codec_context is None or _is_cover(stream):
            continue
        unit = float(stream.time_base)
        seconds = None if stream.duration is None else stream.duration * unit
        if seconds is None and container.duration is not None:
            seconds = container.duration / 1e6
        # AVI numbers packets in storage order, which is not display order if frames are reordered.
        timed = container.format.name != "avi" or not getattr(
            stream.codec_context, "has_b_frames", 0
        )
        return _Track(stream, unit, seconds, timed)
    return None


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the cover picture of a sound file."""
    disposition = getattr(stream, "disposition", 0)
    flag = getattr(type(disposition), "attached_pic", 0)
    return bool(disposition & flag)


def _gather(container: Any, tracks: Sequence[_Track], seconds: float) -> bool:
    """Read the tracks' packets; returns True if the file ends early or is damaged."""
    import av

    if not tracks:
        return False
    by_index = {t.stream.index: t for t in tracks}
    last: dict[int, int] = {}
    packets = container.demux()
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            return True
        if packet is None:
            break
        if not packet.size:
            continue
        index, time = packet.stream_index, packet.pts
        if time is None:
            time = packet.dts
        if time is not None:
            last[index] = max(last.get(index, 0), time + (packet.duration or 0))
        track = by_index.get(index)
        if track is not None and not track.done:
            done = track.add(packet, seconds)
            if done and all(t.done for t in tracks):
                return False
    start = (container.start_time or 0) / 1e6
    reached = [float(ticks * container.streams[k].time_base) for k, ticks in last.items()]
    return _ends_early(container, tracks, seconds, max(reached, default=0.0) - start)


def _ends_early(container: Any, tracks: Sequence[_Track], seconds: float, reached: float) -> bool:
    """Whether a file that was read to its end at ``reached`` seconds should have been longer."""
    length = (container.duration or 0) / 1e6
    if container.format.name == "avi" and container.streams.video:
        # The duration is computed from the file's size, but the header's frame count is not.
        video = container.streams.video[0]
        length = max(length, video.frames / float(video.average_rate or 25))
        for track in tracks:
            track.declared = length
    early = reached < length - _SLACK
    for track in tracks:
        if track.packets and track.packets[-1].is_corrupt and not _endless(container):
            early = True
            if track.stream.type == "video":
                track.packets.pop()
            if (track.declared or 0.0) <= reached + _SLACK:
                # The track's length was computed from the file's size as well.
                track.declared = seconds
    return early


def _endless(container: Any) -> bool:
    """Whether the header of a wav states no length, as programs that write to a pipe leave it."""
    if container.format.name != "wav":
        return False
    with Path(container.name.removeprefix("file:")).open("rb") as file:
        return file.read(8)[4:] == b"\xff\xff\xff\xff"


def _content(kind: str, track: _Track | None, recipe: Recipe, damaged: bool) -> MediaContent:
    import av

    if track is None:
        return unusable(f"no {kind} track")
    try:
        if kind == "video":
            return _video(track, recipe, damaged)
        steps = (Step(packet, fresh=False) for packet in track.packets)
        declared = track.declared if damaged else None
        return sound.to_content(_decoded(track.stream, steps), recipe, declared)
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        return unusable(f"the {kind} track cannot be decoded: {reason(error)}")


def _decoded(stream: Any, steps: Iterable[Step]) -> Iterator[Any]:
    """Frames of packets in display order; packets that cannot be decoded are skipped."""
    import av

    context = stream.codec_context
    # Several processes decode clips in parallel, so threads within one process would only wait.
    context.thread_type = "NONE"
    context.thread_count = 1

    def frames(packet: Any) -> list[Any]:
        try:
            return list(context.decode(packet))
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            return []

    sent = False
    for packet, fresh in steps:
        if fresh and sent:
            yield from frames(None)
            context.flush_buffers()
        yield from frames(packet)
        sent = True
    yield from frames(None)


class _FrameSchedule(NamedTuple):
    """Which frames of a track to take: ``times`` in seconds from the first frame, ``wanted`` in ``unit``."""

    times: NDArray[np.float64]
    wanted: NDArray[np.int64]
    unit: float
    length: float
    ends: float


def _schedule(track: _Track, recipe: Recipe, damaged: bool) -> _FrameSchedule | None:
    """The times to sample a track at, and the frame displayed at each; None if it has no frame."""
    packets = track.packets
    gap = 1 / float(track.stream.average_rate or track.stream.base_rate or 25)
    lasting = gap
    if track.timed:
        unit = track.unit
        shown = np.array(sorted({p.pts for p in packets if not p.is_discard}), np.int64)
        if len(shown):
            lasting = max((p.duration or 0) for p in packets if p.pts == shown[-1]) * unit or gap
    else:
        # Frames without their own times are evenly spaced, one per packet.
        unit, shown = gap, np.arange(len(packets), dtype=np.int64)
    if not len(shown):
        return None
    since = (shown - shown[0]) * unit
    ends = float(since[-1]) + lasting
    length = min(recipe.seconds, max(ends, track.declared or 0.0) if damaged else ends)
    times = midpoints(recipe.frames, length)
    # With half a microsecond of tolerance, a frame that starts exactly at a time is displayed at it.
    at = np.searchsorted(since, times + 5e-7, side="right") - 1
    return _FrameSchedule(times, shown[at], unit, length, ends)


def _video(track: _Track, recipe: Recipe, damaged: bool) -> MediaContent:
    """The wanted frames of a track whose packets were read."""
    schedule = _schedule(track, recipe, damaged)
    if schedule is None:
        return unusable("the video track holds no frame")
    times, wanted, unit, length, ends = schedule
    pictures, found = _pick(
        _shown(track, frozenset(wanted.tolist())), wanted.tolist(), _converter(recipe.frame_size)
    )
    if not pictures:
        return unusable("no frame of the video track can be decoded")
    near = np.abs(np.array(found) - wanted) * unit <= length / recipe.frames / 2
    came = int((near & (times < ends + 5e-7)).sum())
    if 2 * came < recipe.frames:
        return unusable(f"truncated: {came} of {recipe.frames} frames could be decoded")
    array = np.stack([picture for picture, _ in pictures])
    flags = {
        "truncated": came < recipe.frames,
        "short": 2 * min(ends, length) < recipe.seconds,
        "still": is_still(array),
        "rotated": any(turned for _, turned in pictures),
    }
    return MediaContent(array, flags=tuple(f for f, holds in flags.items() if holds))


def _shown(track: _Track, wanted: frozenset[int]) -> Iterator[tuple[int, Any]]:
    """Frames of a track with their times, as far as they are needed for the wanted ones."""
    stream, context = track.stream, track.stream.codec_context
    if not track.timed:
        yield from enumerate(_decoded(stream, (Step(p, fresh=False) for p in track.packets)))
        return
    # 0 is unknown, 1 progressive.
    whole = getattr(context, "field_order", 0) in {0, 1}
    steps = necessary(track.packets, wanted, context.name, context.extradata or b"", frames=whole)
    for frame in _decoded(stream, steps):
        if frame.pts is not None:
            yield frame.pts, frame


_Picture = tuple[NDArray[np.uint8], bool]


def _pick(
    pairs: Iterable[tuple[int, Any]], wanted: Sequence[int], convert: Callable[[Any], _Picture]
) -> tuple[list[_Picture], list[int]]:
    """The converted frame displayed at each wanted time, and the time when each frame starts.

    ``pairs`` are frames with their times, and both they and ``wanted`` are in ascending order. The first
    frame is used for earlier times and the last frame for later ones. A frame that is wanted several
    times is converted once.
    """
    pictures: list[_Picture] = []
    found: list[int] = []

    def take(time: int, frame: Any) -> None:
        same = found and found[-1] == time
        pictures.append(pictures[-1] if same else convert(frame))
        found.append(time)

    held: tuple[int, Any] | None = None
    for time, frame in pairs:
        while len(found) < len(wanted) and time > wanted[len(found)]:
            take(*(held or (time, frame)))
        while len(found) < len(wanted) and time == wanted[len(found)]:
            take(time, frame)
        if len(found) == len(wanted):
            break
        held = (time, frame)
    while held and len(found) < len(wanted):
        take(*held)
    return pictures, found


def _converter(size: tuple[int, int]) -> Callable[[Any], _Picture]:
    """A function that turns a frame into upright RGB of a size, and says whether it was rotated."""
    import av
    from av.video.reformatter import Interpolation, VideoReformatter

    height, width = size
    reformatter = VideoReformatter()
    # Releases with this option would start threads for a tenth of a millisecond of work.
    serial = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}

    def convert(frame: Any) -> _Picture:
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        w, h = (height, width) if turns % 2 else (width, height)
        small = reformatter.reformat(
            frame, w, h, "rgb24", interpolation=Interpolation.BILINEAR, **serial
        )
        return np.rot90(small.to_ndarray(), turns), bool(turns)

    return convert
