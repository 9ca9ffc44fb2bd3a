"""VGGSound: clips of ten seconds in 309 classes, in which the source of the sound is visible."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlmba.data.media.catalogue import Catalogue
from rlmba.data.media.layouts.clips import (
    MODALITIES,
    FormsOfModalities,
    Listed,
    find_media,
    samples_of,
)
from rlmba.data.media.layouts.common import (
    Remarks,
    catalogue,
    class_key,
    class_labels,
    csv_rows,
    list_folder,
    not_found,
)
from rlmba.errors import DataError

__all__ = ["LAYOUTS", "read"]

NAME = "vggsound"
LIST = "vggsound.csv"
LAYOUTS: Mapping[str, str] = {
    "frames": (
        "{train,test}/video/<class>/<id>_<start>/frame_<k>.jpg with "
        "{train,test}/audio/<class>/<id>_<start>.wav (or frames/{train,test}/... with audio/...)"
    ),
    "clips": (
        f"{LIST} (id, start second, label, split; no header) with clips <id>_<start, 6 digits>.mp4 "
        "(or .mkv, .webm, .avi) next to it, below video/ or below {train,test}/; or clips below "
        "{train,test}/<class>/ without the list"
    ),
}
SOURCE = f"VGGSound, from www.robots.ox.ac.uk/~vgg/data/vggsound, where {LIST} is; the clips are on YouTube."
MARKS = (LIST, "train", "test", "video", "videos", "frames")


def read(root: Path, layout: str | None, lists: tuple[Path, ...]) -> Catalogue:
    """Catalogue of a folder of VGGSound; see :func:`rlmba.data.media.layouts.find_catalogue`."""
    notes = Remarks()
    media = find_media(root, class_labels(NAME), notes)
    listed: list[Listed] = []
    paths = lists or _find_list(root, media.lists)
    for path in paths:
        listed += _vggsound_list(path, notes)
    there = media.layouts()
    if not paths and (not there or (layout is not None and layout not in there)):
        wanted = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
        raise not_found(NAME, root, wanted, MARKS, SOURCE)
    chosen = layout or (there[0] if there else "clips")
    if layout is None and there[1:]:
        notes.say(f"layout {chosen!r} is read; the folder also has {there[1]!r}")
    if not paths and not _sorted_by_class(media.by_modality(chosen)):
        raise DataError(
            f"{root}: found clips, but neither {LIST}, which lists their class and split, nor "
            f"folders {{train,test}}/<class>/; put {LIST} there or give it as annotations.\n"
            f"The data: {SOURCE}"
        )

    def name_of(entry: Listed) -> str:
        return f"{entry.video}_{entry.start:06d}"

    samples = samples_of(media, chosen, listed, name_of, notes)
    return catalogue(NAME, root, samples, layout=chosen, modalities=MODALITIES, notes=notes)


def _sorted_by_class(forms: FormsOfModalities) -> bool:
    return any(p.split and p.label >= 0 for _, f in forms for v in f.values() for p in v)


def _find_list(root: Path, below: list[Path]) -> tuple[Path, ...]:
    """``vggsound.csv`` in the folders that were visited, or in a folder directly below the root."""
    found = [p for p in below if p.name.lower() == LIST]
    if not found:
        found = [
            Path(inner.path)
            for entry in list_folder(root)
            if "." not in entry.name and entry.is_dir()
            for inner in list_folder(entry.path)
            if inner.name.lower() == LIST
        ]
    return tuple(found[:1])


def _vggsound_list(path: Path, notes: Remarks) -> list[Listed]:
    labels = class_labels(NAME)
    by_label: dict[str, int] = {}
    listed = []
    for line, row in csv_rows(path, notes):
        split = row[-1].strip().lower()
        # A label with unquoted commas is split into several cells.
        label = ",".join(row[2:-1]).strip()
        if len(row) < 4 or split not in ("train", "test") or not row[1].strip().isdigit():
            notes.add(f"lines of {path.name} that cannot be read, left out", f"line {line}")
            continue
        if label not in by_label:
            by_label[label] = labels.get(class_key(label), -1)
        if by_label[label] < 0:
            notes.add(
                f"lines of {path.name} of classes that were not published, left out", f"line {line}"
            )
            continue
        listed.append(Listed(row[0].strip(), int(row[1]), -1, by_label[label], split))
    if not listed:
        raise DataError(
            f"{path}: expected lines 'id,start second,label,split' with labels of VGGSound, found none; "
            f"give {LIST} as published"
        )
    return listed
