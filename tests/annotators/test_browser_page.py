"""The page in a real Chromium: a round labeled by key presses, and what can go wrong with it."""

from __future__ import annotations

import resource
import signal

import pytest

from rlmba.annotators import LabelBatch, Question
from tests.helpers.browser_project import (
    CLASSES,
    HOSTILE,
    Client,
    Project,
    launch_label,
    make_batch,
)
from tests.helpers.media_files import write_clip, write_image
from tests.helpers.page_driver import click, counts, loaded, press, settle, shows, wait


def test_a_whole_round_by_key_presses(visit, project, url):
    page = visit(url)
    assert "token" not in page.url
    shows(page, "sample 0")
    wait(page, "h1", "Round 0")
    counts(page, "0 of 4")
    assert loaded(page, "img") == 64
    assert loaded(page, "audio") == pytest.approx(0.5, abs=0.01)
    assert loaded(page, "video") == pytest.approx(1.0, abs=0.15)
    wait(page, ".text", "words of sample 0")
    assert page.eval_on_selector_all("audio, video", "all => all.every(e => e.paused)")
    page.fill("#by", "Ann")
    page.keyboard.press("Enter")

    press(page, "2")
    shows(page, "sample 1")
    wait(page, "#about", "to measure the model")
    press(page, "s")
    shows(page, "sample 2")
    press(page, "?")
    shows(page, "sample 3")
    counts(page, "2 of 4, cannot tell: 1")
    press(page, "1")
    shows(page, "sample 1")  # the skipped one
    press(page, "u")
    shows(page, "sample 3")
    counts(page, "2 of 4")
    press(page, "Backspace")
    shows(page, "sample 2")
    counts(page, "1 of 4, cannot tell: 0")
    press(page, "3")
    shows(page, "sample 3")
    press(page, "1")
    shows(page, "sample 1")
    press(page, "3")
    wait(page, "#idle", "All 4 samples are answered")

    # Back over the answers in the order in which they were given first.
    for name in ("sample 1", "sample 3", "sample 2", "sample 0"):
        press(page, "ArrowLeft")
        shows(page, name)
    wait(page, "#about", "answered: “dog”, by you")
    assert page.locator("[aria-pressed=true]").inner_text().split() == ["2", "dog", "1"]
    press(page, "1")
    wait(page, "#about", "answered: “cat”")
    shows(page, "sample 0")
    press(page, "ArrowRight")
    shows(page, "sample 2")
    press(page, "u")  # the change, not the first answer
    shows(page, "sample 0")
    wait(page, "#about", "answered: “dog”")
    counts(page, "4 of 4")
    press(page, "ArrowRight", "1")
    wait(page, "#about", "answered: “cat”")

    assert project.annotator.collect("round_000") == {
        "sample 0": "dog", "sample 1": "bird", "sample 2": "cat", "sample 3": "cat",
    }  # fmt: skip
    assert {line["by"] for line in project.answers()} == {"Ann"}


