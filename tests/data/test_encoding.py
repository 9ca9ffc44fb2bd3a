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
from rlmba.errors import DataError, RlmbaWarning, UsageError

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


CHINESE = "id,text\n" + "".join(f"{i},股市大涨，央行宣布降息\n" for i in range(8))


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1251"])
def test_tables_and_texts_in_encodings_of_other_scripts(tmp_path, encoding):
    text = {
        "gb18030": "股市大涨，央行宣布降息。足球比赛今晚举行",
        "big5": "股市大漲，央行宣布降息。足球比賽今晚舉行",
        "cp932": "今日は天気がいいですね。新しい映画が公開される",
        "euc_jp": "今日は天気がいいですね。新しい映画が公開される",
        "cp949": "오늘 날씨가 좋습니다. 서울에서 축구 경기가 열렸다",
        "cp1251": "Сегодня хорошая погода. Президент выступил с речью",
    }[encoding]
    table = f"id,text,label\n0,{text},a\n1,{text},b\n2,{text},a\n3,{text},b\n"
    (tmp_path / "t.csv").write_bytes(table.encode(encoding))
    with pytest.warns(RlmbaWarning, match=f"was read as {encoding}"):
        assert load_manifest(tmp_path / "t.csv", tokens=20).shown(0)["text"] == text
    # The first file alone is too short to tell.
    for k, part in enumerate([text[:3], text, text, text]):
        (tmp_path / f"{k}.txt").write_bytes(part.encode(encoding))
    rows = "".join(f"{k},{k}.txt,{'ab'[k % 2]}\n" for k in range(4))
    (tmp_path / "files.csv").write_text(f"id,text_file,label\n{rows}")
    with pytest.warns(RlmbaWarning, match=f"4 of 4 text files .* are read as {encoding}"):
        dataset = load_manifest(tmp_path / "files.csv", tokens=20)
    assert dataset.shown(0)["text"] == text[:3]
    assert dataset.settled["encoding"] == encoding


@pytest.mark.parametrize("text", [CHINESE, CHINESE.replace("股市大涨", "été à Noël")])
def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path, text):
    data = bytearray(text.encode())
    del data[-4]  # part of a character
    (tmp_path / "t.csv").write_bytes(bytes(data))
    with pytest.raises(DataError, match="expected UTF-8 as in the rest of the file"):
        load_manifest(tmp_path / "t.csv")
    assert decode_text(bytes(data), "gb18030").text.startswith(text[:60])


def test_an_encoding_that_is_set_is_used(tmp_path):
    for k in range(4):
        (tmp_path / f"{k}.txt").write_bytes(f"naïve {k}".encode("cp1252"))
    rows = "".join(f"{k},{k}.txt,{'ab'[k % 2]}\n" for k in range(4))
    (tmp_path / "files.csv").write_text(f"id,text_file,label\n{rows}")
    assert load_manifest(tmp_path / "files.csv", encoding="CP1251").shown(1)["text"] == "naпve 1"
    with pytest.raises(UsageError, match="expected the name of an encoding"):
        load_manifest(tmp_path / "files.csv", encoding="no-such-encoding")
