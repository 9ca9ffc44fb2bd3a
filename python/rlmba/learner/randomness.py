"""Random generators of a run: one per purpose and round, all derived from the run's seed."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["fit_seed", "model_seed", "stream"]


def stream(seed: int, purpose: str, round_number: int = 0) -> np.random.Generator:
    """An independent generator for one purpose in one round, so that no state carries over to the next."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), round_number])


def model_seed(seed: int) -> int:
    """Seed of the initial weights of a run's network."""
    return int(stream(seed, "model").integers(2**63))


def fit_seed(seed: int, round_number: int) -> int:
    """Seed of minibatches, augmentation and dropout in the training of a round."""
    return int(stream(seed, "fit", round_number).integers(2**63))
