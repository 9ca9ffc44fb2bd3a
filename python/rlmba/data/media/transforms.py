"""Turn decoded media into a model's inputs: crop in worker processes, do the rest on whole batches.

A form handles one modality. In a worker process, it crops what a batch needs from each sample's array
(:meth:`Form.take`) and draws the random numbers of the augmentation. The batch is finished
(:meth:`Form.finish`) on the model's device: in the same worker process if that is the CPU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.data.media.augment import change_where, gaussian_blur, grayscale, jitter
from rlmba.data.media.blocks import blocks
from rlmba.data.media.content import Recipe
from rlmba.data.media.spectrogram import BINS, FULL_SCALE, frames_of, log_spectrogram
from rlmba.errors import UsageError

__all__ = ["Audio", "Form", "Image", "Text", "Video", "Waveform", "form_of"]

IMAGE_CROP = 224
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
VIDEO_CROP = 112
VIDEO_MEAN = (0.43216, 0.394666, 0.37645)
VIDEO_STD = (0.22803, 0.22145, 0.216989)

FLIP = 0.5
JITTER = 0.8
STRENGTH = (0.4, 0.4, 0.4, 0.1)
"""Strengths s of brightness, contrast and saturation (factors 1 - s to 1 + s), and hue (shift -s to s)."""
GRAYSCALE = 0.2
BLUR = 0.5
BLUR_SIGMA = (0.1, 2.0)

_BLOCK = 2
_SHORTEST = 2
"""Samples of a waveform, as for arrays."""


class Form(ABC):
    """The form of one modality in batches, and the steps that produce it.

    Attributes
    ----------
    modality : Modality
        The modality in finished batches.
    places : int
        Number of random numbers that decide what :meth:`take` crops from one sample.
    """

    modality: Modality
    places: int = 0

    @abstractmethod
    def buffer(self, n: int) -> NDArray[Any]:
        """Zeros for ``n`` samples in compact form, which :meth:`take` writes to."""

    @abstractmethod
    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """Copy the part of a sample's array that a batch needs.

        Parameters
        ----------
        array : array
            As in :class:`rlmba.data.media.content.MediaContent`. It may be memory-mapped; only the copied
            part is read.
        place : float64 array [places] or None
            Random numbers in [0, 1) that decide the crop in training; None for the crop of evaluation.
        out : array
            One row of :meth:`buffer`.
        """

    def compact(self, buffer: NDArray[Any]) -> Tensor:
        """The buffer as the tensor that a worker process returns, without a copy."""
        return torch.from_numpy(buffer)

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Random numbers [n, ...] that decide the augmentation in :meth:`finish`."""
        return {}

    @abstractmethod
    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """Make a model's input [n, *modality.shape] on the device of ``compact``.

        Parameters
        ----------
        compact : tensor
            From :meth:`compact`, on the model's device. It is not changed.
        draws : mapping of str to tensor, or None
            From :meth:`draw`, preferably on the CPU, so that decisions do not wait for the device. None
            for no augmentation.
        """


def _start(room: int, place: float | None) -> int:
    """One of ``room`` + 1 possible starts of a crop, chosen by ``place``; the middle one if that is None."""
    return round(room / 2) if place is None else min(int(place * (room + 1)), room)


def _corner(
    height: int, width: int, crop: int, place: NDArray[np.float64] | None
) -> tuple[slice, slice]:
    down, right = (None, None) if place is None else (float(place[0]), float(place[1]))
    top, left = _start(height - crop, down), _start(width - crop, right)
    return slice(top, top + crop), slice(left, left + crop)


def _chance(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) < probability


def _channels(values: tuple[float, ...], x: Tensor) -> Tensor:
    return torch.tensor(values, device=x.device).view(-1, *[1] * (x.ndim - 2))


