"""An experiment: active learning on a labeled data set with an oracle, recorded in a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import rlmba
from rlmba.annotators import Annotator
from rlmba.annotators.oracle import DatasetOracle
from rlmba.config import RunConfig, deciding, differing, identity, say_differing
from rlmba.data import MultimodalDataset, Pool
from rlmba.errors import DataError, RunFolderError
from rlmba.learner.active_learner import ActiveLearner
from rlmba.learner.drive import drive
from rlmba.learner.frozen import load_data
from rlmba.learner.initial import label_first_batch
from rlmba.learner.labels import Labels
from rlmba.learner.network import build_network
from rlmba.learner.query import Announce, NothingToAsk
from rlmba.learner.rounds import silent
from rlmba.learner.settings import environment, load_fitting, resolve
from rlmba.learner.tracked import tracked
from rlmba.markup import command
from rlmba.runfolder.store import RunStore, read_run
from rlmba.tracking import Trackers, require_trackers
from rlmba.training import ProcessGroup, worker_deaths
from rlmba.types import RoundRecord

__all__ = ["Observer", "RunResult", "ask_oracle", "open_experiment", "run"]


class Observer(Protocol):
    """Receives the progress of a run."""

    def features(self, done: int, total: int) -> None:
        """Frozen encoders have processed ``done`` of ``total`` samples; called before the run."""

    def begin(self, config: RunConfig, done: int) -> None:
        """The run starts; ``done`` rounds are already complete."""

    def stage(self, number: int, name: str, done: int = 0, total: int = 0) -> None:
        """A stage of round ``number`` begins, or ``done`` of its ``total`` samples or steps are done."""

    def round(self, record: RoundRecord) -> None:
        """A round is complete and on disk."""


class _Silent:
    """The default observer: it does nothing."""

    def features(self, done: int, total: int) -> None: ...

    def begin(self, config: RunConfig, done: int) -> None: ...

    def stage(self, number: int, name: str, done: int = 0, total: int = 0) -> None: ...

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
    """Run active learning and write all results to ``output``.

    Processes launched together (``accelerate launch``, ``torchrun``) call this function with the same
    arguments and share the work of training and prediction. The main process queries, calls the
    observer and writes; the function returns in all processes.

    Parameters
    ----------
    config : RunConfig
        With ``resume`` and a run in ``output``, it must resolve to the configuration stored there.
    output : path
        A run folder: new or empty, or, with ``resume``, one to continue. A folder without a run is
        started from round 0 in either case.
    resume : bool
        Continue after the last complete round. The result is that of an uninterrupted run.
    observer : Observer or None

    Raises
    ------
    UsageError
        If the configuration cannot be satisfied; nothing is written then.
    DataError
        If the data cannot be used; nothing is written then.
    RunFolderError
        If ``output`` is damaged, locked, not a run folder, or of another configuration or other data.
    StorageError
        If a file cannot be written; complete rounds are kept.
    WorkerError
        If a process that loads data dies; complete rounds are kept.
    PeerError
        If another of the processes launched together ends; complete rounds are kept.
    """
    if (output / "run.json").exists() and read_run(output).info.get("project"):
        raise RunFolderError(
            f"{output} is a project with labels from people; continue it with `{command('next', output)}`"
        )
    group = ProcessGroup.open(config.device, config.training.precision)
    try:
        if group.is_main:
            return _lead(config, output, group, resume=resume, observer=observer or _Silent())
        return _follow(output, group)
    except BaseException:
        group.leave()
        raise


def _lead(
    config: RunConfig, output: Path, group: ProcessGroup, *, resume: bool, observer: Observer
) -> RunResult:
    """Do the run in the main process."""
    require_trackers(config.tracking)
    group.broadcast(config)
    dataset = load_data(config, group, observer.features, source=load_fitting(config))
    config, pool = resolve(config, dataset)
    group.broadcast((config, dataset.fingerprint() if group.size > 1 else ""))
    network = build_network(config, dataset, group)
    with network.loader, worker_deaths(network.loader):
        learner = ActiveLearner(config, Labels.of_pool(dataset, pool), network)
        with open_experiment(learner, output, resume=resume) as store:
            observer.begin(config, len(store.records))
            with tracked(store.path, config, dataset.classes) as trackers:
                trackers.send(learner.records)
                experiment = _Experiment(learner, trackers, observer)
                network.announce = experiment.announce
                drive(experiment)
    network.release(learner.records)
    return RunResult(output, learner.config, learner.records)


def _follow(output: Path, group: ProcessGroup) -> RunResult:
    """Do the run in any other process."""
    dataset = load_data(group.broadcast(), group)
    config, fingerprint = group.broadcast()
    if dataset.fingerprint() != fingerprint:
        raise DataError(
            f"process {group.rank} of {group.size} and the main process read different data as "
            f"{config.dataset!r} (checksums differ); give all processes the same files"
        )
    network = build_network(config, dataset, group)
    with network.loader, worker_deaths(network.loader):
        records = network.follow()
    return RunResult(output, config, records)


class _Experiment:
    """The :class:`~rlmba.learner.drive.Rounds` of an experiment, whose oracle answers immediately."""

    def __init__(self, learner: ActiveLearner, trackers: Trackers, observer: Observer) -> None:
        self._learner = learner
        self._oracle = DatasetOracle(learner.labels.dataset)
        self._trackers = trackers
        self._observer = observer
        self._ticket: str | None = None

    def finished(self) -> str | None:
        rounds = int(self._learner.config.last_round or 0)
        return f"all {rounds} rounds are complete" if self._learner.round > rounds else None

    def ask(self) -> str | None:
        self._ticket = ask_oracle(self._learner, self._oracle, self.announce)
        return None

    def answers(self) -> tuple[int, int, str]:
        return 0, 0, ""

    def learn(self) -> None:
        if self._ticket is not None:
            self._learner.add_answers(self._oracle.collect(self._ticket))
        record = self._learner.learn(announce=self.announce).record
        self._trackers.send(self._learner.records)
        self._observer.round(record)

    def announce(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Pass a stage of the current round on to the observer."""
        self._observer.stage(self._learner.round, stage, done, total)


