from __future__ import annotations

import csv
import io
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlmba.annotators import LabelBatch, Question, create, read_labels
from rlmba.annotators.file import LabelFile
from rlmba.data.table import read_table
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning, UsageError
from rlmba.spreadsheet import guarded, guarded_name, unguarded
from rlmba.tables import write_table

CLASSES = ("cat", "dog", "Guinea pig")


def batch_of(*ids: str, round_: int = 0, open_: bool = False, classes=CLASSES) -> LabelBatch:
    questions = tuple(
        Question(
            id_,
            rank,
            purpose="train" if rank % 2 else "validation",
            score=-0.5 * rank,
            difficulty=0.25,
            prediction="dog",
            probability=0.75,
            texts={"text": f"caption of {id_}"},
            files={"image": f"/data/{rank}.jpg"} if rank != 2 else {},
        )
        for rank, id_ in enumerate(ids, start=1)
    )
    return LabelBatch(round_, tuple(classes), open_, {"image": 0.75, "text": 0.25}, questions)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def fill(path: Path, labels: dict[str, str], separator: str = ",", encoding: str = "utf-8") -> None:
    """As a spreadsheet does it: opens the file, writes into the column label, saves in its own way."""
    rows = rows_of(path)
    for row in rows:
        row["label"] = labels.get(row["id"], row["label"])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=separator, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def test_the_file_has_what_helps_to_label(tmp_path):
    LabelFile(tmp_path).request(batch_of("a", "b"))
    content = (tmp_path / "to_label.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfid,label,rank,")
    first, second = rows_of(tmp_path / "to_label.csv")
    assert first == {
        "id": "a",
        "label": "",
        "rank": "1",
        "purpose": "train",
        "prediction": "dog",
        "probability": "0.75",
        "score": "-0.5",
        "difficulty": "0.25",
        "weight_image": "0.75",
        "weight_text": "0.25",
        "text": "caption of a",
        "image": "/data/1.jpg",
    }
    assert (second["purpose"], second["image"]) == ("validation", "")


