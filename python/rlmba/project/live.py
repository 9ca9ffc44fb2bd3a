"""Run the rounds of a project while people label in Label Studio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from rlmba import trust
from rlmba.annotators.labelstudio import LabelStudio
from rlmba.annotators.loopback import is_loopback
from rlmba.annotators.serving import kept_secret, require_secret
from rlmba.errors import AnnotatorError, DataError, RlmbaError, UsageError
from rlmba.learner.drive import drive
from rlmba.markup import command
from rlmba.project.answers import CollectedLabels
from rlmba.project.folder import open_project, read_project
from rlmba.project.query import Query
from rlmba.project.rounds import ProjectRounds, Watcher
from rlmba.storage import holder, locked, make_folder

if TYPE_CHECKING:
    from rlmba.annotators.labelstudio.live import LiveProject

__all__ = ["serve_label_studio"]

_LOOK, _LOOK_OFTEN = 30.0, 5.0
"""Seconds between checks for answers without an event: if Label Studio reports events, and if not."""

_T = TypeVar("_T")


def serve_label_studio(
    folder: Path,
    watcher: Watcher,
    *,
    host: str = "127.0.0.1",
    port: int = 9090,
    secret: str | None = None,
    address: str | None = None,
    connect: bool = True,
    say: Callable[[str], None],
) -> None:
    """Serve a project to Label Studio until Ctrl-C: give predictions, and run rounds while people answer.

    Parameters
    ----------
    folder : path
        A project's folder, with the annotator labelstudio. It is locked only during a selection, a
        collection or a training.
    watcher : Watcher
    host : str
        Name or address to listen on.
    port : int
        0 for any free port.
    secret : str or None
        The secret that Label Studio must send with every request; None for one that is kept in the
        folder.
    address : str or None
        The address at which Label Studio reaches this server; None if it runs on this machine.
    connect : bool
        Register as the project's model and webhook. Otherwise, print what to enter in Label Studio.
    say : callable
        Called with each message for the person at the terminal.

    Raises
    ------
    UsageError
        If the project has another annotator or no server, or an option is invalid.
    AnnotatorError
        If Label Studio cannot be used at the start, the port is taken, or another process serves the
        folder. After the start, the server waits if Label Studio cannot be used.
    RunFolderError, TrustError, DataError
        See :func:`rlmba.project.rounds.loop`.
    """
    from rlmba.annotators.labelstudio.live import LiveProject

    annotator = read_project(folder).annotator()
    if not isinstance(annotator, LabelStudio) or not annotator.has_server:
        raise UsageError(
            f"{folder}: expected a project whose annotator is labelstudio with a url, got another one; set "
            "project.annotator and project.annotator_options in its config.yaml"
        )
    if secret is not None:
        require_secret(secret, "--secret")
    name = None if address is None else _host_of(address)
    trust.require_inside(folder)
    own = folder / "labelstudio"
    make_folder(own)
    with locked(own, _busy(folder)):
        secret = secret or kept_secret(own / "secret.json")
        live = LiveProject(annotator, say)
        free = f"`{command('label-studio', 'serve', folder, '--port', 0)}` takes any free port"
        server = live.serve(host, port, secret, name, free)
        try:
            place = (address or server.address).rstrip("/")
            say(f"serving {folder} to Label Studio at {place}")
            if not is_loopback(host):
                say(
                    "warning: other machines can reach this server, and the secret is not encrypted"
                )
            if not connect:
                say(_by_hand(place, secret))

            def join(number: int) -> bool:
                if not connect:
                    return False
                try:
                    live.connect(place, secret)
                except AnnotatorError as error:
                    say(
                        f"not connected; checking for answers every {_LOOK_OFTEN:g} seconds instead: {error}"
                    )
                    return False
                say(f"connected with project {number} of Label Studio, as its model and webhook")
                return True

            rounds = _LiveRounds(folder, _Arranging(watcher, live, join), live, say)
            while True:
                why = drive(rounds, sleep=rounds.sleep)
                say(
                    f"{why}; predictions are still served; start a training in Label Studio to check again"
                )
                live.wait_for_training()
        except KeyboardInterrupt:
            say("stopped; run the same command again to continue; nothing is lost")
        finally:
            server.close()


class _Arranging:
    """A watcher that also ranks the tasks whenever a batch was asked for."""

    def __init__(self, watcher: Watcher, live: LiveProject, join: Callable[[int], bool]) -> None:
        self._watcher = watcher
        self._live = live
        self._join = join

    def serving(self, url: str) -> None:
        self._watcher.serving(url)

    def stage(self, stage: str, done: int = 0, total: int = 0) -> None:
        self._watcher.stage(stage, done, total)

    def asked(self, query: Query) -> None:
        self._watcher.asked(query)
        if query.batch is not None:
            self._watcher.stage("arranging the tasks")
            self._live.arrange(query.batch, self._join)

    def waiting(self, answered: int, asked: int, trouble: str) -> None:
        self._live.count(answered, asked, trouble)
        self._watcher.waiting(answered, asked, trouble)

    def collected(self, found: CollectedLabels) -> None:
        self._watcher.collected(found)


class _LiveRounds(ProjectRounds):
    """Rounds that wait for events, and wait while Label Studio or the folder cannot be used."""

    def __init__(
        self, path: Path, watcher: Watcher, live: LiveProject, say: Callable[[str], None]
    ) -> None:
        super().__init__(path, watcher)
        self._live = live
        self._say = say
        self._began = False

    def sleep(self, seconds: float) -> None:  # noqa: ARG002 - events end the wait
        """Wait for an event."""
        self._live.wait(_LOOK if self._live.is_connected else _LOOK_OFTEN)

    def ask(self) -> str | None:
        """Hand over a batch. At the first call, an error of Label Studio ends the command."""
        why = self._until_possible(super().ask, AnnotatorError)
        self._began = True
        return why

    def answers(self) -> tuple[int, int, str]:
        """Count the answers. Questions whose tasks were deleted get new tasks."""
        if self._live.tasks_deleted():
            self._until_possible(self._ask_again, AnnotatorError)
        return super().answers()

    def learn(self) -> None:
        """Collect and train. If annotations cannot be used, wait until they are corrected."""
        self._until_possible(super().learn, AnnotatorError, DataError)

    def _ask_again(self) -> None:
        with open_project(self.path) as project:
            pending = project.pending()
            annotator = project.annotator()
            if pending is not None and pending.ticket and isinstance(annotator, LabelStudio):
                annotator.request(annotator.tickets.read(pending.ticket)[0])

    def _until_possible(self, step: Callable[[], _T], *waits_for: type[RlmbaError]) -> _T:
        said = ""
        while True:
            try:
                return step()
            except RlmbaError as error:
                busy = holder(self.path) is not None
                if not busy and (not self._began or not isinstance(error, waits_for)):
                    raise
                if str(error) != said:
                    said = str(error)
                    self._say(f"waiting: {said}")
            self._live.wait(_LOOK_OFTEN)


def _host_of(address: str) -> str:
    """The host of the address at which Label Studio calls this server."""
    shown = repr(address)
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.username:
            return parts.hostname
        shown = "one with a user name" if parts.username else shown
    except ValueError:
        pass
    raise UsageError(f"--address: expected an address such as http://my-machine:9090, got {shown}")


def _busy(folder: Path) -> Callable[[str], AnnotatorError]:
    def error(who: str) -> AnnotatorError:
        return AnnotatorError(
            f"{folder} is being served to Label Studio by {who}; stop that one first"
        )

    return error


def _by_hand(place: str, secret: str) -> str:
    from rlmba.annotators.labelstudio.protocol import ACTIONS, authorization
    from rlmba.annotators.labelstudio.tasks import MODEL

    return "\n".join(
        (
            "enter in the project's settings in Label Studio, the webhook first:",
            f"  Webhooks, Add Webhook: Payload URL {place}/webhook",
            f"    header Authorization: {authorization(secret)}",
            f"    actions: {', '.join(ACTIONS)}",
            f"  Model, Connect Model: name {MODEL}, Backend URL {place}",
            f"    Basic Authentication: username {MODEL}, password {secret}",
        )
    )
