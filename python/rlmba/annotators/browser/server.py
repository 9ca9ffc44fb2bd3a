"""The server of the labeling page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba import trust
from rlmba.annotators.browser.annotator import Browser
from rlmba.annotators.loopback import is_loopback
from rlmba.annotators.registry import acts
from rlmba.annotators.serving import Served, kept_secret, listen, require_secret
from rlmba.errors import UsageError
from rlmba.markup import command
from rlmba.runfolder.settings import read_config

if TYPE_CHECKING:
    import socket

    import uvicorn

__all__ = ["ServedPage", "serve", "start"]


class ServedPage(Served):
    """A page that is being served, until it is closed. It is a context manager, which closes it.

    Attributes
    ----------
    url : str
        The link to open, including the token.
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, host: str, token: str
    ) -> None:
        super().__init__(server, listener, host, "the page")
        self.url = f"{self.address}/?token={token}"

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
    from rlmba.annotators import connections
    from rlmba.annotators.browser.app import make_app

    browser = Browser(folder, host=host, port=port)
    if not browser.folder.is_dir():
        raise UsageError(f"expected a project's folder, found none at {folder}")
    if token is not None:
        require_secret(token, "token")
    trust.require_inside(browser.folder)
    token = token or kept_secret(browser.folder / "browser.json")
    listener = listen(
        host,
        port,
        f"`{command('label', browser.folder, '--port', 0)}` takes any free port, and for `rlmba loop` set "
        f"project.annotator_options.port in {browser.folder / 'config.yaml'}",
    )
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
