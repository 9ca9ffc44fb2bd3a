"""Convert stored rows to tensors, and augment training samples lightly, by kind of modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import Kind
from rlmba.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Converter",
    "augment",
    "constants_of",
    "converter_from",
    "describe_converter",
    "fit_converter",
    "full_scale",
]

_CHUNK_VALUES = 1 << 22

_STATISTICS_AXES: dict[Kind, tuple[int, ...]] = {
    "features": (0,),
    "image": (0, 2, 3),
    "video": (0, 2, 3, 4),
    "spectrogram": (0, 2, 3),
    "sequence": (0, 1),
}
"""Axes over which mean and standard deviation are computed: per feature, channel or sensor channel."""


def full_scale(dtype: np.dtype[Any]) -> float:
    """The stored value that becomes 1: 255 for uint8, 32768 for int16, 1 for floating point."""
    if dtype.kind == "u":
        return float(np.iinfo(dtype).max)
    if dtype.kind == "i":
        return -float(np.iinfo(dtype).min)
    return 1.0


@dataclass(frozen=True)
class Converter:
    """Converts stored rows to the tensor of a batch.

    Tokens become int64. Other rows become float32, are divided by ``scale`` and standardized with ``mean``
    and ``deviation``, which are broadcast over one row; None skips this step. ``channels_last`` images are
    rearranged to [C, H, W].
    """

    kind: Kind
    scale: float = 1.0
    mean: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None
    channels_last: bool = False

    def arrange(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows with the axes of their kind; values do not change."""
        if self.kind in ("image", "spectrogram"):
            if rows.ndim == 3:
                return rows[:, None]
            if self.channels_last:
                return np.moveaxis(rows, -1, 1)
        return rows

    def __call__(self, rows: NDArray[Any]) -> torch.Tensor:
        """Make the tensor [n, *shape] of stored ``rows``, which are not changed."""
        import torch

        if self.kind == "tokens":
            return torch.from_numpy(rows.astype(np.int64))
        values = np.ascontiguousarray(self.arrange(rows)).astype(np.float32)
        if self.scale != 1.0:
            values /= np.float32(self.scale)
        if self.mean is not None and self.deviation is not None:
            with np.errstate(over="ignore"):  # checked later, with a message that names the sample
                values -= self.mean
                values /= self.deviation
        return torch.from_numpy(values)


