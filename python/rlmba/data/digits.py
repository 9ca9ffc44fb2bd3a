"""The built-in data set ``digits``, which needs no file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.data.memory import InMemoryDataset

__all__ = ["SAMPLE_RATE", "keypad_tones", "load_digits"]

SAMPLE_RATE = 8000
"""Samples per second of the tones."""

_LOW = np.array([697.0, 770.0, 852.0, 941.0])
_HIGH = np.array([1209.0, 1336.0, 1477.0])
_ROW = np.array([3, 0, 0, 0, 1, 1, 1, 2, 2, 2])
_COLUMN = np.array([1, 0, 1, 2, 0, 1, 2, 0, 1, 2])

_LENGTH = 1200
_TEST_SHARE = 0.2766
_SEED = 20_140_611
"""The seed of all random numbers here, so that the data do not depend on a run's seed."""


def keypad_tones(
    digits: NDArray[np.int64], length: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Dual tones of ITU-T Q.23 keypad digits, both with amplitude 1 and a random phase.

    Parameters
    ----------
    digits : int64 array [n]
        0 to 9.
    length : int
        Number of samples at :data:`SAMPLE_RATE`.
    rng : numpy.random.Generator
        Draws the phases.

    Returns
    -------
    float64 array [n, length]
    """
    time = np.arange(length) / SAMPLE_RATE
    phases = rng.uniform(0, 2 * np.pi, (2, len(digits), 1))
    low = np.sin(2 * np.pi * _LOW[_ROW[digits]][:, None] * time + phases[0])
    high = np.sin(2 * np.pi * _HIGH[_COLUMN[digits]][:, None] * time + phases[1])
    return np.asarray(low + high)


def load_digits() -> InMemoryDataset:
    """Handwritten digits as image and sound: 1,797 samples, 10 classes, 1,300 for training.

    ``image`` (uint8 [8, 8]) is a scan of a handwritten digit (scikit-learn's copy of the UCI test set)
    with added noise. ``audio`` (int16 [1200], 8 kHz, 0.15 s) is synthesized: the keypad tone pair (ITU-T
    Q.23) of the same digit with random phase, level and noise. Each sample has more noise in one
    modality and less in the other, so that the more informative modality varies. Noise and split come
    from a fixed seed. Ids are ``digits-00000`` and so on, by the position in scikit-learn's array.
    """
    from sklearn.datasets import load_digits as load_scans

    scans, labels = load_scans(return_X_y=True)
    labels = labels.astype(np.int64)
    n = len(labels)
    rng = np.random.default_rng(_SEED)
    lean = rng.uniform(0, 1, n)
    return InMemoryDataset(
        "digits",
        {"image": _noisy_scans(scans, lean, rng), "audio": _noisy_tones(labels, 1 - lean, rng)},
        kinds={"image": "image", "audio": "waveform"},
        labels=labels,
        classes=[str(c) for c in range(10)],
        ids=[f"digits-{i:05d}" for i in range(n)],
        split=_stratified_split(labels, rng),
        sample_rates={"audio": SAMPLE_RATE},
    )


def _noisy_scans(
    scans: NDArray[np.float64], lean: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Map ink 0..16 to 48..208 and add normal noise, from little (lean 0) to much (lean 1)."""
    deviation = (0.05 + 0.55 * lean**2)[:, None]
    ink = scans / 16 + deviation * rng.standard_normal(scans.shape)
    return np.clip(np.rint(48 + 160 * ink), 0, 255).astype(np.uint8).reshape(-1, 8, 8)


def _noisy_tones(
    labels: NDArray[np.int64], lean: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    """Tones in white noise; the signal-to-noise ratio falls from +6 dB (lean 0) to -20 dB (lean 1)."""
    tones = keypad_tones(labels, _LENGTH, rng)
    ratio = 10 ** ((6 - 26 * lean) / 20)[:, None]
    level = 10 ** (rng.uniform(-20, 0, (len(labels), 1)) / 20)
    sound = ratio * tones + rng.standard_normal(tones.shape)
    sound *= level / np.abs(sound).max(axis=1, keepdims=True)
    return np.rint(sound * 32_000).astype(np.int16)


def _stratified_split(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    split = np.zeros(len(labels), np.uint8)
    for c in range(10):
        members = rng.permutation(np.flatnonzero(labels == c))
        split[members[: round(_TEST_SHARE * len(members))]] = 1
    return split
