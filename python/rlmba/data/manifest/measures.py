"""Typical lengths and sizes of sounds, clips, images and texts, measured on a sample of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rlmba.data.encoding import (
    decode_text,
    guess_encoding,
    is_damaged_utf8,
    is_marked,
    read_text,
)
from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample
from rlmba.progress import counted

__all__ = [
    "LARGEST",
    "LONGEST",
    "MOST_CHARACTERS",
    "MOST_TOKENS",
    "SMALLEST",
    "foreign_texts",
    "usual_seconds",
    "usual_side",
    "usual_texts",
    "usual_tokens",
]

LONGEST = 5.0
"""The most seconds that are used by default."""

LARGEST, SMALLEST = 128, 32
"""The largest and the smallest shorter side of images, in pixels, by default."""

MOST_TOKENS = 100
"""The most tokens of a text that are used by default."""

MOST_CHARACTERS = 400
"""The same of the tokenizer "characters", which makes two tokens of a character."""

_LOOKED_AT = 24
_TEXTS = 500
_READ = 2000
_STEP = 0.5
_GUESSED_FROM = 2**16


def usual_seconds(paths: Sequence[Path]) -> float:
    """A length in seconds that nine in ten files do not exceed, measured on 24 of them.

    It is rounded up to half seconds and is between 0.5 and 5. :data:`LONGEST` if none can be opened.
    """
    lengths = [s for s in map(_seconds, _spread(paths)) if s is not None]
    if not lengths:
        return LONGEST
    usual = float(np.quantile(lengths, 0.9, method="higher"))
    return min(LONGEST, max(_STEP, math.ceil(usual / _STEP - 0.02) * _STEP))


def usual_side(paths: Sequence[Path]) -> int:
    """The median shorter side of 24 images in pixels, between 32 and 128.

    :data:`LARGEST` if none can be opened.
    """
    sides = [s for s in map(_side, _spread(paths)) if s is not None]
    return int(np.clip(np.median(sides), SMALLEST, LARGEST)) if sides else LARGEST


def usual_texts(texts: Sequence[Source], recipe: Recipe) -> list[str]:
    """500 of the texts, each cut after 1,000 characters, without those that cannot be read."""
    found = []
    for source in _spread(texts, _TEXTS):
        text = source.text
        if text is None and source.path is not None:
            with suppress(OSError):  # reported when the text is read
                text = read_text(source.path, recipe.encoding).text
        found.append((text or "")[:1000])
    return found


def usual_tokens(texts: Sequence[Source], recipe: Recipe) -> int:
    """A number of tokens that 19 in 20 texts do not exceed, measured on 500 of them.

    It is a multiple of 4 between 8 and 100 (400 for the tokenizer "characters"), and the largest of them if
    none can be read.
    """
    most = MOST_CHARACTERS if recipe.tokenizer == "characters" else MOST_TOKENS
    at_most = replace(recipe, tokens=most)
    read = (
        decode_sample(Sample("", 0, False, {"text": s}), at_most)["text"].array
        for s in _spread(texts, _TEXTS)
    )
    lengths = [int((ids >= 0).sum()) for ids in read if ids is not None]
    if not lengths:
        return most
    usual = float(np.quantile(lengths, 0.95, method="higher"))
    return min(most, max(8, 4 * math.ceil(usual / 4)))


def foreign_texts(texts: Sequence[Source]) -> tuple[list[Path], int, str]:
    """Text files that are not UTF-8, among 2,000 of them; how many were read; their encoding.

    The encoding is that of :func:`~rlmba.data.encoding.guess_encoding` for all of them together.
    """
    found = []
    sample = bytearray()
    paths = _spread([s.path for s in texts if s.path is not None], _READ)
    for path in counted("checking the encoding of texts", paths, len(paths)):
        with suppress(OSError):  # reported when the text is read
            data = path.read_bytes()
            if decode_text(data).bad is not None and not is_marked(data):
                found.append(path)
                if len(sample) < _GUESSED_FROM and not is_damaged_utf8(data):
                    sample += data[:_GUESSED_FROM] + b"\n"
    return found, len(paths), guess_encoding(bytes(sample)) if found else "cp1252"


_Item = TypeVar("_Item")


def _spread(items: Sequence[_Item], most: int = _LOOKED_AT) -> list[_Item]:
    chosen = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).round())
    return [items[int(k)] for k in chosen]


def _side(path: Path) -> int | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size)
    except MemoryError:
        raise
    except Exception:  # Pillow raises almost any exception on a damaged file
        return None


def _seconds(path: Path) -> float | None:
    import av

    try:
        with av.open(
            f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
        ) as container:
            return None if not container.duration else container.duration / 1e6
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError):
        return None
