"""``rlmba.select``: any strategy in one call on arrays of any library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common.arrays import ArrayLike
from rlmba.kernels.common.random import Rng, seed_from
from rlmba.kernels.sharded import Group
from rlmba.strategies import array_inputs
from rlmba.strategies.array_inputs import ByModality
from rlmba.strategies.base import Strategy
from rlmba.strategies.input_arrays import with_input_features
from rlmba.strategies.pool_arrays import PoolArrays
from rlmba.strategies.registry import create
from rlmba.strategies.sharded import ShardSource, select_shards
from rlmba.types import LinearHead, PoolOutputs, QueryContext, Selection

__all__ = ["SelectedSamples", "select"]

_PASS = {
    "features": "features=[N, D] (or a mapping of modality to [N, d])",
    "logits": "logits=[N, C] or probabilities=[N, C] of the fused head (for several modalities: a "
    "mapping with the key 'mm')",
    "modality_features": "features={modality: [N, d], ...}, one entry per modality",
    "modality_logits": "logits={modality: [N, C], ...} (or probabilities=), one entry per modality",
    "labeled": "labeled=[L, D] (features of labeled samples), or their positions within features",
    "labels": "labels=[L], the classes of the labeled samples",
    "head": "head=(weight [C, D], bias [C]) of the linear layer that makes the logits",
    "dropout": "dropout_logits=[K, N, C], logits of K stochastic passes",
    "input_features": "input_features=[N, D] (or a mapping of modality to [N, d]), what the model reads",
}


@dataclass(frozen=True, eq=False)
class SelectedSamples(Selection):
    """A :class:`~rlmba.types.Selection` with positions into the caller's arrays, and ids.

    Parameters
    ----------
    ids : array [n]
        ``ids[positions]`` of the ids that were passed, with their dtype; the positions if no ids
        were passed.
    """

    ids: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def select(
    strategy: str | Strategy,
    *,
    n: int,
    features: ByModality | None = None,
    logits: ByModality | None = None,
    probabilities: ByModality | None = None,
    labeled: ByModality | Sequence[int] | Sequence[str] | None = None,
    labels: ArrayLike | Sequence[int] | None = None,
    ids: ArrayLike | Sequence[str] | Sequence[int] | None = None,
    rng: Rng = None,
    head: LinearHead | tuple[ArrayLike, ArrayLike] | None = None,
    dropout_logits: ArrayLike | None = None,
    present: ArrayLike | None = None,
    weights: ArrayLike | Sequence[float] | Mapping[str, float] | str | None = None,
    temperatures: ArrayLike | Sequence[float] | Mapping[str, float] | None = None,
    fusion_weights: ArrayLike | Sequence[float] | Mapping[str, float] | None = None,
    input_features: ByModality | None = None,
    labeled_input_features: ByModality | None = None,
    pool: ShardSource | None = None,
    group: Group | None = None,
    max_memory: int | None = None,
    spill_folder: Path | None = None,
    **options: Any,
) -> SelectedSamples:
    """Select ``n`` samples by a strategy, from arrays alone.

    Pass what the strategy needs (``Strategy.needs``); an error names what is missing. Of arrays that it
    does not need, only the shapes are checked. NumPy arrays, torch tensors and anything with DLPack are
    read without a copy, as float32 or float64; float16 and bfloat16 are converted to float32, integers
    to float64. Tensors in GPU memory are checked on the host; the selection then runs on their GPU if
    the strategy supports it (``Strategy.on_device``).

    Parameters
    ----------
    strategy : str or Strategy
        A name (:func:`rlmba.strategies.names`), "module:Class", or an instance.
    n : int
        Number of samples to select, 0 <= n <= size of the pool.
    features : array [N, D] or mapping of modality to array [N, d_m]
        An array belongs to one modality, or is the fused one of several. In a mapping, the key "mm"
        is the fused one. Without it, f(x) = sum_m w_m f_m(x) with ``fusion_weights`` if the widths
        are equal. It is the concatenation if they are not, or if ``head`` is as wide as that.
    logits : array [N, C] or mapping of modality to array [N, C]
        An array belongs to the fused head, and to the modality if there is only one. In a mapping,
        the key "mm" is the fused head's.
    probabilities : as ``logits``
        Instead of logits: numbers >= 0 with rows of sum 1 (within 1e-3). Their logarithms are used as
        logits, with probabilities below 1e-12 raised to that first. Prefer logits for ``rlmba``: it
        derives evidence from the magnitude of logits, which probabilities do not preserve.
    labeled : array, optional
        With two axes, or as a mapping of modalities like ``features``: features [L, D] of labeled
        samples outside the arrays above. With one axis: a mask (bool [N]), positions (int [L]) or ids
        of samples *within* those arrays that are labeled already. Text means ids. Integers are ids if
        the pool's ids are integers and contain them; it is an error if they could also be positions
        and mean other samples. These samples are never selected, and serve as labeled samples.
        Positions in the result remain those of the arrays passed; the unlabeled rows that the
        strategy needs are copied once. A pool row that equals a row of labeled features stays in the
        pool, because equal rows may be different samples.
    labels : int array [L], optional
        Classes of the labeled samples, in their order (for a mask: by ascending position).
    ids : array [N] of distinct str or int, optional
        Sample ids. Errors name them, and the result has those of the chosen samples, of the same
        kind. Default: positions. Floats, dates and booleans are refused: give them as text.
    rng : int, numpy.random.Generator, torch.Generator or None
        An int seeds a generator; a generator is advanced; None uses fresh entropy.
    head : LinearHead or (weight [C, D], bias [C]), optional
        The linear layer that computes the fused logits from the fused features.
    dropout_logits : array [K, N, C], optional
        Fused logits of K stochastic passes.
    present : bool array [N, M], optional
        Which modalities each sample has, with columns in the order of the mapping; or columns by
        modality, as a mapping or a data frame. Rows of an absent modality may contain anything, also
        NaN; they are read as 0. For distances between samples, an absent modality is taken from the
        nearest sample that has it (:func:`rlmba.strategies.absent.completed`). This needs the
        features of each modality: fused features that you pass ("mm", or one array for several
        modalities) are used unchanged.
    weights, temperatures, fusion_weights : float array [M] or mapping of modality to float, optional
        As in :class:`~rlmba.types.QueryContext`. Without names, they are in the order of the mappings.
        ``weights`` may also be a text, the option of that name (``rlmba-h``).
    input_features : array [N, D] or mapping of modality to array [N, d_m], optional
        What the model reads, as numbers, or features of a frozen encoder, of the same samples as
        ``features``. They are standardized, reduced to at most 128 components and scaled to unit rows,
        over the pool and the labeled samples (:class:`rlmba.method.input_space.InputSpace`). If none are
        given, a strategy that needs them (``rlmba-h``) uses ``features`` instead, with a warning.
    labeled_input_features : array [L, D] or mapping of modality to array [L, d_m], optional
        Input features of labeled samples that are not among the arrays above. If ``labeled`` names
        samples of these arrays, leave it out.
    pool : ShardSource, optional
        A pool in shards, such as :class:`rlmba.data.shards.ShardedPool`, instead of the arrays of samples.
        The batch is the same as from these arrays. ``labeled`` then holds rows of the shards, a mask, ids, or
        features of other samples.
    group : Group, optional
        With ``pool``: the processes that divide the rows, such as ``rlmba.training.ProcessGroup.open("cpu")``
        in each of them. All call this function with the same arguments, and get the same result.
    max_memory : int, optional
        With ``pool``: bytes of memory for rows; those that do not fit are kept in temporary files. Default:
        4 GiB. Some bytes a row are used in addition (docs/large-pools.md).
    spill_folder : path, optional
        With ``pool``: the folder for these files. Default: the system's folder for temporary files.
    **options
        The strategy's options; only with a name.

    Returns
    -------
    SelectedSamples
        Exactly n distinct ``positions`` into the arrays passed, in chosen order, their ``ids``,
        ``scores``, ``seconds`` by stage and ``backends``; always as NumPy arrays.

    Raises
    ------
    UsageError
        If the strategy needs something that was not passed, n is larger than the pool, a position is
        out of range, or an option is unknown. Its subclass ShapeError if shapes disagree, or features
        or logits have width 0.
    DataError
        If probabilities do not sum to 1, ids or labeled samples repeat, a labeled id is not in the
        pool, or a sample has no modality. Its subclass NonFiniteError for NaN and infinity; it names
        the sample, and ``.row`` is its position in the arrays passed.

    Notes
    -----
    n = 0 is allowed for an empty pool. With one class all uncertainties are equal, and ties go to the
    lower position.

    Examples
    --------
    >>> import numpy as np, rlmba
    >>> logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4]]))
    >>> rlmba.select("margin", logits=logits, ids=["a", "b", "c"], n=2).ids.tolist()
    ['a', 'c']
    >>> rlmba.select("margin", logits=logits, labeled=[0], n=1).positions
    array([2])
    """
    if isinstance(weights, str):
        options["weights"], weights = weights, None
    if isinstance(strategy, str):
        strategy = create(strategy, **options)
    elif options:
        raise UsageError(
            f"options {sorted(options)} need the name of a strategy, got an instance of "
            f"{strategy.name!r}; give them to rlmba.strategies.create"
        )
    made_head = array_inputs.as_head(head)
    if pool is not None:
        _require_no_arrays(
            features, logits, probabilities, ids, present, dropout_logits, input_features
        )
        found, found_ids = select_shards(
            strategy, pool, n, rng=rng, labeled=labeled, labels=labels, head=made_head, weights=weights,
            temperatures=temperatures, fusion_weights=fusion_weights, group=group,
            max_memory=max_memory, spill_folder=spill_folder,
        )  # fmt: skip
        return SelectedSamples(found.positions, found.scores, seconds=found.seconds, ids=found_ids)
    given = PoolArrays(
        features=features,
        logits=logits,
        probabilities=probabilities,
        dropout_logits=dropout_logits,
        ids=ids,
        present=present,
        labeled=labeled,
        labels=labels,
        fusion_weights=fusion_weights,
        head=made_head,
        input_features=input_features,
    )
    _require(strategy, given, made_head)
    outputs = given.pool(strategy, made_head)
    gpu = array_inputs.gpu_of(features, logits, probabilities, dropout_logits)
    if gpu is not None and strategy.on_device:
        outputs = outputs.on(gpu)
    context = QueryContext(
        rng=rng if isinstance(rng, np.random.Generator) else np.random.default_rng(_seed(rng)),
        weights=given.numbers(weights, "weights"),
        temperatures=given.numbers(temperatures, "temperatures"),
        fusion_weights=given.fusion_weights,
        labeled_features=given.labeled_features,
        labels=given.labels,
        labeled_modalities=given.labeled_modalities,
        labeled_present=given.labeled_present,
        head=made_head,
    )
    _check_widths(outputs, context, strategy)
    if "input_features" in strategy.needs:
        outputs, context = with_input_features(outputs, context, given, labeled_input_features)
    try:
        chosen = strategy.query(outputs, context, n)
    except NonFiniteError as error:
        raise NonFiniteError(str(error), given.row_of(error.row)) from error
    positions = chosen.positions if given.rows is None else given.rows[chosen.positions]
    return SelectedSamples(
        positions=positions,
        scores=chosen.scores,
        seconds=chosen.seconds,
        backends=chosen.backends,
        ids=positions if given.ids is None else given.ids[positions],
    )


def _require_no_arrays(*arrays: Any) -> None:
    if any(a is not None for a in arrays):
        raise UsageError(
            "expected a pool in shards or arrays of samples, got both; leave out features, logits, "
            "probabilities, ids, present, dropout_logits and input_features"
        )


def _seed(rng: Rng) -> int | None:
    return None if rng is None else seed_from(rng)


def _require(strategy: Strategy, given: PoolArrays, head: LinearHead | None) -> None:
    alone = len(given.names) == 1
    has = {
        "features": given.features.fused is not None,
        "logits": given.logits.fused is not None,
        "modality_features": bool(given.features.modalities)
        or (alone and given.features.fused is not None),
        "modality_logits": bool(given.logits.modalities)
        or (alone and given.logits.fused is not None),
        "labeled": given.labeled_features is not None,
        "labels": given.labels is not None,
        "head": head is not None,
        "dropout": given.dropout is not None,
        "input_features": bool(given.input_features.arrays() or given.features.arrays()),
    }
    lacking = [_PASS[need] for need in _PASS if need in strategy.needs and not has[need]]
    if lacking:
        raise UsageError(
            f"strategy {strategy.name!r} needs more than was passed: pass {'; '.join(lacking)}"
        )


def _check_widths(pool: PoolOutputs, context: QueryContext, strategy: Strategy) -> None:
    """Check widths across arrays, which the types do not check."""
    width = pool.fused_features.shape[1]
    labeled, head = context.labeled_features, context.head
    if labeled is not None and width and labeled.shape[1] != width:
        raise ShapeError(
            f"labeled: expected features of width {width}, as in the pool, got shape {labeled.shape}"
        )
    if head is not None and "head" in strategy.needs:
        shape = (pool.n_classes, width)
        if head.weight.shape != shape:
            raise ShapeError(
                f"head: expected weight [C, D] = {shape} for these logits and features, "
                f"got {head.weight.shape}"
            )
