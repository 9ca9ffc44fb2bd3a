"""The labeling page in Chromium: what stays in place, and what the page says about project and batch."""

from __future__ import annotations

import json

import pytest

from rlmba.annotators import LabelBatch, Question
from rlmba.errors import RunFolderError
from rlmba.storage import locked
from tests.helpers.browser_project import CLASSES, Project, make_batch
from tests.helpers.media_files import write_image
from tests.helpers.page_driver import click, loaded, press, settle, shows, wait


def told(project, **more):
    """Give the project these settings."""
    path = project.folder / "config.yaml"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"project": {**config["project"], **more}}))


@pytest.mark.parametrize("size", [(1280, 800), (390, 780)])
def test_class_buttons_stay_in_one_place(visit, served, tmp_path, size):
    project = Project(tmp_path / "project")
    sizes = {"tall": (300, 1800), "wide": (1600, 200), "small": (8, 8)}
    questions = [
        Question(name, k, files={"image": str(write_image(tmp_path / f"{name}.png", size=shape))})
        for k, (name, shape) in enumerate(sizes.items(), start=1)
    ]
    questions.append(Question("text", 4, texts={"text": "words " * 5000}))
    project.ask(LabelBatch(0, CLASSES, True, {}, tuple(questions)))
    page = visit(served(project), viewport=dict(zip(("width", "height"), size, strict=True)))
    places = []
    for name in [*sizes, "text"]:
        shows(page, name)
        if name != "text":
            assert loaded(page, "img")
        settle(page)
        places.append(page.locator(".choice").nth(1).bounding_box())
        last = page.locator("#forward").bounding_box()
        assert last["y"] + last["height"] <= size[1]
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        press(page, "1")
    assert [(p["x"], p["y"]) for p in places] == [(places[0]["x"], places[0]["y"])] * 4


def test_the_project_explains_itself(visit, served, tmp_path):
    project = Project(tmp_path / "pets")
    project.ask(make_batch(tmp_path / "media"))
    url = served(project)
    page = visit(url)
    wait(page, "h1", "pets Round 0")
    assert page.locator("#guide").is_hidden()
    told(
        project, name="Our <b>pets</b>", instructions="Judge the picture.\nNot the sound.",
        class_descriptions={"cat": "A <i>cat</i> of any age"},
    )  # fmt: skip
    page.reload()
    wait(page, "h1", "Our <b>pets</b> Round 0")
    assert page.title() == "Our <b>pets</b>: Round 0"
    wait(page, "#instructions", "Not the sound.")
    wait(page, "#descriptions", "A <i>cat</i> of any age")
    assert page.locator(".choice").first.get_attribute("title") == "A <i>cat</i> of any age"
    settle(page)
    page.locator("#guide summary").click()
    page.reload()
    shows(page, "sample 0")
    assert page.locator("#instructions").is_hidden()


def test_a_missing_modality_is_said(visit, url):
    page = visit(url)
    shows(page, "sample 0")
    assert page.locator(".missing").count() == 0
    press(page, "1")
    shows(page, "sample 1")
    assert page.locator(".missing").all_inner_texts() == [
        "No audio for this sample.",
        "No video for this sample.",
    ]


def test_a_finished_batch_offers_no_answers_and_says_what_the_model_does(
    visit, project, url, tmp_path
):
    page = visit(url)
    for k in range(4):
        shows(page, f"sample {k}")
        press(page, "1")
    wait(page, "#idle", "All 4 samples are answered")
    for name in ("#classes", "#unsure", "#skip", "#forward"):
        assert page.locator(name).is_hidden()
    assert page.locator("#undo").is_visible()
    labels = [
        {"id": str(k), "label": "cat" if k else None, "source": "s", "time": ""} for k in range(41)
    ]
    (project.folder / "labels.jsonl").write_text("".join(json.dumps(x) + "\n" for x in labels))
    with locked(project.folder, RunFolderError):
        wait(page, "#idle", "The model is being trained on 40 labels (")
        (project.folder / "pending.json").unlink()
        wait(page, "#idle", "The next batch is being chosen (")
        project.ask(make_batch(tmp_path / "media", number=1, prefix="later"))
    shows(page, "later 0")
    assert page.locator("#classes").is_visible()


def test_a_new_class_that_is_nearly_a_known_one(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    classes = ("horse", "butterfly", "scene 1")
    project.ask(make_batch(tmp_path / "media", classes=classes, more=True, n=5))
    page = visit(served(project))

    def enter(name):
        press(page, "+")
        page.keyboard.type(name)
        press(page, "Enter")

    for k, (typed, meant) in enumerate([("hores", "horse"), ("Butterflies", "butterfly")]):
        shows(page, f"sample {k}")
        enter(typed)
        wait(page, "#similar", f"Did you mean “{meant}”?")
        press(page, "Enter")  # the button that has the focus accepts
    shows(page, "sample 2")
    enter("scene 2")  # numbers tell classes apart
    shows(page, "sample 3")
    enter("house")
    wait(page, "#similar", "Did you mean “horse”?")
    click(page, "#insist")
    shows(page, "sample 4")
    assert project.annotator.collect("round_000") == {
        "sample 0": "horse", "sample 1": "butterfly", "sample 2": "scene 2", "sample 3": "house",
    }  # fmt: skip
    assert page.locator(".choice").count() == 5
    press(page, "u")  # its only answer
    shows(page, "sample 3")
    assert page.locator(".choice", has_text="house").count() == 0
    assert page.locator(".choice").count() == 4


def test_a_text_of_ten_megabytes(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    long = "x" * 10_000_000
    project.ask(
        LabelBatch(
            0, CLASSES, False, {}, (Question("a", 1, texts={"text": long}), Question("b", 2))
        )
    )
    page = visit(served(project))
    shows(page, "a")
    wait(page, ".problem", "9980000 more characters are not shown")
    press(page, "1")
    shows(page, "b")
