"""How long selections take: outputs of the paper's sizes, the peers' plain forms, and tables."""

from __future__ import annotations

from rlmba.experiments.selection.cases import FOOD101, Case, Size, make_case
from rlmba.experiments.selection.peers import PEERS, Peer
from rlmba.experiments.selection.report import Bench, run_bench
from rlmba.experiments.selection.timing import PAPER_SECONDS, Row, growth, measure, sizes

__all__ = [
    "FOOD101",
    "PAPER_SECONDS",
    "PEERS",
    "Bench",
    "Case",
    "Peer",
    "Row",
    "Size",
    "growth",
    "make_case",
    "measure",
    "run_bench",
    "sizes",
]