def fit_converter(
    kind: Kind,
    array: NDArray[Any],
    train: NDArray[np.int64],
    *,
    channels_last: bool = False,
    constants: Mapping[str, Sequence[float]] | None = None,
) -> Converter:
    """Make the converter of a modality, with statistics of the training rows or given ones.

    Parameters
    ----------
    kind : str
        Kind of the modality.
    array : array [n, ...]
        All rows as stored.
    train : int64 array
        Positions for mean and standard deviation (float64, two passes). A constant feature gets
        deviation 1.
    channels_last : bool
        Whether images are stored as [H, W, C].
    constants : mapping or None
        What :func:`constants_of` returned for another array of this kind, instead of statistics.

    Raises
    ------
    UsageError
        If the constants are not a mean and a positive deviation of each channel.
    """
    scale = full_scale(array.dtype) if kind in ("image", "video", "waveform") else 1.0
    bare = Converter(kind, scale=scale, channels_last=channels_last)
    if kind not in _STATISTICS_AXES:
        return bare
    axes = _STATISTICS_AXES[kind]
    if constants is not None:
        whole = bare.arrange(array[:1]).shape
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(whole))[1:]
        given, spread = _checked_constants(constants, shape)
        return replace(bare, mean=given, deviation=spread)
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(array.shape[1:]))))
    chunks = [train[i : i + step] for i in range(0, len(train), step)]

    def values(chunk: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(bare.arrange(array[chunk]), dtype=np.float64) / scale

    count = 0
    total: Any = 0.0
    for chunk in chunks:
        rows = values(chunk)
        total = total + rows.sum(axis=axes, keepdims=True)
        count += int(np.prod([rows.shape[a] for a in axes]))
    mean = total / count
    square = sum(((values(chunk) - mean) ** 2).sum(axis=axes, keepdims=True) for chunk in chunks)
    deviation = np.sqrt(square / count)
    # Rounding gives a constant feature a tiny deviation, which would magnify later differences.
    deviation[deviation <= 1e-9 * np.abs(mean)] = 1.0
    narrow = deviation[0].astype(np.float32)
    narrow[narrow == 0] = 1.0  # a feature that varies less than float32 resolves is constant
    return Converter(
        kind,
        scale=scale,
        mean=mean[0].astype(np.float32),
        deviation=narrow,
        channels_last=channels_last,
    )


def constants_of(converter: Converter) -> dict[str, list[float]] | None:
    """Mean and deviation of each channel as lists; None for kinds without channels."""
    if converter.kind == "features" or converter.mean is None or converter.deviation is None:
        return None
    return {
        "mean": converter.mean.ravel().tolist(),
        "deviation": converter.deviation.ravel().tolist(),
    }


def _checked_constants(
    constants: Mapping[str, Sequence[float]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation in the shape that is broadcast over a row."""
    n = int(np.prod(shape))
    try:
        mean = np.array(constants["mean"], np.float32).reshape(shape)
        deviation = np.array(constants["deviation"], np.float32).reshape(shape)
        usable = bool(np.isfinite([mean, deviation]).all() and (deviation > 0).all())
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise UsageError(
            f"option constants: expected mean and deviation, each a list of {n} numbers, all deviations "
            f"positive, got {constants!r:.80}; leave the option out to compute them"
        )
    return mean, deviation


def describe_converter(converter: Converter) -> dict[str, Any]:
    """A converter as a mapping that can be stored as JSON, for :func:`converter_from`."""

    def listed(values: NDArray[np.float32] | None) -> Any:
        return None if values is None else values.tolist()

    return {
        "kind": converter.kind,
        "scale": converter.scale,
        "mean": listed(converter.mean),
        "deviation": listed(converter.deviation),
        "channels_last": converter.channels_last,
    }


def converter_from(known: Mapping[str, Any]) -> Converter:
    """Inverse of :func:`describe_converter`, exact to the last bit."""

    def array(values: Any) -> NDArray[np.float32] | None:
        return None if values is None else np.array(values, dtype=np.float32)

    return Converter(
        known["kind"],
        scale=known["scale"],
        mean=array(known["mean"]),
        deviation=array(known["deviation"]),
        channels_last=known["channels_last"],
    )


def augment(
    kind: Kind,
    x: torch.Tensor,
    generator: torch.Generator | None,
    *,
    whole: int | None = None,
    rows: slice = slice(None),
) -> torch.Tensor:
    """Augment a batch lightly, so that classes do not change.

    Images and spectrograms are shifted by up to 1/12 of their side (a spectrogram only in time), and
    waveforms by up to 1/12 of their length; zeros fill the gap. Features and sequences get normal noise
    of a tenth of their standard deviation. Tokens do not change.

    If ``x`` is ``rows`` of a batch of ``whole`` samples, each sample is changed as in the whole batch.

    Raises
    ------
    UsageError
        If ``generator`` is None.
    """
    import torch

    if generator is None:
        raise UsageError(
            "augmentation: expected a torch.Generator with train=True, got None; pass one"
        )
    n = len(x) if whole is None else whole

    def shift(x: torch.Tensor, axis: int) -> torch.Tensor:
        limit = x.shape[axis] // 12
        if limit == 0 or n == 0:
            return x
        offsets = torch.randint(-limit, limit + 1, (n, 1), generator=generator)
        return _moved(x, axis, offsets[rows])

    if kind in ("image", "spectrogram"):
        x = shift(x, 3)
        return shift(x, 2) if kind == "image" else x
    if kind == "waveform":
        return shift(x, 1)
    if kind in ("features", "sequence"):
        return x + 0.1 * torch.randn((n, *x.shape[1:]), generator=generator)[rows]
    return x


def _moved(x: torch.Tensor, axis: int, offsets: torch.Tensor) -> torch.Tensor:
    """Shift each sample along ``axis`` by its own offset of ``offsets`` [n, 1]; zeros fill the gap."""
    import torch

    length = x.shape[axis]
    source = torch.arange(length) + offsets
    inside = (source >= 0) & (source < length)
    shape = [1] * x.ndim
    shape[0], shape[axis] = len(x), length
    index = source.clamp(0, length - 1).view(shape).expand(x.shape)
    return torch.gather(x, axis, index) * inside.view(shape)
