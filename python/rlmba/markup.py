"""Escape text of users (names of classes, modalities, files and runs), so that it is shown literally."""

from __future__ import annotations

import re
import shlex
import unicodedata

__all__ = ["command", "latex", "markdown", "markdown_code", "visible"]

_ALWAYS = re.compile(r"[*`$|]|\\(?=[!-/:-@\[-`{-~])")
_AT_A_WORDS_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_PAIRS = re.compile(r"~~|!(?=\[)|\](?=[(\[:])")
_BLOCK = re.compile(r"^(?:#{1,6}(?=\s|$)|>|[-+](?=\s|$)|\d+(?=[.)](?:\s|$))|={2,}$|-{2,}$)")

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$",
    # At the start of a row, a bracket would begin the option of \\, and a star its starred form.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "κ": r"$\kappa$",
    "—": "---", "–": "--",
}  # fmt: skip


def visible(text: str) -> str:
    r"""Escape control characters, so that none reaches a terminal, a figure or a table.

    Line feeds and tabs are kept. Lone surrogates are escaped as well, because no output can encode them.

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
    r"""Escape text for Markdown, on one line.

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
    r"""Make a code span, with one more backtick than the text has in a row.

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
    r"""Escape text for LaTeX.

    Examples
    --------
    >>> print(latex("50% of av_digits"))
    50\% of av\_digits
    """
    return "".join(_LATEX.get(letter, letter) for letter in visible(text).replace("\n", " "))


def command(*words: object) -> str:
    """Format a command of rlmba for a shell, with words quoted as needed.

    Examples
    --------
    >>> command("next", "my project")
    "rlmba next 'my project'"
    """
    return shlex.join(["rlmba", *map(str, words)])
