"""A group of runs that may be averaged, and their curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlmba.types import MULTIMODAL

__all__ = ["METRICS", "STAGES", "Array", "Group"]

STAGES = ("predict", "select", "train", "validate", "policy")
"""Stages of a round in the order of tables."""

METRICS = ("top1", "top1_macro", "nll", "ece", "f1", "auroc")
"""Figures of a head that every group has; NaN if unknown."""

Array = NDArray[np.float64]


def _unknown() -> Array:
    return np.full((1, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Group:
    """Runs with S seeds, whose figures are known at the same T numbers of labels.

    Attributes
    ----------
    dataset, strategy, fusion, predictor : str
        What the runs have in common. The name of a data set includes its file; a strategy is named by
        the ``label`` of its runs, if there is one.
    variant : str
        The options in which this group differs from others of the same names; empty if there are none.
    on : {"test", "validation"}
        The samples that Top-1 was measured on: test if all rounds have it.
    seeds : tuple of int [S]
    labels : int64 array [T]
        Labeled samples after each round.
    top1, top1_macro : mapping of head to float array [S, T]
        Accuracy in [0, 1], micro and macro; the fused head is "mm".
    contributions, weights, fusion_weights : mapping of modality to float array [S, T]
        As in :class:`~rlmba.types.RoundRecord`; NaN in rounds without them.
    seconds : mapping of stage to float array [S]
        Mean wall time per round with a query (of round 0 if there is no other round).
    metrics : mapping of head to mapping of figure to float array [S, T]
        All numeric figures of :class:`~rlmba.types.HeadMetrics`, at least :data:`METRICS`, on the same
        samples as Top-1; NaN if unknown. Missing ones are filled in.
    fused_top1 : mapping of modality to float array [S, T]
        Top-1 of the fused head on the samples that have the modality; NaN if no sample has it. A
        modality without an entry counts as present in all samples.
    majority : float array [S, T]
        Share of the largest class among the samples that Top-1 was measured on: the Top-1 of a
        prediction that ignores them. NaN if unknown.
    raw_reward : float array [S, T]
        The unsmoothed reward; NaN if there is none.
    options : mapping of str to str
        All options that can affect the results, by dotted key (``training.weight_decay``); empty for runs
        of other programs. :func:`rlmba.experiments.statistics.protocol_differences` reads it.
    versions : tuple of str
        Versions of rlmba that made the runs, ascending.
    notes : tuple of str
        Notes for the reader: unfinished runs, several versions of the code.
    """

    dataset: str
    strategy: str
    fusion: str
    predictor: str
    variant: str
    on: Literal["test", "validation"]
    seeds: tuple[int, ...]
    labels: NDArray[np.int64]
    top1: Mapping[str, Array]
    top1_macro: Mapping[str, Array]
    contributions: Mapping[str, Array]
    weights: Mapping[str, Array]
    fusion_weights: Mapping[str, Array]
    seconds: Mapping[str, Array]
    metrics: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    fused_top1: Mapping[str, Array] = field(default_factory=dict)
    majority: Array = field(default_factory=_unknown)
    raw_reward: Array = field(default_factory=_unknown)
    options: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = len(self.seeds), len(self.labels)
        unknown = np.broadcast_to(_unknown(), shape)
        metrics = {
            head: {
                **dict.fromkeys(METRICS, unknown),
                **self.metrics.get(head, {}),
                "top1": top1,
                "top1_macro": self.top1_macro.get(head, unknown),
            }
            for head, top1 in self.top1.items()
        }
        object.__setattr__(self, "metrics", metrics)
        for name in ("majority", "raw_reward"):
            object.__setattr__(self, name, np.broadcast_to(getattr(self, name), shape))

    @property
    def name(self) -> str:
        """Strategy, fusion and predictor, and the variant if there is one."""
        name = f"{self.strategy}, {self.fusion} fusion, {self.predictor} predictor"
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in their fixed order."""
        return tuple(head for head in self.top1 if head != MULTIMODAL)

    @property
    def aubc(self) -> Array:
        """Area under the budget curve [S]: the fused head's mean Top-1 over rounds."""
        means: Array = self.top1[MULTIMODAL].mean(axis=1)
        return means

    def comparable_top1(self, modality: str) -> Array:
        """Top-1 of a modality's head [S, T], comparable between modalities.

        If samples lack the modality, the advantage of the fused head on the samples that have it is
        subtracted. NaN if no sample has it.
        """
        fused = self.top1.get(MULTIMODAL, _unknown())
        given = self.fused_top1.get(modality)
        top1: Array = self.top1[modality]
        return top1 if given is None else top1 - (given - fused)

    @property
    def fairness_gap(self) -> Array:
        """Largest minus smallest :meth:`comparable_top1` of the modalities [S, T].

        0 for one modality; NaN if the Top-1 of a modality is unknown, or if there is no modality.
        """
        if not self.modalities:
            return np.broadcast_to(_unknown(), (len(self.seeds), len(self.labels)))
        heads = np.stack([self.comparable_top1(m) for m in self.modalities])
        gap: Array = heads.max(axis=0) - heads.min(axis=0)
        return gap

    @property
    def balance(self) -> Array:
        """Evenness of the contributions [S, T]: their entropy divided by ln M, in [0, 1].

        1 if all modalities contribute equally (and for one modality), 0 if only one contributes. NaN if a
        contribution is unknown or all are 0.
        """
        shares = [self.contributions.get(m, _unknown()) for m in self.modalities] or [_unknown()]
        shape = len(self.seeds), len(self.labels)
        phi = np.stack([np.broadcast_to(share, shape) for share in shares])
        with np.errstate(invalid="ignore", divide="ignore"):
            p = phi / phi.sum(axis=0)
            entropy: Array = -np.where(p > 0, p * np.log(p), p).sum(axis=0)
        # Where p is 0 or NaN, p itself is the summand: 0 ln 0 = 0, and NaN stays NaN.
        if len(phi) == 1:
            return np.where(np.isnan(entropy), np.nan, 1.0)
        evenness: Array = np.clip(entropy / np.log(len(phi)), 0.0, 1.0)
        return evenness
