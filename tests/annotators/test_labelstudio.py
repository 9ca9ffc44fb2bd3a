"""Label Studio without a server: labeling configs, files to import, exports that people bring back."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.labelstudio.labeling import CANNOT_TELL_ALIAS, column, extended, variables
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning, UsageError

CLASSES = ("cat", "<b>dog</b>", 'a "b" & c', "$image")


def batch(n=3, round_=3, open_=False, classes=CLASSES, **changes) -> LabelBatch:
    asked = tuple(
        Question(f"a/{i}", i + 1, prediction="cat", probability=0.5, texts={"text": f"<i>{i}</i>"})
        for i in range(n)
    )
    return LabelBatch(round_, classes, open_, {"text": 1.0}, changes.get("questions", asked))


@pytest.fixture
def offline(tmp_path):
    return create("labelstudio", tmp_path, {"url": ""})


def annotation(label=None, *, new=None, **fields):
    result = []
    if label is not None:
        value = {"choices": [label]}
        result.append(
            {"value": value, "id": "x", "from_name": "label", "to_name": "about", "type": "choices"}
        )
    if new is not None:
        result.append(
            {
                "value": {"text": [new]},
                "from_name": "new_class",
                "to_name": "about",
                "type": "textarea",
            }
        )
    fields = {"was_cancelled": False, "ground_truth": False, "completed_by": 1} | fields
    return {"result": result} | fields


def task(number, *annotations, sample=None, round_=3, **data):
    """As Label Studio 1.23 exports it (JSON), less what nobody reads."""
    data = {"sample_id": f"a/{number}" if sample is None else sample, "round": round_} | data
    return {
        "id": 70 + number, "annotations": list(annotations), "file_upload": None,
        "drafts": [{"result": annotation("cat")["result"]}], "predictions": [3], "data": data, "meta": {},
    }  # fmt: skip


def exported(offline, *tasks, name="labelstudio-export.json"):
    (offline.folder / name).write_text(json.dumps(tasks), encoding="utf-8")


# -- the labeling config


def test_a_config_shows_everything_and_offers_every_class():
    columns = [column("image", "Image"), column("film", "Video"), column("ü$ <b>", "Text")]
    root = ET.fromstring(extended("", columns, CLASSES, open_classes=True))
    keys = {
        element.get("value")[1:]: element.tag
        for element in root.iter()
        if element.get("name") and element.get("value")
    }
    assert keys == {
        "image": "Image", "film_video": "Video", "____b__2239a7e6_text": "Text", "about": "Text",
    }  # fmt: skip
    choices = [(c.get("alias") or c.get("value")) for c in root.iter("Choice")]
    assert choices == [*CLASSES, CANNOT_TELL_ALIAS]
    assert root.find(".//TextArea").get("name") == "new_class"
    assert not any(c.get("value").startswith("$i") for c in root.iter("Choice"))
    assert variables(extended("", columns, CLASSES, open_classes=True)) == set(keys)


def test_a_config_grows_and_keeps_what_people_changed():
    first = extended("", [column("image", "Image")], ("cat",), open_classes=False)
    edited = first.replace("<Choices", '<!-- ours --><Header value="Look"/><Choices').replace(
        "single", "single-radio"
    )
    second = extended(
        edited, [column("image", "Image"), column("t", "Text")], ("cat", "dog"), open_classes=False
    )
    assert "<!-- ours -->" in second
    assert 'value="Look"' in second
    assert "single-radio" in second
    root = ET.fromstring(second)
    assert [c.get("alias") or c.get("value") for c in root.iter("Choice")] == [
        "cat",
        "dog",
        CANNOT_TELL_ALIAS,
    ]
    assert variables(second) == {"image", "t_text", "about"}
    assert extended(second, [column("t", "Text")], ("dog",), open_classes=False) == second


@pytest.mark.parametrize(
    "names", [("text", "te xt", "te_xt", "é"), ("label", "about", "image", "photo", "photo_image")]
)
def test_no_two_modalities_share_a_key(names):
    columns = [column(name, tag) for name in names for tag in ("Text", "Image")]
    keys = [c.key for c in columns]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)
    assert not {"label", "about", "sample_id", "round", "score"} & set(keys)


@pytest.mark.parametrize("name", ["a\x00b", " ", CANNOT_TELL_ALIAS])
def test_classes_that_cannot_be_offered(name, offline):
    with pytest.raises(DataError, match="rename it"):
        offline.request(batch(classes=("cat", name)))


def test_a_class_called_cannot_tell_is_a_class(offline):
    ticket = offline.request(batch(classes=("cat", "cannot tell")))
    exported(offline, task(0, annotation("cannot tell")), task(1, annotation(CANNOT_TELL_ALIAS)))
    assert offline.collect(ticket) == {"a/0": "cannot tell", "a/1": None}
    values = [
        c.get("value")
        for c in ET.parse(offline.folder / "labelstudio/labeling_config.xml").iter("Choice")
    ]
    assert len(set(values)) == 3


def test_a_config_that_is_not_xml(offline):
    offline.request(batch())
    (offline.folder / "labelstudio/labeling_config.xml").write_text("<View>")
    with pytest.raises(AnnotatorError, match="is not XML"):
        offline.request(batch())


# -- files to import


def test_the_import_file_holds_tasks_with_predictions(offline, tmp_path):
    picture = tmp_path / "x.png"
    picture.write_bytes(b"\x89PNG not really")
    asked = (
        Question(
            "a", 1, "validation", 0.5, 0.25, "cat", 0.75, {"text": "<i>"}, {"image": str(picture)}
        ),
        Question("b", 2, score=float("nan")),
    )
    ticket = offline.request(batch(questions=asked))
    first, second = json.loads((offline.folder / f"labelstudio/{ticket}.json").read_text())
    assert first["data"] == {
        "sample_id": "a", "round": 3, "rank": 1, "purpose": "validation", "uncertainty": 0.25, "score": 0.5,
        "about": "question 1 of round 3, for validation: a", "text": "<i>",
        "image": "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
    }  # fmt: skip
    (prediction,) = first["predictions"]
    assert prediction["model_version"] == "round 3"
    assert prediction["score"] == 0.75
    assert prediction["result"][0]["value"] == {"choices": ["cat"]}
    assert second["data"]["text"] == second["data"]["image"] == ""
    assert second["data"]["score"] is None
    assert "predictions" not in second
    assert offline.collect(ticket) == {}


def test_sound_and_large_files_are_not_put_into_tasks(offline, tmp_path):
    sound, film = tmp_path / "x.wav", tmp_path / "x.mp4"
    sound.write_bytes(b"RIFF")
    with film.open("wb") as file:
        file.truncate(9 << 20)
    asked = (
        Question(
            "a", 1, files={"sound": str(sound), "clip": str(film), "other": str(tmp_path / "x.npy")}
        ),
    )
    with pytest.warns(
        RlmbaWarning,
        match="3 files of this batch cannot be shown; the first is of sample 'a', sound",
    ):
        offline.request(batch(questions=asked))
    (made,) = json.loads((offline.folder / "labelstudio/round_003.json").read_text())
    about = made["data"]["about"]
    assert "plays sound only from a server: use media=local" in about
    assert "9 MiB, more than the 8 MiB" in about
    assert "it is not an image, sound or video" in about


def test_local_files_are_addresses_below_the_document_root(tmp_path):
    (tmp_path / "served/a b").mkdir(parents=True)
    picture = tmp_path / "served/a b/x.png"
    picture.write_bytes(b"x")
    options = {"url": None, "media": "local", "document_root": str(tmp_path / "served")}
    local = create("labelstudio", tmp_path / "p", options)
    local.request(batch(questions=(Question("a", 1, files={"image": str(picture)}),)))
    (made,) = json.loads((tmp_path / "p/labelstudio/round_003.json").read_text())
    assert made["data"]["image"] == "/data/local-files/?d=a%20b/x.png"
    options["document_root"] = str(tmp_path / "served/a b")
    with pytest.raises(AnnotatorError, match="in a folder below document_root"):
        create("labelstudio", tmp_path / "p", options).request(
            batch(questions=(Question("a", 1, files={"image": str(picture)}),))
        )


# -- exports


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

    def tasks(self, project, round_):
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


# -- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"media": "magic"}, "media: expected one of"),
        ({"media": "upload", "url": ""}, "needs a server"),
        ({"media": "local"}, "needs document_root"),
        ({"project": "3"}, "option project: expected a valid integer"),
        ({"timeout": 0}, "timeout: expected seconds"),
        ({"server": "x"}, "has no option 'server'"),
    ],
)
def test_wrong_options(tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        create("labelstudio", tmp_path, options)


def test_a_document_root_that_is_no_folder(tmp_path):
    options = {"url": "", "media": "local", "document_root": "nowhere"}
    with pytest.raises(UsageError, match="document_root: expected a folder"):
        create("labelstudio", tmp_path, options).request(batch())


def test_a_key_that_cannot_be_read_is_not_printed(tmp_path, monkeypatch):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    with pytest.raises(
        AnnotatorError, match=r"variable LABEL_STUDIO_API_KEY: expected the key.*nothing"
    ):
        create("labelstudio", tmp_path).request(batch())
    monkeypatch.setenv("OTHER", "two secrets")
    with pytest.raises(
        AnnotatorError, match=r"variable OTHER: expected the key.*something else"
    ) as caught:
        create("labelstudio", tmp_path, {"key_variable": "OTHER"}).request(batch())
    assert "secrets" not in str(caught.value)
    with pytest.raises(AnnotatorError, match="absent: no such file"):
        create("labelstudio", tmp_path, {"key_file": "absent"}).request(batch())


def test_a_damaged_state_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("label_studio_sdk")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "k" * 40)
    (tmp_path / "labelstudio").mkdir()
    (tmp_path / "labelstudio/server.json").write_text("{")
    with pytest.raises(AnnotatorError, match=r"server\.json is damaged"):
        create("labelstudio", Path(tmp_path), {"url": "http://127.0.0.1:9"}).request(batch())
