"""What people should know about a round's accuracy, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rlmba.training.calibration import TEMPERATURE_RANGE
from rlmba.types import MULTIMODAL, Evaluation, RoundRecord

__all__ = ["balance", "findings", "has_learned", "one_class_only"]

_Z = 1.96
_WIDE = 0.1
"""Half of the 95 % interval of an accuracy above which the validation set is called small."""

_SUPPORT = 5
"""Number of samples from which a class that is never predicted is named."""

_NAMED = 5

_UNEVEN = 5.0
"""Ratio of the largest class to the mean from which labels are called uneven."""


def findings(record: RoundRecord, classes: Sequence[str]) -> list[str]:
    """Sentences about a round whose accuracy could be misread; empty if there is nothing to say.

    Parameters
    ----------
    record : RoundRecord
    classes : sequence of str
        Names of the classes of the round's network; may be empty if they are not known.
    """
    v = record.validation
    says = []
    if one_class_only(v):
        name = (
            f"{classes[v.most_predicted]!r}"
            if classes and v.most_predicted is not None
            else "one class"
        )
        says.append(
            f"The network predicts only {name}: it has not learned to tell the classes apart yet. Its Top-1 "
            "is the share of that class."
        )
    elif not has_learned(v):
        says.append(
            f"Top-1 on the validation set is not above the share of its largest class ({v.majority:.3f}): "
            "the network has learned little yet."
        )
    if not one_class_only(v) and (never := _never_predicted(record, classes)):
        says.append(never)
    low, high = _wilson(v.mm.top1, v.size)
    if high - low > 2 * _WIDE:
        says.append(
            f"The validation set of {v.size} samples is small: the true Top-1 is between {low:.2f} and "
            f"{high:.2f} (95 %)."
        )
    at_bound = [
        "fused head" if head == MULTIMODAL else head
        for head, t in record.temperatures.items()
        if min(abs(math.log(t / bound)) for bound in TEMPERATURE_RANGE) < 1e-3
    ]
    if at_bound:
        says.append(
            f"The temperature of {', '.join(at_bound)} is at its bound: probabilities of the predictions are "
            "not calibrated. More validation samples help."
        )
    return says


def _never_predicted(record: RoundRecord, classes: Sequence[str]) -> str:
    """A sentence on classes that the network never predicts, the largest first; "" if there are none."""
    which, measured = "test", record.test
    if measured is None:
        which, measured = "validation", record.validation
    found = sorted(
        (pair for pair in measured.never_predicted if pair[1] >= _SUPPORT),
        key=lambda pair: -pair[1],
    )
    if not found:
        return ""
    where = f"the {measured.size} {which} samples"
    if not classes:
        return f"The network predicts {len(found)} of the classes for none of {where}."
    named = ", ".join(f"{classes[c]!r} ({n} samples)" for c, n in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    kind = "class" if len(found) == 1 else "classes"
    return (
        f"The network never predicts the {kind} {named}{more} on {where}: it needs more labels of "
        f"{'this class' if len(found) == 1 else 'these classes'}."
    )


def one_class_only(evaluation: Evaluation) -> bool:
    """Whether the network predicts one class for all samples, though they have several."""
    several = evaluation.majority is not None and evaluation.majority < 1
    return several and evaluation.predicted_classes == 1


def has_learned(evaluation: Evaluation) -> bool:
    """Whether the network is better than predicting one class for all samples; True if unknown."""
    majority = evaluation.majority
    if one_class_only(evaluation) or majority is None:
        return majority is None
    # As counts of samples, because Top-1 is rounded to single precision.
    right, largest = (round(share * evaluation.size) for share in (evaluation.mm.top1, majority))
    return majority == 1 or right > largest


def balance(counts: Mapping[str, int]) -> str:
    """A sentence on how evenly labels are spread over the classes; "" if they are about even."""
    if len(counts) < 2:
        return "all labels are of one class: label samples of others" if counts else ""
    largest = max(counts, key=lambda name: counts[name])
    share = counts[largest] / sum(counts.values())
    few = [name for name, n in counts.items() if n == 1]
    says = []
    if counts[largest] * len(counts) > _UNEVEN * sum(counts.values()) or share > 0.8:
        says.append(f"{share:.0%} of the labels are {largest!r}: read the macro accuracy")
    if few:
        names = ", ".join(map(repr, few[:5])) + (", ..." if len(few) > 5 else "")
        says.append(f"classes with a single label: {names}")
    return "; ".join(says)


def _wilson(share: float, n: int) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 %."""
    if n == 0:
        return 0.0, 1.0
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
