"""Configuration of a run: typed, documented, checked before any work starts."""

from __future__ import annotations

from rlmba.config.schema import (
    AmcbConfig,
    EncoderConfig,
    ModelConfig,
    RewardConfig,
    RunConfig,
    TrainingConfig,
)

__all__ = [
    "AmcbConfig",
    "EncoderConfig",
    "ModelConfig",
    "RewardConfig",
    "RunConfig",
    "TrainingConfig",
]
