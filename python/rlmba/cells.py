"""The meaning of a table's cell as an id or a label: one rule for every reader.

=============================================  ==================================================
cell                                           meaning
=============================================  ==================================================
text                                           itself, without leading and trailing blanks, even
                                               non-breaking ones; "nan", "NA" and "None" are
                                               ordinary texts
None, NaN, NaT, pandas' NA, only blanks        missing
an integer of any size and type                its digits
a whole float or Decimal: 3.0, -0.0, 1e3       its digits: "3", "0", "1000"
another float or Decimal: 0.5                  as it is printed: "0.5"
a float of 2^53 or more, or infinite           an error: its original digits are lost
true, false                                    "true", "false"
bytes                                          the text that they encode in UTF-8
a date, a time                                 its ISO 8601 form
a list, an object, anything else               an error
=============================================  ==================================================

If the possible names are known (the classes, or the ids of a batch), a cell means the first of these that
exists and is unambiguous; see :class:`NameIndex`:

1. the name itself: "007" and "7" are different names, and so are "3.0" and "3" if both exist;
2. a name that differs in blanks between words or in the composition of accented letters;
3. for classes, a name that differs in upper and lower case;
4. the same number: "3.0" (as pandas and spreadsheets rewrite 3), "3,0" and "3" are equal, and so are
   "0.5" and "0,5".

If the classes are not listed, the texts of the label column are the classes. The ids of a table of samples
are the texts of its id column. If all texts of such a column are numbers, whole numbers lose their
fraction; see :func:`class_names` and :func:`id_names`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from numbers import Integral, Real
from typing import Any
from uuid import UUID

__all__ = [
    "LONGEST_NAME",
    "NameIndex",
    "all_numbers",
    "as_text",
    "class_names",
    "folded",
    "id_names",
    "is_missing",
    "missing_words",
    "one_line",
    "spaced",
    "whole",
]

LONGEST_NAME = 200
"""The most characters of an id, of the name of a class or of a modality."""

_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
_EXACT = 2**53
"""From this number on, a float represents several integers."""

# Numbers as programs write them; 1.10 and 007 are names.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0+|,00?|[.,]\d*[1-9])?", re.ASCII)
_WHOLE = re.compile(r"(?P<digits>-?(?:0|[1-9]\d*))(?:\.0+|,00?)?", re.ASCII)
_FRACTION_OF_SECOND = re.compile(r"\.(\d*?)0*(?!\d)", re.ASCII)
_MISSING_WORDS = frozenset({"nan", "na", "n/a", "nat", "null", "none"})
# Invisible characters that some programs put at the beginning of a cell.
_INVISIBLE = str.maketrans(dict.fromkeys("\ufeff\u200b\u2060"))


def is_missing(value: Any) -> bool:
    """Whether a cell is missing: None, NaN, NaT, pandas' NA, a masked entry, or only blanks.

    Examples
    --------
    >>> is_missing(float("nan")), is_missing(" "), is_missing("nan")
    (True, True, False)
    """
    if isinstance(value, str | bytes):
        return not value.strip()
    if value is None or type(value).__name__ in ("NAType", "MaskedConstant"):
        return True
    if isinstance(value, Real | Decimal | datetime) or _is_numpy(value, "datetime64"):
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT alone
    return False


def as_text(value: Any) -> str | None:
    """A cell as text; None if it is missing.

    Raises
    ------
    ValueError
        If it cannot be an id or a label by the rule above. The message does not name the cell's place.

    Examples
    --------
    >>> as_text(3.0), as_text(" 3.0 "), as_text(18446744073709551615), as_text(True), as_text(None)
    ('3', '3.0', '18446744073709551615', 'true', None)
    """
    if type(value) is str:  # the usual case
        return value.strip() or None
    if is_missing(value):
        return None
    if _is_numpy(value, "bool", "bool_"):
        value = bool(value)
    for types, text in _FORMS:
        if isinstance(value, types):
            return text(value)
    if _is_numpy(value, "datetime64"):
        return _moment(value)
    raise ValueError(f"expected text or a number, got {_short(value)}")


def _is_numpy(value: Any, *names: str) -> bool:
    """Whether a value is a NumPy scalar of these types; NumPy's numbers are Integral or Real anyway.

    NumPy is not imported, so that annotators without arrays start faster.
    """
    return type(value).__module__ == "numpy" and type(value).__name__ in names


def _number_text(value: Any) -> str:
    if not math.isfinite(value):
        raise ValueError(f"expected text or a finite number, got {value}")
    if value != int(value):
        return str(value.normalize() if isinstance(value, Decimal) else value)
    if not isinstance(value, Decimal) and abs(value) >= _EXACT:
        raise ValueError(
            f"expected text or an integer, got the float {value!s}, which is too large to keep all digits; "
            "write it as text or as an integer"
        )
    return str(int(value))


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"expected text in UTF-8, got the bytes {_short(value)}") from None


def _moment(value: Any) -> str:
    text = str(value) if _is_numpy(value, "datetime64") else value.isoformat()
    return _FRACTION_OF_SECOND.sub(lambda found: f".{found[1]}" if found[1] else "", text)


# bool comes before Integral, since it is an int as well.
_FORMS: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (str, str.strip),
    (bool, lambda value: str(value).lower()),
    (Integral, lambda value: str(int(value))),
    (Real | Decimal, _number_text),
    (bytes, _decoded),
    (date | time, _moment),
    (UUID, str),
)


def one_line(text: str, longest: int = LONGEST_NAME) -> str:
    """Why a text is not one short line; "" if it is.

    Examples
    --------
    >>> one_line("a b"), one_line("ab", longest=1)
    ('', 'expected at most 1 characters, got 2')
    """
    if len(text) > longest:
        return f"expected at most {longest} characters, got {len(text):,}"
    if any(unicodedata.category(c) in _CONTROL for c in text):
        return "expected one line without control characters"
    return ""


def whole(text: str) -> str:
    """The digits of a whole number, written with or without a fraction of zeros; otherwise the text.

    Examples
    --------
    >>> whole("3.0"), whole("-0.0"), whole("007.0"), whole("3.5"), whole("v3.0")
    ('3', '0', '007.0', '3.5', 'v3.0')
    """
    found = _WHOLE.fullmatch(text)
    if found is None:
        return text
    return "0" if found["digits"] == "-0" else found["digits"]


def all_numbers(texts: Iterable[str]) -> bool:
    """Whether all texts are numbers as programs write them: 3, -1.5, 3.0, but not 007 or 1.10."""
    return all(_NUMBER.fullmatch(text) for text in texts)


def spaced(text: str) -> str:
    """A text with single blanks between words, no invisible characters, and composed accented letters."""
    if text.isascii():  # the usual case
        return " ".join(text.split())
    return unicodedata.normalize("NFC", " ".join(text.translate(_INVISIBLE).split()))


def folded(text: str) -> str:
    """As :func:`spaced`, without the difference between upper and lower case."""
    return spaced(text).casefold()


def class_names(texts: Sequence[str | None]) -> list[str | None]:
    """The classes of a label column, if the classes are not listed.

    If texts differ only in blanks between words or in the composition of accented letters, the first is
    the name of the class. If all labels are numbers, "3.0" becomes "3".

    Examples
    --------
    >>> class_names(["3.0", None, "10", "2.5"]), class_names(["3.0", "x"])
    (['3', None, '10', '2.5'], ['3.0', 'x'])
    """
    if all_numbers(text for text in texts if text is not None):
        return [None if text is None else whole(text) for text in texts]
    first: dict[str, str] = {}
    return [None if text is None else first.setdefault(spaced(text), text) for text in texts]


def id_names(texts: Sequence[str]) -> list[str]:
    """The ids of a table of samples.

    If all ids are numbers, "7.0" becomes "7", unless both occur.

    Examples
    --------
    >>> id_names(["7.0", "8"]), id_names(["7.0", "7"]), id_names(["7.0", "x"])
    (['7', '8'], ['7.0', '7'], ['7.0', 'x'])
    """
    plain = [whole(text) for text in texts] if all_numbers(texts) else list(texts)
    return plain if len(set(plain)) == len(set(texts)) else list(texts)


def missing_words(names: Iterable[str]) -> list[str]:
    """The names that programs write for a missing value; as classes they deserve a warning.

    Examples
    --------
    >>> missing_words(["cat", "NaN", "#N/A"])
    ['NaN', '#N/A']
    """
    return [name for name in names if name.strip("<>#").casefold() in _MISSING_WORDS]


class NameIndex:
    """Known names, and a search for the name that a cell means.

    Parameters
    ----------
    names : iterable of str
    case : bool
        Whether upper and lower case make a difference, as in ids but not in classes.

    Examples
    --------
    >>> names = NameIndex(["3", "007"])
    >>> names.find("3.0"), names.find("7"), NameIndex(["3", "3.0"]).find("3.0")
    ('3', None, '3.0')
    """

    def __init__(self, names: Iterable[str], *, case: bool = True) -> None:
        self._names = dict.fromkeys(names)
        self._keys: tuple[Callable[[str], str], ...] = (
            (spaced, _number_key) if case else (spaced, folded, _number_key)
        )
        self._alike: dict[int, dict[str, list[str]]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Add a name to the known ones."""
        if name in self._names:
            return
        self._names[name] = None
        for level, groups in self._alike.items():
            groups.setdefault(self._keys[level](name), []).append(name)

    def find(self, text: str) -> str | None:
        """The name that a text means; None if it means none, or could mean several."""
        alike = self.alike(text)
        return alike[0] if len(alike) == 1 else None

    def alike(self, text: str) -> list[str]:
        """All names that a text could mean equally well."""
        if text in self._names:
            return [text]
        for level, key in enumerate(self._keys):
            if level not in self._alike:
                groups: dict[str, list[str]] = {}
                for name in self._names:
                    groups.setdefault(key(name), []).append(name)
                self._alike[level] = groups
            if found := self._alike[level].get(key(text)):
                return found
        return []


def _number_key(text: str) -> str:
    text = whole(spaced(text))
    return text.replace(",", ".") if _NUMBER.fullmatch(text) else text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
