"""Training policies over many episodes on one or several data sets, and evaluating them on another."""

from __future__ import annotations

from rlmba.experiments.policy_training.credit import advantages, returns
from rlmba.experiments.policy_training.episodes import Episode, PolicyEnvironment
from rlmba.experiments.policy_training.leave_one_out import (
    LeaveOneOut,
    PolicyComparison,
    compare_policy,
    leave_one_out,
)
from rlmba.experiments.policy_training.runs import (
    ActiveLearning,
    agent_of,
    configurations,
    planned,
)
from rlmba.experiments.policy_training.settings import PolicyTraining
from rlmba.experiments.policy_training.trainer import TrainedPolicy, train_policy

__all__ = [
    "ActiveLearning",
    "Episode",
    "LeaveOneOut",
    "PolicyComparison",
    "PolicyEnvironment",
    "PolicyTraining",
    "TrainedPolicy",
    "advantages",
    "agent_of",
    "compare_policy",
    "configurations",
    "leave_one_out",
    "planned",
    "returns",
    "train_policy",
]
