"""A real Label Studio on the loopback.

``RLMBA_LABEL_STUDIO`` names its executable. ``RLMBA_LABEL_STUDIO_DATA`` names an initialized data folder
(user ada@example.com). The folder is copied, which saves the minutes that a first start takes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from label_studio_sdk import LabelStudio as Client

from rlmba.annotators.labelstudio.ordering import TAB

PASSWORD = "one-two-three-four"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


class Studio:
    """A running server, people who are logged in there, and the folder from which it serves files."""

    def __init__(self, url: str, files: Path) -> None:
        self.url = url
        self.files = files
        self.ada = self.person("ada@example.com", sign_up=False)
        self.bob = self.person("bob@example.com")
        answer = self.ada.post("/api/token/")
        if answer.status_code == 409:  # a copied data folder may have one, which is not shown again
            (old,) = self.ada.get("/api/token/").json()
            self.ada.post("/api/token/blacklist/", json={"refresh": old["token"]})
            answer = self.ada.post("/api/token/")
        self.key = answer.json()["token"]
        self.api = Client(base_url=url, api_key=self.key)

    def person(self, email: str, *, sign_up: bool = True) -> httpx.Client:
        client = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60)
        page = "/user/signup/" if sign_up else "/user/login/"
        client.get(page)
        form = {"email": email, "password": PASSWORD}
        answer = client.post(page, data=form | {"csrfmiddlewaretoken": client.cookies["csrftoken"]})
        assert answer.status_code == 200, answer.text
        assert client.get("/api/current-user/whoami").json()["email"] == email
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        return client


def executable() -> str:
    found = os.environ.get("RLMBA_LABEL_STUDIO") or shutil.which("label-studio")
    if not found:
        pytest.skip("no label-studio on PATH or in RLMBA_LABEL_STUDIO")
    return found


@contextlib.contextmanager
def running(folder):
    """A server with its data below ``folder``."""
    command = executable()
    data, files = folder / "data", folder / "files"
    files.mkdir()
    if template := os.environ.get("RLMBA_LABEL_STUDIO_DATA"):
        shutil.copytree(template, data)
    else:
        data.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("LABEL_STUDIO", "DJANGO", "PYTHONPATH", "RLMBA")
    env = {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        "COLLECT_ANALYTICS": "false",
        # Allows webhooks and models on this machine.
        "SSRF_PROTECTION_ENABLED": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    start = [command, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    user = ["--username", "ada@example.com", "--password", PASSWORD, "--user-token", LEGACY]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            start + user, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            assert server.poll() is None, (folder / "log").read_text()[-3000:]
            try:
                if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.3)
        yield Studio(url, files)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def annotate(
    person: httpx.Client, task, label=None, *, new=None, control="label", to_name="about", **fields
) -> None:
    result = []
    if label is not None:
        value = {"choices": [label]}
        result.append({"from_name": control, "to_name": to_name, "type": "choices", "value": value})
    if new is not None:
        value = {"text": [new]}
        result.append(
            {"from_name": "new_class", "to_name": "about", "type": "textarea", "value": value}
        )
    answer = person.post(f"/api/tasks/{task.id}/annotations/", json={"result": result} | fields)
    assert answer.status_code == 201, answer.text


def people_press_next(studio: Studio, project: int):
    """The task that Label Studio shows next to a person who labels in the sorted tab."""
    views = studio.ada.get("/api/dm/views/", params={"project": project}).json()
    (tab,) = [view for view in views if view["data"]["title"] == TAB]
    where = {"id": "next_task", "tabID": tab["id"], "project": project}
    body = {"ordering": tab["data"]["ordering"], "filters": tab["data"]["filters"]}
    answer = studio.ada.post("/api/dm/actions/", params=where, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


class Command:
    """`rlmba label-studio serve` in a separate process, and the lines that it prints."""

    def __init__(self, folder, *options):
        self.lines = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlmba", "label-studio", "serve", str(folder), "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self.lines.append("(ended)")
            self._news.notify_all()

    def until(self, text):
        """Wait for a line with ``text``."""
        with self._news:
            there = self._news.wait_for(
                lambda: any(text in line or line == "(ended)" for line in self.lines), timeout=300
            )
        assert there, self.lines
        assert any(text in line for line in self.lines), self.lines

    def kill(self):
        """Kill the process, as if the machine had stopped."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(folder):
    """Gives a function that starts the command for a project; all are killed in the end."""
    started = []

    def start(*options):
        started.append(Command(folder, *options))
        return started[-1]

    yield start
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            command.kill()
