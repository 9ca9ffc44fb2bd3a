"""Which samples a cache is to hold, by which recipe, and in which of its shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlmba.data.media import shards
from rlmba.data.media.catalogue import Catalogue, Sample, split_checksum
from rlmba.data.media.content import Recipe
from rlmba.errors import DataError
from rlmba.storage import atomic_write_text

__all__ = ["FORMAT", "HEADER", "NOWHERE", "Plan", "differences", "read_plan", "write_plan"]

FORMAT = 1
HEADER = "cache.json"
NOWHERE = -1
"""Shard of samples that have no file at all."""

_SHARD_BYTES = 256 << 20
_SHARDS = 256
_LEAST = 8


@dataclass(frozen=True)
class Plan:
    """What a cache is to hold; everything in ``cache.json`` and the list of samples beside it.

    ``ids``, ``labels``, ``test`` and ``shard`` have one entry a sample, in order of first mention;
    ``shard`` is :data:`NOWHERE` for those without a file. ``published`` is the catalogue's.
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
    def empty(cls, catalogue: Catalogue, recipe: Recipe) -> Plan:
        """Of no samples yet, for those of a catalogue."""
        return cls(
            name=catalogue.name,
            layout=catalogue.layout,
            root=str(catalogue.root.resolve()),
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
        """Split checksum of all samples planned."""
        return split_checksum(self.classes, self.ids, self.labels, self.test)

    def members(self) -> dict[int, list[str]]:
        """Ids by shard, each in the order of its rows."""
        members: dict[int, list[str]] = {}
        for sample, number in zip(self.ids, self.shard, strict=True):
            if number != NOWHERE:
                members.setdefault(number, []).append(sample)
        return {number: sorted(members[number], key=_rank) for number in sorted(members)}

    def extended(self, samples: Sequence[Sample], repaired: Collection[str] = ()) -> Plan:
        """The plan with what it lacks dealt to new shards; itself where it lacks nothing.

        Parameters
        ----------
        samples : sequence of Sample
            All that the data set lists.
        repaired : collection of str
            Ids to read anew, whatever shard they are in.

        Raises
        ------
        DataError
            If a sample is of another class or split here than in the plan.
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
        """Shards of ids, numbered from ``first``: an order that has nothing to do with class or split."""
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
            f"{where(sample.label, sample.test)} of the folder: they are different data; prepare into "
            "another folder"
        )


def differences(plan: Plan, other: Plan) -> list[str]:
    """What makes samples of two plans unfit for one cache, a line each."""
    found = [
        f"{what}: {getattr(plan, what)} in the cache, {getattr(other, what)} asked for"
        for what in ("name", "modalities")
        if getattr(plan, what) != getattr(other, what)
    ]
    if not found and plan.classes != other.classes:
        found.append(
            f"classes: {len(plan.classes)} in the cache, {len(other.classes)} others asked"
        )
    return found + recipe_differences(plan.recipe, other.recipe)


def recipe_differences(cached: Recipe, asked: Recipe) -> list[str]:
    """Fields in which two recipes differ, a line each."""
    return [
        f"recipe, {f.name}: {getattr(cached, f.name)!r} in the cache, {getattr(asked, f.name)!r} asked for"
        for f in fields(Recipe)
        if getattr(cached, f.name) != getattr(asked, f.name)
    ]


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the list of samples under a name of its own, then the header that points to it."""
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


def read_plan(folder: Path) -> Plan:
    """Read what a cache is to hold.

    Raises
    ------
    DataError
        If the folder is no cache, of another format, or damaged.
    """
    file = folder / HEADER
    again = "delete the folder and run `rlmba data prepare` again"
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder}: expected a cache made by `rlmba data prepare`, found no {HEADER} there"
        ) from None
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}); {again}") from error
    if not isinstance(header, dict) or "format" not in header:
        raise DataError(
            f"{file} was not written by rlmba; give a folder made by `rlmba data prepare`"
        )
    if header["format"] != FORMAT:
        raise DataError(
            f"{folder}: cache format {header['format']}, this version reads {FORMAT}; prepare it anew into "
            f"another folder, or use the version of rlmba that wrote it ({header.get('rlmba', 'unknown')})"
        )
    try:
        lists = _read_lists(folder, header["samples"])
        return _plan_of(header, lists)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(
            f"{folder} is damaged ({type(error).__name__}: {error}); {again}"
        ) from error


def _read_lists(folder: Path, pointer: Mapping[str, str]) -> Any:
    data = (folder / pointer["file"]).read_bytes()
    if hashlib.blake2b(data, digest_size=16).hexdigest() != pointer["blake2b"]:
        raise ValueError(f"the checksum of {pointer['file']} is wrong")
    return json.loads(data)


def _plan_of(header: Mapping[str, Any], lists: Mapping[str, Any]) -> Plan:
    recipe = dict(header["recipe"])
    recipe["frame_size"] = tuple(recipe["frame_size"])
    return Plan(
        name=str(header["name"]),
        layout=str(header["layout"]),
        root=str(header["root"]),
        modalities=tuple(header["modalities"]),
        classes=tuple(header["classes"]),
        recipe=Recipe(**recipe),
        published=dict(header["published"]),
        ids=tuple(lists["ids"]),
        labels=tuple(lists["labels"]),
        test=tuple(lists["test"]),
        shard=tuple(lists["shard"]),
    )


def _has_file(sample: Sample) -> bool:
    return any(s is not None for s in sample.sources.values())


def _rank(sample: str) -> bytes:
    return hashlib.blake2b(sample.encode(), digest_size=16).digest()
