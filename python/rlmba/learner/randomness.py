"""Generators of a run: one for each purpose and round, all decided by the run's seed."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["fit_seed", "model_seed", "stream"]


def stream(seed: int, purpose: str, round_number: int = 0) -> np.random.Generator:
    """An independent generator for one purpose in one round: nothing random outlives a round."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), round_number])


def model_seed(seed: int) -> int:
    """What decides the initial weights of a run's network."""
    return int(stream(seed, "model").integers(2**63))


def fit_seed(seed: int, round_number: int) -> int:
    """What decides minibatches, augmentation and dropout of a round's training."""
    return int(stream(seed, "fit", round_number).integers(2**63))
