"""Strategies over pools in shards: one process that streams them, or several that divide them."""

from rlmba.strategies.sharded.cost import ShardEstimate, estimate_shards
from rlmba.strategies.sharded.rules import RULES, why_not
from rlmba.strategies.sharded.select import select_shards
from rlmba.strategies.sharded.source import ShardSource

__all__ = [
    "RULES",
    "ShardEstimate",
    "ShardSource",
    "estimate_shards",
    "select_shards",
    "why_not",
]
