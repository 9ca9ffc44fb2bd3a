"""Label Studio without a server: labeling configs, files to import, options."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rlmba.annotators import Question, create
from rlmba.annotators.labelstudio.labeling import (
    CANNOT_TELL_ALIAS,
    column,
    extended,
    same,
    variables,
    with_classes,
)
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning, UsageError
from tests.helpers.labelstudio_files import CLASSES, annotation, batch, exported, guide, task


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


def test_descriptions_of_classes_are_hints(offline):
    described = {"cat": "of any\nage", "$image": "costs $5", "<b>dog</b>": "<i>&", "gone": "x"}
    guide(offline.folder, class_descriptions=described)
    offline.request(batch())
    path = offline.folder / "labelstudio/labeling_config.xml"
    choices = list(ET.parse(path).iter("Choice"))
    hints = {c.get("alias") or c.get("value"): c.get("hint") for c in choices}
    assert hints["cat"] == "of any age"
    assert hints["<b>dog</b>"] == "<i>&"
    assert hints["$image"].replace("\N{WORD JOINER}", "") == "costs $5" != hints["$image"]
    assert hints[CANNOT_TELL_ALIAS] is None
    path.write_text(path.read_text().replace("of any age", "edited"))
    offline.request(batch())
    assert "edited" in path.read_text()
    assert "of any age" not in path.read_text()


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


THEIRS = """<View><!-- ours --><Image name="pic" value="$photo"/>
<Choices name="kind" toName="pic,other"><View><Choice value="Cat" hint="x"/></View>
<Choice value="a dog" alias="dog"/><Choice value="cannot tell" alias="rlmba:cannot-tell"/></Choices>
<Choices name="spot" toName="pic" perRegion="true"><Choice value="cat"/></Choices>
<Choices name="own" toName="pic" value="$names"/>
<RectangleLabels name="label" toName="pic"><Label value="cat"/></RectangleLabels></View>"""


def test_a_config_of_people_gets_only_the_classes_that_it_lacks():
    config, control = with_classes(THEIRS, "kind", ("cat", "dog", "$owl"))
    assert control == ("kind", "pic", {"cat": "Cat"})
    root = ET.fromstring(config)
    (choice,) = [c for c in root.iter("Choice") if c.get("alias") == "$owl"]
    root.find("Choices[@name='kind']").remove(choice)
    assert same(ET.tostring(root, encoding="unicode"), re.sub("<!--.*?-->", "", THEIRS))
    assert "<!-- ours -->" in config
    again, control = with_classes(config, "kind", ("cat", "dog", "$owl"))
    assert same(again, config)
    assert control.choices == {"cat": "Cat"}
    # Choices that come with each task cannot be extended.
    config, control = with_classes(THEIRS, "own", ("cat",))
    assert same(config, THEIRS)
    assert control == ("own", "pic", {})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("label", "'label' is a control of type RectangleLabels; .* one of ['kind', 'own']"),
        ("spot", "'spot' classifies regions"),
        ("pic", "none is called 'pic'"),
        ("", "none is called ''"),
    ],
)
def test_a_control_that_does_not_hold_a_class(name, said):
    with pytest.raises(AnnotatorError, match=said.replace("[", r"\[")):
        with_classes(THEIRS, name, ("cat",))
    with pytest.raises(AnnotatorError, match="add one to the labeling config"):
        with_classes("<View/>", "kind", ("cat",))
    with pytest.raises(AnnotatorError, match="is not XML"):
        with_classes("<View>", "kind", ("cat",))
    with pytest.raises(DataError, match="rename it"):
        with_classes(THEIRS, "kind", (CANNOT_TELL_ALIAS,))


def test_a_config_that_is_not_xml(offline):
    offline.request(batch())
    (offline.folder / "labelstudio/labeling_config.xml").write_text("<View>")
    with pytest.raises(AnnotatorError, match="is not XML"):
        offline.request(batch())


def test_the_import_file_holds_tasks_with_predictions(offline, tmp_path):
    picture = tmp_path / "x.png"
    picture.write_bytes(b"\x89PNG not really")
    asked = (
        Question(
            "a", 1, "validation", 0.5, 0.25, "cat", 0.75, {"text": "<i>"}, {"image": str(picture)}
        ),
        # Databases of the server hold no NUL byte.
        Question("b", 2, score=float("nan"), texts={"note": "a\0b"}),
    )
    ticket = offline.request(batch(questions=asked))
    first, second = json.loads((offline.folder / f"labelstudio/{ticket}.json").read_text())
    assert first["data"] == {
        "sample_id": "a", "round": 3, "rank": 1, "rlmba_rank": 1, "purpose": "validation",
        "uncertainty": 0.25, "score": 0.5,
        "about": "question 1 of round 3, for validation: a", "text": "<i>", "note_text": "",
        "image": "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
    }  # fmt: skip
    (prediction,) = first["predictions"]
    assert prediction["model_version"] == "round 3"
    assert prediction["score"] == 0.75
    assert prediction["result"][0]["value"] == {"choices": ["cat"]}
    assert second["data"]["text"] == second["data"]["image"] == ""
    assert second["data"]["note_text"] == "a\ufffdb"
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"media": "magic"}, "media: expected one of"),
        ({"media": "upload", "url": ""}, "needs a server"),
        ({"media": "local"}, "needs document_root"),
        ({"id_key": "uid"}, "it needs a url, the number of the project and no export"),
        ({"id_key": "uid", "project": 3, "url": None}, "it needs a url"),
        ({"id_key": "uid", "project": 3, "export": "x.json"}, "no export"),
        ({"id_key": "", "project": 3}, "id_key=''"),
        ({"id_key": 3, "project": 3}, "option id_key: expected a valid string"),
        ({"control": "kind"}, "for an existing project with id_key"),
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
