"""The annotator `labelstudio`: Label Studio on a server, or through files that people import and export."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.annotators.guidance import guidance
from rlmba.annotators.labelstudio import labeling
from rlmba.annotators.labelstudio.existing import ask_existing
from rlmba.annotators.labelstudio.exports import read_export
from rlmba.annotators.labelstudio.labeling import Control
from rlmba.annotators.labelstudio.media import (
    InlineMedia,
    LocalMedia,
    MediaTransport,
    UploadedMedia,
)
from rlmba.annotators.labelstudio.projects import ServerProjects
from rlmba.annotators.labelstudio.task_form import OWN, PREFIX, TaskForm
from rlmba.annotators.labelstudio.tasks import (
    asked_again,
    columns,
    is_version,
    predictions,
    tasks,
    version,
)
from rlmba.annotators.labelstudio.votes import AskedBatch, Decision, decide, votes
from rlmba.errors import AnnotatorError, RlmbaWarning, UsageError
from rlmba.reading.files import read_text
from rlmba.reading.structured import read_json
from rlmba.runfolder.batches import LabelBatch, Question, Tickets
from rlmba.storage import atomic_write_text, make_folder

if TYPE_CHECKING:
    from rlmba.annotators.labelstudio.client import Client

__all__ = ["LabelStudio"]

_CHUNK = 25  # questions that are uploaded and imported together
_SHOWN = 3
_MEDIA = ("upload", "local", "inline")


class LabelStudio:
    """People label in Label Studio.

    With ``url``, it uses a server: it creates a project, adds a task for each question, and reads the
    annotations. Without, people paste ``labelstudio/labeling_config.xml`` into a project, import
    ``labelstudio/round_003.json`` there, and export to ``labelstudio-export.json`` or ``.csv``.

    Parameters
    ----------
    folder : path
        The project's folder.
    url : str or None
        The server's address; None or empty for files.
    project : int or None
        The number of the server's project to use; None creates one.
    id_key : str or None
        The project has a task for each sample, with its id at this key of the task's data. No tasks are
        created then, except after a tie, and classes are the only addition to its labeling config. None
        creates a task for each question.
    control : str
        With ``id_key``: the name of the Choices control in the labeling config that has the class.
    title : str or None
        The title of a created project; None for one with the folder's name.
    key_variable : str
        The environment variable with the key: a personal access token, or a legacy token if the server
        accepts these.
    key_file : path or None
        A file with the key, instead of the variable; relative to ``folder``.
    media : {"upload", "local", "inline"} or None
        How files are shown. "upload" sends copies to the server. "local" lets the server read them from
        ``document_root`` on its own disk. "inline" makes them part of the task; it works for images and
        short videos only. None is "upload" with a server, else "inline".
    document_root : path or None
        For "local": the folder that Label Studio serves files from.
    server_document_root : str or None
        The path of that folder on the server, such as a container's mount; None if it is the same.
    export : path or None
        An exported file to read the answers from, even if there is a server; relative to ``folder``.
    prelabel : bool
        Whether the model's class is preselected. People then tend to agree with it. It takes effect when
        the project is created.
    timeout : float
        The time limit of a request to the server, in seconds.

    Raises
    ------
    UsageError
        If an option is invalid.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | None = "http://localhost:8080",
        project: int | None = None,
        id_key: str | None = None,
        control: str = labeling.CHOICES,
        title: str | None = None,
        key_variable: str = "LABEL_STUDIO_API_KEY",
        key_file: str | Path | None = None,
        media: str | None = None,
        document_root: str | Path | None = None,
        server_document_root: str | None = None,
        export: str | Path | None = None,
        prelabel: bool = False,
        timeout: float = 60.0,
    ) -> None:
        if media not in (None, *_MEDIA):
            raise UsageError(f"labelstudio: media: expected one of {list(_MEDIA)}, got {media!r}")
        if media == "upload" and not url:
            raise UsageError(
                "labelstudio: media=upload needs a server: give its url, or media=inline or local"
            )
        if media == "local" and document_root is None:
            raise UsageError(
                "labelstudio: media=local needs document_root, the folder that Label Studio serves files from"
            )
        if project is not None and (isinstance(project, bool) or not isinstance(project, int)):
            raise UsageError(f"labelstudio: project: expected a number, got {project!r}")
        if id_key is not None and (not id_key or not url or project is None or export is not None):
            raise UsageError(
                "labelstudio: id_key is the key with a sample's id in the tasks of an existing project; it "
                "needs a url, the number of the project and no export, got "
                f"id_key={id_key!r}, url={url!r}, project={project!r}, export={export!r}"
            )
        if id_key is None and control != labeling.CHOICES:
            raise UsageError(
                f"labelstudio: control={control!r} is for an existing project with id_key; without it, the "
                f"control is called {labeling.CHOICES!r}"
            )
        if not timeout > 0:
            raise UsageError(f"labelstudio: timeout: expected seconds above 0, got {timeout!r}")
        self.folder = Path(folder)
        self.tickets = Tickets(self.folder / "tickets" / "labelstudio")
        self._own = self.folder / "labelstudio"
        self._url = (url or "").rstrip("/")
        self._project = project
        name = title or f"rlmba: {self.folder.resolve().name}"
        self._projects = ServerProjects(
            self._own / "server.json", name, prelabel=prelabel, instructions=self._instructions
        )
        self._key_variable = key_variable
        self._key_file = None if key_file is None else self.folder / Path(key_file).expanduser()
        self._media = media or ("upload" if url else "inline")
        self._document_root = None if document_root is None else self.folder / Path(document_root)
        self._server_document_root = server_document_root
        self._export = None if export is None else self.folder / Path(export)
        self._timeout = timeout
        self.form = OWN if id_key is None else TaskForm(id_key, PREFIX, control)

    def request(self, batch: LabelBatch) -> str:
        """Add tasks for the questions that have none yet.

        Raises
        ------
        AnnotatorError
            If a request to the server fails. Requesting the batch again adds the missing tasks.
        DataError
            If Label Studio cannot offer one of the classes.
        """
        ticket = self.tickets.write(batch)
        if self._url:
            self._ask_server(batch)
        else:
            self._write_import(batch, ticket)
        return ticket

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The most frequent label of each question, over its annotations or its ground truths if it has any.

        A question with a tie has no label and is asked again: by another task on the server, or in a file
        ``labelstudio/round_003_again.json`` to import. The ticket's notes name these questions.

        Raises
        ------
        AnnotatorError
            If the server or the ticket cannot be read.
        DataError
            If an export cannot be read, or a label is not one of the classes.
        """
        batch, notes = self.tickets.read(ticket)
        asked = self._asked(batch)
        if self._url and self._export is None:
            server = self._connect()
            project = self._number(server)
            found = server.tasks(project, batch.round, self.form)
            decided = decide(asked, found)
            again = _unanswered(asked, found, decided)
            if again:
                server.add_tasks(project, again)
        else:
            decided = decide(asked, self._exported(batch))
            self._write_again(ticket, decided)
        _warn_of_unused(decided)
        if notes.get("ties", {}) != decided.ties:
            self.tickets.write(batch, notes | {"ties": decided.ties})
        if decided.ties:
            first = next(iter(decided.ties))
            where = "" if self._url else f"; import {self._own / f'{ticket}_again.json'}"
            warnings.warn(
                f"labelstudio: answers are equally divided on {len(decided.ties)} questions (the first is "
                f"{first!r}), which are asked again{where}",
                RlmbaWarning,
                stacklevel=2,
            )
        return decided.labels

    def asked(self) -> list[str]:
        """Ids of all samples that were asked for, those of the latest batch first."""
        rounds = sorted(self.tickets.rounds(), reverse=True)
        batches = (self.tickets.read(f"round_{number:03d}")[0] for number in rounds)
        return list(dict.fromkeys(id_ for batch in batches for id_ in batch.ids))

    @property
    def has_server(self) -> bool:
        """Whether this annotator uses a server; otherwise people import and export files."""
        return bool(self._url)

    def opened(self) -> tuple[Client, int]:
        """Return the server, and the number of the project there.

        Raises
        ------
        AnnotatorError
            If the server cannot be reached, or has no project yet.
        """
        server = self._connect()
        return server, self._number(server)

    def control(self, server: Client, project: int, batch: LabelBatch) -> Control:
        """The control with the classes in the project's labeling config.

        Raises
        ------
        AnnotatorError
            If the config cannot be read, or has no such control.
        """
        if self.form == OWN:
            return Control()
        config = server.label_config(project)
        return labeling.with_classes(config, self.form.control, batch.classes)[1]

    def _asked(self, batch: LabelBatch) -> AskedBatch:
        """The batch. Only for the latest one are answers of unknown rounds reported."""
        rounds = self.tickets.rounds()
        others = rounds if batch.round == max(rounds) else None
        return AskedBatch(batch, others, self.form)

    def _ask_server(self, batch: LabelBatch) -> None:
        server = self._connect()
        project = self._number(server, make=True)
        if self.form == OWN:
            control = Control()
            self._add_questions(server, project, batch)
        else:
            control = ask_existing(server, project, batch, self.form, self._projects.mark())
        if any(q.prediction is not None for q in (*batch.questions, *batch.leftovers)):
            self._predict(server, project, batch, control)

    def _predict(self, server: Client, project: int, batch: LabelBatch, control: Control) -> None:
        """Add predictions to tasks without an answer that have none of this batch, and show its version."""
        asked = AskedBatch(batch, form=self.form)
        waiting = server.open_tasks(project)
        made = predictions(batch, ((task, asked.predicted(task)) for task in waiting), control)
        server.add_predictions(project, made)
        there = {known.get("model_version") for task in waiting for known in task["predictions"]}
        # Label Studio refuses a version without predictions: all tasks may have been answered before.
        if made or version(batch) in there:
            server.show_version(project, version(batch), is_version)

    def _add_questions(self, server: Client, project: int, batch: LabelBatch) -> None:
        """Add what a batch needs to the labeling config, and tasks for questions that have none."""
        before = server.label_config(project)
        config = self._extended(before, batch)
        if not labeling.same(before, config):
            server.set_label_config(project, config)
        asked = AskedBatch(batch)
        there = {asked.question(task) for task in server.tasks(project, batch.round)}
        missing = [question for question in batch.questions if question.id not in there]
        self._add(server, project, batch, missing, config)

    def _add(
        self,
        server: Client,
        project: int,
        batch: LabelBatch,
        missing: Sequence[Question],
        config: str,
    ) -> None:
        """Add tasks for questions that have none."""
        if not missing:
            return
        media = self._transport(server, project, files=any(question.files for question in missing))
        keys = labeling.variables(config)
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            server.add_tasks(project, tasks(batch, chunk, media, keys))

    def _extended(self, config: str, batch: LabelBatch) -> str:
        """The labeling config with what a batch needs, and with descriptions of the classes."""
        return labeling.extended(
            config,
            columns(batch),
            batch.classes,
            open_classes=batch.open,
            descriptions=guidance(self.folder).class_descriptions,
        )

    def _instructions(self) -> str:
        """The project's instructions and the descriptions of its classes, as HTML; "" if there are none."""
        project = guidance(self.folder)
        lines = [escape(line) for line in project.instructions.strip().splitlines()]
        described = [
            f"<li><b>{escape(name)}</b>: {escape(text)}</li>"
            for name, text in project.class_descriptions.items()
        ]
        return "<br>".join(lines) + (f"<ul>{''.join(described)}</ul>" if described else "")

    def _write_import(self, batch: LabelBatch, ticket: str) -> None:
        make_folder(self._own)
        path = self._own / "labeling_config.xml"
        advice = "delete it, and it is written again"
        before = read_text(path, advice=advice, error=AnnotatorError) if path.is_file() else ""
        config = self._extended(before, batch)
        made = tasks(
            batch, batch.questions, self._transport(None, None), labeling.variables(config)
        )
        if config != before:
            atomic_write_text(path, config)
        atomic_write_text(self._own / f"{ticket}.json", _json(made))

    def _exported(self, batch: LabelBatch) -> list[dict[str, Any]]:
        """The tasks of the export; none if there is no export yet."""
        if self._export is not None:
            path = self._export
        else:
            names = ("labelstudio-export.json", "labelstudio-export.csv")
            there = [self.folder / name for name in names if (self.folder / name).is_file()]
            if not there:
                return []
            path = max(there, key=lambda p: p.stat().st_mtime)
        found = read_export(path)
        if not any(self.form.round_of(task) == batch.round for task in found):
            warnings.warn(
                f"{path} has no tasks of round {batch.round}; export the project again when people "
                "have labeled them",
                RlmbaWarning,
                stacklevel=3,
            )
        return found

    def _write_again(self, ticket: str, decided: Decision) -> None:
        path = self._own / f"{ticket}_again.json"
        source = self._own / f"{ticket}.json"
        if not decided.ties:
            path.unlink(missing_ok=True)
            return
        advice = "ask again with `rlmba next`"
        made = read_json(source, list[dict[str, Any]], advice=advice, error=AnnotatorError)
        if not all(isinstance(t.get("data"), dict) and "sample_id" in t["data"] for t in made):
            raise AnnotatorError(f"{source} is damaged: expected tasks with a sample_id; {advice}")
        ties = decided.ties
        chosen = [t for t in made if t["data"]["sample_id"] in ties]
        again = [asked_again(t, ties[t["data"]["sample_id"]]) for t in chosen]
        atomic_write_text(path, _json(again))

    def _transport(
        self, server: Client | None, project: int | None, *, files: bool = True
    ) -> MediaTransport:
        """How files reach Label Studio, by the option ``media``."""
        if self._media == "local" and self._document_root is not None:
            return LocalMedia(self._document_root, self._server_document_root, server, project)
        if self._media == "upload" and server is not None and files:
            return UploadedMedia(server, self._projects.number(server, "files", make=True))
        return InlineMedia()

    def _number(self, server: Client, *, make: bool = False) -> int:
        """The number of the project with the questions."""
        return self._project or self._projects.number(server, "questions", make=make)

    def _connect(self) -> Client:
        from rlmba.annotators.labelstudio.client import Client

        return Client(self._url, self._key(), timeout=self._timeout)

    def _key(self) -> str:
        if self._key_file is not None:
            advice = "correct the annotator's option key_file"
            key = read_text(self._key_file, advice=advice, error=AnnotatorError).strip()
            place = str(self._key_file)
        else:
            key = os.environ.get(self._key_variable, "").strip()
            place = f"the environment variable {self._key_variable}"
        if not key or not key.isascii() or len(key.split()) != 1:
            raise AnnotatorError(
                f"{place}: expected the key to Label Studio, got {'something else' if key else 'nothing'}; "
                "create one in Label Studio (Account & Settings, Personal Access Token) and put it there"
            )
        return key


def _unanswered(
    asked: AskedBatch, found: list[dict[str, Any]], decided: Decision
) -> list[dict[str, Any]]:
    """New tasks for questions with a tie, unless one of their tasks has no answer yet."""
    again = []
    for sample, count in decided.ties.items():
        own = [task for task in found if asked.question(task) == sample]
        if all(votes(asked, task) for task in own):
            again.append(asked_again(own[0], count, asked.form))
    return again


def _warn_of_unused(decided: Decision) -> None:
    if decided.unused:
        shown = "; ".join(decided.unused[:_SHOWN]) + (
            "; ..." if len(decided.unused) > _SHOWN else ""
        )
        warnings.warn(
            f"labelstudio: {len(decided.unused)} answered tasks are not used ({shown}); correct them in "
            "Label Studio, or ignore this",
            RlmbaWarning,
            stacklevel=3,
        )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
