"""Files as a browser can show them: as they are, converted, or a sentence that says why not."""

from __future__ import annotations

import io
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.errors import DataError

if TYPE_CHECKING:
    from PIL import Image as Images

__all__ = ["MAX_PIXELS", "MediaContent", "MediaConverter", "kind_of", "printable", "problem_with"]

AUDIO = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".aac": "audio/aac",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".weba": "audio/webm",
    ".webm": "audio/webm",
}
VIDEO = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".ogv": "video/ogg",
}
_OTHER_VIDEO = {".avi", ".mkv", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"}
_OTHER_AUDIO = {".aiff", ".aif", ".wma", ".amr", ".au"}
_OTHER_IMAGES = {".svg", ".heic", ".heif"}

MAX_PIXELS = 2**26
"""Pixels of an image, and a quarter of its bytes in memory, beyond which it is not decoded whole."""

_MAX_BYTES = 2**24
"""Bytes of an image file beyond which the browser gets a smaller picture."""

_SIDE = 2048
"""Longer side of a converted picture."""

_AS_IT_IS = {"JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "AVIF"}
"""Pillow's names of the formats that browsers show."""

_KEPT = 16
"""Converted pictures that are kept in memory."""


@dataclass(frozen=True)
class MediaContent:
    """What goes to the browser: a file as it is, or bytes, and the type of either."""

    path: Path | None
    data: bytes
    type: str


def kind_of(modality: str, path: Path) -> str:
    """Player for a file: "image", "video", "audio", or "" where there is none.

    The modality's name decides where it is one of these, else the file's suffix: the sound of a clip
    is an "audio" whose file is a video.
    """
    from PIL import Image

    suffix = path.suffix.lower()
    if modality in ("image", "video", "audio"):
        return modality
    if suffix in VIDEO or suffix in _OTHER_VIDEO:
        return "video"
    if suffix in AUDIO or suffix in _OTHER_AUDIO:
        return "audio"
    if suffix in _OTHER_IMAGES or suffix in Image.registered_extensions():
        return "image"
    return ""


def problem_with(modality: str, path: Path) -> str:
    """Why a file cannot be shown, as far as its name and a look at the folder tell; "" if it can."""
    shown = printable(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return f"The file is not there: {shown}"
    if not stat.S_ISREG(mode):
        return f"This is not a file: {shown}"
    kind = kind_of(modality, path)
    if kind == "":
        return f"There is no player for this file: {shown}"
    players = {"video": VIDEO, "audio": AUDIO}
    if kind in players and path.suffix.lower() not in players[kind]:
        return f"Browsers do not play {path.suffix or 'such'} files; open it yourself: {shown}"
    return ""


class MediaConverter:
    """Makes what goes to the browser; converts one image at a time, so that memory is bounded."""

    def __init__(self) -> None:
        self._converting = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def content(self, modality: str, path: Path) -> MediaContent:
        """A file, as a browser can show it.

        Raises
        ------
        DataError
            If it cannot be shown; the message is for the person who labels.
        """
        problem = problem_with(modality, path)
        if problem:
            raise DataError(problem)
        kind = kind_of(modality, path)
        try:
            path.open("rb").close()  # before the answer has begun
        except OSError as error:
            raise DataError(
                f"This file cannot be read ({error.strerror or error}): {printable(path)}"
            ) from error
        if kind != "image":
            return MediaContent(
                path, b"", {"video": VIDEO, "audio": AUDIO}[kind][path.suffix.lower()]
            )
        try:
            return self._image(path)
        except DataError:
            raise
        # Pillow's decoders raise whatever comes to them of a damaged file.
        except Exception as error:
            if path.suffix.lower() == ".svg":
                return MediaContent(path, b"", "image/svg+xml")
            raise DataError(
                f"This image cannot be read ({_first_line(error)}): {printable(path)}"
            ) from error

    def _image(self, path: Path) -> MediaContent:
        from PIL import Image

        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
        kept = self._kept.get(key)
        if kept is not None:
            return MediaContent(None, kept, "image/jpeg")
        with _opened(path) as image:
            small = status.st_size <= _MAX_BYTES and image.width * image.height <= MAX_PIXELS
            if small and image.format in _AS_IT_IS:
                return MediaContent(path, b"", Image.MIME[image.format])
            with self._converting:
                data = self._kept.get(key) or _converted(image, path)
                self._kept[key] = data
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return MediaContent(None, data, "image/jpeg")


def _opened(path: Path) -> Images.Image:
    """An image whose header is read, its pixels not."""
    from PIL import Image, JpegImagePlugin

    with path.open("rb") as file:
        is_jpeg = file.read(3) == b"\xff\xd8\xff"
    if is_jpeg:
        # Not by Image.open, which refuses what has many pixels: a JPEG is decoded at an eighth.
        return JpegImagePlugin.JpegImageFile(path)
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        raise DataError(f"This image has too many pixels to show: {printable(path)}") from None


def _converted(image: Images.Image, path: Path) -> bytes:
    """A JPEG of at most 2048 pixels a side."""
    from PIL import Image, ImageOps

    full = f"{image.width} x {image.height}"
    # A progressive JPEG is kept whole by its decoder, at whatever size it is decoded.
    if image.format == "JPEG" and not image.info.get("progressive"):
        image.draft("RGB", (_SIDE, _SIDE))
    sizes = {"I": 4, "F": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}
    bytes_each = sizes.get(image.mode, len(image.getbands()))
    pixels = image.width * image.height
    if pixels > MAX_PIXELS or pixels * bytes_each > 4 * MAX_PIXELS:
        raise DataError(
            f"This image has too many pixels to show ({full}); open it yourself: {printable(path)}"
        )
    if image.mode in sizes:
        image = _eight_bits(image)
    image.thumbnail((_SIDE, _SIDE))
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=88)
    return out.getvalue()


def _eight_bits(image: Images.Image) -> Images.Image:
    """Every so many pixels of a deep image, its darkest black and its brightest white."""
    import numpy as np
    from PIL import Image

    step = max(1, max(image.size) // _SIDE)
    values = np.asarray(image)[::step, ::step].astype(np.float32)
    values[~np.isfinite(values)] = 0
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(scaled.round().astype(np.uint8))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def printable(path: Path) -> str:
    """A path without what is no text: bytes of its name, or half a character of a batch's file."""
    return str(path).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
