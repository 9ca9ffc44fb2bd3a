"""The page's server: who may ask, starting and ending."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading

import httpx
import pytest

from rlmba import trust
from rlmba.annotators import LabelBatch, Question, acts
from rlmba.annotators.browser import start
from rlmba.annotators.loopback import is_loopback
from rlmba.errors import AnnotatorError, UsageError
from tests.helpers.browser_project import CLASSES, Client, launch_label

# Who may ask


def test_without_the_token_nothing_is_told(page):
    http = httpx.Client(base_url=f"http://127.0.0.1:{page.port}", trust_env=False)
    for path in (
        "/",
        "/?token=",
        "/?token=wrong",
        "/page.js",
        "/api/state",
        "/media",
        "/nothing",
        "/?token=é",
    ):
        answer = http.get(path)
        assert answer.status_code == 403
        assert "Open the link that `rlmba label`" in answer.text
        assert "set-cookie" not in answer.headers
    assert http.post("/api/answer", json={}).status_code == 403
    http.cookies.set("rlmba", "wrong")
    assert http.get("/").status_code == 403


def test_the_link_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(page):
    answer = httpx.get(page.url, trust_env=False)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    # A stale link is refused also where the cookie is right.
    client = Client(page.url)
    assert client.get("/").status_code == 200
    assert client.get("/", token="stale").status_code == 403


def test_answers_are_taken_from_the_page_alone(page, client, project):
    body = {"ticket": "round_000", "session": "x", "id": "sample 0", "label": "cat", "base": 0}
    for origin in (
        "http://evil.example",
        f"http://localhost:{page.port}",
        "null",
        "",
        f"{client.base}.evil",
    ):
        assert client.post("/api/answer", body, Origin=origin).status_code == 403
    assert client.http.post("/api/answer", json=body).status_code == 403  # no origin at all
    assert client.http.delete("/api/answer").status_code == 403
    form = client.http.post("/api/answer", data=body, headers={"Origin": client.base})
    assert form.status_code == 422
    big = client.post("/api/answer", {**body, "by": "x" * 2**20})
    assert big.status_code == 413
    chunked = client.http.post(
        "/api/answer", content=iter([json.dumps(body).encode()]), headers={"Origin": client.base}
    )
    assert chunked.status_code == 413
    assert not (project.folder / "answers").exists()


def test_other_names_that_point_here_get_nothing(page, client):
    cookies = dict(client.http.cookies)
    for name, status in (
        ("evil.example", 403), (f"evil.example:{page.port}", 403), ("localhost.evil.example", 403),
        ("", 403), ("[", 403), (f"localhost:{page.port}", 200), ("127.0.0.1", 200), ("[::1]:9", 200),
    ):  # fmt: skip
        answer = httpx.get(client.base, headers={"Host": name}, cookies=cookies, trust_env=False)
        assert answer.status_code == status, name


def test_loopback():
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "localhost.example", "")))


@pytest.mark.slow
def test_the_token_outlives_the_server_and_is_the_owners_alone(project):
    with project.start() as first:
        url = first.url
    path = project.folder / "browser.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with project.start() as second:
        assert second.url.split("?")[1] == url.split("?")[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for damaged in ("", "{", '{"token": ""}', '{"token": 3}', "[]"):
        path.write_text(damaged)
        with project.start() as third:
            assert len(Client(third.url).token) >= 32
            assert third.url.split("?")[1] != url.split("?")[1]


def test_who_made_the_folder_does_not_know_the_token(project, tmp_path, monkeypatch):
    with project.start() as server:
        mine = Client(server.url).token
    assert mine not in (project.folder / "browser.json").read_text()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of somebody else"))
    with project.start() as server:
        theirs = Client(server.url).token
    assert theirs != mine
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    with project.start() as server:
        assert Client(server.url).token not in (mine, theirs)


def test_a_token_may_be_given_and_must_be_one(project):
    with project.start(token="abcdefgh-ABCDEFGH_1") as server:
        assert server.url.endswith("/?token=abcdefgh-ABCDEFGH_1")
        assert Client(server.url).state()["ticket"] == "round_000"
    with pytest.raises(UsageError, match="token: expected"):
        project.start(token="short")


# The server


def test_a_port_that_is_taken_is_named(project, page):
    with pytest.raises(AnnotatorError, match=rf"port {page.port} .*--port 0"):
        start(project.folder, port=page.port)


def test_hosts_and_folders_that_are_none(project, tmp_path):
    with pytest.raises(UsageError, match=r"host: .*203\.0\.113\.1"):
        start(project.folder, "203.0.113.1", 0)
    with pytest.raises(UsageError, match=r"host: expected a name"):
        start(project.folder, "no.such.host.invalid", 0)
    with pytest.raises(UsageError, match="found none"):
        start(tmp_path / "nothing", port=0)


def test_it_ends_while_a_player_is_still_loading(project, tmp_path):
    big = tmp_path / "big.wav"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    project.ask(LabelBatch(0, CLASSES, False, {}, (Question("a", 1, files={"audio": str(big)}),)))
    server = project.start()
    client = Client(server.url)
    query = {"ticket": "round_000", "id": "a", "modality": "audio"}
    with client.http.stream("GET", "/media", params=query) as stream:
        next(stream.iter_bytes())
        closing = threading.Thread(target=server.close)
        closing.start()
        closing.join(15)
        assert not closing.is_alive()
    with project.start() as again:
        assert Client(again.url).state()["ticket"] == "round_000"


def test_the_command(project):
    process, url = launch_label(project.folder, "--port", "0")
    try:
        assert url.startswith("http://127.0.0.1:")
        assert Client(url).say("sample 0", "cat").status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "run the same command again" in out
    assert project.annotator.collect("round_000") == {"sample 0": "cat"}


def test_the_command_takes_the_projects_options_and_warns_of_an_open_door(project):
    project.configure({"host": "0.0.0.0", "port": 0})
    trust.allow(project.folder, acts("browser", project.folder, {"host": "0.0.0.0"}))
    process, url = launch_label(project.folder)
    try:
        warning = process.stdout.readline()
        port = url.split(":")[2].split("/")[0]
        answer = httpx.get(
            f"http://127.0.0.1:{port}/?{url.split('?')[1]}",
            headers={"Host": "any.example"},
            trust_env=False,
        )
    finally:
        process.kill()
        process.communicate()
    assert "warning: other machines can reach this page" in warning
    assert answer.status_code == 200


def test_the_command_refuses_a_folder_that_is_no_project(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rlmba", "label", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "rlmba init" in done.stderr


def test_importing_the_annotator_is_light():
    code = (
        "import sys; from rlmba.annotators.browser import Browser\n"
        "print(sorted({'torch', 'fastapi', 'uvicorn', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_that_is_moved_while_served_is_a_message_not_a_crash(project, client, tmp_path):
    shutil.move(project.folder, tmp_path / "elsewhere")
    assert client.state()["ticket"] is None
    shutil.move(tmp_path / "elsewhere", project.folder)
    assert client.state()["ticket"] == "round_000"
