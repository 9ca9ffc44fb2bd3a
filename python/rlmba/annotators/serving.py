"""Common parts of the servers of this package: a port, a secret, and a thread."""

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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.errors import AnnotatorError, DataError, StorageError, UsageError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, config_folder, make_folder

if TYPE_CHECKING:
    import uvicorn

__all__ = ["Served", "kept_secret", "listen", "require_secret"]


class Served:
    """A server that runs in a thread until it is closed. Leaving it as a context manager closes it.

    Parameters
    ----------
    server : uvicorn.Server
    listener : socket
    host : str
        Where the server listens.
    name : str
        The thread's name.

    Attributes
    ----------
    address : str
        Address of the server, with the actual port, even if any free port was requested.
    host : str
    port : int
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, host: str, name: str
    ) -> None:
        self.host = host
        self.port: int = listener.getsockname()[1]
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
        self.address = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"
        self._server = server
        self._listener = listener
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not server.started:
            listener.close()
            raise AnnotatorError(f"{name} could not be served on {host}:{self.port}")

    def _run(self) -> None:
        try:
            self._server.run([self._listener])
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Return when the server has stopped."""
        # Joining the thread does not work: before Python 3.13 a join that Ctrl-C interrupts counts as done,
        # and close() would no longer wait for the answers in progress.
        self._ended.wait()

    def close(self) -> None:
        """Stop the server after the requests in progress are answered."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


def listen(host: str, port: int, advice: str) -> socket.socket:
    """Listen on a port.

    Parameters
    ----------
    host : str
        Name or address of this machine.
    port : int
        0 for any free port.
    advice : str
        What to do if the port is taken.

    Raises
    ------
    UsageError
        If the host is not this machine's.
    AnnotatorError
        If the port is taken or not available.
    """
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
        raise AnnotatorError(f"port {port} of {host} {reason}; {advice}") from error
    return listener


def require_secret(secret: str, name: str) -> None:
    """Raise UsageError unless a secret is long enough and has only characters that need no escaping."""
    if _SECRET.fullmatch(secret) is None:
        raise UsageError(f"{name}: expected at least 16 letters, digits, '-' and '_'")


_SECRET = re.compile(r"[A-Za-z0-9_-]{16,}")


def kept_secret(path: Path) -> str:
    """Return the secret of a folder's server, derived from secrets in the folder and in the user's settings.

    A person who created the folder may know its secret, but not that in the user's settings. If the
    settings cannot be written, the secret is valid only until the process ends.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    try:
        settings = config_folder()
        make_folder(settings)
        mine = _random_secret(settings / "pages.json")
    except StorageError:
        mine = secrets.token_urlsafe(32)
    made = hmac.digest(mine.encode(), _random_secret(path).encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _random_secret(path: Path) -> str:
    """The secret in a file that only its owner may read; a new one is created if there is none."""
    with suppress(DataError):  # a damaged file is replaced
        token = (find_json(path, dict[str, str], advice="delete it") or {}).get("token", "")
        if _SECRET.fullmatch(token):
            with suppress(OSError):  # some file systems have no permissions
                path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    atomic_write_text(path, json.dumps({"token": token}) + "\n", private=True)
    return token
