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


def press(page, *keys):
    """Keys one after another, each when it counts for what is then shown."""
    for key in keys:
        settle(page)
        page.keyboard.press(key)


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
