"""Exports of Label Studio that people bring back, and numbers as other programs write them."""

from __future__ import annotations

import json

import pytest

from rlmba.annotators import Question, create
from rlmba.annotators.labelstudio.labeling import CANNOT_TELL_ALIAS
from rlmba.errors import DataError, RlmbaWarning
from tests.helpers.labelstudio_files import annotation, batch, exported, task


def test_an_export_is_read_by_majority(offline):
    ticket = offline.request(batch(8))
    exported(
        offline,
        task(0, annotation("cat"), annotation("$image"), annotation("$image")),
        task(1, annotation(CANNOT_TELL_ALIAS), annotation(CANNOT_TELL_ALIAS), annotation("cat")),
        task(2, annotation("cat", was_cancelled=True), annotation()),
        task(3, annotation("cat"), annotation("cat"), annotation("$image", ground_truth=True)),
        task(4, annotation("cat"), annotation("$image", was_cancelled=True)),
        task(5),
        task(6, annotation("cat"), round_=2),
        task(9, sample="elsewhere"),
    )
    assert offline.collect(ticket) == {"a/0": "$image", "a/1": None, "a/3": "$image", "a/4": "cat"}


def test_ties_are_absent_noted_and_asked_again(offline):
    ticket = offline.request(batch())
    tied = task(1, annotation("cat"), annotation("$image"))
    exported(offline, task(0, annotation("cat")), tied)
    with pytest.warns(RlmbaWarning, match="asked again; import .*round_003_again.json"):
        assert offline.collect(ticket) == {"a/0": "cat"}
    assert offline.tickets.read(ticket)[1] == {"ties": {"a/1": 2}}
    (again,) = json.loads((offline.folder / "labelstudio/round_003_again.json").read_text())
    assert again["data"]["sample_id"] == "a/1"
    assert again["data"]["about"].endswith("asked again: 2 answers are equally divided")
    assert "predictions" not in again
    exported(offline, task(0, annotation("cat")), tied, task(5, annotation("$image"), sample="a/1"))
    assert offline.collect(ticket) == {"a/0": "cat", "a/1": "$image"}
    assert not (offline.folder / "labelstudio/round_003_again.json").exists()
    assert offline.tickets.read(ticket)[1] == {"ties": {}}


def test_new_classes_in_an_open_batch(offline):
    ticket = offline.request(batch(open_=True))
    exported(
        offline,
        task(0, annotation("cat", new="  a bird ")),
        task(1, annotation("renamed")),
        task(2, annotation("cat", new=" ")),
    )
    assert offline.collect(ticket) == {"a/0": "a bird", "a/1": "renamed", "a/2": "cat"}


def test_a_label_that_is_no_class_names_its_task(offline):
    ticket = offline.request(batch())
    exported(offline, task(0, annotation("cat")), task(1, annotation("cats")))
    with pytest.raises(
        DataError, match=r"task 71 \(sample 'a/1'\): label 'cats' .*\(did you mean 'cat'"
    ):
        offline.collect(ticket)
    exported(offline, task(2, annotation("cat", new="bird")))
    with pytest.raises(DataError, match="label 'bird'"):
        offline.collect(ticket)


def test_two_classes_in_one_annotation(offline):
    ticket = offline.request(batch())
    both = annotation("cat")
    both["result"][0]["value"]["choices"].append("$image")
    exported(offline, task(1, both))
    with pytest.raises(DataError, match=r"task 71 .*expected one class, got \['\$image', 'cat'\]"):
        offline.collect(ticket)


MINIMAL = [
    {
        "text": "x",
        "sample_id": "a/0",
        "round": 3,
        "id": 9,
        "label": "cat",
        "annotator": 1,
        "annotation_id": 4,
    },
    {
        "text": "x",
        "sample_id": "a/1",
        "round": 3,
        "id": 10,
        "label": {"choices": ["$image"]},
        "annotation_id": 5,
    },
    {"text": "x", "sample_id": "a/1", "round": 3, "id": 10, "label": "$image", "annotation_id": 6},
    {"text": "x", "sample_id": "a/1", "round": 3, "id": 10, "label": "cat", "annotation_id": 7},
    {"text": "x", "sample_id": "a/2", "round": 2, "id": 11, "label": "cat", "annotation_id": 8},
]


