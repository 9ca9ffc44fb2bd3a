"""Run every command of docs/tutorial.md in order, and compare its output with what the page shows."""

from __future__ import annotations

import csv
import http.cookiejar
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def blocks(language, text):
    """Yield line, content and shown output of each code block in a language."""
    pattern = rf"^```{language}\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
    for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        yield line, found[1], (found[2] or "").splitlines()


def masked(line):
    return NUMBER.sub("#", line.removeprefix("\ufeff")).rstrip()


def shown_is_printed(shown, printed):
    """Every line that is shown was printed, in this order, except for numbers and what "..." stands for."""
    rest = iter(masked(line) for line in printed.splitlines())
    for line in shown:
        start, cut, _ = masked(line).partition("...")
        assert any(p.startswith(start) if cut else p == start for p in rest), (line, printed)


class Person:
    """A person at the label page: opens the link and answers every question, over HTTP as the page does."""

    def __init__(self, link, truth):
        parts = urllib.parse.urlsplit(link)
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.truth = truth
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.http = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
        assert b"<html" in self.http.open(link).read()

    def get(self, path, **query):
        query = urllib.parse.urlencode(query)
        return json.load(self.http.open(f"{self.base}/api/{path}?{query}"))

    def post(self, path, **body):
        headers = {"Content-Type": "application/json", "Origin": self.base}
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/api/{path}", data, headers)
        return json.load(self.http.open(request))

    def label_all(self):
        state = self.get("state", session="a person")
        who = {"ticket": state["ticket"], "session": "a person"}
        done = 0
        while (id_ := self.post("next", **who)["now"]) is not None:
            assert self.truth[id_] in state["classes"]
            assert self.get("question", ticket=state["ticket"], id=id_)["id"] == id_
            self.post("answer", **who, id=id_, label=self.truth[id_], base=0)
            done += 1
        return done


def label_in_browser(command, folder, environment):
    """Run ``rlmba label`` as shown, on a free port; answer everything; press Ctrl-C."""
    with subprocess.Popen(
        ["rlmba", *command.split()[1:], "--port", "0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            first = server.stdout.readline()
            link = re.search(r"http://\S+", first)
            assert link, server.communicate(timeout=30)
            with (folder / "catalog" / "truth.csv").open(encoding="utf-8") as file:
                truth = dict(csv.reader(file))
            assert Person(link[0], truth).label_all() > 20
            server.send_signal(signal.SIGINT)
            rest, errors = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0, errors
    return first + rest


def run(script, folder, environment):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_no_command_is_left_out():
    """All commands are in bash blocks, which the test runs, and output follows the block that prints it."""
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) == {"bash", "text"}
    assert text.count("```text") == sum(bool(shown) for *_, shown in blocks("bash", text))
    said = {w for _, script, _ in blocks("bash", text) for w in re.findall(r"rlmba (\w+)", script)}
    commands = {"init", "next", "label", "collect", "status", "loop", "report", "predict", "export"}
    assert said == commands


@pytest.mark.slow
def test_tutorial(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    here = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    for line, script, shown in blocks("bash", PAGE.read_text(encoding="utf-8")):
        if script.startswith("rlmba label "):
            printed = label_in_browser(script.strip(), tmp_path, environment)
        else:
            printed = run(script, tmp_path, environment)
        sys.stdout.write(f"--- line {line}\n{script}{printed}")  # shown if the test fails
        shown_is_printed(shown, printed)
    with (tmp_path / "predicted.csv").open(encoding="utf-8-sig") as file:
        predicted = list(csv.DictReader(file))
    assert len(predicted) == 40
    assert {row["id"] for row in predicted} == {f"fig-{i:04d}" for i in range(500, 540)}
    rounds = (tmp_path / "rehearsal" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    # Random guessing has one in nine.
    assert json.loads(rounds[-1])["test"]["heads"]["mm"]["top1"] > 0.4
