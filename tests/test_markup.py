"""Names chosen by users are shown literally: never as markup, formula or command."""

from __future__ import annotations

import csv
import html
import io
import re
import shlex
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rlmba import markup
from rlmba.data.batch_file import write_batch
from rlmba.data.table import read_table
from rlmba.ids import IdIndex
from rlmba.tables import csv_text, write_table

HOSTILE = [
    "$x$", "a $ b", "[bold]", "*a*", "_a_", "a_b", "`a`", "``", "a|b", "<b>", "&amp;", "\\", "\\*", "# a",
    "- a", "1. a", "=1+1", "@SUM(A1)", "+1|cmd", "~~a~~", "![x](y)", "[x](y)", "a\nb", "\x1b[31m", ":smile:",
    "\\input{x}", "%", "{", "'", '"', "--", "==", "http://a.b/_c_", "\ud800",
]  # fmt: skip
names = st.sampled_from(HOSTILE) | st.text(
    st.sampled_from(string.printable + "é$*_[]\x00\x1b"), min_size=1, max_size=12
)
quick = settings(max_examples=150)


def shown(text):
    """A name as one line without control characters."""
    return " ".join(" ".join(markup.visible(text).splitlines()).split())


def rendered(page):
    made = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", made)).split())


@given(names)
@quick
def test_markdown_shows_the_text(text):
    assert rendered(
        f"before {markup.markdown(text)} after"
    ) == f"before {shown(text)} after".replace("  ", " ")


@given(names.filter(lambda t: shown(t) and shown(t) == " ".join(markup.visible(t).splitlines())))
@quick
def test_markdown_at_the_beginning_of_a_line_and_in_a_table(text):
    assert rendered(markup.markdown(text)) == shown(text)
    table = f"| {markup.markdown(text)} | b |\n|---|---|\n| {markup.markdown(text)} | **b** |\n"
    assert rendered(table) == f"{shown(text)} b {shown(text)} b"


@given(names.filter(lambda t: shown(t) and shown(t) == " ".join(markup.visible(t).splitlines())))
@quick
def test_markdown_code_shows_the_text(text):
    assert rendered(f"a {markup.markdown_code(text)} b") == f"a {shown(text)} b"


@given(st.lists(names, min_size=2, max_size=2))
@quick
def test_csv_has_no_formula_and_the_same_cells(pair):
    text = csv_text(pair, [pair])
    for row in csv.reader(io.StringIO(text)):
        for cell, given_ in zip(row, pair, strict=True):
            assert cell.replace("'", "") == markup.visible(given_).replace("'", "")
            assert not re.match(r"[=@\t]|[+-](?![\d.]+$|inf|nan)", cell, re.IGNORECASE)


@given(st.lists(names, min_size=1, max_size=3))
@quick
def test_command_is_read_by_a_shell_as_it_was_meant(words):
    assert shlex.split(markup.command(*words)) == ["rlmba", *words]


def test_visible_leaves_text_alone():
    assert markup.visible("Käse 猫 😀\tx\ny") == "Käse 猫 😀\tx\ny"
    assert markup.visible("\x1b]0;title\x07") == "\\x1b]0;title\\x07"


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_bare_special_character(text):
    plain = re.sub(
        r"\\textbackslash\{\}|\\text\w+\{\}|\\[&%$#_{}]|\$[<>|]\$|\{[\[\]*]\}",
        "",
        markup.latex(text),
    )
    assert not re.search(r"[\\&%$#_{}~^\[\]*\n\x00-\x1f]", plain)


def test_batches_and_predictions_have_no_formula_as_csv(tmp_path):
    ids = np.array(["=1+1", "@user", "-5", "a"])
    write_batch(
        tmp_path / "b.csv", strategy="x", ids=ids, positions=np.arange(4), scores=np.zeros(4)
    )
    assert read_table(tmp_path / "b.csv").columns["id"] == ["'=1+1", "'@user", "-5", "a"]
    assert IdIndex(ids).locate(["'=1+1", "'@user", "-5"])[0].tolist() == [0, 1, 2]
    rows = [{"id": ids.tolist(), "class": ["=c", None, "d", "e"], "probability": [-0.5] * 4}]
    write_table(tmp_path / "p.csv", rows, guard=True, size=1)
    assert (tmp_path / "p.csv").read_text().splitlines()[1:3] == ["'=1+1,'=c,-0.5", "'@user,,-0.5"]
    write_table(tmp_path / "p.jsonl", rows, guard=True, size=1)
    assert '"=1+1"' in (tmp_path / "p.jsonl").read_text()
