from __future__ import annotations

import codecs
import json
import sys
import warnings
import zipfile
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba.data.table import Table, read_table
from rlmba.errors import DataError, RlmbaWarning, StorageError, UsageError
from rlmba.tables import write_table

WORDS = {
    "id": ["1", "2", "3"],
    "text": ["café, crème", "two\nlines", None],
    "x": ["0,5", "-1", '"q"'],
}


@pytest.fixture
def write(tmp_path):
    def put(content: str | bytes, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return put


def delimited(separator: str, end: str = "\r\n") -> str:
    rows = [
        ["id", "text", "x"],
        ["1", '"café, crème"', '"0,5"' if separator == "," else "0,5"],
        ["2", '"two\nlines"', "-1"],
        ["3", "", '"""q"""'],
    ]
    return "".join(separator.join(row) + end for row in rows)


def silent(path: Path) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RlmbaWarning)
        return read_table(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write_is_read_alike(write, separator, encoding, end):
    table = silent(write(delimited(separator, end), encoding=encoding))
    assert table.columns == WORDS
    assert table.lines == [2, 3, 5]  # the second row stands on two lines
    assert len(table) == 3


@pytest.mark.parametrize(
    ("mark", "encoding"), [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
)
def test_utf_16_of_either_order(write, mark, encoding):
    path = write(mark + delimited("\t").encode(encoding), "unicode.txt")
    assert silent(path).columns == WORDS


def test_windows_1252_is_read_with_a_warning_that_shows_a_line(write):
    path = write(delimited(";"), encoding="cp1252")
    with pytest.warns(RlmbaWarning, match=r"Windows-1252.*line 2.*café, crème.*CSV UTF-8"):
        table = read_table(path)
    assert table.columns == WORDS


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_separator_that_excel_names_on_the_first_line(write, first):
    table = silent(write(f"{first}\r\nid;a,b\r\n1;x,y\r\n"))
    assert table.columns == {"id": ["1"], "a,b": ["x,y"]}
    assert table.lines == [3]


def test_rows_decide_between_separators_of_the_header(write):
    table = silent(write("id;label;weight, kg\na;x;0,5\nb;y;1,25\n"))
    assert table.columns == {"id": ["a", "b"], "label": ["x", "y"], "weight, kg": ["0,5", "1,25"]}
    table = silent(
        write("id;weight, kg\na;70\nb;80\n")
    )  # a comma gives two columns of the header only
    assert table.columns == {"id": ["a", "b"], "weight, kg": ["70", "80"]}


def test_a_tab_in_a_tsv_is_its_separator(write):
    table = silent(write("id\ta, b, c\n1\tx, y, z\n", "table.tsv"))
    assert table.columns == {"id": ["1"], "a, b, c": ["x, y, z"]}
    assert silent(write("id,label\n1,x\n", "table.tsv")).columns == {"id": ["1"], "label": ["x"]}


def test_empty_rows_and_columns_that_spreadsheets_leave_behind(write):
    table = silent(write("\r\nid,label,,\r\n a ,x,,\r\n,,,\r\n\r\nb,,,,,\r\n , \t,,\r\n"))
    assert table.columns == {"id": ["a", "b"], "label": ["x", None]}
    assert table.lines == [3, 6]


def test_one_column_and_only_a_header(write):
    assert silent(write("id\na\nb")).columns == {"id": ["a", "b"]}
    empty = silent(write("id;label\n"))
    assert empty.columns == {"id": [], "label": []}
    assert len(empty) == 0


def test_lines_end_only_at_cr_and_lf(write):
    table = silent(write("id,text\n1,a\u2028b\x0bc\x85d\n2,e\n"))
    assert table.columns["text"] == ["a\u2028b\x0bc\x85d", "e"]
    assert table.lines == [2, 3]


def test_cells_larger_than_the_csv_modules_limit(write):
    long = "x" * 300_000
    assert silent(write(f'id,text\n1,"{long}"\n')).columns["text"] == [long]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "is empty"),
        (b",,,\n", "only empty cells"),
        (b"sep=;\n", "only empty cells"),
        (b"id,label,id\n1,x,2\n", "line 1: columns 1 and 3 have the same name 'id'"),
        (b",id\n0,a\n", "line 1: column 1 has no name, but line 2 has '0' in it; .*index=False"),
        (
            b"id,label\na,x\nb\nc,y\n",
            "line 3: expected 2 cells .*, got 1.*add the separators.*quotes",
        ),
        (
            b"id,label\na,x\nb,y,z\n",
            "line 3: expected 2 cells .*, got 3.*the separator in quotes",
        ),
        (b"id,label\na,x\nb", "line 3: expected 2 cells as in the header, got 1.*cut off"),
        (b'id,label\na,x\nb,"half of\na text', "line 3: .*cut off"),
        (b'id,label\na,"x" y\n', "line 2: .*quote"),
        (b"id,label\na,x\0\n", "line 2: expected text, got NUL bytes"),
        (
            "id,label\né,x\nà,y\n".encode() + b"b,\xe9\n",
            "line 4: expected UTF-8",
        ),
        ("id,label\né,x\nà".encode()[:-1], "line 3: expected UTF-8.*cut off"),
        (codecs.BOM_UTF8 + b"id,label\na,\xe9\n", "line 2: expected UTF-8"),
        (codecs.BOM_UTF16_LE + b"i\0d", "expected UTF-16"),
        (b"id,label\na,\x81\n", "line 2: expected UTF-8 or Windows-1252"),
        (b"PAR1 and so on", "expected text, got a Parquet file"),
        (b"\xd0\xcf\x11\xe0 and so on", r"\.xls.*CSV UTF-8"),
    ],
)
def test_damage_is_named_with_its_line(write, content, said):
    with pytest.raises(DataError, match=r"(?s)table\.csv.*(" + said + ")"):
        read_table(write(content))