def test_answers_come_in_parts_in_any_order_and_may_change(tmp_path):
    batch = batch_of("a", "b", "c", "d")
    ticket = LabelFile(tmp_path).request(batch)
    path = tmp_path / "to_label.csv"
    assert LabelFile(tmp_path).collect(ticket) == {}
    fill(path, {"c": " dog ", "a": "?"})
    assert LabelFile(tmp_path).collect(ticket) == {"a": None, "c": "dog"}
    fill(path, {"c": "CAT", "d": "guinea  Pig"})
    assert LabelFile(tmp_path).collect(ticket) == {"a": None, "c": "cat", "d": "Guinea pig"}
    path.write_text("label,id\ndog,d\n,a\ndog,b\n")  # only some columns and rows, in another order
    assert LabelFile(tmp_path).collect(ticket) == {"d": "dog", "b": "dog"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_saved_by_a_spreadsheet_of_any_country(tmp_path, separator, encoding):
    classes = ("Köter", "Mieze")
    ticket = LabelFile(tmp_path, separator=separator).request(
        batch_of("ä;1", "b,2", "c", classes=classes)
    )
    path = tmp_path / "to_label.csv"
    assert path.read_text("utf-8-sig").startswith(f"id{separator}label{separator}rank")
    for row_separator in ",;\t":
        path.write_text(
            "\ufeffid,label,text\n"
            '"ä;1",Köter,"two\nlines; with = everything"\n'
            '"b,2",köter,\nc,MIEZE,x\n',
            encoding="utf-8",
        )
        fill(path, {}, row_separator, encoding)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            answers = LabelFile(tmp_path).collect(ticket)
        assert answers == {"ä;1": "Köter", "b,2": "Köter", "c": "Mieze"}
        assert sum(w.category is RlmbaWarning for w in said) == (encoding == "cp1252")


def test_asking_again_keeps_what_was_filled_in(tmp_path):
    batch = batch_of("a", "b")
    ticket = LabelFile(tmp_path).request(batch)
    fill(tmp_path / "to_label.csv", {"a": "dog"})
    before = (tmp_path / "to_label.csv").read_bytes()
    assert LabelFile(tmp_path).request(batch) == ticket
    assert (tmp_path / "to_label.csv").read_bytes() == before
    assert LabelFile(tmp_path).request(replace(batch, classes=(*CLASSES, "emu"))) == ticket
    assert (tmp_path / "to_label.csv").read_bytes() == before
    fill(tmp_path / "to_label.csv", {"b": "emu"})
    assert LabelFile(tmp_path).collect(ticket) == {"a": "dog", "b": "emu"}


def test_asking_for_other_samples_in_a_round_carries_answers_over(tmp_path):
    ticket = LabelFile(tmp_path).request(batch_of("a", "b"))
    LabelFile(tmp_path).request(batch_of("x", "b"))  # nobody has answered
    assert not (tmp_path / "labeled").exists()
    fill(tmp_path / "to_label.csv", {"x": "dog", "b": "?"})
    filled = (tmp_path / "to_label.csv").read_bytes()
    assert LabelFile(tmp_path).request(batch_of("b", "c")) == ticket
    assert [(row["id"], row["label"]) for row in rows_of(tmp_path / "to_label.csv")] == [
        ("b", "?"),
        ("c", ""),
    ]
    assert LabelFile(tmp_path).collect(ticket) == {"b": None}
    assert (tmp_path / "labeled" / "round_000_before_1.csv").read_bytes() == filled


def test_an_earlier_rounds_file_moves_and_can_still_be_corrected(tmp_path):
    first = LabelFile(tmp_path).request(batch_of("a", "b"))
    fill(tmp_path / "to_label.csv", {"a": "dog", "b": "dog"})
    second = LabelFile(tmp_path).request(batch_of("c", round_=1))
    assert first != second
    archived = tmp_path / "labeled" / f"{first}.csv"
    assert LabelFile(tmp_path).collect(first) == {"a": "dog", "b": "dog"}
    fill(archived, {"b": "cat"})
    assert LabelFile(tmp_path).collect(first) == {"a": "dog", "b": "cat"}
    assert LabelFile(tmp_path).collect(second) == {}
    assert LabelFile(tmp_path).request(batch_of("a", "b")) == first  # the earlier round asked again
    assert LabelFile(tmp_path).collect(first) == {"a": "dog", "b": "cat"}
    archived.unlink()
    with pytest.warns(RlmbaWarning, match=r"round_000\.csv is missing"):
        assert LabelFile(tmp_path).collect(first) == {}


def test_a_process_that_dies_between_its_steps_loses_nothing(tmp_path, monkeypatch):
    first = LabelFile(tmp_path).request(batch_of("a"))
    fill(tmp_path / "to_label.csv", {"a": "dog"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("base.LabelBatch.to_dict", "file._columns"):  # before the ticket, before the file
        with monkeypatch.context() as patch:
            patch.setattr(f"rlmba.annotators.{step}", die)
            with pytest.raises(KeyboardInterrupt):
                LabelFile(tmp_path).request(batch_of("b", round_=1))
        assert LabelFile(tmp_path).collect(first) == {"a": "dog"}
    second = LabelFile(tmp_path).request(batch_of("b", round_=1))
    fill(tmp_path / "to_label.csv", {"b": "cat"})
    assert LabelFile(tmp_path).collect(second) == {"b": "cat"}
    assert LabelFile(tmp_path).collect(first) == {"a": "dog"}


def test_a_file_of_somebody_else_is_not_replaced(tmp_path):
    path = tmp_path / "to_label.csv"
    path.write_text("id,label\na,cat\n")
    with pytest.raises(AnnotatorError, match=r"move it away.*--labels"):
        LabelFile(tmp_path).request(batch_of("a"))
    assert path.read_text() == "id,label\na,cat\n"
    path.unlink()
    LabelFile(tmp_path).request(batch_of("a"))
    path.rename(tmp_path / "labeled_elsewhere.csv")
    path.mkdir()
    with pytest.raises(DataError, match="a folder"):
        LabelFile(tmp_path).collect("round_000")


def test_a_file_that_vanished_says_how_to_get_it_again(tmp_path):
    batch = batch_of("a", "b")
    ticket = LabelFile(tmp_path).request(batch)
    content = (tmp_path / "to_label.csv").read_bytes()
    (tmp_path / "to_label.csv").unlink()
    with pytest.raises(
        AnnotatorError, match=re.escape(f"let `rlmba next {tmp_path}` write it again")
    ):
        LabelFile(tmp_path).collect(ticket)
    assert LabelFile(tmp_path).request(batch) == ticket
    assert (tmp_path / "to_label.csv").read_bytes() == content
    with pytest.raises(AnnotatorError, match="ask again"):
        LabelFile(tmp_path).collect("round_007")


def test_an_earlier_rounds_file_saved_over_the_new_one_is_recognized(tmp_path):
    LabelFile(tmp_path).request(batch_of("a", "b"))
    opened = (tmp_path / "to_label.csv").read_bytes()
    second = LabelFile(tmp_path).request(batch_of("c", round_=1))
    (tmp_path / "to_label.csv").write_bytes(opened)
    with pytest.raises(AnnotatorError, match=r"samples of round 0, not of round 1.*rlmba next"):
        LabelFile(tmp_path).collect(second)
    (tmp_path / "to_label.csv").unlink()
    LabelFile(tmp_path).request(batch_of("c", round_=1))
    assert [row["id"] for row in rows_of(tmp_path / "to_label.csv")] == ["c"]


def test_every_slip_is_told_at_once_and_nothing_is_taken(tmp_path):
    ids = [f"img_{i:03d}" for i in range(30)]
    ticket = LabelFile(tmp_path).request(batch_of(*ids))
    path = tmp_path / "to_label.csv"
    path.write_text(
        "id,label\nimg_000,cat\nimg_001,dgo\nimg_0002,cat\n,dog\nimg_003,cat\nimg_003,dog\nimg_004,zebra\n"
    )
    before = path.read_bytes()
    with pytest.raises(DataError) as refused:
        LabelFile(tmp_path).collect(ticket)
    said = str(refused.value).splitlines()
    assert "5 rows cannot be used" in said[0]
    assert said[1].endswith(
        "line 3: label 'dgo' is not one of the classes (did you mean 'dog'?): "
        "'cat', 'dog', 'Guinea pig'; '?' means \"cannot tell\""
    )
    assert said[2].endswith("line 4: id 'img_0002' was not asked for (did you mean 'img_002'?)")
    assert said[3].endswith("line 5: label 'dog' without an id")
    assert said[4].endswith(
        "line 7: id 'img_003' has label 'dog' here and 'cat' in line 6; keep one"
    )
    assert "line 8: label 'zebra' is not one of the classes: 'cat'" in said[5]
    assert len(said) == 6
    assert path.read_bytes() == before

    path.write_text("id,label\n" + "".join(f"{i},zebra\n" for i in ids))
    with pytest.raises(DataError, match=r"30 rows(?s:.*)line 11(?s:.*)and 20 more") as refused:
        LabelFile(tmp_path).collect(ticket)
    assert len(str(refused.value).splitlines()) == 12
    path.write_text("id,label\nimg_001,zebra\n")
    with pytest.raises(DataError, match=r"to_label\.csv, line 2: label 'zebra'.*collect again$"):
        LabelFile(tmp_path).collect(ticket)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("label,text\ncat,x\n", r"expected a column 'id' among \['label', 'text'\]"),
        ("id\na\n", "expected a column 'label'"),
        ("ID,Id,label\na,b,cat\n", r"expected one column 'id', got \['ID', 'Id'\]"),
        ("id,label\na,cat\nb,", None),
        ("id,label\na,cat\nb", "line 3.*cut off"),
        ("", "empty"),
    ],
)
def test_half_a_file(tmp_path, content, said):
    ticket = LabelFile(tmp_path).request(batch_of("a", "b"))
    (tmp_path / "to_label.csv").write_text(content)
    if said is None:
        assert LabelFile(tmp_path).collect(ticket) == {"a": "cat"}
        return
    with pytest.raises(DataError, match=said):
        LabelFile(tmp_path).collect(ticket)


def test_the_same_row_twice(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("Id, LABEL \na,cat\na,Cat\na,\nb,?\nb,?\n")
    assert read_labels(path, ids=["a", "b"], classes=CLASSES, open=False) == {"a": "cat", "b": None}
    path.write_text("id,label\nb,?\nb,dog\n")
    with pytest.raises(DataError, match=r"line 3: id 'b' has label 'dog' here and '\?' in line 2"):
        read_labels(path, ids=["a", "b"], classes=CLASSES, open=False)


def test_names_of_classes(tmp_path):
    path = tmp_path / "l.csv"

    def read(label: str, classes, open_: bool = False) -> str | None:
        write_table(path, {"id": ["a"], "label": [label]})
        return read_labels(path, ids=["a"], classes=classes, open=open_)["a"]

    assert read("Cat", ["cat", "Cat"]) == "Cat"
    assert read("?", ["x"], open_=True) is None
    assert read("e\u0301tude", ["\u00e9tude"]) == "\u00e9tude"
    assert read("'=A", ["=A", "B"]) == "=A"
    assert read("STRASSE", ["straße"]) == "straße"
    with pytest.raises(DataError, match=r"could mean each of \['cat', 'Cat'\]"):
        read("CAT", ["cat", "Cat"])
    with pytest.raises(DataError, match="'100' is not one of the classes"):
        read("100", ["10", "1"])


def test_open_classes_take_new_names(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("id,label\na,DOG\nb,red  panda\nc,Red Panda\nd,'=x\ne,?\n")
    read = read_labels(path, ids="abcde", classes=CLASSES, open=True)
    assert read == {"a": "dog", "b": "red panda", "c": "red panda", "d": "=x", "e": None}


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("x" * 10_000_000, "expected at most 200 characters, got 10,000,000; give it another name"),
        ("x" * 201, "expected at most 200 characters, got 201"),
        ("bell\x07", "expected one line without control characters"),
    ],
)
def test_a_new_class_has_a_short_name_of_one_line(tmp_path, label, problem):
    path = tmp_path / "l.csv"
    path.write_text(f"id,label\na,dog\nb,{label}\n")
    with pytest.raises(DataError, match=f"line 3: label .* new class: {problem}") as caught:
        read_labels(path, ids="ab", classes=CLASSES, open=True)
    assert len(str(caught.value)) < 500 + len(str(path))
    with pytest.raises(DataError, match=r"line 3: label .* is not one of the classes"):
        read_labels(path, ids="ab", classes=CLASSES, open=False)
    path.write_text(f"id,label\n{label},dog\n")
    with pytest.raises(DataError, match=r"line 2: id .* was not asked for") as caught:
        read_labels(path, ids="ab", classes=CLASSES, open=True)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_names_and_texts_that_a_csv_cannot_hold_are_shown_with_a_replacement(tmp_path):
    batch = replace(
        batch_of("a"),
        weights={"v\0": 1.0},
        questions=(Question("a", 1, texts={"n\0te": "a\0b", "half": "\ud800"}),),
    )
    annotator = LabelFile(tmp_path)
    annotator.request(batch)
    (row,) = rows_of(annotator.path)
    assert (row["n\ufffdte"], row["half"], row["weight_v\ufffd"]) == ("a\ufffdb", "?", "1.0")


def test_a_missing_value_as_text_is_a_class_with_a_warning_where_classes_are_open(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,label\na,NaN\nb,#N/A\nc,cat\n")
    with pytest.warns(
        RlmbaWarning, match="'#N/A', 'NaN' is taken as a new class; .* leave these cells"
    ):
        found = read_labels(path, ids=["a", "b", "c"], classes=["cat"], open=True)
    assert found == {"a": "NaN", "b": "#N/A", "c": "cat"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # classes that are listed are meant
        read_labels(path, ids=["a", "b", "c"], classes=["cat", "nan", "#N/A"], open=True)


def test_open_classes_of_a_later_round_are_known_to_corrections(tmp_path):
    first = LabelFile(tmp_path).request(batch_of("a", open_=True, classes=()))
    LabelFile(tmp_path).request(batch_of("b", round_=1, open_=True, classes=("Emu",)))
    fill(tmp_path / "labeled" / f"{first}.csv", {"a": "emu"})
    assert LabelFile(tmp_path).collect(first) == {"a": "Emu"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_numbers_count_as_their_digits(tmp_path, suffix):
    path = tmp_path / f"l.{suffix}"
    write_table(path, {"id": [7, 8, 9], "label": [1.0, None, 0.0], "x": [[1], None, None]})
    assert read_labels(path, ids=["7", "8", "9"], classes=["0", "1"], open=False) == {
        "7": "1",
        "9": "0",
    }
    if suffix == "jsonl":
        path.write_text(json.dumps({"id": 7, "label": ["1"]}))
        with pytest.raises(DataError, match="line 1: label"):
            read_labels(path, ids=["7"], classes=["0", "1"], open=False)


def test_what_other_programs_make_of_ids_and_classes(tmp_path):
    path = tmp_path / "l.csv"
    ids, classes = ["7", "8", "007", "a b", "é"], ["3", "10", "2.5"]

    def read(text: str, *, open_: bool = False, classes=classes) -> dict[str, str | None]:
        path.write_text(text, encoding="utf-8")
        return read_labels(path, ids=ids, classes=classes, open=open_)

    assert read("id,label\n7.0,3.0\n8.0,\n007,10\na\xa0b,2.5\n") == {
        "7": "3", "007": "10", "a b": "2.5",
    }  # fmt: skip
    assert read("id;label\r\n7,0;3,0\r\ne\u0301;10,0\r\n;\r\n") == {"7": "3", "é": "10"}
    assert read("id,label\n7,3.0\n8,3\n", classes=["3", "3.0"]) == {"7": "3.0", "8": "3"}
    assert read("id,label\n7,11.0\n8,11\n", open_=True) == {"7": "11", "8": "11"}
    assert read("id,label\n7,3.0\n8,x\n", open_=True, classes=["x"]) == {"7": "3.0", "8": "x"}
    with pytest.raises(DataError, match=r"id '07' was not asked for"):
        read("id,label\n07,3\n")
    with pytest.raises(DataError, match=r"line 3: id '7' has label '10' here and '3' in line 2"):
        read("id,label\n7.0,3\n7,10\n")


def test_missing_values_and_cells_that_are_no_text(tmp_path):
    path = tmp_path / "l.jsonl"

    def read(*labels: object) -> dict[str, str | None]:
        rows = ({"id": 7 + i, "label": label} for i, label in enumerate(labels))
        path.write_text("\n".join(map(json.dumps, rows)))
        return read_labels(path, ids=["7", "8", "9", "10"], classes=["nan", "1"], open=False)

    assert read(float("nan"), "nan", None, 1.0) == {"8": "nan", "10": "1"}
    with pytest.raises(DataError) as refused:
        read([1], {"a": 1}, 2.0**60, float("inf"))
    said = str(refused.value).splitlines()
    assert "4 rows cannot be used" in said[0]
    assert said[1].endswith("line 1: label: expected text or a number, got [1]")
    assert "line 3: label: expected text or an integer, got the float" in said[3]
    assert "line 4: label: expected text or a finite number" in said[4]


def test_the_nearest_of_very_many_ids_is_found_at_once(tmp_path):
    path = tmp_path / "l.csv"
    ids = [f"{i:06d}_img" for i in range(30_000)]
    write_table(path, {"id": [i + "x" for i in ids], "label": ["cat"] * len(ids)})
    with pytest.raises(DataError, match=r"30000 rows(?s:.*)'000000_imgx'.*mean '000000_img'"):
        read_labels(path, ids=ids, classes=CLASSES, open=False)


TRICKY_IDS = (
    "=1+1|cmd", "+49", "-x", "@SUM(A1)", "'=1", "''=1", "'tis", "a;=1", '"q"', "a,b", "two\nlines",
    "007", "1-2", "1e5", "12345678901234567890", "MAR1", "true", "7", "../../etc/passwd", " x", "é",
    "<script>alert(1)</script>", "C:\\new\\table", "sep=;", "\u202eevil", "＝1",
)  # fmt: skip


def test_ids_that_spreadsheets_would_run_or_rewrite(tmp_path):
    ticket = LabelFile(tmp_path).request(batch_of(*TRICKY_IDS))
    path = tmp_path / "to_label.csv"
    rows = rows_of(path)
    for row in rows:
        for name in ("id", "label", "prediction", "text", "image"):
            assert not re.match(r"[=+\-@\t\r\n＝]", row[name])
    fill(path, {row["id"]: "cat" for row in rows}, ";")
    assert LabelFile(tmp_path).collect(ticket) == dict.fromkeys(TRICKY_IDS, "cat")
    # a spreadsheet may take the apostrophe for a mark of its own and save the cells without
    bare = [i for i in TRICKY_IDS if not i.startswith("'")]
    write_table(path, {"id": bare, "label": ["dog"] * len(bare)})
    assert LabelFile(tmp_path).collect(ticket) == dict.fromkeys(bare, "dog")


def test_texts_are_not_run_wherever_the_file_is_split(tmp_path):
    evil = '=HYPERLINK("http://x")'
    texts = [
        evil,
        f"a;{evil}",
        f"a\t{evil}",
        f"a|{evil}",
        f"a\n{evil}",
        f'a,"{evil}',
        f"\t{evil}",
        "x\0\ud800",
    ]
    questions = tuple(
        Question(f"q{i}", i + 1, texts={"id": t, "=x": t}) for i, t in enumerate(texts)
    )
    LabelFile(tmp_path).request(LabelBatch(0, CLASSES, False, {}, questions))
    content = (tmp_path / "to_label.csv").read_text("utf-8-sig")
    for separator in ",;\t|":
        for row in csv.reader(io.StringIO(content, newline=""), delimiter=separator):
            assert not any(cell.startswith("=") for cell in row)
    assert list(rows_of(tmp_path / "to_label.csv")[0])[-2:] == ["id_", "'=x"]


def test_a_text_longer_than_a_spreadsheets_cell_is_cut(tmp_path):
    question = Question("a", 1, texts={"text": "x" * 100_000})
    LabelFile(tmp_path).request(LabelBatch(0, CLASSES, False, {}, (question,)))
    (text,) = read_table(tmp_path / "to_label.csv").columns["text"]
    assert text == "x" * 32_000 + " […]"


@settings(max_examples=500)
@given(st.text("'=+-@;,|\t\r\n\"a10 .:mr", max_size=8))
def test_guarding_is_undone_exactly(text):
    assert unguarded(guarded_name(text)) == text
    assert not re.search(r"(^|[,;|\t\r\n\"])[=+\-@]", guarded(text))


def test_options(tmp_path):
    asked = create("file", tmp_path, {"path": "sub/mine.csv", "separator": ";"})
    ticket = asked.request(batch_of("a"))
    fill_in = tmp_path / "sub" / "mine.csv"
    assert fill_in.read_text("utf-8-sig").startswith("id;label;")
    fill_in.write_text("id;label\na;dog\n")
    assert create("file", tmp_path, {"path": "sub/mine.csv"}).collect(ticket) == {"a": "dog"}
    for options, said in [
        ({"path": "x.xlsx"}, r"\.csv"),
        ({"separator": ":"}, "separator"),
        ({"x": 1}, "path"),
    ]:
        with pytest.raises(UsageError, match=said):
            create("file", tmp_path, options)


def test_an_id_that_no_file_can_hold(tmp_path):
    with pytest.raises(DataError, match="NUL"):
        LabelFile(tmp_path).request(batch_of("a\0b"))
    assert not (tmp_path / "to_label.csv").exists()
