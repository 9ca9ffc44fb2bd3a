"""What a real Label Studio cannot easily be brought to: failing, hanging, hiding behind a proxy."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlmba.annotators import LabelBatch, Question, create
from rlmba.errors import AnnotatorError, UsageError

pytest.importorskip("label_studio_sdk")

KEY = "9f" * 20
BATCH = LabelBatch(
    0, ("cat", "dog"), False, {"text": 1.0}, (Question("a", 1, texts={"text": "x"}),)
)


@pytest.fixture
def answering():
    """Start a server that answers all requests alike; gives its address and what it was asked."""
    running = []

    def start(status, body, content_type="application/json", seconds=0.0):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                asked.append((self.command, self.path))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                time.sleep(seconds)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The message of the error that asking, and collecting, end with."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", KEY)

    def message(url, **options):
        annotator = create("labelstudio", tmp_path, {"url": url, "project": 5} | options)
        with pytest.raises(AnnotatorError) as asking:
            annotator.request(BATCH)
        with pytest.raises(AnnotatorError) as collecting:
            annotator.collect("round_000")
        assert annotator.tickets.read("round_000")[0] == BATCH  # kept, to ask again
        for caught in (asking, collecting):
            assert KEY not in str(caught.value)
            assert url.rstrip("/") in str(caught.value)
        return str(asking.value)

    return message


HTML = "<!DOCTYPE html><html><title>Sign in to continue</title></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            200,
            HTML,
            "text/html",
            "check that url is the address of Label Studio, and that no login page or proxy is in between",
        ),
        (404, HTML, "text/html", "there is no project 5 for this key"),
        (403, HTML, "text/html", "configure the proxy that refuses it"),
        (
            403,
            '{"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}',
            "application/json",
            "start it with SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false",
        ),
        (
            401,
            '{"detail": "Invalid token."}',
            "application/json",
            "key was refused (401: Invalid token.)",
        ),
        (413, HTML, "text/html", "media=local"),
        (
            429,
            '{"detail": "slow down"}',
            "application/json",
            "the request was refused (429: slow down)",
        ),
        (
            500,
            '{"detail": "OperationalError"}',
            "application/json",
            "the server failed (500: OperationalError)",
        ),
        (502, "<h1>Bad Gateway</h1>", "text/html", "the server failed (502: <h1>Bad Gateway</h1>)"),
        (200, '"hello"', "application/json", "check that url is the address of Label Studio"),
        (200, "[1, 2]", "application/json", "check that url is the address of Label Studio"),
    ],
)
def test_what_a_server_may_answer(answering, refused, status, body, kind, said):
    url, asked = answering(status, body, kind)
    assert said in refused(url)
    assert len(asked) == 2  # one for each call: nothing is tried again behind people's backs


def test_a_server_that_does_not_answer(answering, refused):
    url, _ = answering(200, "{}", seconds=1.0)
    assert "no answer within 0.2 seconds" in refused(url, timeout=0.2)


def test_a_server_that_hangs_up(refused):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            for _ in range(2):
                listening.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        message = refused(f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert "the connection failed" in message


def test_a_server_that_is_down(refused):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "start it (`label-studio start`)" in refused(f"http://127.0.0.1:{port}")


def test_a_server_below_a_path(answering, refused):
    url, asked = answering(500, "{}")
    refused(f"{url}/studio/")
    assert [path.partition("?")[0] for _, path in asked] == [
        "/studio/api/projects/5/",
        "/studio/api/tasks/",
    ]


def test_a_token_that_has_expired(answering, tmp_path, monkeypatch):
    jwt = pytest.importorskip("jwt")
    url, asked = answering(200, HTML, "text/html")
    for seconds, said in (
        (-60, "has expired"),
        (3600, "check that url is the address of Label Studio"),
    ):
        key = jwt.encode({"token_type": "refresh", "exp": time.time() + seconds}, "s" * 32)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
        with pytest.raises(AnnotatorError, match=said) as caught:
            create("labelstudio", tmp_path, {"url": url, "project": 5}).request(BATCH)
        assert key not in str(caught.value)
    assert [path for _, path in asked] == ["/api/token/refresh/"]


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://host", "http://", "http://ada:secret@host"]
)
def test_addresses_that_are_none(tmp_path, monkeypatch, url):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", KEY)
    with pytest.raises(
        UsageError, match="expected an address such as http://localhost:8080"
    ) as caught:
        create("labelstudio", tmp_path, {"url": url}).request(BATCH)
    assert "secret" not in str(caught.value)
