"""The annotator on a real Label Studio; skipped where `label-studio` is not installed."""

from __future__ import annotations

import dataclasses
import json
import secrets
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators import labelstudio as package
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning
from tests.helpers.labelstudio_files import guide

pytest.importorskip("label_studio_sdk")
import httpx

from tests.helpers.label_studio import LEGACY, PASSWORD, annotate

# The SDK's own business, once for each key it exchanges.
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")

CLASSES = ("cat", "<b>dog</b>", "$image")


@pytest.fixture
def annotator(studio, tmp_path, monkeypatch):
    """Makes a new annotator, as another process would."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.key)
    folder = tmp_path / f"project-{secrets.token_hex(3)}"
    folder.mkdir()

    def made(**options):
        return create("labelstudio", folder, {"url": studio.url} | options)

    return made


def questions(folder: Path, n: int, **changes) -> list[Question]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(n):
        image, sound = folder / f"bild ü {i}.png", folder / f"{i}.wav"
        Image.new("RGB", (8, 8), (i, 0, 0)).save(image)
        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.zeros(800, np.int16).tobytes())
        texts = {"title": f'<img src=x onerror="window.ran = 1"> & $image {i}'}
        question = Question(
            f"a/{i}", i + 1, score=i / 10, difficulty=0.25, prediction=CLASSES[i % 3], probability=0.75,
            texts=texts, files={"image": str(image), "sound": str(sound)},
        )  # fmt: skip
        made.append(dataclasses.replace(question, **changes))
    return made


def batch(asked: list[Question], round_: int = 3, classes=CLASSES, open_=False) -> LabelBatch:
    weights = {"image": 0.5, "title": 0.5}
    return LabelBatch(round_, tuple(classes), open_, weights, tuple(asked))


def project(annotator) -> int:
    state = json.loads((annotator().folder / "labelstudio" / "server.json").read_text())
    (numbers,) = state["servers"].values()
    return numbers["questions"]


def tasks(studio, annotator):
    found = studio.api.tasks.list(project=project(annotator), fields="all")
    return sorted(found, key=lambda task: task.id)


def test_questions_are_tasks_with_files_and_predictions(studio, annotator, tmp_path):
    asked = questions(tmp_path / "media", 3)
    ticket = annotator().request(batch(asked))
    assert ticket == "round_003"
    found = tasks(studio, annotator)
    assert [task.data["sample_id"] for task in found] == ["a/0", "a/1", "a/2"]
    for question, task in zip(asked, found, strict=True):
        facts = {
            key: task.data[key] for key in ("round", "rank", "purpose", "uncertainty", "score")
        }
        assert facts == {
            "round": 3, "rank": question.rank, "purpose": "train",
            "uncertainty": 0.25, "score": question.score,
        }  # fmt: skip
        assert task.data["title_text"] == question.texts["title"]
        for key, modality in (("image", "image"), ("sound_audio", "sound")):
            served = studio.ada.get(task.data[key])
            assert served.content == Path(question.files[modality]).read_bytes()
            assert httpx.get(studio.url + task.data[key]).status_code == 401
        (prediction,) = (dict(p) for p in task.predictions)
        assert prediction["model_version"] == "round 3"
        assert prediction["score"] == 0.75
        assert prediction["result"][0]["value"] == {"choices": [question.prediction]}
    assert annotator().collect(ticket) == {}


def test_a_created_project_shows_instructions_and_descriptions(studio, annotator, tmp_path):
    described = {"cat": "of any age", "$image": "a & b"}
    guide(
        annotator().folder,
        instructions="Look <b>closely</b>.\nTwice.",
        class_descriptions=described,
    )
    asked = batch(questions(tmp_path / "media", 1, files={}))
    annotator().request(asked)
    made = studio.api.projects.get(project(annotator))
    assert made.show_instruction
    assert made.expert_instruction == (
        "Look &lt;b&gt;closely&lt;/b&gt;.<br>Twice."
        "<ul><li><b>cat</b>: of any age</li><li><b>$image</b>: a &amp; b</li></ul>"
    )
    assert 'hint="of any age"' in made.label_config
    studio.api.projects.update(made.id, expert_instruction="ours")
    annotator().request(
        batch(questions(tmp_path / "media", 2, files={}), classes=(*CLASSES, "new"))
    )
    later = studio.api.projects.get(made.id)
    assert later.expert_instruction == "ours"
    assert '"new"' in later.label_config


def test_asking_again_adds_only_what_is_missing(studio, annotator, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "_CHUNK", 2)
    asked = batch(questions(tmp_path / "media", 5, files={}))
    from rlmba.annotators.labelstudio import client

    add = client.Client.add_tasks

    def dies(self, project, new):
        add(self, project, new)
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Client, "add_tasks", dies)
    with pytest.raises(KeyboardInterrupt):
        annotator().request(asked)
    monkeypatch.setattr(client.Client, "add_tasks", add)
    assert [t.data["sample_id"] for t in tasks(studio, annotator)] == ["a/0", "a/1"]
    annotator().request(asked)
    assert [t.data["sample_id"] for t in tasks(studio, annotator)] == [f"a/{i}" for i in range(5)]
    annotate(studio.ada, tasks(studio, annotator)[0], "cat")
    studio.api.tasks.delete(str(tasks(studio, annotator)[3].id))
    assert annotator().collect("round_003") == {"a/0": "cat"}
    ticket = annotator().request(asked)
    assert len(tasks(studio, annotator)) == 5
    assert annotator().collect(ticket) == {"a/0": "cat"}


def test_a_project_whose_number_was_not_kept_is_found_again(studio, annotator, tmp_path):
    asked = batch(questions(tmp_path / "media", 1, files={}))
    annotator().request(asked)
    path = annotator().folder / "labelstudio" / "server.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"servers": {}}))
    annotator().request(asked)
    assert json.loads(path.read_text()) == state
    assert len(tasks(studio, annotator)) == 1


def test_majority_ties_cancelled_drafts_and_ground_truth(studio, annotator, tmp_path):
    ada, bob = studio.ada, studio.bob
    asked = batch(questions(tmp_path / "media", 8, files={}))
    ticket = annotator().request(asked)
    found = tasks(studio, annotator)
    annotate(ada, found[0], "cat")
    annotate(ada, found[1], "cat")
    annotate(bob, found[1], "<b>dog</b>")
    annotate(ada, found[2], "rlmba:cannot-tell")
    annotate(bob, found[2], "rlmba:cannot-tell")
    annotate(ada, found[3], "cat", was_cancelled=True)
    annotate(ada, found[4], "cat")
    annotate(bob, found[4], "cat")
    annotate(ada, found[4], "$image", ground_truth=True)
    draft = {"result": [{"from_name": "label", "to_name": "about", "type": "choices",
                         "value": {"choices": ["cat"]}}]}  # fmt: skip
    assert ada.post(f"/api/tasks/{found[5].id}/drafts", json=draft).status_code == 201
    annotate(ada, found[6], "cat")
    annotate(bob, found[6], "$image", was_cancelled=True)
    annotate(ada, found[7], None)
    other = {"sample_id": "elsewhere", "round": 3} | dict.fromkeys(("about", "title_text"), "")
    studio.api.projects.import_tasks(project(annotator), request=[{"data": other}])
    annotate(ada, tasks(studio, annotator)[-1], "cat")

    expected = {"a/0": "cat", "a/2": None, "a/4": "$image", "a/6": "cat"}
    with pytest.warns(RlmbaWarning, match=r"equally divided on 1 questions \(the first is 'a/1'\)"):
        assert annotator().collect(ticket) == expected
    assert annotator().tickets.read(ticket)[1] == {"ties": {"a/1": 2}}
    again = tasks(studio, annotator)[9:]
    assert [task.data["sample_id"] for task in again] == ["a/1"]
    assert "asked again: 2 answers" in again[0].data["about"]
    with pytest.warns(RlmbaWarning, match="equally divided"):  # one waits: not asked a third time
        annotator().collect(ticket)
    assert len(tasks(studio, annotator)) == 10
    annotate(bob, again[0], "cat")
    assert annotator().collect(ticket) == {"a/1": "cat"} | expected
    assert annotator().tickets.read(ticket)[1] == {"ties": {}}


def test_exports_say_what_the_server_says(studio, annotator, tmp_path):
    asked = batch(
        questions(tmp_path / "media", 4), classes=(*CLASSES, 'a, "b"\nc', "é"), open_=True
    )
    ticket = annotator().request(asked)
    found = tasks(studio, annotator)
    annotate(studio.ada, found[0], 'a, "b"\nc')
    annotate(studio.ada, found[1], "cat", new=" a bird ")
    annotate(studio.bob, found[1], "é")
    annotate(studio.ada, found[1], new="a bird")
    annotate(studio.ada, found[2], "rlmba:cannot-tell")
    annotate(studio.ada, found[3], "cat", was_cancelled=True)
    answers = annotator().collect(ticket)
    assert answers == {"a/0": 'a, "b"\nc', "a/1": "a bird", "a/2": None}
    for kind, name in (("JSON", "x.json"), ("JSON_MIN", "min.json"), ("CSV", "x.csv")):
        where = f"/api/projects/{project(annotator)}/export"
        exported = studio.ada.get(where, params={"exportType": kind})
        (annotator().folder / name).write_bytes(exported.content)
        assert annotator(export=name).collect(ticket) == answers, kind


def test_each_round_shows_its_own_predictions(studio, annotator, tmp_path):
    def shown():
        return studio.api.projects.get(project(annotator)).model_version

    asked = questions(tmp_path / "media", 1, files={})
    for round_ in (3, 4):
        annotator().request(batch(asked, round_))
        assert shown() == f"round {round_}"
    task = {"data": tasks(studio, annotator)[0].data}
    mine = {"model_version": "mine", "result": [], "score": 0.5}
    studio.api.projects.import_tasks(project(annotator), request=[task | {"predictions": [mine]}])
    studio.api.projects.update(project(annotator), model_version="mine")
    annotator().request(batch(asked, 5))
    assert shown() == "mine"


def test_a_later_round_brings_classes_and_modalities(studio, annotator, tmp_path):
    first = questions(tmp_path / "media", 2, files={})
    old = annotator().request(batch(first))
    annotate(studio.ada, tasks(studio, annotator)[0], "cat")
    edited = studio.api.projects.get(project(annotator)).label_config.replace(
        "<Choices", '<!-- ours --><Header value="Look closely"/><Choices'
    )
    studio.api.projects.update(project(annotator), label_config=edited)
    later = [
        dataclasses.replace(q, id=f"b/{q.rank}", texts={}) for q in questions(tmp_path / "media", 2)
    ]
    new = annotator().request(batch(later, 4, classes=(*CLASSES, "bird & co")))
    config = studio.api.projects.get(project(annotator)).label_config
    assert "Look closely" in config
    assert "<!-- ours -->" in config
    annotate(studio.ada, tasks(studio, annotator)[-1], "bird & co")
    assert annotator().collect(new) == {"b/2": "bird & co"}
    assert annotator().collect(old) == {"a/0": "cat"}
    renamed = config.replace('"bird &amp; co"', '"bird and co"').replace('"cat"', '"cats"')
    studio.api.projects.update(project(annotator), label_config=renamed)
    number = tasks(studio, annotator)[1].id
    annotate(studio.ada, tasks(studio, annotator)[1], "cats")
    with pytest.raises(
        DataError, match=rf"task {number} \(sample 'a/1'\): label 'cats' .*\(did you mean 'cat'"
    ):
        annotator().collect(old)
    assert annotator().collect(new) == {"b/2": "bird & co"}


def test_files_from_the_servers_own_disk(studio, annotator):
    asked = questions(studio.files / "set one", 2)
    local = annotator(media="local", document_root=str(studio.files))
    local.request(batch(asked))
    for question, task in zip(asked, tasks(studio, annotator), strict=True):
        assert task.data["image"].startswith("/data/local-files/?d=set%20one/bild")
        served = studio.ada.get(task.data["image"])
        assert served.content == Path(question.files["image"]).read_bytes()
    outside = Question("z", 1, files={"image": str(annotator().folder / "x.png")})
    Image.new("L", (2, 2)).save(outside.files["image"])
    with pytest.raises(AnnotatorError, match="in a folder below document_root"):
        local.request(batch([outside], 4))


def test_files_that_cannot_be_shown_do_not_stop_the_others(studio, annotator, tmp_path):
    asked = questions(tmp_path / "media", 3)
    Path(asked[0].files["image"]).unlink()
    film = tmp_path / "film.avi"
    film.write_bytes(b"RIFF")
    asked[1] = dataclasses.replace(asked[1], files={"video": str(film)})
    with pytest.warns(
        RlmbaWarning, match="2 files of this batch cannot be shown; the first is of sample 'a/0'"
    ):
        annotator().request(batch(asked))
    found = tasks(studio, annotator)
    assert "image: bild ü 0.png cannot be shown (the file is missing)" in found[0].data["about"]
    assert "no uploads of type .avi" in found[1].data["about"]
    assert found[0].data["image"] == found[1].data["video"] == ""
    assert studio.ada.get(found[2].data["image"]).status_code == 200


def test_refused_keys(studio, annotator, tmp_path, monkeypatch):
    asked = batch(questions(tmp_path / "media", 1, files={}))
    for key, said in (
        ("f" * 40, "Invalid token"),
        (LEGACY, "legacy token authentication has been disabled.*Create another"),
        (studio.key[:-6] + "abcdef", "401"),
    ):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
        with pytest.raises(AnnotatorError, match=said) as caught:
            annotator().request(asked)
        assert "Personal Access Token" in str(caught.value)
        assert key not in str(caught.value)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.key)
    ticket = annotator().request(asked)
    annotate(studio.ada, tasks(studio, annotator)[0], "cat")
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    (annotator().folder / "key").write_text(studio.key + "\n")
    assert annotator(key_file="key").collect(ticket) == {"a/0": "cat"}


def test_a_legacy_key_works_where_the_server_takes_it(studio, annotator, tmp_path, monkeypatch):
    settings = {
        "api_tokens_enabled": True,
        "legacy_api_tokens_enabled": True,
        "api_token_ttl_days": 1000,
    }
    assert studio.ada.post("/api/jwt/settings", json=settings).status_code in (200, 201)
    try:
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
        ticket = annotator().request(batch(questions(tmp_path / "media", 1)))
        annotate(studio.ada, tasks(studio, annotator)[0], "cat")
        assert annotator().collect(ticket) == {"a/0": "cat"}
    finally:
        studio.ada.post("/api/jwt/settings", json=settings | {"legacy_api_tokens_enabled": False})


def test_a_project_that_is_not_there(studio, annotator, tmp_path):
    asked = batch(questions(tmp_path / "media", 1, files={}))
    with pytest.raises(AnnotatorError, match="no project 999999 for this key"):
        annotator(project=999999).request(asked)
    ticket = annotator().request(asked)
    studio.api.projects.delete(project(annotator))
    for again in (annotator().request, lambda _: annotator().collect(ticket)):
        with pytest.raises(
            AnnotatorError, match=r"If it was deleted.*delete labelstudio/server\.json"
        ):
            again(asked)
    (annotator().folder / "labelstudio" / "server.json").unlink()
    annotator().request(asked)
    assert len(tasks(studio, annotator)) == 1


def test_a_given_project(studio, annotator, tmp_path):
    given = studio.api.projects.create(title="made by people")
    chosen = annotator(project=given.id)
    chosen.request(batch(questions(tmp_path / "media", 2)))
    found = list(studio.api.tasks.list(project=given.id, fields="all"))
    annotate(studio.ada, found[0], "cat")
    assert chosen.collect("round_003") == {found[0].data["sample_id"]: "cat"}
    choices = '<Choices name="c" toName="t"><Choice value="x"/></Choices>'
    foreign = f'<View><Text name="t" value="$t"/>{choices}</View>'
    other = studio.api.projects.create(title="something else", label_config=foreign)
    annotator(project=other.id).request(batch(questions(tmp_path / "media", 1), 4))
    config = studio.api.projects.get(other.id).label_config
    assert 'name="c"' in config
    assert 'name="label"' in config


@pytest.mark.slow
def test_people_label_in_a_browser(studio, annotator, browser, tmp_path):
    """What is written in a text or a class is shown, not run; keys choose; what they chose is collected."""
    ticket = annotator().request(batch(questions(tmp_path / "media", 2), open_=True))
    page = browser.new_page()
    page.goto(f"{studio.url}/user/login/")
    page.fill("input[name=email]", "ada@example.com")
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "login" not in url)
    page.goto(f"{studio.url}/projects/{project(annotator)}/data?labeling=1")
    for i, (key, new) in enumerate([("3", None), ("2", "a bird")]):
        page.wait_for_selector(f"text=question {i + 1} of round 3", timeout=60_000)
        assert page.get_by_text(f'<img src=x onerror="window.ran = 1"> & $image {i}').count() == 1
        assert page.get_by_text("<b>dog</b>", exact=False).count() > 0
        image = page.wait_for_selector(
            "img[src*='/data/upload/'], img[src^='blob:']", timeout=60_000
        )
        page.wait_for_function("image => image.naturalWidth == 8", arg=image)
        page.keyboard.press(key)
        if new is not None:
            page.get_by_placeholder("or the name of a new class").fill(new)
            page.keyboard.press("Enter")
        page.click("button:has-text('Submit')")
    page.wait_for_selector("text=question 2 of round 3", state="detached", timeout=60_000)
    assert page.evaluate("window.ran") is None
    page.close()
    assert annotator().collect(ticket) == {"a/0": "$image", "a/1": "a bird"}
