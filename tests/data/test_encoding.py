"""One rule for the encoding of texts: people see what the network reads."""

from __future__ import annotations

import codecs
import json
import warnings

import numpy as np
import pytest

from rlmba.data import load_manifest
from rlmba.data.encoding import decode_text, is_marked
from rlmba.data.media.decode import decode_sample
from rlmba.data.media.layouts.food101 import ingredients
from rlmba.data.media.tokens import cached_tokenizer, tokenize
from rlmba.data.table import read_table
from rlmba.errors import RlmbaWarning

TEXT = "Crème brûlée\r\n“façon” 3 €, ÿ and more words"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "cp1252")


def written(text, encoding):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    return mark + text.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_is_read_by_its_mark_else_as_utf_8_else_as_windows_1252(encoding):
    data = written(TEXT, encoding)
    found = decode_text(data)
    assert found.text == TEXT
    assert (found.bad is None) == (encoding != "cp1252")
    assert is_marked(data) == (encoding not in ("utf-8", "cp1252"))


def test_there_is_always_a_text():
    assert decode_text(b"").text == ""
    assert decode_text("ä\x81".encode("latin-1")).text == "ä\x81"
    damaged = decode_text("ab".encode("utf-16") + b"\0")
    assert (damaged.text, damaged.bad) == ("ab\ufffd", 6)
    damaged = decode_text(codecs.BOM_UTF8 + b"a\xff")
    assert (damaged.text, damaged.bad) == ("a\ufffd", 4)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_nul_bytes(encoding):
    for text in (TEXT, "plain words", "猫が好き cat"):
        found = decode_text(text.encode(encoding))
        assert (found.text, found.encoding, found.bad) == (text, encoding, None)
    for data in (b"ab\0cdefgh", b"\0\0\0\0", b"\0a\0"):  # other bytes with NUL
        assert decode_text(data).text == data.decode()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_people_are_shown_what_the_network_reads(tmp_path, encoding):
    names = [f"{k}.txt" for k in range(6)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(written(f"{TEXT} {k}", encoding if k % 2 else "utf-8"))
    table = tmp_path / "table.csv"
    rows = [f"{k},{name},{'xy'[k % 2]}" for k, name in enumerate(names)]
    table.write_text("\n".join(["id,text,label", *rows]) + "\n", encoding="utf-8")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = load_manifest(table, tokens=20)
    told = [str(w.message) for w in said if issubclass(w.category, RlmbaWarning)]
    foreign = [text for text in told if "not UTF-8" in text]
    assert len(foreign) == (encoding == "cp1252")
    if foreign:
        assert "3 of 6 text files that were checked are not UTF-8" in foreign[0]
        assert str(tmp_path / "1.txt") in foreign[0]
    for k in range(6):
        shown = dataset.shown(k)["text"]
        assert shown == f"{TEXT} {k}"
        (sample,) = [s for s in dataset._samples if s.id == str(k)]
        read = decode_sample(sample, dataset.recipe)["text"]
        expected = tokenize(cached_tokenizer(dataset.recipe.tokenizer), [shown], 20)[0]
        np.testing.assert_array_equal(read.array, expected)
        assert read.flags == (("converted",) if foreign and k % 2 else ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_texts_in_tables_and_of_food101_are_read_by_the_same_rule(tmp_path, encoding):
    path = tmp_path / "table.jsonl"
    path.write_bytes(written(json.dumps({"text": "Käse"}, ensure_ascii=False), encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RlmbaWarning)
        assert read_table(path).columns["text"] == ["Käse"]
    assert ingredients(written("Ingredients: Käse", encoding)) == ("käse", encoding == "cp1252")