def test_a_spreadsheets_own_file_under_any_name(tmp_path):
    for name in ("book.xlsx", "book.csv"):
        with zipfile.ZipFile(tmp_path / name, "w") as book:
            book.writestr("xl/workbook.xml", "<workbook/>")
        with pytest.raises(DataError, match=r'spreadsheet.*"CSV UTF-8"'):
            read_table(tmp_path / name)


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, said in [
        ("none.csv", "no such file"),
        ("folder.csv", "a folder"),
        ("a.pdf", r"\.parquet"),
    ]:
        with pytest.raises(DataError, match=said):
            read_table(tmp_path / name)


def test_json_lines_of_different_names(write):
    path = write('{"id": 1, "x": [1, 2]}\r\n\n{"label": null, "id": "b", "y": 0.5}', "t.jsonl")
    table = silent(path)
    assert table.columns == {
        "id": [1, "b"],
        "x": [[1, 2], None],
        "label": [None, None],
        "y": [None, 0.5],
    }
    assert list(table.columns) == ["id", "x", "label", "y"]
    assert table.lines == [1, 3]
    assert table.place(1) == f"{path}, line 3"


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.ndjson"])
def test_json_of_either_form(write, name):
    rows = [{"id": "a"}, {"id": "b\u2028", "text": "ü"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    table = silent(write(lines, name, "utf-8-sig"))
    assert table.columns == {"id": ["a", "b\u2028"], "text": [None, "ü"]}
    if name == "t.json":
        listed = silent(write(json.dumps(rows, indent=2), name))
        assert listed.columns == table.columns
        assert listed.place(1).endswith("t.json, row 2")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.jsonl", '{"id": 1}\n{"id": 2, "la', "line 2: .*cut off"),
        ("t.jsonl", '{"id": 1\n{"id": 2}\n', "line 1: expected a JSON object"),
        ("t.jsonl", '{"id": 1}\n[1, 2]\n', r"line 2: expected a JSON object.*\[1, 2\]"),
        ("t.jsonl", '{"id": 1}\n\n"x"\n', "line 3: expected a JSON object"),
        ("t.jsonl", '{"id": 1, "id": 2}\n', "line 1.*'id' occurs twice"),
        ("t.jsonl", '{"id": 1, "": 2}\n', "line 1.*without a name"),
        ("t.jsonl", '{"id": ' + "[" * 100_000 + "\n", "line 1: expected a JSON object"),
        ("t.jsonl", "\n", "is empty"),
        ("t.json", "[]", "list is empty"),
        ("t.json", '[{"id": 1}, 2]', "row 2: expected a JSON object"),
        ("t.json", '[{"id": 1}, {"id"', "expected a JSON list.*cut off"),
        ("t.json", '{"rows":\n[]}\n', "line 1: expected a JSON object"),
    ],
)
def test_damaged_json_is_named_with_its_line(write, name, content, said):
    with pytest.raises(DataError, match="(?s)" + said):
        read_table(write(content, name))


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "split=train"  # which pyarrow would make a column of
    folder.mkdir()
    columns = {"id": ["a", "b"], "n": [1, None], "v": [[0.5, 1.0], None], "flag": [True, False]}
    write_table(folder / "t.parquet", columns)
    table = read_table(folder / "t.parquet")
    assert table.columns == columns
    assert table.place(1).endswith("row 2")

    pq.write_table(pa.table([["a"], ["b"]], names=["id", "id"]), tmp_path / "twice.parquet")
    pq.write_table(pa.table([["a"]], names=[""]), tmp_path / "unnamed.parquet")
    (tmp_path / "half.parquet").write_bytes((folder / "t.parquet").read_bytes()[:-20])
    for name, said in [("twice", "two columns 'id'"), ("unnamed", "no name"), ("half", "damaged")]:
        with pytest.raises(DataError, match=said):
            read_table(tmp_path / f"{name}.parquet")


