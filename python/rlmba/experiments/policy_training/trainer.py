"""REINFORCE on the draws of many episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rlmba
from rlmba.errors import CheckpointError, DataError
from rlmba.experiments.policy_training.credit import advantages
from rlmba.experiments.policy_training.curve import draw_curve
from rlmba.experiments.policy_training.episodes import Episode, PolicyEnvironment
from rlmba.experiments.policy_training.folder import TrainingFolder, TrainingProgress
from rlmba.experiments.policy_training.settings import PolicyTraining
from rlmba.method.agent import Agent
from rlmba.storage import atomic_write_bytes

__all__ = ["TrainedPolicy", "learn_from", "train_policy"]


@dataclass(frozen=True)
class TrainedPolicy:
    """A finished training: the policy's file, the figures of each step, and whether patience ended it."""

    policy: Path
    history: Sequence[Mapping[str, Any]]
    stopped_early: bool


def train_policy(
    environment: PolicyEnvironment,
    agent: Agent,
    output: Path,
    settings: PolicyTraining,
    *,
    strategy: str,
    resume: bool = False,
    observer: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> TrainedPolicy:
    """Train the policy of an agent and write it to ``output`` as ``policy.safetensors``.

    Parameters
    ----------
    environment : PolicyEnvironment
    agent : Agent
        Explores during the training; it has the trained weights afterwards.
    output : path
        A new or empty folder or, with ``resume``, the folder of a training to continue, which has the same
        results as an uninterrupted one.
    settings : PolicyTraining
    strategy : str
        The strategy that the policy belongs to.
    resume : bool
    observer : callable
        Called with the figures of each step after they are stored.

    Raises
    ------
    UsageError
        If ``output`` is not empty and ``resume`` is false.
    RunFolderError
        If it contains a different training, or another process is writing to it.
    DataError
        If a reward is not finite.
    StorageError
        If the folder cannot be written to.
    """
    identity = {
        "strategy": strategy,
        "agent": {"hidden": agent.policy.hidden, "sharpness": agent.policy.sharpness},
        "learning_rate": agent.policy.optimizer.param_groups[0]["lr"],
        "settings": settings.model_dump(mode="json"),
        "environment": dict(environment.facts),
    }
    with TrainingFolder.open(Path(output), identity, resume=resume) as (folder, before):
        progress = before or TrainingProgress(agent.state_dict())
        try:
            agent.load_state_dict(progress.agent)
        except CheckpointError as error:
            raise CheckpointError(
                f"{folder.path}: {error}; start again in another --output"
            ) from error
        while not _done(progress.history, settings):
            first = len(progress.history) * settings.parallel
            episodes = environment.run(agent, range(first, first + settings.parallel))
            entropy, norm = learn_from(episodes, agent, settings, progress)
            progress.history.append(_figures(episodes, progress.history, settings, entropy, norm))
            progress.agent = agent.state_dict()
            if _best_step(progress.history, settings) == len(progress.history) - 1:
                progress.best = progress.agent
            folder.keep(progress)
            observer(progress.history[-1])
        return _finish(folder, progress, agent, settings, strategy)


def learn_from(
    episodes: Sequence[Episode], agent: Agent, settings: PolicyTraining, progress: TrainingProgress
) -> tuple[float, float]:
    """Update the policy once on all draws of some episodes, then the statistics of the states.

    Returns
    -------
    (float, float)
        Mean entropy of the first pick in nats, and the norm of the gradient before clipping.
    """
    for episode in episodes:
        if not np.isfinite(episode.rewards).all():
            raise DataError(
                f"episode of {episode.task}, seed {episode.start}: expected finite rewards, got "
                f"{episode.rewards}"
            )
    credit = advantages(episodes, settings, progress.moving)
    draws = [d for e in episodes for d in e.draws]
    norm, entropy = agent.policy.update(
        [d.taken for d in draws],
        np.concatenate(credit).tolist(),
        entropy=settings.entropy,
        max_grad_norm=settings.max_grad_norm,
    )
    for d in draws:
        agent.standardizer.update(d.state)
    return entropy, norm


def _figures(
    episodes: Sequence[Episode],
    history: Sequence[Mapping[str, Any]],
    settings: PolicyTraining,
    entropy: float,
    norm: float,
) -> dict[str, Any]:
    by_task: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        by_task[episode.task].append(float(episode.rewards.mean()))
    value = float(np.mean([r for rewards in by_task.values() for r in rewards]))
    last = [h["return"] for h in history[max(0, len(history) + 1 - settings.window) :]]
    return {
        "step": len(history),
        "episodes": (len(history) + 1) * settings.parallel,
        "return": value,
        "moving_return": float(np.mean([*last, value])),
        "returns": {task: float(np.mean(r)) for task, r in by_task.items()},
        "entropy": entropy,
        "gradient_norm": norm,
    }


def _best_step(history: Sequence[Mapping[str, Any]], settings: PolicyTraining) -> int | None:
    """The step with the highest moving return over a full window; the first of equal ones."""
    judged = [h["moving_return"] for h in history[settings.window - 1 :]]
    return int(np.argmax(judged)) + settings.window - 1 if judged else None


def _stopped(history: Sequence[Mapping[str, Any]], settings: PolicyTraining) -> bool:
    best = _best_step(history, settings)
    if settings.patience is None or best is None:
        return False
    return len(history) - 1 - best >= settings.patience


def _done(history: Sequence[Mapping[str, Any]], settings: PolicyTraining) -> bool:
    return len(history) * settings.parallel >= settings.episodes or _stopped(history, settings)


def _finish(
    folder: TrainingFolder,
    progress: TrainingProgress,
    agent: Agent,
    settings: PolicyTraining,
    strategy: str,
) -> TrainedPolicy:
    chosen = len(progress.history) - 1
    if settings.patience is not None and progress.best:
        agent.load_state_dict(progress.best)
        chosen = _best_step(progress.history, settings) or 0
    facts = {
        "rlmba": rlmba.__version__,
        "tasks": list(folder.identity["environment"]["tasks"]),
        "episodes": progress.history[chosen]["episodes"],
        "moving_return": progress.history[chosen]["moving_return"],
        "settings": folder.identity["settings"],
    }
    path = folder.path / "policy.safetensors"
    agent.save(path, strategy=strategy, facts=facts)
    atomic_write_bytes(folder.path / "returns.png", draw_curve(progress.history))
    return TrainedPolicy(path, progress.history, _stopped(progress.history, settings))
