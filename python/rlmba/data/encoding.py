"""Decode the text of a file: one rule for its encoding."""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENCODINGS", "Decoded", "decode_text", "guess_encoding", "is_marked", "read_text"]

ENCODINGS = ("gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1251", "cp1252")
"""Encodings that files without a byte order mark may have instead of UTF-8."""

_FEWEST = 8
"""Bytes outside ASCII from which an encoding other than Windows-1252 is considered."""

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


def guess_encoding(data: bytes) -> str:
    """Guess the encoding of bytes that are not UTF-8.

    Parameters
    ----------
    data : bytes
        The more, the better: of many short files, pass all that are not UTF-8 together.

    Returns
    -------
    str
        One of :data:`ENCODINGS`; "cp1252" if nothing speaks for another, or if the bytes are damaged UTF-8.
    """
    if sum(byte >= 0x80 for byte in data) < _FEWEST or is_damaged_utf8(data):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=list(ENCODINGS)).best()
    return "cp1252" if best is None else str(best.encoding)


def is_damaged_utf8(data: bytes) -> bool:
    """Whether most characters outside ASCII are valid UTF-8, which is hardly chance in another encoding."""
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    return sum(c > "\x7f" for c in text) > 2 * damaged > 0


def decode_text(data: bytes, fallback: str = "cp1252") -> Decoded:
    """Decode bytes: by their byte order mark, else as UTF-8, else in the encoding ``fallback``.

    UTF-16 without a mark is recognized by its NUL bytes: in Latin text every second byte is NUL, and other
    encodings have none.

    This never fails. After a byte order mark, and in encodings other than Windows-1252, invalid bytes
    become U+FFFD. If a byte is undefined in Windows-1252, the text is decoded as Latin-1. Damaged UTF-8 is
    decoded as UTF-8 if the fallback is another encoding than Windows-1252.
    """
    if (found := _marked(data) or _unmarked_utf16(data)) is not None:
        return found
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        bad = error.start
    if fallback != "cp1252":
        fallback = "utf-8" if is_damaged_utf8(data) else fallback
        return Decoded(data.decode(fallback, "replace"), fallback, bad)
    try:
        return Decoded(data.decode("cp1252"), "cp1252", bad)
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), "latin-1", bad)


def _marked(data: bytes) -> Decoded | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return Decoded(data.decode(encoding), encoding)
            except UnicodeDecodeError as error:
                # This codec counts from after the mark, the others from the beginning.
                bad = error.start + (len(mark) if encoding == "utf-8-sig" else 0)
                return Decoded(data.decode(encoding, "replace"), encoding, bad)
    return None


def _unmarked_utf16(data: bytes) -> Decoded | None:
    if 4 * data.count(0) < len(data) or not data:
        return None
    encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    with suppress(UnicodeDecodeError):
        text = data.decode(encoding)
        return None if "\0" in text else Decoded(text, encoding)
    return None


def read_text(path: Path, fallback: str = "cp1252") -> Decoded:
    """Decode a text file as :func:`decode_text`.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    return decode_text(path.read_bytes(), fallback)
