"""The annotator `browser`: batches go to the page, and answers come from the files that it writes."""

from __future__ import annotations

import re
from pathlib import Path

from rlmba.annotators.browser.answer_log import AnswerLog
from rlmba.annotators.matching import AskedIds, ClassNames
from rlmba.errors import AnnotatorError, DataError, UsageError
from rlmba.runfolder.batches import LabelBatch, Tickets

__all__ = ["Browser"]


class Browser:
    """People answer on a page in the browser, which ``rlmba label`` serves.

    A batch is kept in ``tickets/browser/round_003.json`` and its answers in ``answers/round_003.jsonl``: one
    JSON object a line, with ``id``, ``label`` (null for "cannot tell") or ``"undo": true``, ``by``, ``time``
    (ISO 8601, UTC) and ``session``. The last line of a sample counts.

    Parameters
    ----------
    folder : path
        The project's folder.
    host : str
        Where the page is served. An address other than this machine's loopback opens it to other machines.
    port : int
        0 for any free port.

    Raises
    ------
    UsageError
        If the host or the port is invalid.
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

    def request(self, batch: LabelBatch) -> str:
        """Store the batch for the page. Answers to an earlier batch of the same round are kept.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        return self.tickets.write(batch)

    def collect(self, ticket: str) -> dict[str, str | None]:
        """The answers so far by sample id, in the order of the batch; None for "cannot tell".

        Raises
        ------
        AnnotatorError
            If there is no such batch.
        DataError
            If a line of the file of answers is damaged, is about another sample, or has a label that is not
            a class. The message names the line; the file is not changed.
        """
        batch = self.batch(ticket)
        log = self.log(ticket)
        state = log.read()
        if state.damaged:
            raise DataError(
                f"{log.path}, line {state.damaged[0]}: expected an answer as JSON, got something else; "
                "repair the line, or delete it to be asked about its sample again"
            )
        ids = [question.id for question in batch.questions]
        asked, classes = AskedIds(ids), ClassNames(batch.classes, open=batch.open)
        found: dict[str, str | None] = {}
        for i, answer in sorted(state.current.items(), key=lambda item: item[1].line):
            sample = asked.find(i)
            if sample is None:
                raise DataError(
                    f"{log.path}, line {answer.line}: {asked.refusal(i)}; delete the line"
                )
            label = answer.label
            name = None if label is None else classes.find(label)
            if label is not None and name is None:
                raise DataError(
                    f"{log.path}, line {answer.line}: {classes.refusal(label)}; correct the line, or answer "
                    "again on the page"
                )
            found[sample] = name
        return {i: found[i] for i in ids if i in found}

    def batch(self, ticket: str) -> LabelBatch:
        """The batch with a ticket.

        Raises
        ------
        AnnotatorError
            If there is none.
        """
        # The ticket becomes a file name, and it may come over the network.
        if re.fullmatch(r"round_[0-9]{3,9}", ticket) is None:
            raise AnnotatorError(f"expected a ticket such as round_003, got {ticket!r}")
        return self.tickets.read(ticket)[0]

    def log(self, ticket: str) -> AnswerLog:
        """The log of the answers to the batch with a ticket."""
        return AnswerLog(self.folder / "answers" / f"{ticket}.jsonl")
