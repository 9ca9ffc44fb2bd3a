"""The first batch of an experiment with ``initial_sampling`` "herding"."""

from __future__ import annotations

from rlmba.config import RunConfig
from rlmba.data import Pool
from rlmba.errors import DataError
from rlmba.learner.query import first_samples
from rlmba.learner.rounds import RoundLearner
from rlmba.runfolder.store import read_split

__all__ = ["label_first_batch"]


def label_first_batch(learner: RoundLearner) -> None:
    """Label the first batch by herding, if ``initial_sampling`` is "herding" and there are no labels.

    The batch depends on the data, the validation set and the number of labels, not on the strategy. It
    is that of the run folder ``round0`` if the configuration names one that fits.

    Raises
    ------
    DataError
        If fewer samples can be read than are to be labeled.
    """
    pool = learner.labels.pool
    if learner.config.initial_sampling != "herding" or len(pool.labeled):
        return
    n = learner.config.label_counts[0]
    ids = _of_round0(learner.config, pool, n) or _herded(learner, n)
    learner.use_pool(pool.with_initial(learner.labels.dataset, ids))


def _of_round0(config: RunConfig, pool: Pool, n: int) -> list[str] | None:
    """The initial samples of the run folder ``round0``; None if they do not fit this pool."""
    if config.round0 is None or not (config.round0 / "split.json").is_file():
        return None
    ids = read_split(config.round0)["initial"]
    return ids if len(ids) == n and set(map(str, pool.unlabeled_ids)).issuperset(ids) else None


def _herded(learner: RoundLearner, n: int) -> list[str]:
    pool = learner.labels.pool
    chosen = first_samples(learner.model, pool.unlabeled, pool.labeled, n)
    found = 0 if chosen is None else len(chosen[0])
    if chosen is None or found < n:
        raise DataError(
            f"initial_sampling=herding: expected {n} samples to label first, only {found} of the pool's "
            f"{len(pool.unlabeled)} can be read; repair their files, or lower initial_labels (or the first "
            "of budgets)"
        )
    return [str(i) for i in pool.ids_at(chosen[0])]
