"""Keep a project of Label Studio up to date with a project folder while a server runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlmba.annotators import connections
from rlmba.annotators.labelstudio import LabelStudio
from rlmba.annotators.labelstudio.labeling import Control
from rlmba.annotators.labelstudio.ordering import TAB, VIEW, new_ranks
from rlmba.annotators.labelstudio.protocol import ACTIONS, TRAIN, authorization, make_app
from rlmba.annotators.labelstudio.task_form import RANK
from rlmba.annotators.labelstudio.tasks import MODEL, prediction, version
from rlmba.annotators.labelstudio.votes import AskedBatch
from rlmba.annotators.serving import Served, listen
from rlmba.runfolder.batches import LabelBatch

__all__ = ["LiveProject"]


class LiveProject:
    """The :class:`~rlmba.annotators.labelstudio.protocol.Backend` of a project folder.

    Events of Label Studio only wake the thread that waits in :meth:`wait`. This thread reads the answers
    from the server, so lost, repeated or late events do not change the result.

    Parameters
    ----------
    annotator : LabelStudio
    say : callable
        Called with each message for the person at the terminal.
    """

    def __init__(self, annotator: LabelStudio, say: Callable[[str], None]) -> None:
        self.annotator = annotator
        self._say = say
        self._number: int | None = None
        self._control = Control()
        self._connected = False
        self._woken = threading.Event()
        self._asked_to_train = threading.Event()
        self._tasks_deleted = threading.Event()
        self._metrics: Mapping[str, Any] = {}

    def number(self) -> int | None:
        """The number of the project; None before :meth:`arrange`."""
        return self._number

    def versions(self) -> list[str]:
        """The versions of the batches that have predictions, oldest first."""
        return [version(batch) for batch in self._batches() if _has_predictions(batch)]

    def predictions(self, tasks: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """The latest prediction for each task's sample; an empty list if the task has it or none exists."""
        form = self.annotator.form
        newest = [AskedBatch(batch, form=form) for batch in reversed(self._batches())]
        return [_prediction(newest, task, self._control) for task in tasks]

    def metrics(self) -> Mapping[str, Any]:
        """The progress of the open batch that was last passed to :meth:`count`."""
        return self._metrics

    def hint(self, action: str) -> None:
        """Wake the waiting thread."""
        if action == "TASKS_DELETED":
            self._tasks_deleted.set()
        if action == TRAIN:
            self._asked_to_train.set()
        self._woken.set()

    def count(self, answered: int, asked: int, trouble: str) -> None:
        """Store the progress of the open batch."""
        self._metrics = {"answered": answered, "asked": asked, "trouble": trouble}

    def wait(self, seconds: float) -> None:
        """Return after an event, or after some seconds."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wait_for_training(self) -> None:
        """Return when somebody requests a training."""
        # Python before 3.12 handles Ctrl-C only after a wait has returned, so each wait has a time limit.
        while not self._asked_to_train.wait(1.0):
            pass
        self._asked_to_train.clear()

    def tasks_deleted(self) -> bool:
        """Whether tasks were deleted since the last call."""
        found = self._tasks_deleted.is_set()
        self._tasks_deleted.clear()
        return found

    @property
    def is_connected(self) -> bool:
        """Whether Label Studio reports events."""
        return self._connected

    def arrange(self, batch: LabelBatch, connect: Callable[[int], bool]) -> None:
        """Rank the tasks after a batch was asked for, and create a tab that shows them in this order.

        Parameters
        ----------
        batch : LabelBatch
            The latest batch, whose tasks exist.
        connect : callable
            Called with the project's number until it returns True, which means that Label Studio reports
            events.

        Raises
        ------
        AnnotatorError
            If a request to the server fails. Calling this method again is safe.
        """
        server, number = self.annotator.opened()
        self._control = self.annotator.control(server, number, batch)
        self._number = number
        for task, rank in new_ranks(batch, server.open_tasks(number), self.annotator.form):
            server.set_data(number, task["id"], {**task["data"], RANK: rank})
        server.add_tab(number, TAB, VIEW)
        if not self._connected:
            self._connected = connect(number)

    def connect(self, address: str, secret: str) -> None:
        """Register a server in Label Studio as the project's model and as a webhook for annotations.

        Raises
        ------
        AnnotatorError
            If Label Studio refuses, or does not reach the server. Calling this method again is safe.
        """
        server, number = self.annotator.opened()
        headers = {"Authorization": authorization(secret), "X-Rlmba": "label-studio serve"}
        # The webhook comes first: Label Studio adds one without the secret for a model that has none.
        server.set_webhook(number, f"{address}/webhook", headers, ACTIONS)
        server.set_model(number, MODEL, address, MODEL, secret)

    def serve(self, host: str, port: int, secret: str, name: str | None, advice: str) -> Served:
        """Start a thread that answers requests of Label Studio.

        Parameters
        ----------
        host, port
            Where to listen.
        secret : str
            The secret that every request must contain.
        name : str or None
            Another host name that requests may use for the server.
        advice : str
            What to do if the port is taken.

        Raises
        ------
        UsageError, AnnotatorError
            If the server cannot listen there.
        """
        listener = listen(host, port, advice)
        connections.keep_alive(listener)
        hosts = [host, *([name] if name else [])]
        app = make_app(self, secret, hosts, self._say)
        return Served(connections.PageServer(app), listener, host, "the server for Label Studio")

    def _batches(self) -> list[LabelBatch]:
        tickets = self.annotator.tickets
        return [tickets.read(f"round_{n:03d}")[0] for n in sorted(tickets.rounds())]


def _has_predictions(batch: LabelBatch) -> bool:
    return any(question.prediction is not None for question in batch.questions)


def _prediction(
    newest: Sequence[AskedBatch], task: Mapping[str, Any], control: Control
) -> list[dict[str, Any]]:
    there = {known.get("model_version") for known in task["predictions"]}
    for asked in newest:
        question = asked.predicted(task)
        made = None if question is None else prediction(asked.batch, question, control)
        if made is not None:
            return [] if made["model_version"] in there else [made]
    return []
