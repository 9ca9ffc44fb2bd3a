"""The plan of a cache: its samples, its recipe, and the shard of each sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from rlmba.data.media import shards
from rlmba.data.media.catalogue import Catalogue, Sample, split_checksum
from rlmba.data.media.content import Recipe
from rlmba.errors import DataError
from rlmba.markup import visible
from rlmba.reading.files import read_bytes
from rlmba.reading.structured import parse_json, read_versioned
from rlmba.storage import atomic_write_text, is_plain_name

__all__ = ["FORMAT", "HEADER", "NOWHERE", "CachePlan", "differences", "read_plan", "write_plan"]

FORMAT = 1
HEADER = "cache.json"
NOWHERE = -1
"""The shard number of samples that have no file at all."""

_SHARD_BYTES = 256 << 20
_SHARDS = 256
_LEAST = 8


@dataclass(frozen=True)
class _Pointer:
    """The name and checksum of the file with the list of samples."""

    file: str
    blake2b: str


@dataclass(frozen=True)
class _Header:
    """The file :data:`HEADER`."""

    name: str
    layout: str
    root: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    recipe: Recipe
    published: dict[str, int]
    samples: _Pointer


@dataclass(frozen=True)
class _Lists:
    """The list of samples; see :class:`CachePlan`."""

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    test: tuple[bool, ...]
    shard: tuple[int, ...]


@dataclass(frozen=True)
class CachePlan:
    """What a cache will hold: everything in ``cache.json`` and in the list of samples.

    ``ids``, ``labels``, ``test`` and ``shard`` have one entry per sample, in the order in which the
    samples were first listed. ``shard`` is :data:`NOWHERE` for samples without a file. ``published`` is
    that of the catalogue.
    """

    name: str
    layout: str
    root: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    recipe: Recipe
    published: Mapping[str, int]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    test: tuple[bool, ...]
    shard: tuple[int, ...]

    @classmethod
    def empty(cls, catalogue: Catalogue, recipe: Recipe) -> CachePlan:
        """A plan for the samples of a catalogue that has none of them yet."""
        return cls(
            name=catalogue.name,
            layout=catalogue.layout,
            root=visible(str(catalogue.root.resolve())),
            modalities=catalogue.modalities,
            classes=catalogue.classes,
            recipe=recipe,
            published=dict(catalogue.published),
            ids=(),
            labels=(),
            test=(),
            shard=(),
        )

    def checksum(self) -> str:
        """Split checksum of all planned samples."""
        return split_checksum(self.classes, self.ids, self.labels, self.test)

    def members(self) -> dict[int, list[str]]:
        """Ids by shard, in the order of the shard's rows."""
        members: dict[int, list[str]] = {}
        for sample, number in zip(self.ids, self.shard, strict=True):
            if number != NOWHERE:
                members.setdefault(number, []).append(sample)
        return {number: sorted(members[number], key=_rank) for number in sorted(members)}

    def extended(self, samples: Sequence[Sample], repaired: Collection[str] = ()) -> CachePlan:
        """The plan with new samples in new shards; the plan itself if there are none.

        Parameters
        ----------
        samples : sequence of Sample
            All samples that the data set lists.
        repaired : collection of str
            Ids to read again, whichever shard they are in.

        Raises
        ------
        DataError
            If a sample has another class or split than in the plan.
        """
        place = {sample: i for i, sample in enumerate(self.ids)}
        added = [s for s in samples if s.id not in place]
        to_deal = [s.id for s in added if _has_file(s)]
        for sample in samples:
            i = place.get(sample.id)
            if i is None:
                continue
            if (self.labels[i], self.test[i]) != (sample.label, sample.test):
                raise DataError(self._conflict(sample, i))
            if sample.id in repaired or (self.shard[i] == NOWHERE and _has_file(sample)):
                to_deal.append(sample.id)
        if not added and not to_deal:
            return self
        dealt = self._deal(to_deal, max(self.shard, default=NOWHERE) + 1)
        ids = (*self.ids, *(s.id for s in added))
        old = (*self.shard, *(NOWHERE for _ in added))
        return replace(
            self,
            ids=ids,
            labels=(*self.labels, *(s.label for s in added)),
            test=(*self.test, *(s.test for s in added)),
            shard=tuple(dealt.get(i, n) for i, n in zip(ids, old, strict=True)),
        )

    def _deal(self, ids: Sequence[str], first: int) -> dict[str, int]:
        """Shards of ids, numbered from ``first``, in an order independent of class and split."""
        _, typical = shards.sample_bytes(self.modalities, self.recipe)
        each = max(_LEAST, -(-len(ids) // _SHARDS))
        each = max(1, min(each, _SHARD_BYTES // typical))
        hands = np.array_split(np.array(sorted(ids, key=_rank)), max(1, -(-len(ids) // each)))
        return {str(i): first + n for n, hand in enumerate(hands) for i in hand}

    def _conflict(self, sample: Sample, i: int) -> str:
        def where(label: int, test: bool) -> str:
            return f"{'test' if test else 'train'}, class {self.classes[label]!r}"

        return (
            f"sample {sample.id!r} is in {where(self.labels[i], self.test[i])} of the cache and in "
            f"{where(sample.label, sample.test)} of the folder, so these are different data; prepare "
            "another folder"
        )


def differences(plan: CachePlan, other: CachePlan) -> list[str]:
    """Why samples of two plans cannot be in the same cache, one line per difference."""
    found = [
        f"{what}: {getattr(plan, what)} in the cache, {getattr(other, what)} requested"
        for what in ("name", "modalities")
        if getattr(plan, what) != getattr(other, what)
    ]
    if not found and plan.classes != other.classes:
        found.append(
            f"classes: {len(plan.classes)} in the cache, {len(other.classes)} others requested"
        )
    return found + recipe_differences(plan.recipe, other.recipe)


def recipe_differences(cached: Recipe, requested: Recipe) -> list[str]:
    """Fields in which two recipes differ, one line each."""
    pairs = [(f.name, getattr(cached, f.name), getattr(requested, f.name)) for f in fields(Recipe)]
    return [f"recipe, {n}: {a!r} in the cache, {b!r} requested" for n, a, b in pairs if a != b]


def write_plan(folder: Path, plan: CachePlan) -> None:
    """Write the list of samples to a new file, then the header that points to it."""
    lists = {"ids": plan.ids, "labels": plan.labels, "test": plan.test, "shard": plan.shard}
    text = json.dumps(lists, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    file = f"samples-{digest[:8]}.json"
    atomic_write_text(folder / file, text)
    from rlmba import __version__

    header = {
        "format": FORMAT,
        "rlmba": __version__,
        **{k: getattr(plan, k) for k in ("name", "layout", "root", "modalities", "classes")},
        "recipe": asdict(plan.recipe),
        "published": dict(plan.published),
        "planned": len(plan.ids),
        "split_checksum": plan.checksum(),
        "samples": {"file": file, "blake2b": digest},
    }
    atomic_write_text(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False) + "\n")
    for old in folder.glob("samples-*.json"):
        if old.name != file:
            old.unlink(missing_ok=True)


def read_plan(folder: Path) -> CachePlan:
    """Read the plan of a cache.

    Raises
    ------
    DataError
        If the folder is not a cache, has another format, or is damaged.
    """
    file, before = folder / HEADER, None
    advice = "delete the folder and run `rlmba data prepare` again"
    if not file.is_file():
        raise DataError(
            f"{folder}: expected a cache made by `rlmba data prepare`, but it has no {HEADER}; give the "
            "folder of a cache"
        )
    while True:
        header = read_versioned(
            file,
            _Header,
            FORMAT,
            what="cache",
            advice=advice,
            foreign="give a folder made by `rlmba data prepare`",
            otherwise="prepare it again into another folder, or ",
        )
        if not is_plain_name(header.samples.file):
            raise DataError(
                f"{file} is damaged: expected the name of a file of the cache, got "
                f"{header.samples.file!r:.200}; {advice}"
            )
        # The writer removes a list once the header points to another, so read the header again.
        if (folder / header.samples.file).is_file() or header == before:
            break
        before = header
    lists = _read_lists(folder, header, advice)
    return CachePlan(
        **{f.name: getattr(header, f.name) for f in fields(CachePlan) if hasattr(header, f.name)},
        **{f.name: getattr(lists, f.name) for f in fields(_Lists)},
    )


def _read_lists(folder: Path, header: _Header, advice: str) -> _Lists:
    pointer = header.samples
    file = folder / pointer.file
    data = read_bytes(file, advice=advice)
    if hashlib.blake2b(data, digest_size=16).hexdigest() != pointer.blake2b:
        raise DataError(f"{folder} is damaged: the checksum of {pointer.file} is wrong; {advice}")
    lists = parse_json(data, _Lists, str(file), advice=advice)
    if len({len(lists.ids), len(lists.labels), len(lists.test), len(lists.shard)}) > 1:
        raise DataError(f"{file} is damaged: its lists have different lengths; {advice}")
    if lists.labels and not 0 <= min(lists.labels) <= max(lists.labels) < len(header.classes):
        raise DataError(
            f"{file} is damaged: labels beyond the {len(header.classes)} classes; {advice}"
        )
    return lists


def _has_file(sample: Sample) -> bool:
    return any(s is not None for s in sample.sources.values())


def _rank(sample: str) -> bytes:
    return hashlib.blake2b(sample.encode(), digest_size=16).digest()
