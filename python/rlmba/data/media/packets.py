"""Select the packets of a video that must be decoded to get certain pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["Step", "necessary"]

_SLICES = frozenset({1, 2, 5})
_IDR = 5
# Units that may be skipped together with slices. Parameter sets may not be skipped.
_ASIDE = frozenset({6, 9, 12})

# Codecs whose key frames reset the decoder. In other codecs, pictures stored after a key frame but
# displayed before it may refer to earlier pictures.
_CLEAN_KEYS = frozenset({"vp8", "vp9", "mjpeg", "prores", "ffv1", "rawvideo", "png"})


class Step(NamedTuple):
    """A packet to decode. If ``fresh``, the decoder first returns its frames and is then reset."""

    packet: Any
    fresh: bool


def necessary(
    packets: Sequence[Any],
    wanted: frozenset[int],
    codec: str,
    extradata: bytes,
    frames: bool = True,
) -> Iterator[Step]:
    """The packets that are needed to decode the wanted pictures, in decoding order.

    Packets that no wanted picture can refer to are skipped. In H.264 these are pictures that are not
    used for reference (``nal_ref_idc`` 0). In all codecs they are those between the last wanted picture
    before a reset and the reset. The wanted pictures are bit for bit those of a full decode.

    Parameters
    ----------
    packets : sequence of av.Packet
        The packets of one video stream in decoding order, each with a presentation time.
    wanted : set of int
        Presentation times of the wanted pictures, in units of the stream.
    codec : str
        FFmpeg's name of the codec.
    extradata : bytes
        The stream's codec parameters; for H.264 they give the format of the packets.
    frames : bool
        Whether a packet holds whole pictures. If False, as for interlaced video, every packet up to the
        last wanted one is needed.
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
    """Whether an H.264 packet's picture is not used for reference, and whether it resets the decoder.

    Both are False if the packet does not follow the standard, so that it is decoded.
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
    """First bytes of a packet's NAL units, which follow a length field or, if that is 0, a start code."""
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
