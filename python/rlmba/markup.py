"""Escape users' text (names of classes, modalities, files, runs), so that it is never read as markup."""

from __future__ import annotations

import csv
import io
import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence

from rlmba.spreadsheet import guarded_cell

__all__ = ["command", "csv_text", "latex", "markdown", "markdown_code", "visible"]

_ALWAYS = re.compile(r"[*`$|]|\\(?=[!-/:-@\[-`{-~])")
_AT_A_WORDS_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_PAIRS = re.compile(r"~~|!(?=\[)|\](?=[(\[:])")
_BLOCK = re.compile(r"^(?:#{1,6}(?=\s|$)|>|[-+](?=\s|$)|\d+(?=[.)](?:\s|$))|={2,}$|-{2,}$)")

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$",
    # At the start of a row, a bracket or a star would be read as an argument of the preceding \\.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "κ": r"$\kappa$",
    "—": "---", "–": "--",
}  # fmt: skip


def visible(text: str) -> str:
    r"""Escape control characters, so that none reaches a terminal, a figure or a table.

    Line feeds and tabs are kept. Lone surrogates are escaped too, since no output can encode them.

    Examples
    --------
    >>> visible("red \x1b[31m"), visible("a\nb")
    ('red \\x1b[31m', 'a\nb')
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"
        else c
        for c in text
    )


def markdown(text: str) -> str:
    r"""Escape text so that Markdown shows it literally, on one line.

    Examples
    --------
    >>> print(markdown("*a* | $x$ <b> av_digits p < .05 [1]"))
    \*a\* \| \$x\$ \<b> av_digits p < .05 [1]
    """
    line = " ".join(visible(text).splitlines())
    for pattern in (_ALWAYS, _AT_A_WORDS_EDGE, _HTML, _PAIRS):
        line = pattern.sub(lambda match: "\\" + "\\".join(match[0]), line)
    return _BLOCK.sub(lambda m: m[0] + "\\" if m[0].isdigit() else "\\" + m[0], line)


def markdown_code(text: str) -> str:
    r"""Text as a Markdown code span, delimited by more backticks than it contains in a row.

    Examples
    --------
    >>> print(markdown_code("a"), markdown_code("a`b"))
    `a` ``a`b``
    """
    line = " ".join(visible(text).splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def latex(text: str) -> str:
    r"""Escape text so that LaTeX sets it literally.

    Examples
    --------
    >>> print(latex("50% of av_digits"))
    50\% of av\_digits
    """
    return "".join(_LATEX.get(letter, letter) for letter in visible(text).replace("\n", " "))


def command(*words: object) -> str:
    """Format a command of rlmba for a shell, with words quoted where necessary.

    Examples
    --------
    >>> command("next", "my project")
    "rlmba next 'my project'"
    """
    return shlex.join(["rlmba", *map(str, words)])


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    r"""Rows as CSV in which no text begins a spreadsheet formula; None is an empty cell.

    In text cells and the header, a formula is prefixed by an apostrophe
    (:func:`rlmba.spreadsheet.guarded`) and control characters are escaped. Other values and texts that
    are numbers are not changed.

    Examples
    --------
    >>> print(csv_text(["id", "gain"], [["=1+1", -0.5]]), end="")
    id,gain
    '=1+1,-0.5
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    return guarded_cell(visible(value) if isinstance(value, str) else value)
