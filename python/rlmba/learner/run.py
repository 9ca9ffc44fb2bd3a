"""A whole run: set up or resume, round after round, into a run folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import rlmba
from rlmba import kernels, trust
from rlmba.config import RunConfig, deciding, differing, identity, load_config, say_differing
from rlmba.data import MultimodalDataset, Pool
from rlmba.environment import versions
from rlmba.errors import DataError, RunFolderError
from rlmba.learner.events import EventWriter
from rlmba.learner.frozen import load_data
from rlmba.learner.round import RoundOutcome, run_round
from rlmba.learner.session import Session, build_network, resolve
from rlmba.markup import command
from rlmba.plugins import short_name
from rlmba.runfolder.code import code_of
from rlmba.runfolder.store import RunStore, read_run
from rlmba.training import Mesh, worker_deaths
from rlmba.types import RoundRecord

__all__ = [
    "Observer",
    "RunResult",
    "configure",
    "default_output",
    "environment",
    "keep",
    "opened",
    "run",
]


class Observer(Protocol):
    """Told how a run goes on."""

    def features(self, done: int, total: int) -> None:
        """Before the run, where encoders are frozen: they have seen so many samples of so many."""

    def begin(self, config: RunConfig, done: int) -> None:
        """The run starts; ``done`` rounds are already there."""

    def stage(self, number: int, name: str) -> None:
        """A stage of round ``number`` begins."""

    def round(self, record: RoundRecord) -> None:
        """A round is complete and on disk."""


class _Silent:
    """The observer where none was given."""

    def features(self, done: int, total: int) -> None: ...

    def begin(self, config: RunConfig, done: int) -> None: ...

    def stage(self, number: int, name: str) -> None: ...

    def round(self, record: RoundRecord) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    path: Path
    config: RunConfig
    records: list[RoundRecord]


def run(
    config: RunConfig, output: Path, *, resume: bool = False, observer: Observer | None = None
) -> RunResult:
    """Run active learning and leave everything in ``output``.

    Processes launched together (``accelerate launch``, ``torchrun``) call this alike and share the
    work of training and prediction. The main one decides, tells the observer and writes; all return.

    Parameters
    ----------
    config : RunConfig
        With ``resume`` and a run in ``output``, the configuration stored there must be the same once
        resolved.
    output : path
        A run folder: new or empty, or, with ``resume``, one to go on with. A folder without a run is
        started from round 0 in either case.
    resume : bool
        Go on after the last complete round. The final answer is that of an uninterrupted run.
    observer : Observer or None

    Raises
    ------
    UsageError
        If the configuration cannot be met; nothing is written then.
    DataError
        If the data cannot be used; nothing is written then.
    RunFolderError
        If ``output`` is damaged, foreign, locked, or of another configuration or data.
    StorageError
        If the disk refuses; complete rounds stay.
    WorkerError
        If a process that loads data dies; complete rounds stay.
    PeerError
        If another of the processes launched together ends; complete rounds stay.
    """
    if (output / "run.json").exists() and read_run(output).info.get("project"):
        raise RunFolderError(
            f"{output} is a project, whose labels come from people; go on with `{command('next', output)}`"
        )
    mesh = Mesh.open(config.device, config.training.precision)
    try:
        if mesh.main:
            return _lead(config, output, mesh, resume=resume, observer=observer or _Silent())
        return _follow(output, mesh)
    except BaseException:
        mesh.abandon()
        raise


def _lead(
    config: RunConfig, output: Path, mesh: Mesh, *, resume: bool, observer: Observer
) -> RunResult:
    """The run, in its main process."""
    mesh.broadcast(config)
    dataset = load_data(config, mesh, observer.features)
    config, pool = resolve(config, dataset)
    mesh.broadcast((config, dataset.fingerprint() if mesh.size > 1 else ""))
    network = build_network(config, dataset, mesh)
    with network.loader, worker_deaths(network.loader):
        session = Session.build(config, dataset, pool, network)
        result = _run(session, output, resume=resume, observer=observer)
    network.done(result.records)
    return result


def _follow(output: Path, mesh: Mesh) -> RunResult:
    """The run, in any other process."""
    dataset = load_data(mesh.broadcast(), mesh)
    config, fingerprint = mesh.broadcast()
    if dataset.fingerprint() != fingerprint:
        raise DataError(
            f"process {mesh.rank} of {mesh.size} reads other data than the main process under "
            f"{config.dataset!r} (checksums differ); give all of them the same files"
        )
    network = build_network(config, dataset, mesh)
    with network.loader, worker_deaths(network.loader):
        records = network.follow()
    return RunResult(output, config, records)


def _run(session: Session, output: Path, *, resume: bool, observer: Observer) -> RunResult:
    """Start or resume in the run folder."""
    with opened(session, output, resume=resume) as store:
        config = session.config
        session.training_file = store.training_file
        observer.begin(config, len(store.records))
        with EventWriter(store.path / "tensorboard", enabled=config.tensorboard) as events:
            for number in range(len(store.records), int(config.rounds or 0) + 1):
                outcome = run_round(session, number, partial(observer.stage, number))
                keep(store, session, outcome)
                events.write(outcome.record)
                observer.round(outcome.record)
        return RunResult(store.path, config, store.records)


@contextlib.contextmanager
def opened(session: Session, output: Path, *, resume: bool) -> Iterator[RunStore]:
    """A session's run folder, new, or taken up with the session set to where it ends.

    Raises
    ------
    RunFolderError
        If it is damaged, foreign, locked, or of another configuration or data.
    UsageError
        If it holds something and ``resume`` is not set.
    """
    config, dataset, pool = session.config, session.dataset, session.pool
    if resume and (output / "run.json").exists():
        with RunStore.resume(output) as store:
            check_same(store.config, config, output)
            if store.info.get("fingerprint") != dataset.fingerprint():
                raise RunFolderError(
                    f"{output} was run on other data than {config.dataset!r} holds now (checksums differ); "
                    "restore the data or start a new run"
                )
            session.pool = _restored_pool(store, dataset, pool)
            store.moved(config)
            if not store.records:
                session.start()
            else:
                session.restore(store.checkpoint(), store.records[-1])
            yield store
        return
    session.start()
    with RunStore.create(
        output,
        config,
        info={
            "rlmba": rlmba.__version__,
            "dataset": config.dataset,
            "strategy": config.strategy,
            "fusion": config.fusion,
            "seed": config.seed,
            "classes": list(dataset.classes),
            "fingerprint": dataset.fingerprint(),
        },
        environment=environment(),
        split={
            "validation": [str(i) for i in pool.validation_ids],
            "initial": [str(i) for i in pool.initial_ids],
        },
    ) as store:
        yield store


def keep(store: RunStore, session: Session, outcome: RoundOutcome) -> None:
    """Make a session's last round permanent.

    Raises
    ------
    StorageError
        If something could not be written; the rounds before are unharmed.
    """

    def save(folder: Path) -> None:
        session.save(folder, outcome.record)
        session.save_policy(store.path / "policy.safetensors", outcome.record)

    store.commit(
        outcome.record,
        ids=outcome.ids,
        labels=outcome.labels,
        scores=outcome.scores,
        save=save,
    )


def _restored_pool(store: RunStore, dataset: MultimodalDataset, fresh: Pool) -> Pool:
    given = store.config.initial_ids
    if given is not None and store.split()["initial"] != [str(i) for i in fresh.initial_ids]:
        raise RunFolderError(
            f"{store.path} started from other samples than {given} names now (split.json differs); put "
            "the file back as it was, or start a new run"
        )
    if not store.records:
        return fresh
    ids, labels = store.labeled()
    return Pool.restore(
        dataset, validation_ids=store.split()["validation"], labeled_ids=ids, labels=labels
    )


def check_same(stored: RunConfig, given: RunConfig, path: Path) -> None:
    """Raise unless two resolved configurations decide the same run.

    Raises
    ------
    RunFolderError
        Naming every key that differs.
    """
    if differences := deciding(differing(identity(stored), identity(given))):
        raise RunFolderError(
            f"{path} holds a run of another configuration: {say_differing(differences)}. Resume it "
            "with its own settings (`rlmba run --resume --output DIR` alone takes them from the folder) or "
            "start a new run"
        )


def environment() -> dict[str, Any]:
    """Versions and machine of this process, for the run folder."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "kernels": {
            "backends": kernels.backends(),
            "instruction_set": kernels.instruction_set(),
            "threads": kernels.num_threads(),
        },
    }


