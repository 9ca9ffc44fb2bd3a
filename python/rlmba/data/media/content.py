"""What decoding a sample's media gives, and by which recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

__all__ = ["MediaContent", "Reader", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is taken from media files; everything that decides the content of a cache.

    Parameters
    ----------
    image_side : int
        Length in pixels of an image's shorter side.
    frames : int
        Frames taken from a clip, spread evenly over ``seconds``.
    frame_size : (int, int)
        Height and width in pixels of a frame.
    seconds : float
        Length of a clip; what is shorter is padded, what is longer is cut.
    sample_rate : int
        Samples per second of sound, mono.
    tokens : int
        Tokens of a text, padded or cut.
    tokenizer : str
        A local folder or a hub name of a transformers tokenizer; "" where there is no text.
    vocabulary : int
        Number of that tokenizer's ids, all of which lie below it; 0 where there is no text, or as long
        as the tokenizer has not been loaded.
    """

    image_side: int = 256
    frames: int = 10
    frame_size: tuple[int, int] = (128, 171)
    seconds: float = 10.0
    sample_rate: int = 16_000
    tokens: int = 100
    tokenizer: str = ""
    vocabulary: int = 0


class MediaContent(NamedTuple):
    """One modality of one sample, decoded.

    ``array`` is uint8 [H, W, 3] of an image (shorter side ``image_side``), uint8 [frames, h, w, 3] of
    a video, int16 [seconds * sample_rate] of sound, int32 [tokens] of text (-1 where there is no
    token); None where it could not be read. ``problem`` says why then, in one line, "" otherwise.
    ``flags`` name what is odd but usable: "still" (all frames of a video equal), "short" (less than
    half of ``seconds``), "silent" (sound of zeros alone), "rotated", "converted", "truncated" (the
    file ends early or is damaged, at least half of what is wanted was there: the last frame is
    repeated, sound padded with zeros).
    """

    array: NDArray[Any] | None
    problem: str = ""
    flags: tuple[str, ...] = ()


class Reader(Protocol):
    """Decoded samples by dataset position: from media files as they are, or from a cache of them."""

    def read(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """Arrays of a sample by modality, as :class:`MediaContent` has them, perhaps memory-mapped.

        None where the sample lacks the modality or it cannot be read, which is no error.
        """
