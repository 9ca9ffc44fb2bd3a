"""Only presses that are meant for the sample on the screen answer, whatever they are made with."""

from __future__ import annotations

import pytest

from tests.helpers.browser_project import Client, Project, make_batch
from tests.helpers.page_driver import press, settle, shows, take_effect, wait

# Presses everything as soon as another sample is there and for 250 milliseconds, less than the moment.
MASH = """() => new MutationObserver(() => {
    const began = performance.now();
    const mash = () => {
        if (performance.now() - began > 250) return;
        window.mashed = (window.mashed ?? 0) + 1;
        for (const key of ["1", "3", "?", "s", "u", "Backspace", "Enter", " "])
            document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        for (const button of document.querySelectorAll("#classes button, #actions button")) {
            button.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
            button.dispatchEvent(new PointerEvent("click", { bubbles: true, detail: 1 }));
            button.click();
        }
        requestAnimationFrame(mash);
    };
    mash();
}).observe(document.getElementById("about"), { childList: true })"""


def said(project):
    """The lines on the disk: sample and label."""
    return [(line["id"], line.get("label", "undo")) for line in project.answers()]


def choice(page, name):
    return page.locator(".choice", has_text=name)


def act(page, how, name="dog"):
    """Answer with a class by what a person has at hand."""
    button = choice(page, name)

    def acted():
        if how == "key":
            page.keyboard.press(button.get_attribute("aria-keyshortcuts"))
        elif how == "mouse":
            button.click()
        elif how == "touch":
            button.tap()
        else:
            while not button.evaluate("e => e === document.activeElement"):
                page.keyboard.press("Tab")
            page.keyboard.press(how)

    take_effect(page, acted)


@pytest.mark.parametrize("how", ["mouse", "touch", "Enter", " "])
def test_space_and_enter_do_not_press_the_button_of_the_sample_before(visit, project, url, how):
    page = visit(url, has_touch=True)
    shows(page, "sample 0")
    act(page, how)
    shows(page, "sample 1")
    for key in (" ", "Enter", " ", "Enter"):
        page.keyboard.press(key)
        settle(page)
        page.keyboard.press(key)
    act(page, how, "cat")
    shows(page, "sample 2")
    assert said(project) == [("sample 0", "dog"), ("sample 1", "cat")]


@pytest.mark.parametrize("how", ["key", "mouse", "touch"])
def test_what_is_pressed_as_a_sample_appears_counts_for_none(visit, project, url, how):
    page = visit(url, has_touch=True)
    shows(page, "sample 0")
    page.evaluate(MASH)
    for k in range(3):
        shows(page, f"sample {k}")
        act(page, how)
    shows(page, "sample 3")
    settle(page)
    assert page.evaluate("window.mashed") >= 3
    assert said(project) == [(f"sample {k}", "dog") for k in range(3)]
    # So too where an answer is looked at again, and where the last sample is answered.
    press(page, "ArrowLeft")
    wait(page, "#about", "sample 2 · ")
    act(page, how, "bird")
    wait(page, "#about", "answered: “bird”")
    press(page, "ArrowRight")
    shows(page, "sample 3")
    act(page, how)
    wait(page, "#idle", "All 4 samples are answered")
    settle(page)
    assert said(project)[3:] == [("sample 2", "bird"), ("sample 3", "dog")]


