"""A server that stores models like the Hugging Face hub, with only the requests that its client makes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandInHub:
    """The server's ``endpoint``, and for each repository the ``files`` and whether it is ``private``."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits = 0
        self.endpoint = ""

    def post(self, path: str, body: bytes) -> object:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'ann'}/{asked['name']}"
            self.files.setdefault(name, {})
            # The client's version determines which of the two it sends.
            self.private[name] = asked.get("private") or asked.get("visibility") == "private"
            return {"url": f"{self.endpoint}/{name}", "id": name}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            paths = [f["path"] for f in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            return {"files": modes}
        assert "/commit/" in path, path
        self.commits += 1
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.files[name][line["value"]["path"]] = content
        url = f"{self.endpoint}/{name}/commit/{COMMIT}"
        return {"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None}

    def get(self, path: str) -> object:
        """Return a JSON value, or the bytes of a file; None: not found."""
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "ann", "orgs": [], "auth": {}}
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name not in self.files:
                return None
            if "/tree/" in path:
                return [
                    {"type": "file", "path": f, "size": len(content), "oid": _oid(content)}
                    for f, content in self.files[name].items()
                ]
            listed = [{"rfilename": f} for f in sorted(self.files[name])]
            return {"id": name, "sha": COMMIT, "siblings": listed, "private": False, "tags": []}
        owner, name, *where = path.strip("/").split("/")  # then "resolve", the revision, the file
        return self.files.get(f"{owner}/{name}", {}).get("/".join(where[2:]))


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _handler(hub: StandInHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._send(hub.post(self.path.partition("?")[0], body))

        def do_GET(self) -> None:
            self._send(hub.get(self.path.partition("?")[0]))

        do_HEAD = do_GET

        def _send(self, answer: object) -> None:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            if answer is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            if isinstance(answer, bytes):
                self.send_header("ETag", f'"{_oid(content)}"')
                self.send_header("X-Repo-Commit", COMMIT)
            else:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextlib.contextmanager
def stand_in_hub():
    """Serve an empty hub on this machine."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("localhost", 0), _handler(hub))
    hub.endpoint = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
