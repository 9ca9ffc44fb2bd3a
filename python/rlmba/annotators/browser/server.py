"""The server of the page: a port, a token that outlives it, a thread."""

from __future__ import annotations

import base64
import errno
import hmac
import json
import os
import re
import secrets
import shlex
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba import trust
from rlmba.annotators.browser.annotator import Browser
from rlmba.errors import AnnotatorError, DataError, StorageError, UsageError
from rlmba.reading.structured import find_json
from rlmba.storage import config_folder, make_folder

if TYPE_CHECKING:
    import uvicorn

__all__ = ["Server", "serve", "start"]


class Server:
    """A page that is being served. Also a context manager, which closes it.

    Attributes
    ----------
    url : str
        The link to open, token and all.
    host : str
    port : int
        The port it has, also where any was asked for.
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, host: str, token: str
    ) -> None:
        self.host = host
        self.port: int = listener.getsockname()[1]
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host
        self.url = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/?token={token}"
        self._server = server
        self._listener = listener
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rlmba label", daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not server.started:
            listener.close()
            raise AnnotatorError(f"the page could not be served on {host}:{self.port}")

    def _run(self) -> None:
        try:
            self._server.run([self._listener])
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Return when it has ended."""
        # Not by joining the thread: before Python 3.13 a join that Ctrl-C interrupts counts as done,
        # and closing would no longer wait for the answers in flight.
        self._ended.wait()

    def close(self) -> None:
        """End it; what was answered is on the disk already."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def start(
    folder: Path, host: str = "127.0.0.1", port: int = 8757, token: str | None = None
) -> Server:
    """Serve a project's page from a thread of this process.

    The page goes on by itself with whatever batch ``pending.json`` names.

    Parameters
    ----------
    folder : path
        The project's folder.
    host : str
        Name or address to listen on. One that is not this machine's own lets others in who have the link.
    port : int
        0: any that is free.
    token : str or None
        What the link must hold: letters, digits, "-" and "_", 16 at least. None: made
        of ``browser.json`` in the folder and of the user's settings, both drawn at first and kept, so that
        open pages survive a restart.

    Raises
    ------
    UsageError
        If the folder is not there, or host, port or token are none.
    AnnotatorError
        If the port is taken or cannot be had.
    StorageError
        If the token cannot be kept.
    """
    import uvicorn

    from rlmba.annotators.browser import connections
    from rlmba.annotators.browser.app import make_app

    browser = Browser(folder, host=host, port=port)
    if not browser.folder.is_dir():
        raise UsageError(f"expected a project's folder, there is none at {folder}")
    if token is not None and re.fullmatch(r"[A-Za-z0-9_-]{16,}", token) is None:
        raise UsageError("token: expected 16 or more of letters, digits, '-' and '_'")
    trust.require_inside(browser.folder)
    token = token or _link_token(browser.folder / "browser.json")
    listener = _listener(host, port, browser.folder)
    connections.keep_alive(listener)
    config = uvicorn.Config(
        make_app(browser.folder, token, host),
        log_config=None,
        # Below errors there are only what strangers send: it must not fill a disk.
        log_level="error",
        access_log=False,
        lifespan="off",
        http=connections.Connection,
        limit_concurrency=connections.most_connections(),
        loop="asyncio",
        backlog=connections.AT_ONCE,
        workers=1,
        proxy_headers=False,
        ws="none",
        server_header=False,
        # Players keep connections open for as long as they are not done.
        timeout_graceful_shutdown=1,
    )
    return Server(connections.PageServer(config), listener, host, token)


def serve(
    folder: Path, host: str | None = None, port: int | None = None, *, say: Callable[[str], None]
) -> None:
    """Serve a project's page until Ctrl-C.

    Parameters
    ----------
    folder : path
        The project's folder.
    host, port
        As of :func:`start`; None: as the project's options of the annotator say.
    say : callable
        Is given what the person at the terminal should read, the link first.

    Raises
    ------
    UsageError
        If this is no project.
    TrustError
        If the project's options open the page to other machines, and its user has not allowed it.
    AnnotatorError, StorageError
        As of :func:`start`.
    """
    from rlmba.annotators.browser.guard import is_loopback
    from rlmba.annotators.registry import acts

    options = _options(folder)
    if host is None:
        trust.require(folder, acts("browser", folder, options))
    host = host or options.get("host", "127.0.0.1")
    port = options.get("port", 8757) if port is None else port
    server = start(folder, host, port)
    try:
        say(f"label here: {server.url}")
        if not is_loopback(host):
            say(
                "warning: other machines can reach this page; whoever has the link sees the data and can "
                "answer, and the connection is not encrypted"
            )
        say(f"answers are kept in {folder / 'answers'}; Ctrl-C ends this and loses nothing")
        server.wait()
    except KeyboardInterrupt:
        say("ended; the same command goes on from here, and pages that are open go on with it")
    finally:
        server.close()


def _options(folder: Path) -> dict[str, Any]:
    """The project's options of this annotator."""
    from rlmba.config import yaml12

    file = folder / "config.yaml"
    try:
        data = yaml12.read(file, regular=True)
    except OSError as error:
        raise UsageError(
            f"{folder} is no project ({file.name}: {error.strerror or error}); make one with `rlmba init`"
        ) from error
    project = data.get("project") if isinstance(data, dict) else None
    if not isinstance(project, dict) or project.get("annotator", "browser") != "browser":
        return {}
    options = project.get("annotator_options") or {}
    if not isinstance(options, dict):
        raise UsageError(
            f"{file}: project.annotator_options: expected options by name, got {options!r:.200}"
        )
    return options


def _listener(host: str, port: int, folder: Path) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(
            f"host: expected a name or address of this machine, got {host!r} ({error.strerror})"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it a port stays taken for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"host: {host!r} is no address of this machine; try 127.0.0.1"
            ) from error
        there = shlex.quote(str(folder))
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error})"
        raise AnnotatorError(
            f"port {port} of {host} {reason}; `rlmba label {there} --port 0` takes any that is free, and "
            f"`rlmba loop` goes by project.annotator_options.port in {there}/config.yaml"
        ) from error
    return listener


def _link_token(path: Path) -> str:
    """The token of a folder's link: of what the folder's file and the user's own settings keep.

    Whoever made the folder knows its file, but not the user's half. Without a place for settings the
    token lasts as long as the process.
    """
    try:
        settings = config_folder()
        make_folder(settings)
        mine = _kept_secret(settings / "pages.json")
    except StorageError:
        mine = secrets.token_urlsafe(32)
    made = hmac.digest(mine.encode(), _kept_secret(path).encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _kept_secret(path: Path) -> str:
    """What a file keeps, drawn where there is none; nobody else may read the file."""
    with suppress(DataError):  # a damaged one is replaced
        token = (find_json(path, dict[str, str], advice="delete it") or {}).get("token", "")
        if re.fullmatch(r"[A-Za-z0-9_-]{16,}", token):
            with suppress(OSError):  # as on file systems without modes
                path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    try:
        # Made for the owner alone, before there is something in it.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".browser.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps({"token": token}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"could not write {path} ({error.strerror or error})") from error
    return token
