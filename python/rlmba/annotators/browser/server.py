"""The server of the labeling page: its port, its token, and the thread that it runs in."""

from __future__ import annotations

import base64
import errno
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba import trust
from rlmba.annotators.browser.annotator import Browser
from rlmba.annotators.loopback import is_loopback
from rlmba.annotators.registry import acts
from rlmba.errors import AnnotatorError, DataError, StorageError, UsageError
from rlmba.markup import command
from rlmba.reading.structured import find_json
from rlmba.runfolder.settings import read_config
from rlmba.storage import atomic_write_text, config_folder, make_folder

if TYPE_CHECKING:
    import uvicorn

__all__ = ["ServedPage", "serve", "start"]


class ServedPage:
    """A page that is being served, until it is closed. It is a context manager, which closes it.

    Attributes
    ----------
    url : str
        The link to open, including the token.
    host : str
    port : int
        The actual port, even if any free port was asked for.
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
        """Return when the server has stopped."""
        # Joining the thread does not work: before Python 3.13 a join that Ctrl-C interrupts counts as done,
        # and close() would no longer wait for the answers in flight.
        self._ended.wait()

    def close(self) -> None:
        """Stop the server. All answers are on the disk already."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __enter__(self) -> ServedPage:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def start(
    folder: Path, host: str = "127.0.0.1", port: int = 8757, token: str | None = None
) -> ServedPage:
    """Serve a project's labeling page from a thread of this process.

    The page always shows the batch that ``pending.json`` names.

    Parameters
    ----------
    folder : path
        The project's folder.
    host : str
        Name or address to listen on. Unless it is local to this machine, others can open the link.
    port : int
        0 for any free port.
    token : str or None
        The secret part of the link: at least 16 letters, digits, "-" and "_". None derives it from two
        random secrets, in the folder's ``browser.json`` and in the user's settings. Both are created once and
        kept, so that open pages survive a restart.

    Returns
    -------
    ServedPage

    Raises
    ------
    UsageError
        If the folder does not exist, or the host, the port or the token is invalid.
    AnnotatorError
        If the port is taken or not available.
    StorageError
        If a secret cannot be written.
    """
    from rlmba.annotators.browser import connections
    from rlmba.annotators.browser.app import make_app

    browser = Browser(folder, host=host, port=port)
    if not browser.folder.is_dir():
        raise UsageError(f"expected a project's folder, found none at {folder}")
    if token is not None and re.fullmatch(r"[A-Za-z0-9_-]{16,}", token) is None:
        raise UsageError("token: expected at least 16 letters, digits, '-' and '_'")
    trust.require_inside(browser.folder)
    token = token or _link_token(browser.folder / "browser.json")
    listener = _listener(host, port, browser.folder)
    connections.keep_alive(listener)
    server = connections.PageServer(make_app(browser.folder, token, host))
    return ServedPage(server, listener, host, token)


def serve(
    folder: Path, host: str | None = None, port: int | None = None, *, say: Callable[[str], None]
) -> None:
    """Serve a project's page until Ctrl-C.

    Parameters
    ----------
    folder : path
        The project's folder.
    host, port
        As for :func:`start`; None for the project's annotator options.
    say : callable
        Called with each message for the person at the terminal, the link first.

    Raises
    ------
    RunFolderError
        If the folder is not a project's, or damaged.
    TrustError
        If the project's options open the page to other machines, and the user has not allowed it.
    UsageError, AnnotatorError, StorageError
        As for :func:`start`.
    """
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
                "warning: other machines can reach this page; anybody with the link sees the data and can "
                "answer, and the connection is not encrypted"
            )
        say(f"answers are saved in {folder / 'answers'}; Ctrl-C stops the page and loses nothing")
        server.wait()
    except KeyboardInterrupt:
        say(
            "stopped; run the same command again to continue, and pages that are still open reconnect"
        )
    finally:
        server.close()


def _options(folder: Path) -> dict[str, Any]:
    """The project's options for this annotator."""
    project = read_config(folder).project
    return project.annotator_options if project.annotator == "browser" else {}


def _listener(host: str, port: int, folder: Path) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(
            f"host: expected a name or an address of this machine, got {host!r} ({error.strerror})"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # Without this, the port stays taken for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"host: {host!r} is not an address of this machine; try 127.0.0.1"
            ) from error
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"is not available ({error})"
        raise AnnotatorError(
            f"port {port} of {host} {reason}; `{command('label', folder, '--port', 0)}` takes any free port, "
            f"and for `rlmba loop` set project.annotator_options.port in {folder / 'config.yaml'}"
        ) from error
    return listener


def _link_token(path: Path) -> str:
    """The token of a folder's link, derived from a secret in the folder and one in the user's settings.

    Whoever made the folder knows the first secret but not the second. If the settings cannot be written,
    the token lasts as long as the process.
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
    """The secret in a file that only its owner may read; a new one is created if there is none."""
    with suppress(DataError):  # a damaged file is replaced
        token = (find_json(path, dict[str, str], advice="delete it") or {}).get("token", "")
        if re.fullmatch(r"[A-Za-z0-9_-]{16,}", token):
            with suppress(OSError):  # some file systems have no permissions
                path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    atomic_write_text(path, json.dumps({"token": token}) + "\n", private=True)
    return token
