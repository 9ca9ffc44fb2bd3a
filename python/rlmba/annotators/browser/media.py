"""Files in a form that browsers can show: as they are, converted, or a message why they cannot."""

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

__all__ = ["MAX_PIXELS", "MediaConverter", "MediaResponse", "kind_of", "printable", "problem_with"]

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
"""The most pixels, and a quarter of the most bytes in memory, for which an image is decoded fully."""

_MAX_BYTES = 2**24
"""The largest image file in bytes that is sent as it is; larger ones are sent at a lower resolution."""

_SIDE = 2048
"""The longer side of a converted image in pixels."""

_AS_IT_IS = {"JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "AVIF"}
"""Pillow's names of the formats that browsers can show."""

_KEPT = 16
"""The number of converted images that are kept in memory."""


@dataclass(frozen=True)
class MediaResponse:
    """What is sent to the browser: the path of a file or, if that is None, bytes; and their type."""

    path: Path | None
    data: bytes
    type: str


def kind_of(modality: str, path: Path) -> str:
    """How to show a file: "image", "video", "audio", or "" if it cannot be shown.

    The modality's name decides if it is one of these, because the sound of a clip is an "audio" whose file
    is a video. Otherwise the file's suffix decides.
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
    """Why a file cannot be shown, judged without opening it; "" if it may be shown."""
    shown = printable(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return f"This file is missing: {shown}"
    if not stat.S_ISREG(mode):
        return f"This is not a file: {shown}"
    kind = kind_of(modality, path)
    if kind == "":
        return f"Browsers cannot show this type of file: {shown}"
    players = {"video": VIDEO, "audio": AUDIO}
    if kind in players and path.suffix.lower() not in players[kind]:
        return f"Browsers do not play {path.suffix or 'such'} files; open it in another program: {shown}"
    return ""


class MediaConverter:
    """Prepares files for the browser. It converts one image at a time, to limit the memory."""

    def __init__(self) -> None:
        self._converting = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    def content(self, modality: str, path: Path) -> MediaResponse:
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
            path.open("rb").close()  # fail before the answer begins
        except OSError as error:
            raise DataError(
                f"This file cannot be read ({error.strerror or error}): {printable(path)}"
            ) from error
        if kind != "image":
            return MediaResponse(
                path, b"", {"video": VIDEO, "audio": AUDIO}[kind][path.suffix.lower()]
            )
        try:
            return self._image(path)
        except DataError:
            raise
        # Pillow's decoders raise any kind of error for damaged files.
        except Exception as error:
            if path.suffix.lower() == ".svg":
                return MediaResponse(path, b"", "image/svg+xml")
            raise DataError(
                f"This image cannot be read ({_first_line(error)}): {printable(path)}"
            ) from error

    def _image(self, path: Path) -> MediaResponse:
        from PIL import Image

        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
        kept = self._kept.get(key)
        if kept is not None:
            return MediaResponse(None, kept, "image/jpeg")
        with _opened(path) as image:
            small = status.st_size <= _MAX_BYTES and image.width * image.height <= MAX_PIXELS
            if small and image.format in _AS_IT_IS:
                return MediaResponse(path, b"", Image.MIME[image.format])
            with self._converting:
                data = self._kept.get(key) or _converted(image, path)
                self._kept[key] = data
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return MediaResponse(None, data, "image/jpeg")


def _opened(path: Path) -> Images.Image:
    """Open an image without decoding its pixels."""
    from PIL import Image, JpegImagePlugin

    with path.open("rb") as file:
        is_jpeg = file.read(3) == b"\xff\xd8\xff"
    if is_jpeg:
        # Image.open refuses images with many pixels, but a JPEG can be decoded at a lower resolution.
        return JpegImagePlugin.JpegImageFile(path)
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        raise DataError(
            f"This image has too many pixels to show; open it in another program: {printable(path)}"
        ) from None


def _converted(image: Images.Image, path: Path) -> bytes:
    """The image as a JPEG of at most 2048 pixels on each side."""
    from PIL import Image, ImageOps

    full = f"{image.width} x {image.height}"
    # The decoder of a progressive JPEG holds all of it in memory, whatever the resolution.
    if image.format == "JPEG" and not image.info.get("progressive"):
        image.draft("RGB", (_SIDE, _SIDE))
    sizes = {"I": 4, "F": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}
    bytes_each = sizes.get(image.mode, len(image.getbands()))
    pixels = image.width * image.height
    if pixels > MAX_PIXELS or pixels * bytes_each > 4 * MAX_PIXELS:
        raise DataError(
            f"This image has too many pixels to show ({full}); open it in another program: {printable(path)}"
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
    """An image of more than 8 bits, subsampled and scaled so that its values use the range of 8 bits."""
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
    """A path as text, without bytes and surrogates that are not valid text."""
    return str(path).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
