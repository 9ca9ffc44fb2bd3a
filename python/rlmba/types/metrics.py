"""What evaluation and training report, and the record of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlmba.errors import DataError

__all__ = [
    "MULTIMODAL",
    "Evaluation",
    "HeadMetrics",
    "RoundRecord",
    "TrainingDiagnostics",
]

MULTIMODAL = "mm"
"""Name of the fused head wherever heads are named; no modality may have it."""


@dataclass(frozen=True)
class HeadMetrics:
    """Metrics of one head on one set of samples.

    ``top1`` is the micro accuracy and ``top1_macro`` the mean of the accuracies of the classes present,
    both in [0, 1]. ``nll`` is the mean negative log-likelihood in nats, ``ece`` the expected calibration
    error in [0, 1] (L1, equal-width bins).

    ``f1`` in [0, 1] is the mean of F1 over the classes present. ``auroc`` in [0, 1] is the mean area
    under the ROC curve, one class against the rest, over the classes that some but not all samples
    belong to. Both are None where undefined, and in records of versions that did not record them.
    ``per_class`` is the accuracy of each class in the order of the classes, None for a class without
    samples; it is empty where it was not asked for.

    If some samples lack a modality, its head is evaluated on the ``samples`` that have it, and
    ``fused_top1`` is the fused head's Top-1 on the same samples (None if there are none). Both are
    None for a head that is evaluated on every sample, and in records of versions that did not record
    them.
    """

    top1: float
    top1_macro: float
    nll: float
    ece: float
    f1: float | None = None
    auroc: float | None = None
    per_class: tuple[float | None, ...] = ()
    samples: int | None = None
    fused_top1: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of every head on one set of ``size`` samples: the fused head "mm", then the modalities.

    ``majority`` in (0, 1] is the share of the most frequent class among the samples: the Top-1 of a
    prediction that ignores them. ``predicted_classes`` is the number of classes that "mm" predicts for at
    least one sample, and ``most_predicted`` the position of the class that it predicts most often (the
    lowest of ties). They are None in records of versions that did not record them.

    ``never_predicted`` has a pair for each class that some samples belong to and that "mm" predicts for
    no sample: the position of the class, and how many samples belong to it. It is in the order of the
    classes, and empty in records of versions that did not record it.
    """

    heads: Mapping[str, HeadMetrics]
    size: int
    majority: float | None = None
    predicted_classes: int | None = None
    most_predicted: int | None = None
    never_predicted: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if MULTIMODAL not in self.heads:
            raise DataError(
                f"Evaluation: expected the fused head {MULTIMODAL!r}, got {list(self.heads)}"
            )

    @property
    def mm(self) -> HeadMetrics:
        """The fused head's metrics."""
        return self.heads[MULTIMODAL]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names in their fixed order."""
        return tuple(m for m in self.heads if m != MULTIMODAL)

    def fused_top1(self, modality: str) -> float | None:
        """Top-1 of the fused head on the samples that have ``modality``; None if none has it.

        Compare the Top-1 of the modality's head with this value: samples that have a modality can be
        easier or harder than the others.
        """
        head = self.heads[modality]
        if head.samples is None:
            return self.mm.top1
        return head.fused_top1


@dataclass(frozen=True)
class TrainingDiagnostics:
    """Diagnostics of one training.

    ``loss_slope`` is the change of the mean loss per epoch (least squares over the second half of the
    epochs), ``gradient_norm`` the mean l2 norm of the gradient in the last epoch, ``final_loss`` the
    mean loss of the last epoch, ``steps`` the number of optimizer steps and ``epochs`` that of epochs.
    """

    loss_slope: float = 0.0
    gradient_norm: float = 0.0
    final_loss: float = 0.0
    steps: int = 0
    epochs: int = 0


@dataclass(frozen=True)
class RoundRecord:
    """What one round produced: one line of ``rounds.jsonl``, and everything that reports read.

    Round 0 trains on the initial labels and selects nothing. Round t >= 1 queries ``selected`` samples
    with the model of round t - 1, retrains and evaluates.

    By modality, ``weights`` is AMCB's w that scored in this round, ``fusion_weights`` that of the fusion
    in training, ``delta`` Eq 1 after training, and ``contributions`` the normalized mean Shapley values
    on the validation set. ``raw_reward`` is r_t, ``reward`` the same after smoothing
    (``reward.smoothing``). ``seconds`` has ``predict``, ``select``, ``train``, ``validate`` and
    ``policy``; ``select_seconds`` splits ``select`` by stage.
    """

    round: int
    labels: int
    selected: int
    validation: Evaluation
    test: Evaluation | None
    weights: Mapping[str, float]
    fusion_weights: Mapping[str, float]
    delta: Mapping[str, float]
    contributions: Mapping[str, float]
    temperatures: Mapping[str, float]
    training: TrainingDiagnostics
    seconds: Mapping[str, float]
    select_seconds: Mapping[str, float] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    raw_reward: float | None = None
    reward: float | None = None
    advantage: float | None = None
    policy: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, numbers and strings, ready for JSON."""
        return asdict(self)
