"""Which packets of a video a decoder has to see for the pictures that are wanted of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["Step", "necessary"]

_SLICES = frozenset({1, 2, 5})
_IDR = 5
# Beside slices: what may be left out with them. Parameter sets may not.
_ASIDE = frozenset({6, 9, 12})

# Every key frame forgets all that came before. Of other codecs' key frames that is not certain: pictures
# shown before one, but stored after it, may refer to what lies before.
_CLEAN_KEYS = frozenset({"vp8", "vp9", "mjpeg", "prores", "ffv1", "rawvideo", "png"})


class Step(NamedTuple):
    """A packet for the decoder; ``fresh`` if it is to forget, after giving out, all before it."""

    packet: Any
    fresh: bool


def necessary(
    packets: Sequence[Any],
    wanted: frozenset[int],
    codec: str,
    extradata: bytes,
    frames: bool = True,
) -> Iterator[Step]:
    """The packets that decide the wanted pictures, in the order of decoding.

    Left out is what no wanted picture can refer to: of H.264, pictures marked as no reference
    (``nal_ref_idc`` 0); and, where a picture follows that starts from nothing, what lies between the
    last wanted picture before it and that one. The wanted pictures come out as of a full decode, bit by
    bit.

    Parameters
    ----------
    packets : sequence of av.Packet
        Of one video stream, in the order of decoding, each with a presentation time.
    wanted : set of int
        Presentation times of the pictures that are wanted, in units of the stream.
    codec : str
        FFmpeg's name of the codec.
    extradata : bytes
        The stream's codec parameters; those of H.264 say how its packets are written.
    frames : bool
        Whether a packet holds whole pictures; False of interlaced video, of which every packet is
        then necessary up to the last wanted one.
    """
    spare = [False] * len(packets)
    starts = [False] * len(packets)
    if codec == "h264" and frames:
        length = (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
        for k, packet in enumerate(packets):
            spare[k], starts[k] = _kind(bytes(packet), length)
    elif codec in _CLEAN_KEYS:
        starts = [bool(packet.is_keyframe) for packet in packets]
    bounds = [0, *(k for k in range(1, len(packets)) if starts[k]), len(packets)]
    cut = False
    for first, end in pairwise(bounds):
        last = max((k for k in range(first, end) if packets[k].pts in wanted), default=first - 1)
        for k in range(first, last + 1):
            if not spare[k] or packets[k].pts in wanted:
                yield Step(packets[k], cut and k == first)
        cut = last + 1 < end


def _kind(data: bytes, length: int) -> tuple[bool, bool]:
    """Whether an H.264 packet's picture is no reference, and whether it starts from nothing.

    Both are False where the packet is not as the standard has it: then it is decoded.
    """
    slices = spare = 0
    starts = False
    aside = True
    for header in _headers(data, length):
        kind = header & 31
        if kind in _SLICES:
            slices += 1
            spare += not header & 0x60
            starts = starts or kind == _IDR
        elif kind not in _ASIDE:
            aside = False
    return aside and 0 < slices == spare, starts


def _headers(data: bytes, length: int) -> Iterator[int]:
    """First bytes of a packet's NAL units: each after its length, or, if that is 0, a start code."""
    at = 0
    if length:
        while at + length < len(data):
            size = int.from_bytes(data[at : at + length], "big")
            yield data[at + length]
            at += length + size
        return
    while (at := data.find(b"\0\0\1", at)) >= 0 and at + 3 < len(data):
        yield data[at + 3]
        at += 3
