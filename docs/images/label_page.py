"""Draw the picture of the label page, from the tutorial's project: ``python docs/images/label_page.py``.

Needs playwright, which the extra ``test`` has, and a Chromium on PATH.
"""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent
SIZE = {"width": 1010, "height": 650}
ANSWERED = 16


def rlmba(*words: str, cwd: Path) -> None:
    """Run a command of rlmba."""
    subprocess.run([sys.executable, "-m", "rlmba", *words], cwd=cwd, check=True)


def answer(page: Page, truth: dict[str, str]) -> None:
    """Answer the sample on the screen, and wait for the next one."""
    page.wait_for_selector("#work:not([hidden])")
    about = page.text_content("#about") or ""
    page.wait_for_selector("body:not(.busy)")
    page.keyboard.press(truth[about.partition(" ")[0]])
    page.wait_for_function("old => document.getElementById('about').textContent !== old", arg=about)


with tempfile.TemporaryDirectory() as name:
    work = Path(name)
    catalog = FOLDER.parents[1] / "examples" / "small_catalog.py"
    subprocess.run([sys.executable, str(catalog), "catalog"], cwd=work, check=True)
    given = ["--manifest", "catalog/manifest.csv", "--classes", "1,2,3,4,5,6,7,8,9"]
    rlmba("init", "figures", *given, "--from-scratch", cwd=work)
    rlmba("next", "figures", cwd=work)
    with (work / "catalog" / "truth.csv").open(encoding="utf-8") as file:
        labels = {row["id"]: row["label"] for row in csv.DictReader(file)}
    command = [sys.executable, "-m", "rlmba", "label", "figures", "--port", "0"]
    server = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        link = server.stdout.readline().partition(": ")[2].strip()
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            tab = browser.new_page(viewport=SIZE)
            tab.goto(link)
            for _ in range(ANSWERED):
                answer(tab, labels)
            tab.wait_for_selector("body:not(.busy)")
            picture = Image.open(io.BytesIO(tab.screenshot()))
            browser.close()
    finally:
        server.terminate()
        server.wait()
picture.convert("RGB").quantize(128).save(FOLDER / "label_page.png", optimize=True)
