"""Find clips, frames and sounds that are named after YouTube videos, in any folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rlmba.data.media.catalogue import Sample, Source, StorageForm
from rlmba.data.media.layouts.common import Remarks, class_key, list_folder, split_name

__all__ = [
    "MODALITIES",
    "FormsOfModalities",
    "FoundFile",
    "FoundMedia",
    "Listed",
    "find_media",
    "parse_name",
    "samples_of",
]

MODALITIES = ("video", "audio")

SUFFIXES = {
    s: k for k, s in enumerate((".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp"))
}
"""Suffixes of clips. If a clip is in several files, the first suffix is preferred."""

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
}
"""Usual names of the splits."""

# Names of folders that say nothing about class or split.
_KINDS = frozenset(
    (
        *("video", "videos", "clip", "clips", "frame", "frames", "audio", "audios"),
        *("wav", "wavs", "sound", "sounds", "annotations", "csv", "data", "k400"),
    )
)
_DEPTH = 4
# YouTube's ids have 11 characters, which may be hyphens and underscores, even at the ends.
_NAME = re.compile(r"([\w-]{11})(?:_(\d{1,6})(?:_(\d{1,6}))?)?", re.ASCII)


def parse_name(stem: str) -> tuple[str, int, int] | None:
    """YouTube id, first and last second from a clip's name; -1 for a second that is not in it."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    video, start, end = match.groups()
    return video, -1 if start is None else int(start), -1 if end is None else int(end)


class FoundFile(NamedTuple):
    """A file or folder of one clip. The preferred one is the smallest when compared as tuples."""

    split_rank: int
    label: int
    suffix_rank: int
    path: str
    split: str
    end: int


class Listed(NamedTuple):
    """A clip that a list names; ``end`` is -1 if it is not in the list."""

    video: str
    start: int
    end: int
    label: int
    split: str


ClipKey: TypeAlias = tuple[str, int]
FormsOfModalities: TypeAlias = tuple[tuple[StorageForm, dict[ClipKey, list[FoundFile]]], ...]


@dataclass
class FoundMedia:
    """The media in a folder, by YouTube id and first second (-1 if it is not in the name).

    ``lists`` are the CSV files of the folder.
    """

    clips: dict[ClipKey, list[FoundFile]] = field(default_factory=dict)
    frames: dict[ClipKey, list[FoundFile]] = field(default_factory=dict)
    sounds: dict[ClipKey, list[FoundFile]] = field(default_factory=dict)
    lists: list[Path] = field(default_factory=list)

    def layouts(self) -> list[str]:
        """Layouts that were found, the one with most complete clips first; if equal, "frames"."""
        counts = {"frames": len(self.frames.keys() & self.sounds.keys()), "clips": len(self.clips)}
        there = {"frames": bool(self.frames or self.sounds), "clips": bool(self.clips)}
        return sorted((k for k in there if there[k]), key=lambda k: -counts[k])

    def by_modality(self, layout: str) -> FormsOfModalities:
        """The storage form and the files of video and of audio."""
        if layout == "clips":
            return ("clip", self.clips), ("clip", self.clips)
        return ("frames", self.frames), ("wav", self.sounds)


def find_media(root: Path, labels: Mapping[str, int], notes: Remarks) -> FoundMedia:
    """Walk the folders below a root whose names are splits, classes or kinds of media.

    Parameters
    ----------
    root : path
        The folder to start from; up to four levels below it are visited.
    labels : mapping of class key to int
        The classes whose folders are entered.
    notes : Remarks
        Receives remarks about folders that were not entered and files that are not clips.
    """
    walk = _Walk(labels, notes)
    walk.visit(str(root), "", "", -1)
    return walk.media


class _Walk:
    """A walk through folders; see :func:`find_media`."""

    def __init__(self, labels: Mapping[str, int], notes: Remarks) -> None:
        self.media = FoundMedia()
        self._labels = labels
        self._notes = notes

    def visit(self, folder: str, below: str, split: str, label: int) -> None:
        """Collect the media of a folder with path ``below`` the root; split "" and label -1 are unknown."""
        media = self.media
        rank = ("train", "test", "val", "").index(split)
        for entry in list_folder(folder):
            name = entry.name
            stem, suffix = split_name(name)
            if suffix in SUFFIXES or suffix == ".wav":
                kind = media.sounds if suffix == ".wav" else media.clips
            elif suffix == ".csv":
                media.lists.append(Path(entry.path))
                continue
            elif entry.is_dir():
                inner = self._inside(name, split, label)
                if inner is not None and below.count("/") < _DEPTH:
                    self.visit(entry.path, f"{below}{name}/", *inner)
                    continue
                kind, stem = media.frames, name
            else:
                continue
            parsed = parse_name(stem)
            if parsed is None or (kind is media.frames and parsed[1] < 0):
                remark = (
                    "folders not entered" if kind is media.frames else "files that are not clips"
                )
                self._notes.add(remark, below + name)
                continue
            video, start, end = parsed
            found = FoundFile(rank, label, SUFFIXES.get(suffix, 0), entry.path, split, end)
            kind.setdefault((video, start), []).append(found)

    def _inside(self, name: str, split: str, label: int) -> tuple[str, int] | None:
        """Split and label below a folder; None if its name is not a split, a class or a kind of media."""
        plain = name.casefold()
        if not split and plain in SPLITS:
            return SPLITS[plain], label
        if label < 0 and (inner := self._labels.get(class_key(name), -1)) >= 0:
            return split, inner
        return (split, label) if plain in _KINDS else None


