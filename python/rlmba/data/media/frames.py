"""Frames of a video: which ones are used, folders of frames, and detection of still videos."""

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
"""The largest difference (of 255 levels) between frames of a still video, which is coding noise."""


def midpoints(frames: int, length: float) -> NDArray[np.float64]:
    """Midpoints of ``frames`` equal parts of ``length``: float64 [frames]."""
    return (np.arange(frames, dtype=np.float64) + 0.5) * np.float64(length / frames)


def is_still(frames: NDArray[np.uint8]) -> bool:
    """Whether all values of frames [n, h, w, 3] are within :data:`STILL` of those of the first frame."""
    first = frames[0].astype(np.int16)
    return all(int(np.abs(frame - first).max()) <= STILL for frame in frames[1:])


def read_frames(path: Path, recipe: Recipe) -> MediaContent:
    """Read evenly spaced frames from a folder of ``frame_<k>.jpg``, in the order of k.

    Parameters
    ----------
    path : path
        The folder.
    recipe : Recipe
        Only ``frames`` and ``frame_size`` are used. Frames are resized bilinearly with antialiasing.

    Returns
    -------
    MediaContent
        uint8 [frames, h, w, 3]. Frame i is file number floor((i + 0.5) n / frames) of n. Unreadable
        files are skipped as long as at least half are left, and the flag "truncated" is set. Other
        flags: "short" if there are fewer files than half of ``frames``, and "still".
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
    except Exception:  # Pillow raises almost any exception on a damaged file
        return False
    return True
