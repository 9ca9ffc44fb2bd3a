"""The annotator: batches go to the page, answers come from its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.annotators.answers import AskedIds, ClassNames
from rlmba.annotators.browser.answers import AnswerLog
from rlmba.errors import AnnotatorError, DataError, UsageError
from rlmba.runfolder.batches import LabelBatch, Tickets

if TYPE_CHECKING:
    from rlmba.annotators.browser.server import Server

__all__ = ["Browser", "nearest"]


class Browser:
    """People answer on a page that :func:`~rlmba.annotators.browser.serve` shows (``rlmba label``).

    A batch lies in ``tickets/browser/round_003.json``, its answers in ``answers/round_003.jsonl``: a
    JSON object a line with ``id``, ``label`` (null: cannot tell) or ``"undo": true``, ``by``,
    ``time`` (ISO 8601, UTC) and ``session``. The last line of an id counts.

    Parameters
    ----------
    folder : path
        The project's folder.
    host : str
        Where the page is served; an address other than this machine's own opens it to others.
    port : int
        0: any that is free.

    Raises
    ------
    UsageError
        If the host or the port is none.
    """

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int = 8757) -> None:
        if not isinstance(host, str) or not host:
            raise UsageError(f"browser: host: expected a name or an address, got {host!r}")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise UsageError(f"browser: port: expected 0 to 65535, got {port!r}")
        self.folder = Path(folder)
        self.host = host
        self.port = port
        self.tickets = Tickets(self.folder / "tickets" / "browser")

    def start(self) -> Server:
        """Serve the page from a thread; see :func:`~rlmba.annotators.browser.start`."""
        from rlmba.annotators.browser.server import start

        return start(self.folder, self.host, self.port)

    def request(self, batch: LabelBatch) -> str:
        """Keep the batch for the page; answers that were given to one of its round stay.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        return self.tickets.write(batch)

    def collect(self, ticket: str) -> dict[str, str | None]:
        """Answers so far by sample id, in the order of the batch.

        Raises
        ------
        AnnotatorError
            If there is no such batch.
        DataError
            If a line of the file of answers is damaged, is of another sample, or has a label that is
            no class. The message names the line; the file is left as it is.
        """
        batch = self.batch(ticket)
        log = self.log(ticket)
        answers = log.read()
        if answers.damaged:
            raise DataError(
                f"{log.path}, line {answers.damaged[0]}: expected an answer as JSON, got something else; "
                "repair or delete the line, and its sample is asked again"
            )
        ids = [question.id for question in batch.questions]
        asked, classes = AskedIds(ids), ClassNames(batch.classes, open=batch.open)
        found: dict[str, str | None] = {}
        for i, answer in sorted(answers.current.items(), key=lambda item: item[1].line):
            sample = asked.find(i)
            if sample is None:
                raise DataError(
                    f"{log.path}, line {answer.line}: expected an id of the batch, got {i!r}"
                    f"{nearest(i, ids)}; delete the line"
                )
            label = answer.label
            name = None if label is None else classes.find(label)
            if label is not None and name is None:
                raise DataError(
                    f"{log.path}, line {answer.line}: expected a class, one of {list(batch.classes)}, got "
                    f"{label!r}{nearest(label, batch.classes)}; correct the line, or answer again on the page"
                )
            found[sample] = name
        return {i: found[i] for i in ids if i in found}

    def batch(self, ticket: str) -> LabelBatch:
        """The batch behind a ticket.

        Raises
        ------
        AnnotatorError
            If there is none.
        """
        # Tickets make file names, and this one may come over the network.
        if re.fullmatch(r"round_[0-9]{3,9}", ticket) is None:
            raise AnnotatorError(f"expected a ticket such as round_003, got {ticket!r}")
        return self.tickets.read(ticket)[0]

    def log(self, ticket: str) -> AnswerLog:
        """The answers to the batch behind a ticket."""
        return AnswerLog(self.folder / "answers" / f"{ticket}.jsonl")


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the most similar name, "" where none is."""
    close = get_close_matches(name, names, n=1)
    return f" (nearest: {close[0]!r})" if close else ""