def test_json_min(offline):
    ticket = offline.request(batch())
    exported(offline, *MINIMAL)
    assert offline.collect(ticket) == {"a/0": "cat", "a/1": "$image"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv(offline, encoding):
    ticket = offline.request(batch(open_=True))
    text = (
        '"id","label","new_class","round","sample_id","text"\r\n'
        '9,"cat","",3,"a/0","two\r\nlines, ""quoted"""\r\n'
        '10,"cat","Vögel",3.0,"a/1","x"\r\n'
        '11,"","",3,"a/2","x"\r\n'
    )
    (offline.folder / "labelstudio-export.csv").write_bytes(text.encode(encoding))
    assert offline.collect(ticket) == {"a/0": "cat", "a/1": "Vögel"}


NUMBERS = tuple(Question(i, rank) for rank, i in enumerate(["7", "8", "007", "n/1"], start=1))


@pytest.mark.parametrize("sample", [7, 7.0, "7", "7.0", " 7 "])
@pytest.mark.parametrize("round_", [3, 3.0, "3", "3.0"])
def test_ids_rounds_and_classes_as_other_programs_write_numbers(offline, sample, round_):
    ticket = offline.request(batch(questions=NUMBERS, classes=("3", "10")))
    exported(offline, task(0, annotation("3.0"), sample=sample, round_=round_))
    assert offline.collect(ticket) == {"7": "3"}
    exported(offline, {"id": 1, "sample_id": sample, "round": round_, "label": 10.0})
    assert offline.collect(ticket) == {"7": "10"}


def test_numbers_of_a_csv_that_pandas_or_a_spreadsheet_has_saved(offline):
    ticket = offline.request(batch(questions=NUMBERS, classes=(), open_=True))
    path = offline.folder / "labelstudio-export.csv"
    path.write_text("id,label,round,sample_id\n1,3.0,3.0,7.0\n2,10.0,3.0,8.0\n3,,3.0,007\n")
    assert offline.collect(ticket) == {"7": "3", "8": "10"}
    path.write_bytes(
        "\ufeffid;label;round;sample_id\r\n1;3,0;3,0;7,0\r\n2;CAT;3;n/1\r\n;;;\r\n".encode()
    )
    assert offline.collect(ticket) == {"7": "3", "n/1": "CAT"}


def test_missing_values_are_no_answers(offline):
    ticket = offline.request(batch(questions=NUMBERS, open_=True))
    row = {"id": 1, "sample_id": "7", "round": 3}
    exported(offline, {**row, "label": None}, {**row, "label": float("nan")})
    assert offline.collect(ticket) == {}
    exported(offline, {**row, "label": "nan"})
    assert offline.collect(ticket) == {"7": "nan"}


def test_answers_that_belong_to_nothing_are_counted_and_said(offline):
    first = offline.request(batch(questions=NUMBERS))
    latest = offline.request(batch(questions=(Question("x", 1),), round_=4))
    exported(
        offline,
        task(0, annotation("cat"), sample="7"),
        task(1, annotation("cat"), sample="nobody"),
        task(2, annotation("cat"), sample="nothing", round_=4),
        task(3, annotation("cat"), sample="7", round_=9),
        task(4, annotation("cat"), sample="7", round_="three"),
        task(5, annotation("cat"), sample=[7], round_=4),
        task(6, annotation("cat", was_cancelled=True), sample="nobody"),
        task(7, sample="nobody"),
        task(8, annotation("cat"), sample="x", round_=4),
    )
    with pytest.warns(RlmbaWarning, match="not used") as said:
        assert offline.collect(first) == {"7": "cat"}
    assert "labelstudio: 1 answered tasks" in str(said[0].message)
    assert "task 71: sample_id 'nobody' was not asked for in round 3" in str(said[0].message)
    with pytest.warns(RlmbaWarning, match="not used") as said:
        assert offline.collect(latest) == {"x": "cat"}
    (message,) = [str(w.message) for w in said]
    assert "4 answered tasks" in message
    assert "task 72: sample_id 'nothing' was not asked for in round 4; " in message
    assert "task 73: round 9 was not asked; task 74: round 'three' was not asked; ..." in message


def test_answers_in_other_controls_and_labels_that_are_no_text(offline):
    ticket = offline.request(batch())
    renamed, skipped = annotation("cat"), annotation("cat", was_cancelled=True)
    for made in (renamed, skipped):
        made["result"][0]["from_name"] = "choice"
    exported(offline, task(0, renamed), task(1, skipped), task(2, annotation("cat")))
    with pytest.warns(
        RlmbaWarning, match=r"1 answered tasks are not used \(task 70: no answer in 'label'"
    ):
        assert offline.collect(ticket) == {"a/2": "cat"}
    exported(offline, task(0, annotation({"a": 1})))
    with pytest.raises(DataError, match=r"task 70 .*expected text or a number, got \{'a': 1\}"):
        offline.collect(ticket)


class Server:
    """A server that gives numbers back as another program has written them."""

    def __init__(self):
        self.there = []

    def label_config(self, project):
        return ""

    def set_label_config(self, project, config):
        pass

    def tasks(self, project, round_, form=None):
        return self.there

    def add_tasks(self, project, tasks):
        self.there += [
            {**t, "id": len(self.there) + k, "annotations": []} for k, t in enumerate(tasks)
        ]


def test_questions_on_a_server_are_known_by_what_their_ids_mean(tmp_path, monkeypatch):
    server = Server()
    annotator = create("labelstudio", tmp_path, {"project": 1})
    monkeypatch.setattr(annotator, "_connect", lambda: server)
    ticket = annotator.request(batch(questions=NUMBERS))
    assert len(server.there) == len(NUMBERS)
    server.there[0]["data"] |= {"sample_id": 7, "round": "3.0"}
    server.there[1]["data"] |= {"sample_id": 8.0}
    assert annotator.request(batch(questions=NUMBERS)) == ticket
    assert len(server.there) == len(NUMBERS)
    server.there[0]["annotations"] = [annotation("cat"), annotation("$image")]
    server.there[1]["annotations"] = [annotation("CAT")]
    with pytest.warns(RlmbaWarning, match="equally divided on 1 questions"):
        assert annotator.collect(ticket) == {"8": "cat"}
    (again,) = server.there[len(NUMBERS) :]
    assert (again["data"]["sample_id"], again["data"]["again"]) == (7, 2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labelstudio-export.json", '[{"id": 1, "anno', "is damaged"),
        ("labelstudio-export.json", '{"id": 1}', "expected a valid array"),
        ("labelstudio-export.json", '[{"id": 1, "data": {}}]', "task 1: expected annotations"),
        (
            "labelstudio-export.json",
            '[{"id": 1, "image": "x"}]',
            "expected a task with sample_id and round",
        ),
        ("labelstudio-export.json", "\xff\xfe", "line 1: expected text in UTF-8"),
        ("labelstudio-export.csv", "id,label,round,sample_id\n1,cat,3", "line 2.*cut off"),
    ],
)
def test_damaged_exports(offline, name, content, said):
    ticket = offline.request(batch())
    path = offline.folder / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=said) as caught:
        offline.collect(ticket)
    assert str(path) in str(caught.value)


def test_an_export_of_another_round_is_pointed_out(offline):
    ticket = offline.request(batch())
    exported(offline, task(0, annotation("cat"), round_=2))
    with pytest.warns(RlmbaWarning, match="has no tasks of round 3"):
        assert offline.collect(ticket) == {}


def test_a_named_export_is_read_though_there_is_a_server(tmp_path):
    create("labelstudio", tmp_path, {"url": ""}).request(batch())
    named = create("labelstudio", tmp_path, {"export": "mine.json"})
    with pytest.raises(DataError, match=r"mine\.json: no such file"):
        named.collect("round_003")
    exported(named, task(0, annotation("cat")), name="mine.json")
    assert named.collect("round_003") == {"a/0": "cat"}
