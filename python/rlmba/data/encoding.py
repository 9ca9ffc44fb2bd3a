"""Decode the text of a file: one rule for its encoding."""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Decoded", "decode_text", "is_marked", "read_text"]

# Longer marks first, since UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Decoded:
    """A decoded text.

    Parameters
    ----------
    text : str
        Without a byte order mark, with unchanged line ends.
    encoding : str
        Python's name of the encoding.
    bad : int or None
        Position of the first byte that is not valid in the expected encoding, which is that of the byte
        order mark or UTF-8; None if all bytes are valid.
    """

    text: str
    encoding: str
    bad: int | None = None


def is_marked(data: bytes) -> bool:
    """Whether a file begins with a byte order mark."""
    return data.startswith(tuple(mark for mark, _ in _MARKS))


def decode_text(data: bytes) -> Decoded:
    """Decode bytes: by their byte order mark, else as UTF-8, else as Windows-1252.

    UTF-16 without a mark is recognized by its NUL bytes: in Latin text every second byte is NUL, and other
    encodings have none.

    This never fails. After a byte order mark, invalid bytes become U+FFFD, and if a byte is undefined in
    Windows-1252, the text is decoded as Latin-1.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return Decoded(data.decode(encoding), encoding)
            except UnicodeDecodeError as error:
                # This codec counts from after the mark, the others from the beginning.
                bad = error.start + (len(mark) if encoding == "utf-8-sig" else 0)
                return Decoded(data.decode(encoding, "replace"), encoding, bad)
    if (unmarked := _unmarked_utf16(data)) is not None:
        return unmarked
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        bad = error.start
    try:
        return Decoded(data.decode("cp1252"), "cp1252", bad)
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), "latin-1", bad)


def _unmarked_utf16(data: bytes) -> Decoded | None:
    if 4 * data.count(0) < len(data) or not data:
        return None
    encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    with suppress(UnicodeDecodeError):
        text = data.decode(encoding)
        return None if "\0" in text else Decoded(text, encoding)
    return None


def read_text(path: Path) -> Decoded:
    """Decode a text file.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    return decode_text(path.read_bytes())
