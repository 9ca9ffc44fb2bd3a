"""The configuration of a run: typed, documented, and checked before any work starts."""

from __future__ import annotations

from rlmba.config.describe import Key, keys
from rlmba.config.earlier import with_earlier_options
from rlmba.config.identity import (
    COMPARED,
    PLACES,
    deciding,
    differing,
    flat,
    identity,
    is_among,
    say_differing,
)
from rlmba.config.schema import (
    FREE_KEYS,
    RELATIVE_TO,
    AmcbConfig,
    EncoderConfig,
    EvidentialConfig,
    ModelConfig,
    ProjectConfig,
    RewardConfig,
    RunConfig,
    TrainingConfig,
)
from rlmba.config.sources import (
    dump_config,
    load_config,
    parse_settings,
    preset_names,
    strategy_preset,
    strategy_preset_names,
)

__all__ = [
    "COMPARED",
    "FREE_KEYS",
    "PLACES",
    "RELATIVE_TO",
    "AmcbConfig",
    "EncoderConfig",
    "EvidentialConfig",
    "Key",
    "ModelConfig",
    "ProjectConfig",
    "RewardConfig",
    "RunConfig",
    "TrainingConfig",
    "deciding",
    "differing",
    "dump_config",
    "flat",
    "identity",
    "is_among",
    "keys",
    "load_config",
    "parse_settings",
    "preset_names",
    "say_differing",
    "strategy_preset",
    "strategy_preset_names",
    "with_earlier_options",
]
