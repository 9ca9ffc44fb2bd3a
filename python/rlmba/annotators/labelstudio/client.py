"""Requests to a Label Studio server through its SDK, with errors that say what to do."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlmba.annotators.labelstudio.task_form import OWN, RANK, TaskForm
from rlmba.errors import AnnotatorError, UsageError

__all__ = ["Client"]

# The SDK retries by default, but a request whose answer was lost may have been executed.
_ONCE = {"max_retries": 0}


class Client:
    """The requests that the annotator makes to a server.

    Parameters
    ----------
    url : str
        The server's address, http or https, optionally with a path.
    key : str
        A personal access token, or a legacy token if the server accepts these.
    timeout : float
        The time limit of a request, in seconds.

    Raises
    ------
    UsageError
        If ``url`` is not an address, or the SDK is not installed.
    AnnotatorError
        From every method, if the server cannot be reached, refuses, or sends an unexpected answer.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                "labelstudio: url: expected an address such as http://localhost:8080, without a user name "
                f"and a password, got {url if not parts.username else '(one with a user name)'!r}"
            )
        try:
            import httpx
            from label_studio_sdk import LabelStudio
        except ImportError as error:
            raise UsageError(
                f"annotator labelstudio needs label-studio-sdk 1.0.20 or newer ({error}): "
                'pip install "rlmba[labelstudio]", or set its option url to null to exchange files instead'
            ) from None
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._http = httpx.Client(timeout=timeout, follow_redirects=True)
        # Without the slash, the SDK would drop the path of the address.
        base = self.url + "/" if self._prefix else self.url
        with self._asking("logging in"):
            # Without this timeout, versions 1.0 and 2.0 of the SDK wait forever.
            self._api: Any = LabelStudio(
                base_url=base, api_key=key, httpx_client=self._http, timeout=timeout
            )

    def label_config(self, project: int) -> str:
        """A project's labeling config."""
        with self._asking(f"reading project {project}", project):
            found = self._api.projects.get(project, request_options=_ONCE)
            return str(found.label_config or "")

    def find_project(self, mark: str) -> int | None:
        """The oldest project with ``mark`` in its description, or None."""
        with self._asking("looking for the project"):
            listed = self._api.projects.list(request_options=_ONCE)
            found = [p.id for p in listed if mark in (p.description or "")]
            return min(map(int, found), default=None)

    def make_project(
        self, title: str, description: str, config: str, *, prelabel: bool, instructions: str = ""
    ) -> int:
        """Create a project and return its number. The title is cut or padded to the allowed length.

        ``instructions`` are HTML, which is shown before people begin.
        """
        shown = {"expert_instruction": instructions, "show_instruction": True}
        with self._asking("creating a project"):
            made = self._api.projects.create(
                title=title[:50].ljust(3, "_"),
                description=description,
                label_config=config,
                show_collab_predictions=prelabel,
                **(shown if instructions else {}),
                request_options=_ONCE,
            )
            return int(made.id)

    def set_label_config(self, project: int, config: str) -> None:
        """Replace a project's labeling config."""
        with self._asking(f"changing the labeling config of project {project}", project):
            self._api.projects.update(project, label_config=config, request_options=_ONCE)

    def tasks(self, project: int, round_: int, form: TaskForm = OWN) -> list[dict[str, Any]]:
        """The tasks of a round by number.

        They have ``id``, ``data`` as stored (addresses of storages are not replaced by addresses of the
        server), ``annotations`` without drafts, and ``predictions``.
        """
        found = self._filtered(project, _rule(f"data.{form.key('round')}", "equal", round_))
        return sorted((t for t in found if form.round_of(t) == round_), key=lambda t: t["id"])

    def open_tasks(self, project: int) -> list[dict[str, Any]]:
        """The tasks of all rounds that have no submitted annotation, in the form of :meth:`tasks`."""
        unanswered = _rule("total_annotations", "equal", 0)
        return self._filtered(project, unanswered, _rule(f"data.{RANK}", "greater", 0))

    def tasks_with(self, project: int, key: str, cells: Sequence[Any]) -> list[dict[str, Any]]:
        """The tasks whose data have one of some values at a key, in the form of :meth:`tasks`."""
        return self._filtered(project, _rule(f"data.{key}", "in_list", list(cells), "String"))

    def tasks_numbered(self, project: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The tasks with some numbers, in the form of :meth:`tasks`."""
        return self._filtered(project, _rule("id", "in_list", list(numbers)))

    def every_task(self, project: int) -> Iterator[dict[str, Any]]:
        """All tasks, with ``id`` and ``data`` as stored."""
        with self._asking(f"reading the tasks of project {project}", project):
            for task in self._api.tasks.list(
                project=project,
                include="id,data",
                resolve_uri=False,
                page_size=_LARGE_PAGE,
                request_options=_ONCE,
            ):
                yield {"id": int(task.id), "data": dict(task.data)}

    def _filtered(self, project: int, *rules: Mapping[str, Any]) -> list[dict[str, Any]]:
        query = json.dumps({"filters": {"conjunction": "and", "items": rules}})
        with self._asking(f"reading the tasks of project {project}", project):
            return [
                {
                    "id": int(t.id),
                    "data": dict(t.data),
                    "annotations": list(t.annotations or ()),
                    "predictions": [dict(p) for p in t.predictions or ()],
                }
                for t in self._api.tasks.list(
                    project=project,
                    query=query,
                    fields="all",
                    resolve_uri=False,
                    page_size=200,
                    request_options=_ONCE,
                )
            ]

    def add_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Add predictions, each of which has the number of its ``task``."""
        if predictions:
            with self._asking(f"adding predictions to project {project}", project):
                self._plain("POST", f"projects/{project}/import/predictions", json_=predictions)

    def set_data(self, project: int, task: int, data: Mapping[str, Any]) -> None:
        """Replace the data of a task. If the task no longer exists, nothing happens."""
        from label_studio_sdk.core.api_error import ApiError

        with self._asking(f"changing task {task} of project {project}", project):
            try:
                self._plain("PATCH", f"tasks/{task}", json_={"data": dict(data)})
            except ApiError as error:
                if error.status_code != 404:
                    raise

    def show_version(self, project: int, version: str, ours: Callable[[str], bool]) -> None:
        """Show the predictions of one version in a project, unless people have chosen another one there.

        Label Studio shows only one version. Without this, it would keep showing the first imported one.

        Parameters
        ----------
        project : int
        version : str
            A version of which some task of the project has a prediction.
        ours : callable
            Returns whether the version that is shown now may be replaced.
        """
        with self._asking(f"choosing the predictions of project {project}", project):
            shown = str(self._plain("GET", f"projects/{project}")["model_version"] or "")
            if shown != version and (not shown or ours(shown)):
                self._plain("PATCH", f"projects/{project}", json_={"model_version": version})

    def set_webhook(
        self, project: int, url: str, headers: Mapping[str, str], actions: Sequence[str]
    ) -> None:
        """Create a webhook: the project calls ``url`` when one of some actions happens.

        The webhook replaces an earlier one with the same address or the same header ``X-Rlmba``.
        """
        wanted = {
            "project": project,
            "url": url,
            "headers": dict(headers),
            "send_payload": True,
            "send_for_all_actions": False,
            "is_active": True,
            "actions": list(actions),
        }
        with self._asking(f"setting the webhook of project {project}", project):
            there = [
                hook
                for hook in self._plain("GET", "webhooks/", {"project": str(project)})
                if hook["project"] == project
                and (hook["url"] == url or hook["headers"].get(_MARK) == headers.get(_MARK, ""))
            ]
            if not there:
                self._plain("POST", "webhooks/", json_=wanted)
                return
            # Label Studio adds a webhook without headers for each model, if none has the model's address.
            for hook in there[1:]:
                self._plain("DELETE", f"webhooks/{hook['id']}/")
            if any(there[0].get(key) != value for key, value in wanted.items()):
                self._plain("PATCH", f"webhooks/{there[0]['id']}/", json_=wanted)

    def set_model(self, project: int, title: str, url: str, user: str, password: str) -> None:
        """Connect a project with a server's model. It replaces an earlier model with the same title."""
        wanted = {
            "project": project,
            "title": title,
            "url": url,
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": user,
            "basic_auth_pass": password,
            "is_interactive": False,
        }
        with self._asking(f"connecting the model of project {project}", project):
            listed = self._plain("GET", "ml/", {"project": str(project)})
            there = [model["id"] for model in listed if model["title"] == title]
            if there:
                self._plain("PATCH", f"ml/{there[0]}", json_=wanted)
            else:
                self._plain("POST", "ml/", json_=wanted)

    def add_tab(self, project: int, title: str, view: Mapping[str, Any]) -> int:
        """Create a tab in the Data Manager, unless one has this title. Returns the number of the tab."""
        with self._asking(f"adding a tab to project {project}", project):
            listed = self._plain("GET", "dm/views/", {"project": str(project)})
            for there in listed:
                if there["data"].get("title") == title:
                    return int(there["id"])
            made = {"project": project, "data": {"title": title, **view}}
            return int(self._plain("POST", "dm/views/", json_=made)["id"])

    def add_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import all of the tasks, or none if that fails."""
        with self._asking(f"adding tasks to project {project}", project):
            made = self._api.projects.import_tasks(
                project, request=list(tasks), request_options=_ONCE
            )
            # Only the community edition reports how many tasks it has imported.
            if made.task_count not in (None, len(tasks)):
                raise AnnotatorError(
                    f"Label Studio at {self.url}: expected {len(tasks)} new tasks in project {project}, "
                    f"got {made.task_count}; ask again to add the missing ones"
                )

    def serve_folders(self, project: int, folders: Sequence[str]) -> None:
        """Allow a project to show files in folders on the server's disk."""
        storages = self._api.import_storage.local
        with self._asking(f"connecting folders to project {project}", project):
            there = {s.path for s in storages.list(project=project, request_options=_ONCE)}
            for folder in folders:
                if folder not in there:
                    storages.create(
                        project=project,
                        path=folder,
                        title="rlmba",
                        description="Files that questions show. Need not be synchronized.",
                        use_blob_urls=True,
                        request_options=_ONCE,
                    )

    def upload(self, project: int, files: Sequence[tuple[Path, str]]) -> list[str]:
        """Upload files, given with their types, to a project. Returns their addresses in order."""
        with self._asking(f"uploading files to project {project}", project), ExitStack() as opened:
            parts = {}
            for i, (path, type_) in enumerate(files):
                handle = opened.enter_context(path.open("rb"))
                parts[f"file{i}"] = (_short(path, type_), handle, type_)
            answer = self._plain(
                "POST", f"projects/{project}/import", {"commit_to_project": "false"}, parts
            )
            ids = answer["file_upload_ids"]
            listed = self._plain(
                "GET", f"projects/{project}/file-uploads", {"ids": json.dumps(ids)}
            )
            names = {upload["id"]: upload["file"] for upload in listed}
            return [f"{self._prefix}/data/{names[id_]}" for id_ in ids]

    def _plain(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        files: Any = None,
        json_: Any = None,
    ) -> Any:  # of JSON
        """Send a request for which the SDK has no method, or a method that differs between its versions."""
        from label_studio_sdk.core.api_error import ApiError

        response = self._http.request(
            method,
            f"{self.url}/api/{path}",
            params=params,
            files=files,
            json=json_,
            headers=self._api._client_wrapper.get_headers(),
        )
        if response.is_success and not response.content:
            return None
        try:
            body = response.json()
        except ValueError:
            body = response.text
        if not response.is_success or isinstance(body, str):
            raise ApiError(status_code=response.status_code, body=body)
        return body

    @contextmanager
    def _asking(self, what: str, project: int | None = None) -> Iterator[None]:
        """Convert errors of the SDK and of the network into AnnotatorError."""
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        where = f"Label Studio at {self.url}"
        try:
            yield
        except ApiError as error:
            raise AnnotatorError(f"{where}: {what}: {_refusal(error, project)}") from None
        except httpx.TimeoutException:
            raise AnnotatorError(
                f"{where}: {what}: no answer within {self._http.timeout.read:g} seconds; look at its "
                "log, then try again, which is safe"
            ) from None
        except httpx.ConnectError as error:
            raise AnnotatorError(
                f"{where} cannot be reached ({error}): start it (`label-studio start`), or correct the "
                "annotator's option url; nothing is lost, try again"
            ) from None
        except httpx.HTTPError as error:
            raise AnnotatorError(
                f"{where}: {what}: the connection failed ({type(error).__name__}: {error}); "
                "try again, which is safe"
            ) from None
        except OSError as error:
            raise AnnotatorError(
                f"{what}: {error}; correct the file and try again, which is safe"
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AnnotatorError(
                f"{where}: {what}: {_FOREIGN} ({type(error).__name__}: {error})"
            ) from None


_MARK = "X-Rlmba"

_LARGE_PAGE = 1000
"""Tasks in an answer that has no annotations."""


def _rule(column: str, operator: str, value: Any, kind: str = "Number") -> dict[str, Any]:
    """A filter of the Data Manager."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


_FOREIGN = (
    "expected an answer of Label Studio, got something else: check that url is the address of Label Studio, "
    "and that no login page or proxy is in between"
)


def _refusal(error: Any, project: int | None) -> str:
    """What the refusal of a request means, and what to do."""
    status, detail = error.status_code or 0, _detail(error.body)
    said = f"({status}: {detail})"
    if status < 400 or (status == 404 and project is None):
        return f"{_FOREIGN} {said}"
    if status >= 500:
        return f"the server failed {said}; look at its log, then try again, which is safe"
    if status == 401:
        token = "Account & Settings, Personal Access Token"
        if "legacy" in detail.lower():
            return f"the key was refused {said}. Create another one ({token}) and use that"
        return f"the key was refused {said}. Copy it again ({token}) to the place where it is read"
    if status == 403 and "network address" in detail:
        return (
            f"it does not call addresses in private networks {said}. If you trust everybody who has an "
            "account there, start it with SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false"
        )
    advice = {
        403: ". Use the key of somebody who may change the project, or configure the proxy that refuses it",
        404: (
            f": there is no project {project} for this key. If it was deleted, its answers are lost: set the "
            "option project to another one, or delete labelstudio/server.json in the project's folder, then "
            "ask again"
        ),
        413: ". Raise the size limit of the proxy, or show files by media=local",
    }
    return f"the request was refused {said}{advice.get(status, '')}"


def _detail(body: Any) -> str:
    """What a server says about an error, as one line."""
    if isinstance(body, Mapping):
        text = str(body.get("detail") or body)
        if errors := body.get("validation_errors"):
            text = f"{text}: {json.dumps(errors, ensure_ascii=False)}"
    else:
        text = str(body)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def _short(path: Path, type_: str) -> str:
    """A name for an uploaded file that is short enough for Label Studio's database."""
    suffix = path.suffix.lower() or mimetypes.guess_extension(type_) or ""
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in path.stem)
    return f"{stem[:40]}{suffix}"
