"""Cells that spreadsheets neither run as formulas nor rewrite as other numbers and dates."""

from __future__ import annotations

import re

__all__ = ["guarded", "guarded_cell", "guarded_name", "longest", "unguarded"]

# What begins a formula, at a cell's beginning or, should the file be split by another separator than it
# was written with, after one. The wide forms count as the narrow ones in East Asian settings.
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
    """A text as a cell: an apostrophe stands before whatever would begin a formula.

    Examples
    --------
    >>> guarded("=1+1"), guarded("a;=1+1"), guarded("a = b")
    ("'=1+1", "a;'=1+1", 'a = b')
    """
    return _GUARD.sub(r"\1'", text)


def guarded_cell(value: object) -> object:
    """A value of any kind as a cell: text that is no number as :func:`guarded`, others as they are.

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
    """An id or class as a cell: as :func:`guarded`, also where it looks like a number or date.

    A spreadsheet would save ``007`` as ``7``, ``1-2`` as a day. Plain integers of up to nine digits stay.

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
    """Cut to what a spreadsheet's cell holds; more would spill into further rows."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " […]"
