"""A shard of decoded samples: a safetensors file, which many programs read, and a note about it.

``00012.safetensors`` holds n samples. A modality of fixed size is an array [n, ...] with its name.
Images differ in size: ``image`` holds the bytes of all images one after another, ``image.offsets``
int64 [n + 1] says where each begins, and ``image.sizes`` int32 [n, 2] its height and width. ``present``
is bool [n, M]. Missing modalities are filled with 0, and tokens with -1. The ids are in the metadata.
The note ``00012.json`` is written after the shard: a shard is finished if and only if its note exists.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import DecodeOutcome
from rlmba.errors import DataError
from rlmba.reading.structured import find_json, parse_json
from rlmba.storage import atomic_write_chunks, atomic_write_text

__all__ = [
    "FOLDER",
    "Shard",
    "ShardNote",
    "note_file",
    "read_note",
    "sample_bytes",
    "shard_file",
    "verify_shard",
    "write_shard",
]

FOLDER = "shards"
_NOTE_FORMAT = 1
_RAGGED = "image"
_CHUNK = 1 << 22
_TYPES = {"BOOL": "|b1", "U8": "|u1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
_NAMES = {np.dtype(v): k for k, v in _TYPES.items()}

Arrays: TypeAlias = Mapping[str, "NDArray[Any] | None"]


@dataclass(frozen=True)
class ShardNote:
    """The note on a finished shard: its length and BLAKE2b checksum, ids by row, and outcomes by id.

    ``outcomes`` has only samples with problems or flags. Samples without any content have no row.
    """

    size: int
    checksum: str
    ids: tuple[str, ...]
    outcomes: Mapping[str, DecodeOutcome]


@dataclass(frozen=True)
class _Kept:
    """The content of a note's file."""

    format: int
    bytes: int
    blake2b: str
    samples: tuple[str, ...]
    outcomes: Mapping[str, DecodeOutcome]


def shard_file(cache: Path, number: int) -> Path:
    """The path of a shard."""
    return cache / FOLDER / f"{number:05d}.safetensors"


def note_file(cache: Path, number: int) -> Path:
    """The path of a shard's note."""
    return cache / FOLDER / f"{number:05d}.json"


