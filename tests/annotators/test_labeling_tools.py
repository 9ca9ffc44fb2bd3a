"""Batches for CVAT and Argilla, and the exports of these tools."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from rlmba.annotators import LabelBatch, Question, create, read_labels
from rlmba.annotators.cvat import read_tags
from rlmba.errors import DataError, RlmbaWarning, UsageError

IDS = ("a/1", "b c", "ü%2F", "d.jpg")
CLASSES = ("cat", "dog")


@pytest.fixture
def batch(tmp_path):
    questions = []
    for rank, id_ in enumerate(IDS, 1):
        path = tmp_path / f"picture{rank}.PNG"
        Image.new("RGB", (8, 6), (rank, 0, 0)).save(path)
        files = {"image": str(path)}
        texts = {"caption": f"about {id_}"}
        questions.append(Question(id_, rank, score=0.5, difficulty=0.25, texts=texts, files=files))
    return LabelBatch(3, CLASSES, False, {}, tuple(questions))


def export_of_cvat(names_and_tags) -> str:
    """An export in CVAT's format (docs.cvat.ai, "CVAT for images 1.1")."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    ET.SubElement(task, "name").text = "round 3"
    label = ET.SubElement(ET.SubElement(task, "labels"), "label")
    ET.SubElement(label, "name").text = "cat"
    for i, (name, tags) in enumerate(names_and_tags):
        image = ET.SubElement(root, "image", id=str(i), name=name, width="8", height="6")
        ET.SubElement(image, "box", label="cat", xtl="0", ytl="0", xbr="1", ybr="1", z_order="0")
        for tag in tags:
            made = ET.SubElement(image, "tag", label=tag, source="manual")
            ET.SubElement(made, "attribute", name="sure").text = "true"
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def test_cvat_shows_the_images_by_rank_and_its_tags_come_back_by_id(tmp_path, batch):
    annotator = create("file", tmp_path, {"tool": "cvat"})
    ticket = annotator.request(batch)
    labels = json.loads((tmp_path / "cvat" / "labels.json").read_text())
    assert [(entry["name"], entry["type"]) for entry in labels] == [
        ("cat", "tag"),
        ("dog", "tag"),
        ("?", "tag"),
    ]
    with zipfile.ZipFile(tmp_path / "cvat" / "round_003.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        for question, name in zip(batch.questions, names, strict=True):
            assert archive.read(name) == Path(question.files["image"]).read_bytes()
    assert names == sorted(names)
    assert names[0] == "0001/a%2F1.png"
    assert {p.name for p in (tmp_path / "cvat").iterdir()} == {"labels.json", "round_003.zip"}

    text = export_of_cvat(zip(names, [["cat"], ["?"], [], ["Dog", "dog"]], strict=True))
    path = tmp_path / "annotations.xml"
    path.write_text(text, encoding="utf-8")
    expected = {"a/1": "cat", "b c": None, "d.jpg": "dog"}
    assert read_labels(path, ids=IDS, classes=CLASSES, open=False) == expected
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", text)
    assert read_labels(tmp_path / "export.zip", ids=IDS, classes=CLASSES, open=False) == expected
    assert (
        annotator.collect(ticket) == {}
    )  # the table is also written, for samples that CVAT cannot show


def test_labels_of_cvat_that_are_not_allowed_are_named_by_line(tmp_path):
    path = tmp_path / "annotations.xml"
    text = export_of_cvat([("a.png", ["cat", "dog"]), ("b.png", ["bird"]), ("z.png", ["cat"])])
    path.write_text(text.replace("<image", "\n<image").replace("<tag", "\n<tag"), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_labels(path, ids=["a", "b"], classes=CLASSES, open=False)
    message = str(caught.value)
    assert "line 5: id 'a' has label 'dog' here and 'cat' in line 4" in message
    assert "line 7: label 'bird' is not one of the classes" in message
    assert "line 9: id 'z' was not asked for" in message


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
    '<annotations><image name="a.png"><tag label="&c;"/></image></annotations>'
)
SECRET = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "expected no document type declaration"),
        (SECRET, "expected no document type declaration"),
        ("<annotations><image name='a'>", "is not XML"),
        ("id,label\na,cat\n", "is not XML"),
        ("", "is not XML"),
        ("<osm/>", "expected <annotations>, got <osm>"),
        ("<annotations><image id='0'/></annotations>", "line 1: expected <image name=...>"),
        ("<annotations><image name='a'><tag/></image></annotations>", "expected <tag label=...>"),
        ("<annotations><track id='0' label='cat'/></annotations>", "got tracks of a video"),
        ("<annotations><image name='a'><tag label='&x;'/></image></annotations>", "is not XML"),
    ],
)
def test_a_file_that_is_not_an_export_of_cvat(tmp_path, content, message):
    path = tmp_path / "annotations.xml"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_tags(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations.xml", content)
    with pytest.raises(DataError, match=message):
        read_tags(tmp_path / "a.zip")


def test_archives_that_are_not_exports_of_cvat(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.raises(DataError, match="no such file"):
        read_tags(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "cat")
    with pytest.raises(DataError, match=r"expected annotations\.xml in the archive"):
        read_tags(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", "<annotations>" + " " * 5000 + "</annotations>")
    damaged = bytearray(path.read_bytes())
    damaged[60:70] = b"\xff" * 10
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match=r"could not be read|is not XML"):
        read_tags(path)


def test_the_size_of_an_export_is_limited_after_decompression(tmp_path, monkeypatch):
    monkeypatch.setattr("rlmba.annotators.cvat.LARGEST", 1 << 21)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", "<annotations>" + " " * (1 << 22) + "</annotations>")
    with pytest.raises(DataError, match="expected at most"):
        read_tags(path)


def test_samples_that_cvat_cannot_show(tmp_path, batch):
    first, *rest = batch.questions
    some = LabelBatch(3, CLASSES, False, {}, (Question("x", 1, texts={"text": "t"}), *rest))
    with pytest.warns(RlmbaWarning, match=r"1 of 4 samples have no readable image.*'x'"):
        create("file", tmp_path, {"tool": "cvat"}).request(some)
    none = LabelBatch(4, CLASSES, False, {}, some.questions[:1])
    with pytest.raises(DataError, match="expected samples with an image"):
        create("file", tmp_path / "none", {"tool": "cvat"}).request(none)
    long = LabelBatch(4, CLASSES, False, {}, (Question("é" * 60, 1, files=first.files),))
    with pytest.raises(DataError, match="fits into a file name of 255"):
        create("file", tmp_path / "long", {"tool": "cvat"}).request(long)
    wide = LabelBatch(4, ("c" * 65,), False, {}, batch.questions)
    with pytest.raises(DataError, match="at most 64 characters, got 65"):
        create("file", tmp_path / "wide", {"tool": "cvat"}).request(wide)
    with pytest.raises(UsageError, match=r"expected one of \['cvat', 'argilla'\], got 'prodigy'"):
        create("file", tmp_path, {"tool": "prodigy"})


def written(folder):
    names = (".argilla/dataset.json", ".argilla/settings.json", "records.json")
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in names]


def test_a_dataset_of_argilla_has_the_batch(tmp_path, batch):
    create("file", tmp_path / "My Project", {"tool": "argilla"}).request(batch)
    dataset, settings, records = written(tmp_path / "My Project" / "argilla" / "round_003")
    assert dataset["name"] == "my_project_round_003"
    assert [f["name"] for f in settings["fields"]] == ["sample", "caption_text", "image"]
    (question,) = settings["questions"]
    assert [o["value"] for o in question["settings"]["options"]] == ["cat", "dog", "?"]
    assert [r["id"] for r in records] == list(IDS)
    assert records[0]["metadata"] == {"rank": 1, "score": 0.5, "difficulty": 0.25}
    assert records[0]["fields"]["caption_text"] == "about a/1"
    assert records[0]["fields"]["image"].startswith("data:image/png;base64,")
    assert not any(r["suggestions"] for r in records)


def test_argilla_itself_reads_the_dataset_and_writes_the_responses(tmp_path, batch, monkeypatch):
    rg = pytest.importorskip("argilla", reason="Argilla is not installed")
    from unittest.mock import MagicMock
    from uuid import uuid4

    from argilla.records._io import JsonIO

    monkeypatch.setattr(rg.Argilla, "_get_default", MagicMock())  # a connection; no request is made
    create("file", tmp_path, {"tool": "argilla"}).request(
        LabelBatch(3, CLASSES, True, {}, batch.questions)
    )
    folder = tmp_path / "argilla" / "round_003"
    settings = rg.Settings.from_json(folder / ".argilla" / "settings.json")
    settings.validate()
    assert [q.name for q in settings.questions] == ["label", "new_class"]
    records = JsonIO._records_from_json(folder / "records.json")
    people = [uuid4() for _ in range(3)]
    for record, said in zip(records, (["cat", "cat", "dog"], ["?"], ["dog"], []), strict=True):
        for person, value in zip(people, said, strict=False):
            record.responses.add(rg.Response("label", value, user_id=person))
        record._model.status = "completed" if said else "pending"
    records[2].responses.add(rg.Response("new_class", "fox", user_id=people[0]))
    path = JsonIO.to_json(records, tmp_path / "records.json")
    found = read_labels(path, ids=IDS, classes=CLASSES, open=True)
    assert found == {"a/1": "cat", "b c": None, "ü%2F": "fox"}


def records_file(path, *records):
    path.write_text(json.dumps([{"fields": {}, "vectors": {}, **record} for record in records]))
    return path


def answer(*values, question="label"):
    return {question: [{"value": v, "user_id": str(i)} for i, v in enumerate(values)]}


def test_responses_of_several_people(tmp_path):
    path = records_file(
        tmp_path / "records.json",
        {"id": "a", "responses": answer("cat", "dog", "cat"), "status": "completed"},
        {"id": "b", "responses": answer("cat", "dog"), "status": "completed"},
        {"id": "c", "responses": answer("cat"), "status": "pending"},
        {"id": "d", "responses": {}, "status": "pending"},
        {"id": "e", "responses": answer(" ", question="new_class") | answer("?")},
    )
    with pytest.warns(RlmbaWarning, match="equally divided on 1 records.*'b'"):
        found = read_labels(path, ids="abcde", classes=CLASSES, open=False)
    assert found == {"a": "cat", "e": None}


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (answer("cat", question="rating"), r"row 1: expected responses to the question 'label'"),
        (answer(["cat"]), r"row 1: question 'label': expected responses with one text"),
        ({"label": ["cat"]}, r"row 1: question 'label': expected responses with one text"),
        ({"label": "cat"}, r"row 1: question 'label': expected responses with one text"),
        ({"label": 3}, r"row 1: question 'label': expected responses with one text"),
        (["cat"], "row 1: responses: expected an object"),
        (answer("bird"), "label 'bird' is not one of the classes"),
    ],
)
def test_responses_that_cannot_be_used(tmp_path, responses, message):
    path = records_file(tmp_path / "records.json", {"id": "a", "responses": responses})
    with pytest.raises(DataError, match=message):
        read_labels(path, ids=["a"], classes=CLASSES, open=False)


def test_an_oracle_reads_exports_too(tmp_path, batch):
    path = tmp_path / "annotations.xml"
    path.write_text(export_of_cvat([("a%2F1.png", ["cat"])]), encoding="utf-8")
    oracle = create("oracle", tmp_path, {"truth": path})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ticket = oracle.request(LabelBatch(0, CLASSES, False, {}, batch.questions[:1]))
        assert oracle.collect(ticket) == {"a/1": "cat"}
