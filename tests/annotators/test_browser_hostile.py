"""The page's server under requests that are malformed, endless, slow or many."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import time
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from rlmba.annotators import LabelBatch, Question, connections
from rlmba.annotators.browser.app import make_app
from tests.helpers.browser_project import Client, Project, launch_label, make_batch

TOKEN = "0123456789abcdef"
ORIGIN = {"Origin": "http://localhost"}
BODY = {"ticket": "round_000", "session": "x", "id": "sample 0", "label": "cat", "base": 0}


@pytest.fixture(scope="module")
def asgi(tmp_path_factory):
    """The application without a server: what it does not handle is raised here."""
    project = Project(tmp_path_factory.mktemp("hostile") / "project")
    project.ask(make_batch(project.folder / "media", more=True))
    client = TestClient(make_app(project.folder, TOKEN, "127.0.0.1"), base_url="http://localhost")
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    client.project = project
    return client


# Requests that are malformed

HEADERS = (
    "Host",
    "Origin",
    "Cookie",
    "Range",
    "If-Range",
    "Content-Type",
    "Content-Length",
    "Accept",
)
values = st.one_of(
    st.sampled_from(
        ["http://[", "http://[::1", "//", "http://\u2100", "null", "bytes=a-b", "bytes=-", "bytes=1-0",
         "bytes=" + "9" * 5000 + "-", "bytes=" + "0-0," * 500, "9" * 5000, "-1", "+5", "²", "a=b; =;;"]
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30),
)  # fmt: skip
queries = st.dictionaries(
    st.sampled_from(["ticket", "id", "modality", "session", "at", "since", "token"]),
    st.one_of(
        st.sampled_from(["round_000", "sample 0", "image", "%00", "%ff%fe", "%ud800", "../x", "9" * 5000]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    max_size=4,
)  # fmt: skip
bounded = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@bounded
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "X"]),
    path=st.sampled_from(["/", "/page.js", "/api/state", "/api/batch", "/api/question", "/api/answer",
                          "/media"]),
    query=queries,
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), values), max_size=3),
)  # fmt: skip
def test_no_request_is_a_defect(asgi, method, path, query, headers):
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    answer = asgi.request(method, path, params=query, headers=raw)
    assert answer.status_code < 500


@bounded
@given(
    name=st.sampled_from(["Range", "If-Range"]),
    value=st.one_of(values, st.from_regex(r"bytes=[0-9,\- ]{0,40}", fullmatch=True)),
)
@pytest.mark.slow
def test_no_range_of_a_file_is_a_defect(asgi, name, value):
    query = {"ticket": "round_000", "id": "sample 0", "modality": "video"}
    headers = [(b"Range", b"bytes=0-9"), (name.encode(), value.encode("latin-1", "replace"))]
    assert asgi.get("/media", params=query, headers=headers[1:]).status_code < 500
    assert asgi.get("/media", params=query, headers=headers).status_code < 500


jsons = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from([float("nan"), float("inf"), "\ud800", "\udc00x", 10**4000, "\0", "x" * 300]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@bounded
@given(
    changes=st.dictionaries(
        st.sampled_from([*BODY, "key", "by", "undo", "\ud800"]), jsons, min_size=1
    )
)
def test_no_answer_is_a_defect(asgi, changes):
    body = json.dumps({**BODY, "id": "no sample", **changes})
    headers = {**ORIGIN, "Content-Type": "application/json"}
    answer = asgi.post("/api/answer", content=body, headers=headers)
    assert answer.status_code in (200, 409, 413, 422)
    if answer.status_code != 200:
        assert answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"NaN", b"\xff", b'"\\ud800"', b"[" * 100_000, b'{"a":' * 50_000, b"1" * 100_000,
        json.dumps({**BODY, "base": float("nan")}).encode(), json.dumps({**BODY, "base": 10**4000}).encode(),
        json.dumps({**BODY, "id": "\ud800"}).encode(), json.dumps({**BODY, "\ud800": 1}).encode(),
        json.dumps({**BODY, "by": "\ud800"}).encode(), json.dumps(BODY).encode("utf-16"),
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_no_answer_is_refused(asgi, body):
    headers = {**ORIGIN, "Content-Type": "application/json"}
    answer = asgi.post("/api/answer", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert not (asgi.project.folder / "answers").exists()


def test_only_json_is_an_answer(asgi):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {**ORIGIN, "Content-Type": kind}
        answer = asgi.post("/api/answer", content=json.dumps(BODY), headers=headers)
        assert answer.status_code == 422
        assert "application/json" in answer.json()["message"]


def test_what_a_batch_holds_can_always_be_sent(tmp_path):
    project = Project(tmp_path / "project")
    question = Question(
        "a", 1, prediction="\ud800", probability=float("nan"), difficulty=float("inf"),
        texts={"text": "lone \udfff"}, files={"image": "\ud800.png", "sound": "\udc80.wav"},
    )  # fmt: skip
    project.ask(LabelBatch(0, ("cat", "\ud801"), False, {}, (question,)))
    client = TestClient(make_app(project.folder, TOKEN, "127.0.0.1"), base_url="http://localhost")
    client.get("/", params={"token": TOKEN})
    told = client.get("/api/question", params={"ticket": "round_000", "id": "a"}).json()
    assert told["texts"][0]["text"] == "lone \udfff"
    assert [file["path"] for file in told["files"]] == ["\ufffd.png", "\ufffd.wav"]
    for modality in ("image", "sound"):
        query = {"ticket": "round_000", "id": "a", "modality": modality}
        assert client.get("/media", params=query).status_code == 422
    assert (told["probability"], told["difficulty"]) == (None, None)
    assert client.get("/api/state").json()["classes"] == ["cat", "\ud801"]


# Connections

HEAD = "{method} /api/answer HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nCookie: {cookie}\r\n"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(client, method="POST"):
    cookie = "; ".join(f"{k}={v}" for k, v in client.http.cookies.items())
    return HEAD.format(method=method, cookie=cookie).encode()


def ended(raw, within):
    """Whether the server closes a connection in so many seconds, and what it has sent before."""
    raw.settimeout(within)
    told = b""
    try:
        while part := raw.recv(65536):
            told += part
    except TimeoutError:
        return False, told
    except OSError:
        pass
    return True, told


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_chunked_body_is_counted_as_it_arrives(page, client, project, method, declared):
    with connect(page.port) as raw:
        length = b"Content-Length: 5\r\n" if declared else b""
        raw.sendall(head(client, method) + length + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(40):  # 2.5 MiB
                raw.sendall(chunk)
        except OSError:
            pass  # closed meanwhile
        closed, told = ended(raw, 10)
    assert closed
    assert told == b"" or told.split()[1] == b"413"
    assert client.state()["answers"] == {}


def slowly(raw, data, pause=0.1):
    """Send a byte at a time until the server has had enough; returns after how many seconds."""
    began = time.monotonic()
    for k in range(len(data)):
        try:
            raw.sendall(data[k : k + 1])
        except OSError:
            break
        time.sleep(pause)
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["idle", "head", "body", "second", "half"])
def test_a_connection_that_keeps_the_server_waiting_is_closed(project, monkeypatch, caplog, kind):
    monkeypatch.setattr(connections, "REQUEST", 0.6)
    with project.start() as server:
        client = Client(server.url)
        start = head(client) + b"Content-Type: application/json\r\nContent-Length: 500\r\n"
        with connect(server.port) as raw:
            if kind == "second":
                raw.sendall(head(client, "GET") + b"\r\n")
                assert raw.recv(65536).startswith(b"HTTP/1.1 405")
            if kind in ("head", "second"):
                assert slowly(raw, start[:100]) < 5
            elif kind == "body":
                raw.sendall(start + b"\r\n")
                assert slowly(raw, b" " * 100) < 5
            elif kind == "half":
                raw.sendall(start)
                raw.shutdown(socket.SHUT_WR)
            assert ended(raw, 10)[0]
        assert client.state()["ticket"] == "round_000"
    assert not caplog.records


def test_refused_connections_are_closed_and_nothing_is_logged(page, caplog, capfd):
    with caplog.at_level(logging.DEBUG, logger="uvicorn"):
        for request in (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
            b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        ):
            with connect(page.port) as raw:
                try:
                    raw.sendall(request)
                except OSError:
                    continue
                closed, told = ended(raw, 10)
            assert closed
            assert told == b"" or (told.startswith(b"HTTP/1.1 4") and told.count(b"HTTP/1.1") == 1)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))  # noqa: PTH208 - their number alone


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")  # noqa: PTH112
@pytest.mark.slow
def test_many_idle_connections_neither_shut_the_page_nor_fill_the_log(project):
    process, url = launch_label(project.folder, "--port", "0", descriptors=80)
    port = int(url.split(":")[2].split("/")[0])
    try:
        with ExitStack() as held:
            for k in range(160):
                raw = held.enter_context(connect(port))
                raw.sendall(b"GET / HTTP/1.1\r\nHost: " if k % 2 else b"")
            client = Client(url)
            assert client.say("sample 0", "cat").status_code == 200
            assert descriptors(process) < 80
            # Without a free descriptor nobody is let in, and that is said once.
            taken = descriptors(process)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken, 80))
            waiting = [held.enter_context(connect(port)) for _ in range(40)]
            time.sleep(2.5)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (80, 80))
            assert len(waiting) == 40
            assert Client(url, "two").say("sample 1", "dog").status_code == 200
    finally:
        process.kill()
        _, told = process.communicate()
    assert told.count("\n") <= 1
    assert "Traceback" not in told
    assert project.annotator.collect("round_000") == {"sample 0": "cat", "sample 1": "dog"}
