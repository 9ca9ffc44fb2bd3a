"""Frames of a video: which ones are taken, folders of them, and whether anything moves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import MediaContent, Recipe
from rlmba.data.media.images import MAX_PIXELS, load_rgb
from rlmba.data.media.problems import reason, unusable

__all__ = ["is_still", "midpoints", "read_frames"]

_NAME = re.compile(r"frame_(\d+)\.jpe?g", re.IGNORECASE)

STILL = 12
"""Levels of 255 that a pixel of a still picture may differ by from frame to frame: coding noise."""


def midpoints(frames: int, length: float) -> NDArray[np.float64]:
    """Midpoints [frames] of as many equal parts of ``length``."""
    return (np.arange(frames, dtype=np.float64) + 0.5) * np.float64(length / frames)


def is_still(frames: NDArray[np.uint8]) -> bool:
    """Whether frames [n, h, w, 3] show one picture: no value is further than STILL from the first's."""
    first = frames[0].astype(np.int16)
    return all(int(np.abs(frame - first).max()) <= STILL for frame in frames[1:])


def read_frames(path: Path, recipe: Recipe) -> MediaContent:
    """Frames of a folder of ``frame_<k>.jpg``, in the order of k, spread evenly over them.

    Parameters
    ----------
    path : path
        The folder.
    recipe : Recipe
        ``frames`` and ``frame_size`` are used; the resize is bilinear and antialiased.

    Returns
    -------
    MediaContent
        uint8 [frames, h, w, 3]. Of n files number floor((i + 0.5) n / frames) is frame i. Files that
        cannot be read are passed over, which the flag "truncated" says, while at least half are
        left. Flags: "short" where the files are less than half of ``frames``, "still".
    """
    try:
        found = [(int(m[1]), p) for p in path.iterdir() if (m := _NAME.fullmatch(p.name))]
    except (OSError, ValueError) as error:
        return unusable("no such folder" if isinstance(error, FileNotFoundError) else reason(error))
    files = [p for _, p in sorted(found)]
    if not files:
        return unusable("the folder holds no frame_<k>.jpg")
    count = len(files)
    pictures: dict[Path, NDArray[np.uint8]] = {}
    while 2 * len(files) >= count:
        chosen = [files[int(i)] for i in midpoints(recipe.frames, len(files))]
        damaged = {p for p in chosen if p not in pictures and not _read(p, recipe, pictures)}
        if not damaged:
            array = np.stack([pictures[p] for p in chosen])
            flags = {
                "truncated": len(files) < count,
                "short": 2 * count < recipe.frames,
                "still": is_still(array),
            }
            return MediaContent(array, flags=tuple(f for f, holds in flags.items() if holds))
        files = [p for p in files if p not in damaged]
    return unusable(f"{count - len(files)} or more of {count} frames cannot be read")


def _read(path: Path, recipe: Recipe, into: dict[Path, NDArray[np.uint8]]) -> bool:
    from PIL import Image

    height, width = recipe.frame_size
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                return False
            image.draft(None, (2 * width, 2 * height))
            upright, _ = load_rgb(image)
            into[path] = np.array(upright.resize((width, height), Image.Resampling.BILINEAR))
    except MemoryError:
        raise
    except Exception:  # Pillow's parsers raise nearly everything on a damaged file
        return False
    return True
