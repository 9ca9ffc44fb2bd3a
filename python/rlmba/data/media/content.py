"""The result of decoding a sample's media, and the recipe that decides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

__all__ = ["MediaContent", "Reader", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is taken from media files: everything that decides the content of a cache.

    Parameters
    ----------
    image_side : int
        Length in pixels of an image's shorter side.
    frames : int
        Frames taken from a clip, spread evenly over ``seconds``.
    frame_size : (int, int)
        Height and width in pixels of a frame.
    seconds : float
        Length of a clip. Shorter clips are padded and longer ones are cut.
    sample_rate : int
        Samples per second of sound, mono.
    tokens : int
        Tokens of a text; texts are padded or cut to it.
    tokenizer : str
        A local folder or a hub name of a transformers tokenizer; "" if there is no text.
    vocabulary : int
        All ids of the tokenizer are smaller than this number; 0 if there is no text, or the tokenizer
        has not been loaded yet.
    encoding : str
        Encoding of text files that are not UTF-8 and have no byte order mark.
    """

    image_side: int = 256
    frames: int = 10
    frame_size: tuple[int, int] = (128, 171)
    seconds: float = 10.0
    sample_rate: int = 16_000
    tokens: int = 100
    tokenizer: str = ""
    vocabulary: int = 0
    encoding: str = "cp1252"

    def signature(self) -> str:
        """What checksums of data sets cover; that of a recipe with the default encoding never changes."""
        values = (getattr(self, f.name) for f in fields(self) if f.name != "encoding")
        other = "" if self.encoding == "cp1252" else f", {self.encoding!r}"
        return f"({', '.join(map(repr, values))}{other})"


class MediaContent(NamedTuple):
    """One decoded modality of one sample.

    ``array`` is uint8 [H, W, 3] for an image (shorter side ``image_side``), uint8 [frames, h, w, 3] for
    a video, int16 [seconds * sample_rate] for sound, int32 [tokens] for text (-1 where there is no
    token), and None if the modality could not be read. ``problem`` then gives the reason in one line,
    and is "" otherwise. ``flags`` name what is odd but usable: "still" (all frames of a video are
    equal), "short" (less than half of ``seconds``), "silent" (all sound samples are zero), "rotated",
    "converted", and "truncated" (the file ends early or is damaged, but at least half of what is needed
    was there; the last frame is repeated, and sound is padded with zeros).
    """

    array: NDArray[Any] | None
    problem: str = ""
    flags: tuple[str, ...] = ()


class Reader(Protocol):
    """Decoded samples by dataset position, from media files or from a cache."""

    def read(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """Arrays of a sample by modality, as in :class:`MediaContent`; they may be memory-mapped.

        None if the sample lacks the modality or it cannot be read; neither is an error.
        """