def test_a_press_begun_on_one_sample_and_ended_on_the_next_counts_for_none(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    settle(page)
    choice(page, "bird").hover()
    page.mouse.down()
    press(page, "2")
    shows(page, "sample 1")
    settle(page)
    page.mouse.up()

    choice(page, "cat").focus()
    page.keyboard.down(" ")
    page.keyboard.press("2")
    shows(page, "sample 2")
    settle(page)
    page.keyboard.up(" ")

    choice(page, "cat").focus()
    for _ in range(3):  # held down: the browser presses the button again and again
        page.keyboard.down("Enter")
    shows(page, "sample 3")
    settle(page)
    page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    settle(page)
    assert said(project) == [("sample 0", "dog"), ("sample 1", "dog"), ("sample 2", "cat")]


def test_a_double_click_answers_once(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    settle(page)
    box = choice(page, "dog").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down(click_count=1)
    page.mouse.up(click_count=1)
    shows(page, "sample 1")
    settle(page)  # a slow one
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    # The picture that is closed by a double click uncovers the classes.
    page.locator(".enlarge").click()
    page.wait_for_selector("#zoom[open]")
    page.evaluate(
        "() => { document.getElementById('zoom').click();"
        " document.querySelector('.choice').dispatchEvent("
        "new PointerEvent('click', { bubbles: true, detail: 1 })); }"
    )
    page.wait_for_selector("#zoom", state="hidden")
    settle(page)
    assert said(project) == [("sample 0", "dog")]
    act(page, "mouse", "cat")
    shows(page, "sample 2")
    assert said(project)[1:] == [("sample 1", "cat")]


def test_nothing_counts_while_an_answer_is_on_its_way(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    held = []
    page.route("**/api/answer", lambda route: held.append(route))  # noqa: PLW0108 - it is given attributes
    act(page, "mouse", "dog")
    for key in ("1", "3", "?", " ", "Enter", "s", "u"):
        page.keyboard.press(key)
    choice(page, "cat").click()
    page.wait_for_timeout(400)
    for key in ("1", "Enter", " "):
        page.keyboard.press(key)
    assert len(held) == 1
    assert held[0].request.post_data_json["id"] == "sample 0"
    held[0].continue_()
    shows(page, "sample 1")
    assert said(project) == [("sample 0", "dog")]


def test_modifiers_composition_and_fields_answer_nothing(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    project.ask(make_batch(tmp_path / "media", classes=[f"kind {k}" for k in range(12)]))
    page = visit(served(project))
    shows(page, "sample 0")
    press(page, "Shift+A", "Control+b", "Alt+1", "Meta+2", "Control+Enter")
    page.evaluate(
        "() => { for (const more of [{ isComposing: true }, { keyCode: 229 }, { repeat: true }])"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '1', bubbles: true, ...more })); }"
    )
    page.locator("#by").click()
    page.keyboard.type("1 ann?")
    choice(page, "kind 3").click()
    shows(page, "sample 1")
    press(page, "b")  # not a letter of the name any more
    shows(page, "sample 2")
    page.goto("about:blank")
    page.go_back()
    shows(page, "sample 2")
    press(page, "1")
    shows(page, "sample 3")
    assert said(project) == [
        ("sample 0", "kind 3"),
        ("sample 1", "kind 11"),
        ("sample 2", "kind 0"),
    ]
    assert {line["by"] for line in project.answers()} == {"1 ann?"}


def test_keys_of_classes_that_the_search_hides_answer_nothing(visit, served, tmp_path):
    project = Project(tmp_path / "project")
    project.ask(
        make_batch(tmp_path / "media", classes=[*(f"dish {k:02d}" for k in range(40)), "pie"])
    )
    page = visit(served(project))
    shows(page, "sample 0")
    press(page, "/")
    page.keyboard.type("dish 02")
    page.evaluate("document.activeElement.blur()")
    press(page, "1")
    settle(page)
    press(page, "3")
    shows(page, "sample 1")
    assert page.locator(".choice").count() == 41
    assert said(project) == [("sample 0", "dish 02")]


