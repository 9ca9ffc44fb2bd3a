"""CVAT through files: write the images of a batch for upload, and read the tags from exports."""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote
from xml.parsers import expat

from rlmba.annotators.labelstudio.media import tag_of
from rlmba.annotators.matching import CANNOT_TELL, is_storable
from rlmba.data.table import Table
from rlmba.errors import DataError, RlmbaWarning
from rlmba.reading.files import LARGEST, open_regular, require_file
from rlmba.runfolder.batches import LabelBatch
from rlmba.storage import atomic_write_chunks, atomic_write_text, make_folder

__all__ = ["read_tags", "write_batch"]

_HOW = "export the task again as 'CVAT for images 1.1'"
_MEMBER = "annotations.xml"
_CHUNK = 1 << 20
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
"""Exceptions raised by reading a damaged, encrypted or unsupported archive."""
_LONGEST_LABEL, _LONGEST_FILE = 64, 255


def write_batch(folder: Path, batch: LabelBatch) -> None:
    """Write ``labels.json`` and an archive such as ``round_003.zip``, from which a task of CVAT is created.

    The labels are the classes as tags, and ``?`` for "cannot tell". The archive holds the image of each
    sample as ``0001/ID.jpg``, with its rank as the folder and its percent-encoded id as the name, so that
    CVAT shows the images in order of rank. A sample without a readable image is not in the archive, and a
    warning names the first one.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    batch : LabelBatch

    Raises
    ------
    DataError
        If no sample has an image, or an id or a class is too long for CVAT.
    StorageError
        If a file cannot be written.
    """
    for name in batch.classes:
        if len(name) > _LONGEST_LABEL or not is_storable(name):
            raise DataError(
                f"class {name[:80]!r}: CVAT accepts labels of at most {_LONGEST_LABEL} characters, got "
                f"{len(name)}; rename it, or leave the option tool out"
            )
    images = {q.id: path for q in batch.questions if (path := _image(q.files)) is not None}
    if not images:
        raise DataError(
            f"cvat: expected samples with an image, got {len(batch)} without a readable one; leave the "
            "option tool out, or use the annotator 'browser' or 'labelstudio'"
        )
    names = {
        q.id: f"{q.rank:04d}/{quote(q.id, safe=' ')}{images[q.id].suffix.lower()}"
        for q in batch.questions
        if q.id in images
    }
    for id_, name in names.items():
        if len(PurePosixPath(name).name) > _LONGEST_FILE:
            raise DataError(
                f"id {id_[:80]!r}: expected an id that fits into a file name of {_LONGEST_FILE} characters, "
                f"got {len(PurePosixPath(name).name)}; shorten it, or leave the option tool out"
            )
    if missing := [q.id for q in batch.questions if q.id not in images]:
        warnings.warn(
            f"cvat: {len(missing)} of {len(batch)} samples have no readable image and cannot be labeled in "
            f"CVAT; the first is {missing[0]!r}. Label them in the table",
            RlmbaWarning,
            stacklevel=4,
        )
    make_folder(folder)
    labels = [{"name": c, "type": "tag", "attributes": []} for c in (*batch.classes, CANNOT_TELL)]
    atomic_write_text(
        folder / "labels.json", json.dumps(labels, indent=1, ensure_ascii=False) + "\n"
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        with zipfile.ZipFile(file, "w") as archive:  # images do not become smaller by compression
            for id_, name in names.items():
                archive.write(images[id_], name)
        size = file.tell()
        file.seek(0)
        atomic_write_chunks(folder / f"round_{batch.round:03d}.zip", _chunks(file), size)


def _image(files: Mapping[str, str]) -> Path | None:
    """The first readable image of a sample."""
    for modality, name in files.items():
        path = Path(name)
        if tag_of(modality, path) == "Image" and path.suffix:
            try:
                with open(path, "rb", opener=open_regular):
                    return path
            except OSError:
                continue
    return None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def read_tags(path: Path) -> Table:
    """Read an export in the format "CVAT for images 1.1": the XML file, or the archive that holds it.

    The id is the name of the image without folder and suffix, percent-decoded. The label is its tag.
    Shapes and attributes are ignored. An image with several tags has several rows.

    Parameters
    ----------
    path : path

    Returns
    -------
    Table
        A table with the columns ``id`` and ``label``; the label is None for an image without a tag.

    Raises
    ------
    DataError
        If the file is missing, damaged, larger than 1 GiB, has a document type declaration (which may
        define entities), or is not such an export.
    """
    require_file(path, advice=_HOW)
    try:
        with open(path, "rb", opener=open_regular) as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return _parse(path, file)
            with zipfile.ZipFile(file) as archive, archive.open(_MEMBER) as member:
                return _parse(path, member)
    except KeyError:
        raise DataError(f"{path}: expected {_MEMBER} in the archive, found none; {_HOW}") from None
    except expat.ExpatError as error:
        raise DataError(f"{path} is not XML ({error}); {_HOW}") from None
    except _DAMAGED as error:
        raise DataError(f"{path} could not be read ({error}); {_HOW}") from error


class _Tags:
    """Collects tags of images from the events of an XML parser."""

    def __init__(self, path: Path, parser: Any) -> None:
        self.path = path
        self.rows: list[tuple[str, str | None, int]] = []
        self._parser = parser
        self._depth = 0
        self._image: str | None = None
        self._line = self._tags = 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        line = self._parser.CurrentLineNumber
        if self._depth == 1 and tag != "annotations":
            raise DataError(f"{self.path}: expected <annotations>, got <{tag[:60]}>; {_HOW}")
        if tag == "track" and self._depth == 2:
            raise DataError(
                f"{self.path}, line {line}: expected tags of images, got tracks of a video; {_HOW}, of a "
                "task with images"
            )
        if tag == "image" and self._depth == 2:
            name = self._attribute(tag, attributes, "name", line)
            self._image = unquote(PurePosixPath(name.replace("\\", "/")).stem)
            self._line, self._tags = line, 0
        elif tag == "tag" and self._image is not None and self._depth == 3:
            label = self._attribute(tag, attributes, "label", line)
            self.rows.append((self._image, label.strip() or None, line))
            self._tags += 1

    def _end(self, tag: str) -> None:
        if tag == "image" and self._depth == 2 and self._image is not None:
            if not self._tags:
                self.rows.append((self._image, None, self._line))
            self._image = None
        self._depth -= 1

    def _attribute(self, tag: str, attributes: dict[str, str], name: str, line: int) -> str:
        if name not in attributes:
            raise DataError(
                f"{self.path}, line {line}: expected <{tag} {name}=...>, got "
                f"{sorted(attributes)[:10]}; {_HOW}"
            )
        return attributes[name]

    def _refuse(self, *_: object) -> None:
        raise DataError(
            f"{self.path}, line {self._parser.CurrentLineNumber}: expected no document type declaration "
            f"(<!DOCTYPE ...>), which CVAT never writes; {_HOW}"
        )


def _parse(path: Path, file: IO[bytes]) -> Table:
    parser = expat.ParserCreate()
    found = _Tags(path, parser)
    size = 0
    while chunk := file.read(_CHUNK):
        size += len(chunk)
        if size > LARGEST:
            raise DataError(
                f"{path}: expected at most {LARGEST:,} bytes of XML, found more; {_HOW}"
            )
        parser.Parse(chunk, False)
    parser.Parse(b"", True)
    ids, labels = [row[0] for row in found.rows], [row[1] for row in found.rows]
    return Table(path, {"id": ids, "label": labels}, [row[2] for row in found.rows])
