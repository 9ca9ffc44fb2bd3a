"""How much there is of sounds, clips, images and texts: measured on some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from rlmba.data.encoding import read_text
from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.decode import decode_sample

__all__ = [
    "LARGEST",
    "LONGEST",
    "MOST_TOKENS",
    "SMALLEST",
    "foreign_texts",
    "usual_seconds",
    "usual_side",
    "usual_tokens",
]

LONGEST = 5.0
"""Seconds that are taken at most where nobody says how many."""

LARGEST, SMALLEST = 128, 32
"""Pixels of the shorter side of images that are taken at most and at least, where nobody says how many."""

MOST_TOKENS = 100
"""Tokens of a text that are taken at most where nobody says how many."""

_LOOKED_AT = 24
_TEXTS = 500
_READ = 2000
_STEP = 0.5


def usual_seconds(paths: Sequence[Path]) -> float:
    """Seconds that nine in ten files do not exceed, of 24 spread over all; rounded up to halves, 0.5 to 5.

    :data:`LONGEST` where none of these can be opened.
    """
    lengths = [s for s in map(_seconds, _spread(paths)) if s is not None]
    if not lengths:
        return LONGEST
    usual = float(np.quantile(lengths, 0.9, method="higher"))
    return min(LONGEST, max(_STEP, math.ceil(usual / _STEP - 0.02) * _STEP))


def usual_side(paths: Sequence[Path]) -> int:
    """Median of the shorter sides in pixels of 24 images spread over all, 32 to 128.

    :data:`LARGEST` where none of these can be opened.
    """
    sides = [s for s in map(_side, _spread(paths)) if s is not None]
    return int(np.clip(np.median(sides), SMALLEST, LARGEST)) if sides else LARGEST


def usual_tokens(texts: Sequence[Source], recipe: Recipe) -> int:
    """Tokens that 19 in 20 texts do not exceed, of 500 spread over all; a multiple of 4, 8 to 100.

    :data:`MOST_TOKENS` where none of these can be read.
    """
    at_most = replace(recipe, tokens=MOST_TOKENS)
    read = (
        decode_sample(Sample("", 0, False, {"text": s}), at_most)["text"].array
        for s in _spread(texts, _TEXTS)
    )
    lengths = [int((ids >= 0).sum()) for ids in read if ids is not None]
    if not lengths:
        return MOST_TOKENS
    usual = float(np.quantile(lengths, 0.95, method="higher"))
    return min(MOST_TOKENS, max(8, 4 * math.ceil(usual / 4)))


def foreign_texts(texts: Sequence[Source]) -> list[Path]:
    """Files of texts that are not UTF-8, of 2,000 spread over all."""
    found = []
    for path in _spread([s.path for s in texts if s.path is not None], _READ):
        with suppress(OSError):  # it is told where the text is missed
            if read_text(path).bad is not None:
                found.append(path)
    return found


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
    except Exception:  # Pillow's parsers raise nearly everything on a damaged file
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