def ask_oracle(
    learner: ActiveLearner, oracle: Annotator, announce: Announce = silent
) -> str | None:
    """Propose the next round's batch to an annotator and return its ticket; None in round 0.

    Round 0 of an experiment learns from the initial labels.
    """
    if learner.round == 0:
        label_first_batch(learner)
        return None
    pending = learner.propose(announce=announce)
    if isinstance(pending, NothingToAsk):
        raise DataError(f"round {learner.round}: {pending.why}; start a new run with fewer rounds")
    ticket = oracle.request(learner.batch(pending, details=False))
    learner.keep_pending(pending, write=False)  # a resumed run proposes the same batch
    return ticket


@contextlib.contextmanager
def open_experiment(learner: ActiveLearner, output: Path, *, resume: bool) -> Iterator[RunStore]:
    """Create an experiment's run folder, or resume it and restore the learner's state from it.

    Raises
    ------
    RunFolderError
        If it is damaged, locked, not a run folder, or of another configuration or other data.
    UsageError
        If it is not empty and ``resume`` is not set.
    """
    config, dataset, pool = learner.config, learner.labels.dataset, learner.labels.pool
    if resume and (output / "run.json").exists():
        with RunStore.resume(output) as store:
            check_same(store.config, config, output)
            if store.info.get("fingerprint") != dataset.fingerprint():
                raise RunFolderError(
                    f"{output} was run on data that differ from those of {config.dataset!r} now (checksums "
                    "differ); restore the data or start a new run"
                )
            learner.use_pool(_restored_pool(store, dataset, pool))
            store.moved(config)
            learner.resume(store)
            learner.load_model()  # so that a damaged checkpoint is reported before any work
            if not store.records:
                learner.find_round0()
            yield store
        return
    label_first_batch(learner)
    learner.find_round0()
    pool = learner.labels.pool
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
        learner.resume(store)
        yield store


def _restored_pool(store: RunStore, dataset: MultimodalDataset, fresh: Pool) -> Pool:
    given = store.config.initial_ids
    if given is not None and store.split()["initial"] != [str(i) for i in fresh.initial_ids]:
        raise RunFolderError(
            f"{store.path} started from other samples than those that {given} lists now (split.json "
            "differs); restore the file, or start a new run"
        )
    if not store.records:
        if len(fresh.labeled):
            return fresh
        return fresh.with_initial(dataset, store.split()["initial"])  # chosen by herding
    ids, labels = store.labeled()
    return Pool.restore(
        dataset, validation_ids=store.split()["validation"], labeled_ids=ids, labels=labels
    )


def check_same(stored: RunConfig, given: RunConfig, path: Path) -> None:
    """Raise unless two resolved configurations determine the same run.

    Raises
    ------
    RunFolderError
        If they do not; the message names every key that differs.
    """
    if differences := deciding(differing(identity(stored), identity(given))):
        raise RunFolderError(
            f"{path} holds a run of another configuration: {say_differing(differences)}. Resume it "
            "with its own settings (`rlmba run --resume --output DIR` without other options reads them "
            "from the folder), or start a new run"
        )
