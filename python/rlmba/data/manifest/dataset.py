"""The data set of a table's rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.data.encoding import read_text
from rlmba.data.manifest.options import MEDIA, crop_of
from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.contents import file_checksums
from rlmba.data.media.dataset import MediaDataset
from rlmba.data.media.decode import decode_sample
from rlmba.data.media.listing import FileFacts
from rlmba.data.media.reader import RawReader
from rlmba.data.media.transforms import Audio, Form, Image, Waveform

__all__ = ["ManifestDataset", "ManifestReader", "ManifestRows", "Numbers"]

_NOISE = 0.1
_SHOWN_CHARACTERS = 20_000
_SHOWN_NUMBERS = 40


class Numbers(Form):
    """Standardized numbers [D]; training adds normal noise of a tenth of their standard deviation."""

    def __init__(self, name: str, width: int) -> None:
        self.modality = Modality(name, "features", (width,))

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: float32 [n, D]."""
        return np.zeros((n, *self.modality.shape), np.float32)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; copies everything."""
        del place
        out[:] = array

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """See :meth:`Form.draw`: "noise" float32 [n, D]."""
        return {"noise": torch.randn((n, *self.modality.shape), generator=generator)}

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        if draws is None:
            return compact
        return compact + _NOISE * draws["noise"].to(compact.device, non_blocking=True)


class ManifestReader(RawReader):
    """A Reader that decodes a row's files at every read and holds its numbers.

    Parameters
    ----------
    samples : sequence of Sample
        By dataset position.
    recipe : Recipe
        What is taken from the files.
    numbers : mapping of modality to float32 array [n, D]
        Standardized; the row of a sample that lacks the modality is arbitrary.
    """

    def __init__(
        self, samples: Sequence[Sample], recipe: Recipe, numbers: Mapping[str, NDArray[np.float32]]
    ) -> None:
        super().__init__(samples, recipe)
        self.numbers = numbers

    def __reduce__(self) -> tuple[type[ManifestReader], tuple[Any, ...]]:
        return ManifestReader, (self.samples, self.recipe, self.numbers)

    def undecoded(self, position: int) -> Mapping[str, NDArray[Any]]:
        """The numbers of a row."""
        return {m: array[position] for m, array in self.numbers.items()}


@dataclass(frozen=True)
class ManifestRows:
    """The rows of a data set, by position, without those that were left out.

    Parameters
    ----------
    ids : sequence of str
    labels : int64 array [n]
        -1 if unknown.
    classes : tuple of str
    splits : int64 array [n]
        0 for training, 1 for validation, 2 for test.
    modalities : tuple of str
    present : bool array [n, M]
    sources : mapping of modality to sequence of Source or None
        Files and texts.
    numbers : mapping of modality to float32 array [n, D]
        Standardized.
    shown_numbers : mapping of str to float64 array [n]
        The original numbers by column, which people are shown; NaN where a cell is empty.
    percent : frozenset of str
        Columns of ``shown_numbers`` that are percentages.
    shown_only : mapping of str to sequence of str, path or None
        By column, texts and files that people are shown and the network does not read.
    hidden : frozenset of str
        Modalities of ``sources`` that people are not shown.
    """

    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.int64]
    modalities: tuple[str, ...]
    present: NDArray[np.bool_]
    sources: Mapping[str, Sequence[Source | None]]
    numbers: Mapping[str, NDArray[np.float32]]
    shown_numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    percent: frozenset[str] = frozenset()
    shown_only: Mapping[str, Sequence[str | Path | None]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _ContentChecksum:
    """Computes the checksum of files, texts and numbers; called once, when it is needed."""

    files: FileFacts
    numbers: Mapping[str, NDArray[np.float32]]

    def __call__(self) -> str:
        digest = hashlib.blake2b(self.files().encode(), digest_size=16)
        for name, array in self.numbers.items():
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


class ManifestDataset(MediaDataset):
    """The rows of a table: texts, numbers, and files that are decoded in worker processes.

    :func:`rlmba.data.load_manifest` and :func:`rlmba.data.load_huggingface` make it.

    Parameters
    ----------
    name : str
        Name of the data set.
    rows : ManifestRows
    recipe : Recipe
        What is taken from files.
    root : path
        The folder that relative paths start from.
    reading : mapping
        See :meth:`reading`.
    found : sequence of str
        See :meth:`found`.
    left_out : mapping of str to str
        See :attr:`left_out`.
    settled : mapping
        See :attr:`settled`.

    Attributes
    ----------
    left_out : mapping of str to str
        Ids of rows that are not in the data set, and why.
    settled : mapping of str to object
        Options that were derived from the data. If they are passed explicitly, rows that are added
        later change neither the modalities nor their shapes.
    """

    def __init__(
        self,
        name: str,
        rows: ManifestRows,
        *,
        recipe: Recipe,
        root: Path,
        reading: Mapping[str, Any],
        found: Sequence[str],
        left_out: Mapping[str, str],
        settled: Mapping[str, Any],
    ) -> None:
        samples = [
            Sample(
                id_,
                int(rows.labels[row]),
                bool(rows.splits[row] == 2),
                {m: sources[row] for m, sources in rows.sources.items()},
            )
            for row, id_ in enumerate(rows.ids)
        ]
        forms: dict[str, Form] = {m: Numbers(m, a.shape[1]) for m, a in rows.numbers.items()}
        if "image" in rows.sources:
            forms["image"] = Image(recipe, crop_of(recipe.image_side))
        if "audio" in rows.sources:
            whole = reading["audio"] == "waveform"
            forms["audio"] = Waveform(recipe) if whole else Audio(recipe, share=1.0)
        super().__init__(
            name,
            ManifestReader(samples, recipe, rows.numbers),
            ids=rows.ids,
            labels=rows.labels,
            classes=rows.classes,
            test=rows.splits == 2,
            modalities=rows.modalities,
            recipe=recipe,
            present=rows.present,
            vocabulary=recipe.vocabulary or None,
            content=_ContentChecksum(FileFacts(root, samples), rows.numbers),
            forms=forms,
            partial=True,
        )
        validation = np.flatnonzero(rows.splits == 1).astype(np.int64)
        self.validation_positions = validation if len(validation) else None
        self.in_memory = not any(
            source is not None and source.path is not None
            for sources in rows.sources.values()
            for source in sources
        )
        self.left_out = left_out
        self.settled = settled
        self._samples = samples
        self._shown_numbers = rows.shown_numbers
        self._percent = rows.percent
        self._shown_only = rows.shown_only
        self._hidden = rows.hidden
        self._numbers = rows.numbers
        self._reading = reading
        self._found = found

    def found(self) -> list[str]:
        """What was found, one line each: rows, modalities with their columns, labels, missing files."""
        return list(self._found)

    def reading(self) -> Mapping[str, Any]:
        """See :meth:`rlmba.data.MultimodalDataset.reading`: columns, recipe, means and deviations."""
        return self._reading

    def fingerprint(self) -> str:
        """Checksum as for other media, including the validation split and waveforms if there are any."""
        whole = super().fingerprint()
        other = b"" if self.validation_positions is None else self.validation_positions.tobytes()
        other += b"".join(m.name.encode() for m in self.modalities if m.kind == "waveform")
        if not other:
            return whole
        return hashlib.blake2b(whole.encode() + other, digest_size=16).hexdigest()

    def sample_keys(self) -> Mapping[str, Sequence[bytes]]:
        """See :meth:`rlmba.data.MultimodalDataset.sample_keys`: by the files, texts and numbers."""
        files = file_checksums(
            source.path
            for sample in self._samples
            for source in sample.sources.values()
            if source is not None and source.path is not None
        )
        # Other versions may decode a file differently, or read one that could not be read.
        decoders = [metadata.version(name) for name in ("pillow", "av")]
        keys: dict[str, list[bytes]] = {}
        for modality in self.modalities:
            form = f"{modality}\0{self.recipe.signature()}\0{decoders}".encode()
            numbers = self._numbers.get(modality.name)
            keys[modality.name] = [
                hashlib.blake2b(form + content, digest_size=16).digest()
                for content in (
                    (_content(sample.sources.get(modality.name), files) for sample in self._samples)
                    if numbers is None
                    else (row.tobytes() for row in numbers)
                )
            ]
        return keys

    def shown(self, position: int) -> Mapping[str, str | Path]:
        """Texts, paths of files, and single numbers as text, by modality; then columns that are only shown.

        A text is cut after 20,000 characters. The sound of a video is not listed separately, since the
        video includes it. Hidden columns, lists of numbers and files that no longer exist are left out. A
        column that is only shown has its own name, with "_" appended if a modality has the same name.
        """
        sources = self._samples[position].sources
        shown: dict[str, str | Path] = {}
        for modality in (m for m in MEDIA if sources.get(m) is not None):
            source = sources[modality]
            if source is None or modality in self._hidden:
                continue
            if modality == "audio" and source.form == "clip":
                continue
            content = self.text(position, modality) if source.form == "text" else source.path
            if content is not None:
                shown[modality] = content
        if numbers := self._numbers_as_text(position):
            shown["features"] = numbers
        names = {m.name for m in self.modalities}
        for column, cells in self._shown_only.items():
            cell = cells[position]
            if isinstance(cell, Path) and cell.suffix.lower() == ".txt":
                cell = _text_of(Source("text", cell), self.recipe.encoding)
            name = column
            while name in names:
                name += "_"
            names.add(name)
            if cell is not None:
                shown[name] = _cut(cell) if isinstance(cell, str) else cell
        return {
            name: content
            for name, content in shown.items()
            if isinstance(content, str) or content.is_file()
        }

    def text(self, position: int, modality: str) -> str | None:
        """See :meth:`rlmba.data.MultimodalDataset.text`; cut after 20,000 characters."""
        source = self._samples[position].sources.get(modality)
        if source is None or source.form != "text":
            return None
        text = _text_of(source, self.recipe.encoding)
        return None if text is None else _cut(text)

    def _numbers_as_text(self, position: int) -> str:
        lines = [
            f"{column}: {values[position]:.6g}{' %' if column in self._percent else ''}"
            for column, values in self._shown_numbers.items()
            if not np.isnan(values[position])
        ]
        more = len(lines) - _SHOWN_NUMBERS
        return "\n".join(lines[:_SHOWN_NUMBERS] + ([f"and {more} more"] if more > 0 else []))

    def _remedy(self) -> str:
        position = min(self.problems)
        sample = self._samples[position]
        contents = decode_sample(sample, self.recipe)
        found = []
        for modality in sorted(self.problems[position]):
            source = sample.sources[modality]
            where = "" if source is None or source.path is None else f" {source.path}"
            found.append(f"{modality}{where}: {contents[modality].problem or 'it can be read now'}")
        return f"The first: {'; '.join(found)}. Repair or replace these files"


def _content(source: Source | None, files: Mapping[Path, bytes]) -> bytes:
    """What distinguishes a source from others of its modality."""
    if source is None:
        return b"missing"
    if source.path is None:
        return b"text" + (source.text or "").encode("utf-8", "surrogatepass")
    return source.form.encode() + files.get(source.path, b"gone" + os.fsencode(source.path))


def _text_of(source: Source, encoding: str) -> str | None:
    text = source.text
    if text is None and source.path is not None:
        try:
            text = read_text(source.path, encoding).text
        except OSError:
            return None
    return text


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