def test_players_seek_and_answer_to_the_keyboard(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    clip = write_clip(tmp_path / "a.webm", seconds=6, size=(320, 240))
    picture = write_image(tmp_path / "a.jpg", size=(640, 480))
    project.ask(
        LabelBatch(
            0, CLASSES, False, {},
            (Question("a", 1, files={"video": str(clip), "image": str(picture)}),),
        )
    )  # fmt: skip
    url = served(project)
    page = visit(url)
    assert loaded(page, "video") > 5
    page.eval_on_selector("video", "e => { e.currentTime = 4.5; }")
    page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert page.eval_on_selector("video", "e => e.currentTime") == pytest.approx(4.5, abs=0.1)
    page.keyboard.press(" ")
    page.wait_for_function("() => !document.querySelector('video').paused")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('video').paused")
    page.focus(".enlarge")
    page.keyboard.press("Enter")
    page.wait_for_selector("#zoom[open] img")
    page.keyboard.press("1")  # not while the picture covers the sample
    page.keyboard.press("Escape")
    page.wait_for_selector("#zoom", state="hidden")
    assert Client(url).state()["answers"] == {}


def test_markup_is_shown_as_text(visit, served, tmp_path):
    project = Project(tmp_path)
    batch = LabelBatch(
        0, (HOSTILE, "<b>b</b>"), False, {},
        (
            Question(HOSTILE, 1, prediction=HOSTILE, probability=0.5, texts={"text" + HOSTILE: HOSTILE}),
            Question("b", 2, files={HOSTILE: str(tmp_path / "<i>gone.jpg")}),
        ),
    )  # fmt: skip
    project.ask(batch)
    url = served(project)
    page = visit(url)
    shows(page, HOSTILE)
    page.check("#guess")
    assert page.locator(".text").inner_text() == HOSTILE
    assert HOSTILE in page.locator("figcaption").inner_text()
    assert HOSTILE in page.locator(".choice").first.inner_text()
    assert HOSTILE in page.locator("#model").inner_text()
    page.fill("#by", HOSTILE)
    page.keyboard.press("Enter")
    press(page, "1")
    shows(page, "b")
    wait(page, ".problem", "is missing")
    press(page, "ArrowLeft")
    wait(page, "#about", f"answered: “{HOSTILE}”")
    assert page.locator("main b, main i, main script, #panes img").count() == 0
    assert page.evaluate("window.hit") is None
    assert project.annotator.collect("round_000") == {HOSTILE: HOSTILE}


def test_the_models_guess_is_shown_only_if_wanted(visit, url):
    page = visit(url)
    shows(page, "sample 0")
    press(page, "1")
    shows(page, "sample 1")
    assert page.locator("#model").is_hidden()
    page.focus("#guess")
    page.keyboard.press(" ")
    wait(page, "#model", "“dog”, probability 0.50; difficulty 0.0100")
    press(page, "1")  # keys answer also while the switch has the focus
    shows(page, "sample 2")
    wait(page, "#model", "“bird”")


def test_many_classes_are_found_by_typing(visit, served, tmp_path):
    names = [f"dish {k:02d}" for k in range(40)] + ["apple pie", "pie"]
    project = Project(tmp_path / "project")
    project.ask(make_batch(tmp_path / "media", n=4, classes=names))
    url = served(project)
    page = visit(url)
    shows(page, "sample 0")
    for key, name in (("0", "dish 09"), ("a", "dish 10"), ("t", "dish 28"), ("z", "dish 33")):
        button = page.locator(".choice", has_text=name)
        assert button.get_attribute("aria-keyshortcuts") == key
    assert page.locator(".choice", has_text="dish 34").get_attribute("aria-keyshortcuts") is None
    press(page, "b")
    shows(page, "sample 1")
    press(page, "/")
    page.keyboard.type("PIE")
    assert [b.inner_text().strip() for b in page.locator(".choice").all()] == ["pie", "apple pie"]
    press(page, "Enter")
    shows(page, "sample 2")
    assert page.locator(".choice").count() == 42
    press(page, "/")
    page.keyboard.type("nothing like it")
    press(page, "Enter")
    wait(page, "#notice", "No class")
    press(page, "Escape", "?")
    shows(page, "sample 3")
    assert project.annotator.collect("round_000") == {
        "sample 0": "dish 11", "sample 1": "pie", "sample 2": None,
    }  # fmt: skip


def test_another_class_where_the_batch_is_open(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    project.ask(make_batch(tmp_path / "media", more=True))
    url = served(project)
    page, other = visit(url, quiet=False), visit(url)
    shows(page, "sample 0")
    shows(other, "sample 1")
    press(page, "+")
    page.keyboard.type("Cat")
    press(page, "Enter")
    wait(page, "#similar", "Did you mean “cat”?")
    assert page.locator("#insist").is_hidden()  # names that differ by case only are one class
    press(page, "Escape")
    shows(page, "sample 0")
    settle(page)
    page.fill("#name", "horse 1")  # the field keeps the focus and what was typed
    press(page, "Enter")
    shows(page, "sample 2")
    wait(other, ".choice", "horse 1")
    press(other, "4")
    counts(other, "2 of 4")
    assert project.annotator.collect("round_000") == {"sample 0": "horse 1", "sample 1": "horse 1"}


def test_two_browsers_at_once(visit, project, url):
    ann, bob = visit(url, quiet=False), visit(url, quiet=False)
    shows(ann, "sample 0")
    shows(bob, "sample 1")
    ann.fill("#by", "Ann")
    press(ann, "Enter", "1")
    shows(ann, "sample 2")
    press(bob, "2")
    shows(bob, "sample 3")
    counts(ann, "2 of 4")
    counts(bob, "2 of 4")

    # Both look at the same one; Ann changes it, and then Bob, who has not seen that.
    for page in (ann, bob):
        press(page, "ArrowLeft", "ArrowLeft")
        shows(page, "sample 0")
    bob.route("**/api/state**", lambda route: route.abort())  # he hears nothing meanwhile
    press(ann, "3")
    wait(ann, "#about", "answered: “bird”")
    press(bob, "2")
    wait(bob, "#conflict", "“bird”, by Ann")
    wait(bob, "#conflict", "Your answer was: “dog”")
    bob.keyboard.press("1")  # is no answer to that
    bob.unroute("**/api/state**")
    press(bob, "Enter")  # the button that has the focus: keep theirs
    bob.wait_for_selector("#conflict", state="hidden")
    wait(bob, "#about", "answered: “bird”, by Ann")
    assert project.annotator.collect("round_000")["sample 0"] == "bird"

    press(ann, "1")
    wait(ann, "#about", "answered: “cat”")
    press(bob, "2")
    wait(bob, "#conflict", "Your answer was: “dog”")
    click(bob, "#replace")
    wait(bob, "#about", "answered: “dog”, by you")
    assert [a["label"] for a in project.answers() if a["id"] == "sample 0"] == [
        "cat", "bird", "cat", "dog",
    ]  # fmt: skip

    # What another one answers while it is shown here is said, and pressing a key then asks.
    press(ann, "ArrowRight", "ArrowRight")
    shows(ann, "sample 2")
    Client(url, "third").say("sample 2", "bird", by="Eve")
    wait(ann, "#notice", "Somebody else has just answered this one: “bird”, by Eve")
    press(ann, "1")
    wait(ann, "#conflict", "“bird”, by Eve")
    press(ann, "Escape")
    counts(ann, "3 of 4")
    press(bob, "ArrowRight", "ArrowRight", "ArrowRight")
    shows(bob, "sample 3")
    press(bob, "3")
    wait(ann, "#notice", "Somebody else has just answered this one: “bird”")
    press(ann, "ArrowRight")
    for page in (ann, bob):
        wait(page, "#idle", "All 4 samples are answered")
    assert project.annotator.collect("round_000") == {
        "sample 0": "dog", "sample 1": "dog", "sample 2": "bird", "sample 3": "bird",
    }  # fmt: skip


def test_a_server_killed_midway_loses_nothing(visit, project):
    process, url = launch_label(project.folder, "--port", "0")
    port = url.split(":")[2].split("/")[0]
    try:
        page = visit(url, quiet=False)
        shows(page, "sample 0")
        press(page, "1")
        shows(page, "sample 1")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # As a kill in the middle of a line would leave it.
        with (project.folder / "answers" / "round_000.jsonl").open("a") as file:
            file.write('{"id": "sample 3", "lab')
        press(page, "2")
        wait(page, "#link", "The connection is lost")
        wait(page, "#link", "Your last answer (“dog”) is kept here")
        page.keyboard.press("3")  # is not taken for the next sample's
        shows(page, "sample 1")
        process, again = launch_label(project.folder, "--port", port)
        assert again == url
        shows(page, "sample 2")
        page.wait_for_selector("#link", state="hidden")
        counts(page, "2 of 4")
        press(page, "3")
        shows(page, "sample 3")
        press(page, "u")
        shows(page, "sample 2")
        press(page, "?")
        shows(page, "sample 3")
        press(page, "1")
        wait(page, "#idle", "All 4 samples are answered")
    finally:
        process.kill()
        process.communicate()
    assert project.annotator.collect("round_000") == {
        "sample 0": "cat", "sample 1": "dog", "sample 2": None, "sample 3": "cat",
    }  # fmt: skip
    assert not project.annotator.log("round_000").read().damaged


def test_an_answer_that_is_not_sent_survives_a_reload(visit, project, url):
    page = visit(url, quiet=False)
    shows(page, "sample 0")
    page.route("**/api/answer", lambda route: route.abort())
    press(page, "3")
    wait(page, "#link", "Your last answer (“bird”) is kept here")
    page.reload()
    shows(page, "sample 0")
    wait(page, "#link", "is kept here")
    page.unroute("**/api/answer")
    shows(page, "sample 1")
    assert project.annotator.collect("round_000") == {"sample 0": "bird"}


def test_a_full_disk_is_said_and_the_answer_goes_in_when_there_is_room(visit, project, url):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    page = visit(url, quiet=False)
    shows(page, "sample 0")
    press(page, "1")
    shows(page, "sample 1")
    size = (project.folder / "answers" / "round_000.jsonl").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        press(page, "2")
        wait(page, "#link", "Not saved yet: “dog” is kept here and sent again")
        wait(page, "#link", "could not append to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    shows(page, "sample 2")
    page.wait_for_selector("#link", state="hidden")
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}


def test_it_goes_on_with_the_next_batch_by_itself(visit, project, url, tmp_path):
    page = visit(url)
    shows(page, "sample 0")
    (project.folder / "pending.json").unlink()
    wait(page, "#idle", "Run `rlmba next`")
    assert page.locator("#work").is_hidden()
    batch = make_batch(tmp_path / "media", number=1, prefix="later")
    project.ask(batch)
    shows(page, "later 0")
    wait(page, "h1", "Round 1")
    press(page, "1")
    shows(page, "later 1")
    assert project.annotator.collect("round_001") == {"later 0": "cat"}


def test_files_that_vanish_or_do_not_play_are_said(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 1000)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    files = {
        "video": tmp_path / "broken.mp4",
        "clip": write_clip(tmp_path / "a.avi", seconds=0.5),
        "image": tmp_path / "broken.jpg",
        "gone": tmp_path / "gone.wav",
    }
    questions = (
        Question("a", 1, files={m: str(p) for m, p in files.items()}),
        Question("b", 2),
    )
    project.ask(LabelBatch(0, CLASSES, False, {}, questions))
    url = served(project)
    page = visit(url, quiet=False)
    shows(page, "a")
    wait(page, ".problem", f"cannot show this video: {files['video']}")
    wait(page, ".problem", f"do not play .avi files; open it in another program: {files['clip']}")
    wait(page, ".problem", "This image cannot be read")
    wait(page, ".problem", f"is missing: {files['gone']}")
    press(page, "1")
    shows(page, "b")
    wait(page, ".problem", "neither files nor texts")
    press(page, "1")
    wait(page, "#idle", "All 2 samples are answered")


def test_a_link_that_is_not_valid(visit, project, url):
    page = visit(url.split("?")[0], quiet=False)
    assert "Open the link that `rlmba label`" in page.locator("body").inner_text()
    page = visit(url, quiet=False)
    shows(page, "sample 0")
    page.context.clear_cookies()
    wait(page, "#link", "link of this page is no longer valid")


def test_a_held_key_answers_once_and_combinations_do_nothing(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    for keys in ("Control+1", "Alt+1", "Meta+1"):
        page.keyboard.press(keys)
    settle(page)
    page.keyboard.down("1")
    page.keyboard.down("1")  # as the keyboard repeats it
    shows(page, "sample 1")
    page.keyboard.down("1")
    page.keyboard.up("1")
    page.wait_for_timeout(600)
    assert project.annotator.collect("round_000") == {"sample 0": "cat"}
    # Two keys at once: the second was meant for no sample that was to be seen.
    press(page)
    page.evaluate(
        "() => { for (const key of '23') document.body.dispatchEvent("
        "new KeyboardEvent('keydown', { key, bubbles: true })); }"
    )
    shows(page, "sample 2")
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}
    assert len(project.answers()) == 2


def test_a_keyboard_reaches_all_and_names_tell_what_it_is(visit, url):
    page = visit(url, color_scheme="dark")
    shows(page, "sample 0")
    page.get_by_role("button", name="2 dog").focus()
    settle(page)
    page.keyboard.press("Enter")
    shows(page, "sample 1")
    assert page.evaluate("document.activeElement.id") == "work"
    settle(page)
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.choice')"):
            break
    assert page.evaluate("document.activeElement.innerText").split() == ["1", "cat"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert page.get_by_role("progressbar", name="samples answered").get_attribute("value") == "1"
    page.get_by_role("button", name="keys").press("Enter")
    page.wait_for_selector("#help[open]")
    page.get_by_role("button", name="close").press("Enter")
    page.wait_for_selector("#help", state="hidden")
    nameless = """es => es.filter(
        e => !(e.innerText || e.ariaLabel || e.labels?.length || e.querySelector('img[alt]'))
    ).length"""
    assert page.eval_on_selector_all("button, input", nameless) == 0