def _normalized(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Standardize [n, C, ...] in place, per channel."""
    return x.sub_(_channels(mean, x)).div_(_channels(std, x))


class Text(Form):
    """Token ids [tokens], -1 where there is no token; not augmented."""

    def __init__(self, recipe: Recipe, vocabulary: int) -> None:
        self.modality = Modality(
            "text",
            "tokens",
            (recipe.tokens,),
            "int64",
            vocabulary=vocabulary,
            padding=-1,
            tokenizer=recipe.tokenizer or None,
        )

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: int64 [n, tokens]."""
        return np.zeros((n, *self.modality.shape), np.int64)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; copies everything."""
        del place
        out[:] = array

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        del draws
        return compact


class Image(Form):
    """Images [3, crop, crop]: cropped, then flipped, jittered, grayed, blurred, and standardized."""

    places = 2

    def __init__(self, recipe: Recipe, crop: int = IMAGE_CROP) -> None:
        if recipe.image_side < crop:
            raise UsageError(
                f"images: expected a shorter side of {crop} pixels or more, "
                f"got {recipe.image_side}; prepare larger images"
            )
        self.crop = crop
        self.modality = Modality(
            "image",
            "image",
            (3, crop, crop),
            mean=IMAGE_MEAN,
            deviation=IMAGE_STD,
        )

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: uint8 [n, crop, crop, 3]."""
        return np.zeros((n, self.crop, self.crop, 3), np.uint8)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; a square, which is in the middle for evaluation."""
        out[:] = array[_corner(array.shape[0], array.shape[1], self.crop, place)]

    def compact(self, buffer: NDArray[Any]) -> Tensor:
        """See :meth:`Form.compact`: uint8 [n, 3, crop, crop], channels last in memory."""
        return torch.from_numpy(buffer).permute(0, 3, 1, 2)

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """See :meth:`Form.draw`.

        "flip" bool [n]; "factors" float32 [n, 4] and "order" int64 [n, 4] of the jitter (-1: none);
        "grayscale" bool [n]; "sigma" float32 [n] of the blur (0: none).
        """
        strength = torch.tensor(STRENGTH)
        center = torch.tensor([1.0, 1.0, 1.0, 0.0])
        flip = _chance(n, FLIP, generator)
        factors = center + strength * (2 * torch.rand(n, 4, generator=generator) - 1)
        order = torch.rand(n, 4, generator=generator).argsort(dim=1)
        order[~_chance(n, JITTER, generator)] = -1
        gray = _chance(n, GRAYSCALE, generator)
        low, high = BLUR_SIGMA
        sigma = low + (high - low) * torch.rand(n, generator=generator)
        sigma[~_chance(n, BLUR, generator)] = 0
        return {
            "flip": flip,
            "factors": factors,
            "order": order,
            "grayscale": gray,
            "sigma": sigma,
        }

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        device = compact.device
        out = torch.empty(compact.shape, device=device)
        for rows in blocks(len(compact), _BLOCK, device):
            x = out[rows]
            x.copy_(compact[rows]).div_(255)
            if draws is not None:
                _augment(x, {key: value[rows] for key, value in draws.items()})
            _normalized(x, IMAGE_MEAN, IMAGE_STD)
        return out


def _augment(x: Tensor, draws: Mapping[str, Tensor]) -> None:
    """Flip, jitter, gray and blur images [n, 3, H, W] in [0, 1], in place."""
    change_where(x, draws["flip"], _flipped)
    jitter(x, draws["factors"], draws["order"])
    change_where(x, draws["grayscale"], lambda y: grayscale(y).expand_as(y))
    sigma = draws["sigma"]
    change_where(x, sigma > 0, gaussian_blur, sigma.to(x.device, non_blocking=True))


def _flipped(x: Tensor) -> Tensor:
    return x.flip(-1)


class Video(Form):
    """Clips [3, T, 112, 112]: half of the frames, with one crop and one flip for the whole clip."""

    def __init__(self, recipe: Recipe) -> None:
        if recipe.frames < 2 or min(recipe.frame_size) < VIDEO_CROP:
            raise UsageError(
                f"videos: expected two or more frames with at least {VIDEO_CROP} pixels on each side, "
                f"got {recipe.frames} of {recipe.frame_size}; prepare more or larger frames"
            )
        self.frames = recipe.frames
        self.taken = recipe.frames // 2
        self.places = recipe.frames + 2
        self.modality = Modality(
            "video",
            "video",
            (3, self.taken, VIDEO_CROP, VIDEO_CROP),
            mean=VIDEO_MEAN,
            deviation=VIDEO_STD,
        )

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: uint8 [n, T, 112, 112, 3]."""
        return np.zeros((n, self.taken, VIDEO_CROP, VIDEO_CROP, 3), np.uint8)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; in evaluation, frames 1, 3, 5, ... and the middle."""
        if place is None:
            chosen = range(1, self.frames, 2)[: self.taken]
            corner = None
        else:
            chosen = np.sort(np.argsort(place[: self.frames])[: self.taken]).tolist()
            corner = place[self.frames :]
        square = _corner(array.shape[1], array.shape[2], VIDEO_CROP, corner)
        for at, frame in enumerate(chosen):
            out[at] = array[(frame, *square)]

    def compact(self, buffer: NDArray[Any]) -> Tensor:
        """See :meth:`Form.compact`: uint8 [n, T, 3, 112, 112], channels last in memory."""
        return torch.from_numpy(buffer).permute(0, 1, 4, 2, 3)

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """See :meth:`Form.draw`: "flip" bool [n]."""
        return {"flip": _chance(n, FLIP, generator)}

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        n, device = len(compact), compact.device
        out = torch.empty(n, *self.modality.shape, device=device)
        for rows in blocks(n, _BLOCK, device):
            x = out[rows]
            x.copy_(compact[rows].transpose(1, 2)).div_(255)
            if draws is not None:
                change_where(x, draws["flip"][rows], _flipped)
            _normalized(x, VIDEO_MEAN, VIDEO_STD)
        return out


class Audio(Form):
    """Spectrograms [1, 257, F] of a part of the sound; ``share`` is the part's share of the length."""

    places = 1

    def __init__(self, recipe: Recipe, share: float = 0.5) -> None:
        self.window = round(recipe.seconds * recipe.sample_rate * share)
        if self.window < BINS:
            raise UsageError(
                f"sound: expected {math.ceil(BINS / share)} samples or more, got {recipe.seconds:g} s at "
                f"{recipe.sample_rate} Hz; prepare longer sound"
            )
        self.modality = Modality("audio", "spectrogram", (1, BINS, frames_of(self.window)))

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: int16 [n, samples]."""
        return np.zeros((n, self.window), np.int16)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; in evaluation the middle, such as 2.5 to 7.5 of 10 s."""
        start = _start(len(array) - self.window, None if place is None else float(place[0]))
        out[:] = array[start : start + self.window]

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        del draws
        return log_spectrogram(compact)


class Waveform(Form):
    """Sound [samples] in [-1, 1), as the recipe takes it; not augmented."""

    def __init__(self, recipe: Recipe) -> None:
        samples = round(recipe.seconds * recipe.sample_rate)
        if samples < _SHORTEST:
            raise UsageError(
                f"sound: expected {_SHORTEST} samples or more, got {recipe.seconds:g} s at "
                f"{recipe.sample_rate} Hz; use longer sound"
            )
        rate = float(recipe.sample_rate)
        self.modality = Modality("audio", "waveform", (samples,), sample_rate=rate)

    def buffer(self, n: int) -> NDArray[Any]:
        """See :meth:`Form.buffer`: int16 [n, samples]."""
        return np.zeros((n, *self.modality.shape), np.int16)

    def take(
        self, array: NDArray[Any], place: NDArray[np.float64] | None, out: NDArray[Any]
    ) -> None:
        """See :meth:`Form.take`; copies everything."""
        del place
        out[:] = array

    def finish(self, compact: Tensor, draws: Mapping[str, Tensor] | None) -> Tensor:
        """See :meth:`Form.finish`."""
        del draws
        return compact.float().div_(FULL_SCALE)


def form_of(modality: str, recipe: Recipe, *, vocabulary: int | None = None) -> Form:
    """Make the form of "text", "image", "video" or "audio"; text needs the vocabulary's size.

    Raises
    ------
    UsageError
        If the modality is unknown, or the recipe takes too little for it.
    """
    if modality == "text":
        if vocabulary is None:
            raise UsageError("text: expected the size of the tokenizer's vocabulary, got None")
        return Text(recipe, vocabulary)
    forms: dict[str, Callable[[Recipe], Form]] = {"image": Image, "video": Video, "audio": Audio}
    if modality not in forms:
        raise UsageError(f"modality: expected one of {['text', *forms]}, got {modality!r}")
    return forms[modality](recipe)
