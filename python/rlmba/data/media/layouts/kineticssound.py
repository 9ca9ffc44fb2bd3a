"""KineticsSound: the clips of 31 classes of Kinetics-400 that can be seen and heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rlmba.data.media.catalogue import Catalogue, Sample
from rlmba.data.media.layouts.clips import (
    MODALITIES,
    SPLITS,
    Listed,
    find_media,
    parse_name,
    samples_of,
)
from rlmba.data.media.layouts.common import (
    Remarks,
    catalogue,
    class_key,
    class_labels,
    csv_rows,
    not_found,
)
from rlmba.errors import DataError

__all__ = ["LAYOUTS", "read"]

NAME = "kineticssound"
LAYOUTS: Mapping[str, str] = {
    "frames": (
        "{train,test}/video/<class>/<id>_<start>_<end>/frame_<k>.jpg with "
        "{train,test}/audio/<class>/<id>_<start>_<end>.wav"
    ),
    "clips": (
        "{train,test}/<class>/<id>_<start>_<end>.mp4 (or .avi, .mkv, .webm; val or validate in place "
        "of test), or all in one folder with Kinetics' train.csv and test.csv "
        "(label, youtube_id, time_start, time_end, split); BMMAL's my_train.txt and my_test.txt choose"
    ),
}
SOURCE = (
    "Kinetics-400, from github.com/cvdfoundation/kinetics-dataset, of which the 31 classes of "
    "KineticsSound are used (Arandjelovic and Zisserman, Look, Listen and Learn, 2017)."
)
MARKS = ("train", "test", "val", "train.csv")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_SECONDS = 10


def read(root: Path, layout: str | None, lists: tuple[Path, ...]) -> Catalogue:
    """Catalogue of a folder of KineticsSound; see :func:`rlmba.data.media.layouts.find_catalogue`."""
    notes = Remarks()
    media = find_media(root, class_labels(NAME), notes)
    listed: list[Listed] = []
    named = False
    for path in lists or media.lists:
        rows = _kinetics_list(path, notes)
        if rows is None and lists:
            raise DataError(
                f"{path}: expected a Kinetics list with the columns {', '.join(_COLUMNS)} and split, "
                "got other columns; give the train, validate or test CSV file of Kinetics-400"
            )
        named = named or rows is not None
        listed += rows or []
    there = media.layouts()
    if not named and (not there or (layout is not None and layout not in there)):
        wanted = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
        raise not_found(NAME, root, wanted, MARKS, SOURCE)
    chosen = layout or (there[0] if there else "clips")
    if layout is None and there[1:]:
        notes.say(f"layout {chosen!r} is read; the folder also has {there[1]!r}")

    def name_of(entry: Listed) -> str:
        end = entry.end if entry.end >= 0 else entry.start + _SECONDS
        return f"{entry.video}_{entry.start:06d}_{end:06d}"

    samples = _chosen(root, samples_of(media, chosen, listed, name_of, notes), notes)
    return catalogue(NAME, root, samples, layout=chosen, modalities=MODALITIES, notes=notes)


def _chosen(root: Path, samples: Iterable[Sample], notes: Remarks) -> Iterator[Sample]:
    """Samples that BMMAL's lists in the root name; all samples of a split without such a list."""
    lists = {test: root / f"my_{'test' if test else 'train'}.txt" for test in (False, True)}
    left: dict[bool, set[str]] = {}
    for test, path in lists.items():
        if path.is_file():
            parsed = (parse_name(row[0].strip()) for _, row in csv_rows(path, notes))
            left[test] = {p[0] for p in parsed if p is not None}
    named = {test: frozenset(videos) for test, videos in left.items()}
    for sample in samples:
        video = sample.id[:11]
        if named.get(sample.test) and video not in named[sample.test]:
            notes.add(f"clips that are not in {lists[sample.test].name}, left out", sample.id)
            continue
        left.get(sample.test, set()).discard(video)
        yield sample
    for test, videos in left.items():
        for video in videos:
            notes.add(f"videos in {lists[test].name} that were not found", video)


def _kinetics_list(path: Path, notes: Remarks) -> list[Listed] | None:
    """Clips of the 31 classes in a Kinetics CSV file; None if it is another file."""
    labels = class_labels(NAME)
    by_name = next((v for k, v in SPLITS.items() if k in path.stem.lower()), "")
    rows = csv_rows(path, notes)
    header = [cell.strip().lower() for cell in next(rows, (0, []))[1]]
    if not set(_COLUMNS) <= set(header):
        return None
    at = [header.index(c) for c in _COLUMNS]
    split_at = header.index("split") if "split" in header else None
    listed, others = [], 0
    for line, row in rows:
        if len(row) < len(header):
            notes.add("lines of lists that cannot be read, left out", f"{path.name}:{line}")
            continue
        label = labels.get(class_key(row[at[0]]))
        if label is None:
            others += 1
            continue
        split = by_name if split_at is None else SPLITS.get(row[split_at].strip().lower(), "")
        try:
            start, end = (round(float(row[k])) for k in at[2:])
        except ValueError:
            split = ""
        if not split:
            notes.add("lines of lists that cannot be read, left out", f"{path.name}:{line}")
            continue
        listed.append(Listed(row[at[1]].strip(), start, end, label, split))
    if others:
        notes.say(f"{path.name}: {others:,} clips of other Kinetics classes are not used")
    return listed
