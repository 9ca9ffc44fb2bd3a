from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip(
    "pydantic", reason="a machine that only has torch runs the GPU tests beside this"
)

from bench.selection_peers import PEERS
from rlmba.experiments.selection_times import PoolSize, make_case, time_case

SMALL = PoolSize(rows=400, classes=7, width=24, batch=30, labeled=20)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_peer_is_timed(name):
    case = make_case(replace(SMALL, passes=4 if name == "bald" else 0))
    peer = PEERS[name](case)
    assert peer.seconds > 0
    if name in ("bald", "coreset"):
        _, ours = time_case(name, case)
        assert sorted(peer.positions) == sorted(ours.positions)