def _form(modality: str, recipe: Recipe) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of a sample; for images, those of the smallest possible one, which is square."""
    if modality == "video":
        return np.dtype("|u1"), (recipe.frames, *recipe.frame_size, 3)
    if modality == "audio":
        return np.dtype("<i2"), (round(recipe.seconds * recipe.sample_rate),)
    if modality == "text":
        return np.dtype("<i4"), (recipe.tokens,)
    return np.dtype("|u1"), (recipe.image_side, recipe.image_side, 3)


def sample_bytes(modalities: Sequence[str], recipe: Recipe) -> tuple[int, int]:
    """Bytes of a sample in a shard: the least, and the typical number (images of 4:3)."""
    least = typical = 0
    for modality in modalities:
        dtype, shape = _form(modality, recipe)
        size = dtype.itemsize * prod(shape)
        least += size
        typical += size * 4 // 3 if modality == _RAGGED else size
    return least, typical


def write_shard(
    cache: Path,
    number: int,
    rows: Mapping[str, Arrays],
    outcomes: Mapping[str, DecodeOutcome],
    recipe: Recipe,
) -> ShardNote:
    """Write a shard, then its note.

    Parameters
    ----------
    cache : path
    number : int
    rows : mapping of id to mapping of modality to array or None
        In the order of the shard's rows; all samples have the same modalities.
    outcomes : mapping of id to DecodeOutcome
    recipe : Recipe

    Raises
    ------
    StorageError
        If it could not be written; no partial file is left.
    DataError
        If an array does not follow the recipe.
    """
    tensors = _tensors(rows, recipe)
    header, length = _header(tensors, list(rows))
    digest = hashlib.blake2b(digest_size=32)

    def chunks() -> Iterator[bytes | memoryview]:
        digest.update(header)
        yield header
        for _, _, parts in tensors.values():
            for part in parts:
                view = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
                digest.update(view)
                yield view

    atomic_write_chunks(shard_file(cache, number), chunks(), length)
    note = ShardNote(length, digest.hexdigest(), tuple(rows), outcomes)
    lines = {
        "format": _NOTE_FORMAT,
        "bytes": note.size,
        "blake2b": note.checksum,
        "samples": note.ids,
        "outcomes": {i: o.to_dict() for i, o in outcomes.items()},
    }
    atomic_write_text(note_file(cache, number), json.dumps(lines, ensure_ascii=False) + "\n")
    return note


_Tensor: TypeAlias = tuple[np.dtype[Any], tuple[int, ...], Sequence[NDArray[Any]]]


def _tensors(rows: Mapping[str, Arrays], recipe: Recipe) -> dict[str, _Tensor]:
    """Type, shape and pieces of each tensor; wide types come first, so that all are aligned."""
    n = len(rows)
    modalities = list(next(iter(rows.values()))) if rows else []
    present = np.array([[a[m] is not None for m in modalities] for a in rows.values()], np.bool_)
    tensors: dict[str, _Tensor] = {
        "present": (present.dtype, (n, len(modalities)), [present.reshape(n, len(modalities))])
    }
    for modality in modalities:
        dtype, shape = _form(modality, recipe)
        arrays = {i: a[modality] for i, a in rows.items()}
        for sample, array in arrays.items():
            _check(sample, modality, array, dtype, shape)
        if modality == _RAGGED:
            tensors |= _ragged(modality, list(arrays.values()))
            continue
        filler = np.full(shape, -1 if modality == "text" else 0, dtype)
        pieces = [filler if a is None else a.astype(dtype, copy=False) for a in arrays.values()]
        tensors[modality] = (dtype, (n, *shape), pieces)
    return dict(sorted(tensors.items(), key=lambda t: (-t[1][0].itemsize, t[0])))


def _ragged(modality: str, arrays: Sequence[NDArray[Any] | None]) -> dict[str, _Tensor]:
    n = len(arrays)
    sizes = np.array([(0, 0) if a is None else a.shape[:2] for a in arrays], "<i4").reshape(n, 2)
    lengths = np.array([0 if a is None else a.size for a in arrays], "<i8")
    offsets = np.concatenate([np.zeros(1, "<i8"), np.cumsum(lengths, dtype="<i8")])
    return {
        modality: (
            np.dtype("|u1"),
            (int(offsets[-1]),),
            [a for a in arrays if a is not None],
        ),
        f"{modality}.offsets": (offsets.dtype, offsets.shape, [offsets]),
        f"{modality}.sizes": (sizes.dtype, sizes.shape, [sizes]),
    }


def _check(
    sample: str,
    modality: str,
    array: NDArray[Any] | None,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> None:
    if array is None:
        return
    if modality == _RAGGED:
        fits = array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    else:
        fits = array.shape == shape
    if not fits or array.dtype != dtype.newbyteorder("="):
        wanted = "[H, W, 3]" if modality == _RAGGED else list(shape)
        raise DataError(
            f"sample {sample!r}: expected {modality} as {dtype.name} {wanted}, but the decoder returned "
            f"{array.dtype.name} {list(array.shape)}; correct the decoder"
        )


def _header(tensors: Mapping[str, _Tensor], ids: Sequence[str]) -> tuple[bytes, int]:
    """The file's header, preceded by its length, and the length of the whole file."""
    names = json.dumps(ids, ensure_ascii=False, separators=(",", ":"))
    entries: dict[str, Any] = {"__metadata__": {"ids": names}}
    end = 0
    for name, (dtype, shape, _) in tensors.items():
        start, end = end, end + dtype.itemsize * prod(shape)
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end


