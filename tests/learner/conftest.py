from __future__ import annotations

import pytest

from rlmba.config import RunConfig


@pytest.fixture
def quick() -> RunConfig:
    """A run of seconds: few epochs, a narrow network."""
    return RunConfig.model_validate(
        {
            "dataset": "digits",
            "rounds": 3,
            "initial_labels": 20,
            "batch_size": 10,
            "epochs": 1,
            "model": {"width": 16},
            "device": "cpu",
        }
    )
