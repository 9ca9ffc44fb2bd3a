"""Guard cells so that spreadsheets neither run them as formulas nor rewrite them as numbers or dates."""

from __future__ import annotations

import re

__all__ = ["guarded", "guarded_cell", "guarded_name", "longest", "unguarded"]

# These characters start a formula at the beginning of a cell, and after any separator, in case the file is
# split by another one. The full-width forms count as the usual ones in East Asian locales.
_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"
_GUARD = re.compile(rf"(^|[,;|\t\r\n\"])(?='*{_FORMULA})")
_GUARDED = re.compile(rf"(^|[,;|\t\r\n\"])'(?='*{_FORMULA})")
# 007, 1e5, 1.50, 12345678901234, 1-2, 3/4, 12:30, 50%, Mar 1, 1.Sept., true; not 7 or 1234.
_MONTH = r"(?:jan|feb|mar|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]*\.?"
_REWRITTEN = re.compile(
    r"'*(?!0$|[1-9]\d{0,8}$)"
    rf"(?:[\d.,:/%e\s-]*\d[\d.,:/%e\s-]*|(?:\d+[-/. ]*)?{_MONTH}[-/. ]*\d*|true|false)$",
    re.IGNORECASE,
)
_LONGEST = 32_000


def guarded(text: str) -> str:
    """A text as a cell, with an apostrophe before everything that would start a formula.

    Examples
    --------
    >>> guarded("=1+1"), guarded("a;=1+1"), guarded("a = b")
    ("'=1+1", "a;'=1+1", 'a = b')
    """
    return _GUARD.sub(r"\1'", text)


def guarded_cell(value: object) -> object:
    """A value as a cell: text that is not a number is :func:`guarded`, other values do not change.

    Examples
    --------
    >>> guarded_cell("@user"), guarded_cell("-5"), guarded_cell(-5)
    ("'@user", '-5', -5)
    """
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        return guarded(value)
    return value


def guarded_name(text: str) -> str:
    """An id or class as a cell: as :func:`guarded`, and also guarded if it looks like a number or date.

    A spreadsheet would save ``007`` as ``7`` and ``1-2`` as a date. Plain integers of up to nine digits do
    not change.

    Examples
    --------
    >>> guarded_name("007"), guarded_name("1-2"), guarded_name("7"), guarded_name("img_7")
    ("'007", "'1-2", '7', 'img_7')
    """
    formula_safe = guarded(text)
    return f"'{text}" if formula_safe == text and _REWRITTEN.match(text) else formula_safe


def unguarded(cell: str) -> str:
    """Inverse of :func:`guarded_name`.

    Examples
    --------
    >>> unguarded("'=1+1"), unguarded("'007"), unguarded("'tis")
    ('=1+1', '007', "'tis")
    """
    if "'" not in cell:
        return cell
    plain = _GUARDED.sub(r"\1", cell)
    return cell[1:] if plain == cell and cell[:1] == "'" and _REWRITTEN.match(cell[1:]) else plain


def longest(text: str) -> str:
    """Truncate a text to what a spreadsheet cell holds; a longer one would spill into other rows."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " […]"