@pytest.mark.parametrize("field", ["/", "+"])
def test_a_batch_that_comes_while_a_class_is_typed_gets_no_answer(visit, served, tmp_path, field):
    project = Project(tmp_path / "project")
    names = [*(f"dish {k:02d}" for k in range(40)), "pie", "p"]
    project.ask(make_batch(tmp_path / "media", classes=names, more=True))
    page = visit(served(project))
    shows(page, "sample 0")
    press(page, field)
    page.keyboard.type("pi")
    project.ask(make_batch(tmp_path / "media", number=1, classes=names, more=True, prefix="later"))
    shows(page, "later 0")
    wait(page, "#notice", "Another sample appeared while you were typing")
    page.keyboard.type("e 1")
    press(page, "Enter")
    if field == "+":
        page.get_by_role("button", name="answer with it").click()
    wait(page, "#notice", "Another sample appeared while you were typing")
    press(page, "Escape", field)
    page.keyboard.press("Control+a")
    page.keyboard.type("pie")
    press(page, "Enter")
    shows(page, "later 1")
    assert project.annotator.collect("round_000") == {}
    assert project.annotator.collect("round_001") == {"later 0": "pie"}


def test_what_is_pressed_as_a_late_picture_appears_counts_for_none(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    held = []
    page.route("**/media**", lambda route: held.append(route))  # noqa: PLW0108 - as above
    act(page, "key")
    shows(page, "sample 1")
    settle(page)  # without the picture, after a second
    page.evaluate(
        "() => document.querySelector('#panes img').addEventListener('load', () => {"
        " window.came = true;"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '1', bubbles: true })); })"
    )
    for route in held:
        route.continue_()
    page.unroute("**/media**")
    page.wait_for_function("() => window.came")
    act(page, "key", "bird")
    shows(page, "sample 2")
    assert said(project) == [("sample 0", "dog"), ("sample 1", "bird")]


def test_a_press_begun_too_early_counts_for_none_whatever_else_is_pressed(visit, project, url):
    page = visit(url)
    shows(page, "sample 0")
    choice(page, "cat").focus()
    page.evaluate("() => document.getElementById('model').toggleAttribute('hidden')")
    page.wait_for_selector("body.fresh")
    page.evaluate(
        "() => { const at = document.activeElement, key = (type, code, key) =>"
        " at.dispatchEvent(new KeyboardEvent(type, { key, code, bubbles: true }));"
        " key('keydown', 'ShiftLeft', 'Shift'); key('keydown', 'Space', ' ');"
        " key('keyup', 'ShiftLeft', 'Shift'); }"
    )
    settle(page)
    page.evaluate("() => document.activeElement.click()")
    page.wait_for_timeout(300)
    assert not (project.folder / "answers").exists()


def test_a_picture_of_the_batch_before_does_not_cover_the_next(visit, project, url, tmp_path):
    page = visit(url)
    shows(page, "sample 0")
    page.locator(".enlarge").click()
    page.wait_for_selector("#zoom[open]")
    project.ask(make_batch(tmp_path / "media", number=1, prefix="later"))
    page.wait_for_selector("#zoom", state="hidden")
    shows(page, "later 0")
    press(page, "3")
    shows(page, "later 1")
    assert project.annotator.collect("round_001") == {"later 0": "bird"}


def test_what_is_pressed_as_a_conflict_appears_decides_nothing(visit, project, url):
    page = visit(url, quiet=False)
    shows(page, "sample 0")
    page.route("**/api/state**", lambda route: route.abort())
    Client(url, "third").say("sample 0", "cat", by="Eve")
    page.evaluate(
        """() => new MutationObserver(() => {
            for (const id of ["keep", "replace"]) document.getElementById(id).click();
            document.getElementById("conflict").dispatchEvent(new Event("cancel", { cancelable: true }));
        }).observe(document.getElementById("conflict"), { attributes: true })"""
    )
    act(page, "key", "dog")
    wait(page, "#conflict", "“cat”, by Eve")
    settle(page)
    assert page.locator("#conflict").is_visible()
    assert said(project) == [("sample 0", "cat")]
    page.unroute("**/api/state**")
    page.locator("#replace").click()
    shows(page, "sample 1")
    assert said(project)[1:] == [("sample 0", "dog")]
