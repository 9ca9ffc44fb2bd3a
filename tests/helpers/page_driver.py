"""What a person does at the page in a real Chromium, and waits for."""

from __future__ import annotations


def wait(page, selector, text):
    """Until an element holds a text."""
    page.locator(selector, has_text=text).wait_for(state="visible")


def shows(page, name):
    wait(page, "#about", f"{name} ·")


def counts(page, text):
    wait(page, "#count", text)


def settle(page):
    """Wait until presses count for what is on the screen, or for the dialog over it."""
    page.wait_for_selector("body:not(.fresh) dialog[open], body:not(.busy)")


WATCH = """() => {
    window.tooEarly = false;
    const look = (event) => { window.tooEarly ||= event.isTrusted && document.body.matches(".fresh"); };
    for (const type of ["keydown", "pointerdown", "click"]) addEventListener(type, look, true);
}"""


def take_effect(page, act):
    """Do something when presses count, again if the page moved in between and ignored it.

    On a slow machine a file may arrive, and move what is on the screen, between the check and the press.
    """
    for _ in range(20):
        settle(page)
        page.evaluate(WATCH)
        act()
        if not page.evaluate("window.tooEarly"):
            return
    raise AssertionError("the page never came to rest")


def press(page, *keys):
    """Keys one after another, each when it counts for what is then shown."""
    for key in keys:
        if key.startswith("Arrow"):  # counts on a view that has just appeared, too
            settle(page)
            page.keyboard.press(key)
        else:
            take_effect(page, lambda key=key: page.keyboard.press(key))


def click(page, selector):
    """A click when it counts for what is then shown."""
    take_effect(page, lambda: page.click(selector))


def loaded(page, kind):
    """Wait for a player to know what it plays; returns its seconds, or pixels of an image's width."""
    page.wait_for_function(
        "kind => { const e = document.querySelector(`#panes ${kind}`);"
        " return e && (kind === 'img' ? e.complete && e.naturalWidth > 0 : e.readyState >= 1); }",
        arg=kind,
    )
    return page.eval_on_selector(
        f"#panes {kind}", "e => e.tagName === 'IMG' ? e.naturalWidth : e.duration"
    )