def test_an_index_of_pandas_that_counts_rows_is_a_column_where_it_has_a_name(tmp_path):
    pd, pq = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    frame = pd.DataFrame({"label": ["a", "b", "c"]}, index=pd.RangeIndex(7, 10, name="id"))
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").ids() == ["7", "8", "9"]
    pq.write_table(pq.read_table(tmp_path / "t.parquet").slice(1), tmp_path / "part.parquet")
    with pytest.raises(DataError, match=r"expected a column 'id' among .*; rename a column"):
        read_table(tmp_path / "part.parquet").ids()


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r'pip install "rlmba\[parquet\]"'):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r'pip install "rlmba\[parquet\]"'):
        write_table(tmp_path / "u.parquet", {"id": ["a"]})
    assert not (tmp_path / "u.parquet").exists()


def test_arrays_paths_and_nan_are_written_plainly(tmp_path):
    columns = {
        "id": np.array(["a", "b"]),
        "p": np.array([0.25, np.nan], dtype=np.float32),
        "n": [np.int64(3), None],
        "path": [Path("x/y.png"), None],
        "v": [np.array([1.0, 2.0]), [3]],
    }
    plain = {
        "id": ["a", "b"],
        "p": [0.25, None],
        "n": [3, None],
        "path": ["x/y.png", None],
        "v": [[1.0, 2.0], [3]],
    }
    for name in ("t.jsonl", "t.parquet"):
        write_table(tmp_path / name, columns)
        assert read_table(tmp_path / name).columns == plain
    write_table(tmp_path / "t.csv", columns, bom=True)
    assert (tmp_path / "t.csv").read_bytes().startswith(codecs.BOM_UTF8)
    assert read_table(tmp_path / "t.csv").columns == {
        "id": ["a", "b"],
        "p": ["0.25", None],
        "n": ["3", None],
        "path": ["x/y.png", None],
        "v": ["[1.0, 2.0]", "[3]"],
    }


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("before")
    with pytest.raises(DataError, match="surrogate"):
        write_table(path, {"id": ["a\ud800"]})
    with pytest.raises(DataError, match="NUL"):
        write_table(path, {"id": ["a\0"]})
    with pytest.raises(UsageError, match="equal length"):
        write_table(path, {"id": ["a"], "label": []})
    with pytest.raises(UsageError, match="separator: expected one of"):
        write_table(path, {"id": ["a"]}, separator=":")
    assert path.read_text() == "before"
    with pytest.raises(UsageError, match=r"\.jsonl"):
        write_table(tmp_path / "t.xlsx", {"id": ["a"]})
    with pytest.raises(DataError, match="column 'x' cannot be stored in Parquet"):
        write_table(tmp_path / "t.parquet", {"x": [1, "a"]})
    with pytest.raises(StorageError):
        write_table(tmp_path / "none" / "t.csv", {"id": ["a"]})
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAMES = st.lists(
    st.text("abcdé \"',;|\t\n=", min_size=1, max_size=6).filter(lambda n: n == n.strip()),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def tables(draw, cells):
    names = draw(NAMES)
    rows = draw(
        st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), min_size=1, max_size=6)
    )
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


@settings(max_examples=300)
@given(
    columns=tables(TEXT.map(lambda text: text.strip() or None)),
    separator=st.sampled_from(",;\t|"),
    bom=st.booleans(),
)
def test_csv_reads_back_what_was_written(tmp_path_factory, columns, separator, bom):
    rows = [row for row in zip(*columns.values(), strict=True) if any(row)]
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_table(path, columns, separator=separator, bom=bom)
    kept = [list(c) for c in zip(*rows, strict=True)] if rows else [[]] * len(columns)
    assert silent(path).columns == dict(zip(columns, kept, strict=True))


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


@given(columns=tables(JSON | st.lists(JSON, max_size=3)))
def test_json_lines_read_back_what_was_written(tmp_path_factory, columns):
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    write_table(path, columns)
    assert silent(path).columns == columns


@pytest.mark.slow
def test_a_large_file_in_seconds(tmp_path):
    n = 200_000
    columns = {
        "id": [f"s{i:06d}" for i in range(n)],
        "text": [f"caption {i}, of a café" for i in range(n)],
        **{f"f{j}": [str(i + j) for i in range(n)] for j in range(4)},
    }
    write_table(tmp_path / "t.csv", columns)
    start = process_time()
    table = read_table(tmp_path / "t.csv")
    assert process_time() - start < 20  # 1.3 s of one core where it was written
    assert table.columns == columns


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_lone_surrogate_is_refused_and_its_place_named(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    rows = [{"id": "a", "text": "\U0001f600"}, {"id": "b", "text": "cut \ud83d"}]
    path.write_text(
        json.dumps(rows) if suffix == ".json" else "".join(json.dumps(r) + "\n" for r in rows)
    )
    place = r"t\.json: " if suffix == ".json" else r"t\.jsonl, line 2: "
    with pytest.raises(DataError, match=rf"{place}.*lone surrogate .*cut.*correct it"):
        read_table(path)
