"""A project's session: set up on what is known now, taken up where the last round ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rlmba.config import RunConfig
from rlmba.learner.session import Session, build_network
from rlmba.project.folder import PROJECT_FREE_KEYS, Project
from rlmba.project.samples import Samples
from rlmba.training import Mesh, worker_deaths

__all__ = ["LEAST_BATCH", "batch_size", "restore", "session_of"]

LEAST_BATCH = 10
"""Samples that are asked for together at least, unless ``batch_size`` says otherwise."""


def batch_size(config: RunConfig, classes: int) -> int:
    """Samples that are asked for together: ``batch_size``, or two a class and ten at least."""
    return config.batch_size or max(2 * classes, LEAST_BATCH)


@contextlib.contextmanager
def session_of(project: Project, samples: Samples, mesh: Mesh) -> Iterator[Session]:
    """A session on what is known now; not restored."""
    config, dataset = project.config, samples.dataset
    if len(dataset.classes) < 2:
        # Before the first label of a project whose classes are to be discovered; nothing is trained.
        dataset.classes = (*dataset.classes, "?", "??")[:2]
    size = batch_size(config, len(dataset.classes))
    resolved = config.model_copy(update={"batch_size": size})
    network = build_network(resolved, dataset, mesh)
    with network.loader, worker_deaths(network.loader):
        session = Session.build(resolved, dataset, samples.pool(), network)
        session.free_keys = PROJECT_FREE_KEYS
        yield session


def restore(project: Project, session: Session, *, strategy: bool, model: bool) -> None:
    """Take up the run after its last round."""
    store = project.writable()
    if not store.records:
        return
    folder = store.checkpoint()
    if model:
        session.restore_model(folder)
    if strategy:
        session.restore_strategy(folder / "strategy.safetensors")
    session.restore_state(folder, store.records[-1])
