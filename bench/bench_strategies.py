"""Selections of all strategies at the paper's size, compared with their plain forms, and their growth.

Growth: selecting 1,000 of 10,000 to 1,000,000 samples with C = 20, d = 64, M = 2, each in its own process.
"""

from __future__ import annotations

import common
import numpy as np
import pytest

from bench.selection_peers import PEERS
from rlmba import strategies
from rlmba.experiments.selection_times import make_case, sizes, time_case

DETERMINISTIC = ("bald", "coreset")


@pytest.mark.parametrize("name", strategies.names())
def test_beside_the_plain_form(benchmark, name):
    size = sizes(name)[0]
    case = make_case(size)
    benchmark.group = f"{name}: {size}"
    _, selection = benchmark(time_case, name, case)
    benchmark.extra_info.update({f"seconds_{k}": v for k, v in selection.seconds.items()})
    peer = PEERS[name](case) if name in PEERS else None
    if peer is None:
        return
    benchmark.extra_info.update(peer=peer.form, peer_seconds=peer.seconds)
    if name in DETERMINISTIC:
        # In float32, near ties may be resolved differently.
        same = float(np.isin(peer.positions, selection.positions).mean())
        benchmark.extra_info["same_picks"] = same
        assert same > 0.9


GROWTH = """
import json, sys
import common
from rlmba.experiments.selection_times import PoolSize, make_case, time_case
rows, name = int(sys.argv[1]), sys.argv[2]
def case_of(n):
    passes = 4 if name == "bald" else 0
    return make_case(PoolSize(rows=n, classes=20, width=64, passes=passes))
time_case(name, case_of(3_000))  # loads and allocates what the first use needs
case = case_of(rows)
print(json.dumps(common.peak_of(lambda: time_case(name, case), case.input_bytes)))
"""


@pytest.mark.parametrize("rows", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("name", strategies.names())
def test_growth(benchmark, name, rows):
    benchmark.group = f"{name}: growth (the time includes the process start)"
    common.in_own_process(benchmark, GROWTH, rows, name)
