"""Read image files of any kind as RGB pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import MediaContent
from rlmba.data.media.problems import missing_or_empty, reason, unusable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_rgb", "read_image", "resized_size"]

MAX_PIXELS = 2**26
"""The most pixels of an image, before and after resizing: 192 MiB as RGB."""

# Decoding a JPEG at half its size costs less than decoding all of it. Halving it to no less than twice
# the final size, before the actual resize, changes few pixels, and those only a little.
_GAP = 2.0

_ORIENTATION = 0x0112


def resized_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height after resizing the shorter side to ``side``, as torchvision's ``Resize(side)``.

    The longer side is ``int(side * longer / shorter)``.
    """
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def read_image(path: Path, side: int) -> MediaContent:
    """Read an image file as resized RGB pixels.

    Parameters
    ----------
    path : path
        Any file that Pillow reads. If it holds several images, the first is used.
    side : int
        Pixels of the shorter side. The image is resized bilinearly with antialiasing. A JPEG that is at
        least four times as large is first decoded at a fraction of its size; its pixels differ from
        those of a full decode by less than one level on average.

    Returns
    -------
    MediaContent
        uint8 [H, W, 3]. Flags: "rotated" if the file's orientation was applied, and "converted" if the
        image was grayscale, had a palette, CMYK, 16 bits or transparency (which becomes white). It is
        a problem if the file is missing, truncated, not an image, or larger than 2**26 pixels.
    """
    from PIL import Image

    if problem := missing_or_empty(path):
        return unusable(problem)
    try:
        with Image.open(path) as image:
            width, height = image.size
            target = resized_size(width, height, side)
            if max(width * height, target[0] * target[1]) > MAX_PIXELS:
                return unusable(f"{width} x {height} pixels, resized {target}, are too many")
            image.draft(None, (int(_GAP * target[0]), int(_GAP * target[1])))
            upright, flags = load_rgb(image)
            # The orientation may have swapped the sides.
            target = resized_size(*((height, width) if _swaps(image) else (width, height)), side)
            resized = upright.resize(target, Image.Resampling.BILINEAR)
            return MediaContent(np.array(resized), flags=flags)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost any exception on a damaged file
        return unusable(f"not a readable image: {reason(error)}")


def load_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an opened image, rotate it upright and convert it to RGB; the flags say what was done."""
    from PIL import ImageOps

    image.load()
    flags: tuple[str, ...] = ()
    if _orientation(image) != 1:
        flags = ("rotated",)
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, flags
    return _to_rgb(image), (*flags, "converted")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # the pixels may be fine although the metadata is damaged
        return 1
    return value if value in range(1, 9) else 1


def _swaps(image: Image.Image) -> bool:
    return _orientation(image) >= 5


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Convert grayscale of 16 or more bits to 8: integers by the high byte, floats from 0..1 or 0..255.

    Raises
    ------
    ValueError
        If a pixel is NaN or infinite.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity")
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return np.clip(np.rint(scale * values.astype(np.float64)), 0, 255).astype(np.uint8)
    whole = np.clip(values.astype(np.int64), 0, 0xFFFF)
    return (whole >> 8).astype(np.uint8)