def samples_of(
    media: FoundMedia,
    layout: str,
    listed: Sequence[Listed],
    name_of: Callable[[Listed], str],
    notes: Remarks,
) -> Iterator[Sample]:
    """The samples of lists, and those of folders whose split no list names.

    The training split is "train". The test split is "test" or "val": the one with files, or "test" if
    both have files.

    Parameters
    ----------
    media : FoundMedia
        The media on disk.
    layout : str
        "clips" or "frames".
    listed : sequence of Listed
        The clips that lists name. In a split that a list names, files that are not listed are left out,
        with a remark.
    name_of : callable
        Returns the id of a clip.
    notes : Remarks
        Receives remarks about what is left out.
    """
    forms = media.by_modality(layout)
    decided = {entry.split for entry in listed}
    named = {(e.video, e.start) for e in listed}
    unsplit = "clips that no list names and whose folders name no split and class, left out"
    unlisted = "clips that are not in the list, left out"
    candidates = [*listed]
    keys = forms[0][1].keys() | forms[1][1].keys()
    videos = {e.video for e in listed}
    for key in sorted(keys - named):
        if key[1] < 0 and key[0] in videos:
            continue
        places = sorted(p for _, found in forms for p in found.get(key, ()))
        usable = [p for p in places if p.split and p.label >= 0 and key[1] >= 0]
        open_ = [p for p in usable if p.split not in decided]
        if open_:
            first = open_[0]
            candidates.append(Listed(key[0], key[1], first.end, first.label, first.split))
        else:
            notes.add(unlisted if usable or decided else unsplit, places[0].path.rpartition("/")[2])
    test = _test_split(candidates, forms)
    for entry in candidates:
        if entry.split in ("train", test):
            yield _sample(entry, name_of(entry), entry.split == test, forms, notes)
        else:
            notes.add(f"clips of the split {entry.split!r}, not used with {test!r}", entry.video)


def _test_split(candidates: Iterable[Listed], forms: FormsOfModalities) -> str:
    """Which of the splits "test" and "val" becomes the test split."""
    named: dict[str, bool] = {}
    for entry in candidates:
        if entry.split != "train" and not named.get(entry.split):
            named[entry.split] = any(_files(entry, found) for _, found in forms)
    order = sorted(named, key=lambda s: (not named[s], s != "test"))
    return order[0] if order else "test"


def _files(entry: Listed, found: Mapping[ClipKey, list[FoundFile]]) -> list[FoundFile]:
    """Files of a clip: those named by its first second, otherwise those named by its video alone."""
    return found.get((entry.video, entry.start)) or found.get((entry.video, -1)) or []


def _sample(
    entry: Listed,
    name: str,
    test: bool,
    forms: FormsOfModalities,
    notes: Remarks,
) -> Sample:
    """A sample with its preferred files, which are in folders of its own split and class if possible."""
    sources: dict[str, Source | None] = {}
    for modality, (form, found) in zip(MODALITIES, forms, strict=True):
        if sources and found is forms[0][1]:
            # Video and audio of a clip come from the same file.
            sources[modality] = sources[MODALITIES[0]]
            continue
        places = _files(entry, found)
        if len(places) > 1:
            own = [p for p in places if p.split == entry.split and p.label == entry.label]
            notes.add("clips in more than one file, the first is used", name)
            places = sorted(own or places)
        if not places:
            sources[modality] = None
            continue
        place = places[0]
        if place.label not in (-1, entry.label):
            notes.add("clips in the folder of another class than in the list", name)
        if place.split not in ("", entry.split):
            notes.add("clips in the folder of another split than in the list", name)
        sources[modality] = Source(form, Path(place.path))
    return Sample(name, entry.label, test, sources)
