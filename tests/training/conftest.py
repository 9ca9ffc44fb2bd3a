from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_networks(one_thread: None) -> None:
    """Threads do not speed up such small networks and slow them down on a busy machine."""
