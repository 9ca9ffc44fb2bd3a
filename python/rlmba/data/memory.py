"""Data sets whose samples are NumPy arrays in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import KINDS, Batch, Kind, Modality, MultimodalDataset
from rlmba.data.checks import CHUNK_ROWS, check_finite
from rlmba.data.transforms import (
    Converter,
    augment,
    constants_of,
    converter_from,
    describe_converter,
    fit_converter,
)
from rlmba.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["InMemoryDataset"]

_RANKS: dict[str, tuple[int, ...]] = {
    "features": (2,),
    "image": (3, 4),
    "video": (5,),
    "spectrogram": (3, 4),
    "waveform": (2,),
    "tokens": (2,),
    "sequence": (3,),
}


class InMemoryDataset(MultimodalDataset):
    """Arrays that are kept as they are stored and converted batch by batch.

    uint8 images become [C, H, W] and are divided by 255 and standardized per channel. int16 waveforms
    are scaled to [-1, 1]. Each feature is standardized, sequences per sensor channel, and spectrograms
    per channel. The statistics are computed once, over the training samples that have the modality.

    Parameters
    ----------
    name : str
        Name of the data set.
    arrays : mapping of modality to array [n, ...]
        In the order of the modalities: features [n, D], image [n, H, W], [n, C, H, W] or [n, H, W, C]
        (with C of 1, 3 or 4), waveform [n, T], spectrogram [n, F, T] or [n, C, F, T], tokens [n, T]
        (integers >= 0, where 0 is padding), sequence [n, T, F].
    kinds : mapping of modality to kind
        One of :data:`rlmba.data.KINDS` for each modality.
    labels : integer array [n]
        Positions into ``classes``.
    classes : sequence of str
        Class names, two or more unless ``partial``.
    ids : sequence of str
        Distinct sample ids.
    split : integer or boolean array [n]
        0 for training samples, 1 for test samples.
    present : bool array [n, M] or None
        Which modalities each sample has, columns in the order of ``arrays``. Values of missing
        modalities are never read.
    sample_rates : mapping of modality to float
        Samples per second of waveforms.
    partial : bool
        Whether labels may be unknown (-1), and classes fewer than two.
    constants : mapping of modality to mapping, or None
        Mean and deviation of each channel, by :attr:`constants`, instead of those of these samples.
    reading : mapping or None
        The :meth:`reading` of another data set. Values are converted as in that data set, and its
        modalities, shapes and token ids are expected here.

    Raises
    ------
    DataError
        If the arrays cannot be used; the message names the modality and the sample.
    UsageError
        If a kind is unknown or does not fit its array.
    """

    in_memory = True

    def __init__(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        *,
        kinds: Mapping[str, Kind],
        labels: NDArray[Any],
        classes: Sequence[str],
        ids: Sequence[str] | NDArray[Any],
        split: NDArray[Any],
        present: NDArray[Any] | None = None,
        sample_rates: Mapping[str, float] | None = None,
        partial: bool = False,
        constants: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
        reading: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._constants = constants or {}
        self._set_samples(
            ids=ids,
            labels=labels,
            classes=classes,
            test=split,
            modalities=list(arrays),
            present=present,
            partial=partial,
        )
        n = len(self.ids)
        rates = sample_rates or {}
        self._arrays = {m: self._checked(m, a, kinds[m], n) for m, a in arrays.items()}
        self._converters = {}
        modalities = []
        for column, (m, array) in enumerate(self._arrays.items()):
            has = np.ones(n, np.bool_) if self.present is None else self.present[:, column]
            if array.dtype.kind == "f":
                check_finite(m, array, has, self.ids)
            if reading is None:
                converter = self._fitted(m, kinds[m], array, has)
            else:
                converter = converter_from(reading["arrays"][m])
                self._check_alike(m, array, has, reading["arrays"][m])
            self._converters[m] = converter
            if array.dtype.kind == "f":
                self._check_converted(m, array, has, converter)
            modalities.append(
                Modality(
                    m,
                    kinds[m],
                    tuple(int(s) for s in converter.arrange(array[:1]).shape[1:]),
                    "int64" if kinds[m] == "tokens" else "float32",
                    sample_rate=rates.get(m),
                    vocabulary=(
                        (self._vocabulary(array[has]) if kinds[m] == "tokens" else None)
                        if reading is None
                        else reading["arrays"][m]["vocabulary"]
                    ),
                )
            )
        self.modalities = tuple(modalities)

    @staticmethod
    def _checked(name: str, array: NDArray[Any], kind: str, n: int) -> NDArray[Any]:
        if kind not in KINDS:
            raise UsageError(f"modality {name!r}: expected a kind of {list(KINDS)}, got {kind!r}")
        if array.dtype.kind not in "fiu":
            raise DataError(f"modality {name!r}: expected a numeric array, got dtype {array.dtype}")
        if array.ndim == 0 or len(array) != n:
            raise DataError(
                f"modality {name!r}: expected {n} rows, one per label, "
                f"got shape {array.shape}; drop or add samples"
            )
        if array.size == 0:
            raise DataError(f"modality {name!r}: expected values, got empty shape {array.shape}")
        if array.ndim not in _RANKS[kind]:
            ranks = " or ".join(f"{r}-D" for r in _RANKS[kind])
            raise UsageError(
                f"modality {name!r}: kind {kind!r} needs a {ranks} array [N, ...], "
                f"got shape {array.shape}; choose another with the option kinds"
            )
        if kind == "tokens" and (array.dtype.kind not in "iu" or int(array.min()) < 0):
            raise DataError(
                f"modality {name!r}: tokens are integers >= 0 (0 is padding), "
                f"got dtype {array.dtype} with smallest value {array.min()}"
            )
        return array

    def _fitted(
        self, name: str, kind: Kind, array: NDArray[Any], has: NDArray[np.bool_]
    ) -> Converter:
        train = self.train_positions[has[self.train_positions]]
        if not len(train):
            raise DataError(
                f"modality {name!r}: expected a training sample that has it, got none; leave it out by "
                "listing only the others in the option modalities"
            )
        last = array.ndim == 4 and array.shape[-1] in (1, 3, 4)
        given = self._constants.get(name)
        return fit_converter(kind, array, train, channels_last=last, constants=given)

    def _check_converted(
        self, name: str, array: NDArray[Any], has: NDArray[np.bool_], converter: Converter
    ) -> None:
        """Raise :class:`DataError` for the first sample that exceeds float32 after standardization."""
        if converter.mean is None or converter.deviation is None:
            return
        least = min(1.0, float(converter.deviation.min()))
        bound = float(np.finfo(np.float32).max) / 4 * least
        far = float(np.abs(converter.mean).max()) >= bound
        for start in range(0, len(array), CHUNK_ROWS):
            at = start + np.flatnonzero(has[start : start + CHUNK_ROWS])
            rows = array[at]
            if not far and float(np.abs(rows).max(initial=0)) < bound:
                continue  # the usual case
            finite = converter(rows).isfinite().flatten(1).all(dim=1).numpy()
            if not finite.all():
                sample = self.ids[at[int(np.argmin(finite))]]
                raise DataError(
                    f"modality {name!r} of sample {str(sample)!r}: expected numbers within float32 after "
                    "standardization, got one too far from the mean of the training samples; "
                    "scale the modality, or drop or repair the sample"
                )

    def _check_alike(
        self, name: str, array: NDArray[Any], has: NDArray[np.bool_], known: Mapping[str, Any]
    ) -> None:
        if list(array.shape[1:]) != known["shape"]:
            raise DataError(
                f"modality {name!r}: expected rows of shape {known['shape']}, as the network was "
                f"trained on, got {list(array.shape[1:])}"
            )
        if known["vocabulary"] is not None:
            beyond = has & (array.reshape(len(array), -1).max(axis=1) >= known["vocabulary"])
            if beyond.any():
                at = int(np.argmax(beyond))
                raise DataError(
                    f"modality {name!r}: expected token ids below {known['vocabulary']}, as the network "
                    f"was trained on, sample {str(self.ids[at])!r} has {array[at].max()}; use the same "
                    "tokenizer"
                )

    def reading(self) -> Mapping[str, Any]:
        """See :meth:`rlmba.data.MultimodalDataset.reading`."""
        arrays = {}
        for modality in self.modalities:
            rows = self._arrays[modality.name]
            arrays[modality.name] = {
                **describe_converter(self._converters[modality.name]),
                "shape": list(rows.shape[1:]),
                "sample_rate": modality.sample_rate,
                "vocabulary": modality.vocabulary,
            }
        return {"arrays": arrays}

    @staticmethod
    def _vocabulary(tokens: NDArray[Any]) -> int:
        return int(tokens.max()) + 1

    @property
    def constants(self) -> dict[str, dict[str, list[float]]]:
        """Mean and deviation of each channel by modality, except for features."""
        found = {m: constants_of(converter) for m, converter in self._converters.items()}
        return {m: constants for m, constants in found.items() if constants is not None}

    def sample_keys(self) -> Mapping[str, Sequence[bytes]]:
        """See :meth:`rlmba.data.MultimodalDataset.sample_keys`: by the values and their conversion."""
        keys = {}
        for modality in self.modalities:
            array = self._arrays[modality.name]
            described = describe_converter(self._converters[modality.name])
            form = [described, modality.shape, modality.sample_rate, array.dtype.str]
            start = hashlib.blake2b(json.dumps(form).encode(), digest_size=16)
            found = []
            for row in array:
                digest = start.copy()
                digest.update(np.ascontiguousarray(row).data)
                found.append(digest.digest())
            keys[modality.name] = found
        return keys

    def fingerprint(self) -> str:
        """Checksum (BLAKE2b, 128 bits, hexadecimal) of ids, labels, split, classes and arrays."""
        return self._checksum

    @cached_property
    def _checksum(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update("\0".join([*self.classes, "", *self.ids.tolist()]).encode())
        parts: dict[str, NDArray[Any] | None] = {
            "labels": self.labels,
            "train": self.train_positions,
            "present": self.present,
            **{f"modality {m}": a for m, a in self._arrays.items()},
        }
        for name, array in parts.items():
            if array is not None:
                digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def load(
        self,
        positions: NDArray[np.int64],
        *,
        train: bool,
        generator: torch.Generator | None,
        rows: slice | None = None,
    ) -> Batch:
        """See :meth:`rlmba.data.MultimodalDataset.load`."""
        import torch

        inputs = {}
        part = slice(None) if rows is None else rows
        mine = positions[part]
        present = None if self.present is None else self.present[mine]
        for column, (m, array) in enumerate(self._arrays.items()):
            values = array[mine]
            if present is not None:
                values[~present[:, column]] = 0
            converter = self._converters[m]
            x = converter(values)
            inputs[m] = (
                augment(converter.kind, x, generator, whole=len(positions), rows=part)
                if train
                else x
            )
        return Batch(inputs, None if present is None else torch.from_numpy(present))