def read_note(cache: Path, number: int) -> ShardNote | None:
    """The note of a shard; None if the shard is not finished.

    Raises
    ------
    DataError
        If the note is damaged.
    """
    file = note_file(cache, number)
    kept = find_json(file, _Kept, advice=_repair(file))
    if kept is None:
        return None
    if kept.format != _NOTE_FORMAT:
        raise DataError(
            f"{file} is damaged: format {kept.format}, expected {_NOTE_FORMAT}; {_repair(file)}"
        )
    return ShardNote(kept.bytes, kept.blake2b, kept.samples, kept.outcomes)


def _repair(file: Path) -> str:
    """The advice about a damaged shard."""
    return (
        f"delete {file.with_suffix('.json')} and run `rlmba data prepare` again to make this shard"
    )


def verify_shard(cache: Path, number: int, note: ShardNote) -> str:
    """Read a whole shard; returns what is wrong with it, or ""."""
    file = shard_file(cache, number)
    digest = hashlib.blake2b(digest_size=32)
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != note.checksum:
            return f"{file}: the checksum is wrong"
        Shard(file, note.size)
    except (OSError, DataError) as error:
        return f"{file}: {error}" if isinstance(error, OSError) else str(error)
    return ""


class Shard:
    """The memory-mapped arrays of a shard; pages are read from disk when they are used.

    Parameters
    ----------
    file : path
    size : int
        The length of the file in bytes, from its note.

    Raises
    ------
    DataError
        If the file does not exist or has another length, or its header is damaged.
    """

    def __init__(self, file: Path, size: int) -> None:
        try:
            with file.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read ({error}); {_repair(file)}") from error
        if len(mapped) != size:
            raise DataError(
                f"{file} is damaged: it has {len(mapped):,} of {size:,} bytes; {_repair(file)}"
            )
        self._file = file
        self._arrays = _views(file, mapped)
        self._present = self._arrays.pop("present", np.zeros(0, np.bool_)).tolist()
        names = [m for m in self._arrays if "." not in m]
        if len(self._present) and len(names) != len(self._present[0]):
            raise DataError(f"{file} is damaged: arrays are missing; {_repair(file)}")

    def row(self, row: int, modalities: Sequence[str]) -> dict[str, NDArray[Any] | None]:
        """Views of one sample by modality; None if it lacks the modality.

        ``modalities`` are in the cache's order.
        """
        try:
            present = zip(modalities, self._present[row], strict=True)
            return {m: self._view(row, m) if there else None for m, there in present}
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self._file} is damaged: row {row} does not fit ({error}); {_repair(self._file)}"
            ) from error

    def _view(self, row: int, modality: str) -> NDArray[Any]:
        arrays = self._arrays
        if modality != _RAGGED:
            sample: NDArray[Any] = arrays[modality][row]
            return sample
        start, end = arrays[f"{modality}.offsets"][row : row + 2]
        height, width = arrays[f"{modality}.sizes"][row]
        return arrays[modality][start:end].reshape(height, width, 3)


@dataclass(frozen=True)
class _TensorEntry:
    """The place of a tensor in a shard."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _views(file: Path, mapped: mmap.mmap) -> dict[str, NDArray[Any]]:
    length = int.from_bytes(mapped[:8], "little")
    if length > len(mapped) - 8:
        raise DataError(f"{file} is damaged: the header is cut off; {_repair(file)}")
    header = parse_json(
        mapped[8 : 8 + length],
        dict[str, _TensorEntry | dict[str, str]],
        str(file),
        advice=_repair(file),
    )
    start = 8 + length
    views: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if not isinstance(entry, _TensorEntry):  # the metadata
            continue
        dtype = np.dtype(_TYPES.get(entry.dtype, "V0"))
        (offset, end), shape = entry.data_offsets, entry.shape
        if (
            not dtype.itemsize
            or min(shape, default=0) < 0
            or end - offset != dtype.itemsize * prod(shape)
            or not 0 <= offset <= end <= len(mapped) - start
        ):
            raise DataError(f"{file} is damaged: the place of {name!r} is wrong; {_repair(file)}")
        flat = np.frombuffer(mapped, dtype, prod(shape), start + offset)
        views[name] = flat.reshape(shape)
    return views
