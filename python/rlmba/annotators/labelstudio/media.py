"""How files reach Label Studio: as part of the task, by upload, or from the server's own disk."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from rlmba.errors import AnnotatorError, UsageError

if TYPE_CHECKING:
    from rlmba.annotators.labelstudio.client import Client

__all__ = ["InlineMedia", "LocalMedia", "MediaTransport", "UploadedMedia", "tag_of"]

_TAGS = {"image": "Image", "audio": "Audio", "video": "Video"}
_MEBI = 1 << 20


def tag_of(modality: str, path: Path) -> str | None:
    """The tag that shows a file, by its modality's name or else its type; None if no tag can."""
    return _TAGS.get(modality) or _TAGS.get(_type(path).split("/")[0])


class MediaTransport(Protocol):
    """A way for files to reach Label Studio."""

    def refused(self, path: Path, tag: str) -> str | None:
        """Why an existing file cannot be shown, as text for people; None if it can."""
        ...

    def addresses(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """The addresses of the files for Label Studio; none of the files was refused."""
        ...


class InlineMedia:
    """Files within the task, as ``data:`` addresses. Label Studio does not play sound from those."""

    limit = 8 * _MEBI
    """The largest file in bytes: the page that lists tasks loads all of it."""

    def refused(self, path: Path, tag: str) -> str | None:
        """See :class:`MediaTransport`."""
        if tag == "Audio":
            return "Label Studio plays sound only from a server: use media=local, or set the url"
        if (size := path.stat().st_size) > self.limit:
            return f"{_size(size)}, more than the {_size(self.limit)} that fit into a task: use media=local"
        return None

    def addresses(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """See :class:`MediaTransport`."""
        return {
            path: f"data:{_type(path)};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
            for path in paths
        }


class LocalMedia:
    """Files that Label Studio reads from its own disk: it runs on this machine, or sees the same folder.

    Parameters
    ----------
    root : path
        The folder that it serves files from (LOCAL_FILES_DOCUMENT_ROOT), as seen from this machine.
    server_root : str or None
        The path of the same folder on the server; None if it is the same.
    server, project : Client, int
        Where to create a storage connection for each folder directly below ``root`` that holds files;
        without one, files are not served. None if people create them by hand.
    """

    def __init__(
        self, root: Path, server_root: str | None, server: Client | None, project: int | None
    ) -> None:
        self._root = root.expanduser().resolve()
        if not self._root.is_dir():
            raise UsageError(
                f"labelstudio: document_root: expected a folder, got {root}: name the folder that "
                "Label Studio serves files from (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT)"
            )
        self._server_root = (server_root or str(self._root)).rstrip("/")
        self._server = server
        self._project = project

    def refused(self, path: Path, tag: str) -> str | None:  # noqa: ARG002 - all media are possible
        """See :class:`MediaTransport`. A file outside the folder is an error in the settings.

        Raises
        ------
        AnnotatorError
            If the file is not in a folder below the root.
        """
        self._relative(path)
        return None

    def addresses(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """See :class:`MediaTransport`."""
        relative = {path: self._relative(path) for path in paths}
        if self._server is not None and self._project is not None:
            folders = {f"{self._server_root}/{r.parts[0]}" for r in relative.values()}
            self._server.serve_folders(self._project, sorted(folders))
        return {path: f"/data/local-files/?d={quote(r.as_posix())}" for path, r in relative.items()}

    def _relative(self, path: Path) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self._root) or resolved.parent == self._root:
            raise AnnotatorError(
                f"{path}: Label Studio can only serve files in a folder below document_root ({self._root}); "
                "move the files, choose another document_root, or upload them (media=upload)"
            )
        return resolved.relative_to(self._root)


class UploadedMedia:
    """Files that are sent to Label Studio, which keeps copies.

    Label Studio accepts single files only in a project that shows at most one thing, so the files go into a
    project of their own.

    Parameters
    ----------
    server : Client
    project : int
        The project for the files.
    """

    formats = (
        *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp"),
        *(".flac", ".m4a", ".mp3", ".ogg", ".wav"),
        *(".mp4", ".webm"),
    )
    """The formats that both Label Studio accepts and browsers show."""
    limit = 249 * _MEBI
    """The largest file in bytes."""
    together = 48 * _MEBI
    """The number of bytes that are sent in one request."""

    def __init__(self, server: Client, project: int) -> None:
        self._server = server
        self._project = project

    def refused(self, path: Path, tag: str) -> str | None:  # noqa: ARG002
        """See :class:`MediaTransport`."""
        if path.suffix.lower() not in self.formats:
            return (
                f"Label Studio accepts no uploads of type {path.suffix or '(no suffix)'}: "
                "convert it, or use media=local"
            )
        if (size := path.stat().st_size) > self.limit:
            return f"{_size(size)}, more than Label Studio accepts ({_size(self.limit)}): use media=local"
        return None

    def addresses(self, paths: Sequence[Path]) -> Mapping[Path, str]:
        """See :class:`MediaTransport`."""
        found: dict[Path, str] = {}
        for group in self._groups(dict.fromkeys(paths)):
            types = [(path, _type(path)) for path in group]
            found.update(zip(group, self._server.upload(self._project, types), strict=True))
        return found

    def _groups(self, paths: Iterable[Path]) -> Iterable[list[Path]]:
        group: list[Path] = []
        size = 0
        for path in paths:
            length = path.stat().st_size
            if group and (size + length > self.together or len(group) == 20):
                yield group
                group, size = [], 0
            group.append(path)
            size += length
        if group:
            yield group


def _type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _size(size: int) -> str:
    return f"{size / _MEBI:,.0f} MiB"