def configure(
    overrides: Mapping[str, Any],
    *,
    settings: Sequence[str] = (),
    file: Path | None = None,
    preset: str | None = None,
    resume_from: Path | None = None,
) -> RunConfig:
    """The configuration asked for, or, when resuming, the stored one with what was asked on top.

    Parameters
    ----------
    overrides : mapping
        Keys of RunConfig given one by one; relative paths are taken from the working directory.
    settings : sequence of str
        "KEY=VALUE", above everything else.
    file : path or None
        A YAML file, below both.
    preset : str or None
        A preset in place of the data set's own, below all of these.
    resume_from : path or None
        A run folder. With a run in it, its configuration takes the place of defaults and presets.

    Raises
    ------
    UsageError
        If a key or value is wrong.
    RunFolderError
        If ``resume_from`` holds a damaged or foreign run.
    TrustError
        If the stored configuration names code that this user has not allowed for the folder.
    """
    base = None
    if resume_from is not None and file is None and (resume_from / "run.json").exists():
        stored = read_run(resume_from).config
        trust.require(resume_from, code_of(stored))
        if not overrides and not settings and preset is None:
            return stored
        base = str(resume_from / "config.yaml"), stored.model_dump(mode="json")
    return load_config(file=file, overrides=overrides, settings=settings, preset=preset, base=base)


def default_output(config: RunConfig, *, resume: bool = False) -> Path:
    """`runs/<dataset>-<strategy>-seed<seed>`; a number is added where that is taken, unless resuming."""
    name = config.data.stem if config.data is not None else short_name(config.dataset)
    base = Path("runs") / f"{name}-{short_name(config.strategy)}-seed{config.seed}"
    if resume or not base.exists():
        return base
    return next(
        p for i in itertools.count(2) if not (p := base.with_name(f"{base.name}-{i}")).exists()
    )
