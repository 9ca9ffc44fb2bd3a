"""What a project says about an accuracy that could be misread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlmba.project.findings import has_learned
from rlmba.project.predict import Summary
from rlmba.training import evaluate
from rlmba.types import PoolOutputs


def outputs(predicted):
    """Outputs of two classes that predict these."""
    logits = np.eye(2, dtype=np.float32)[predicted]
    n = len(predicted)
    features = np.ones((n, 3), np.float32)
    return PoolOutputs(
        ids=np.array([f"s{i}" for i in range(n)]),
        features={"a": features},
        logits={"a": logits},
        fused_features=features,
        fused_logits=logits,
    )


@pytest.mark.parametrize(
    ("labels", "predicted", "learned"),
    [
        ([0] * 6 + [1] * 4, [0] * 10, False),
        ([0] * 6 + [1] * 4, [0] * 5 + [1] + [0] * 3 + [1], False),
        ([0] * 6 + [1] * 4, [0] * 6 + [1] * 2 + [0] * 2, True),
        ([0] * 4, [0] * 4, True),
    ],
    ids=["one class", "not above the largest class", "above", "one class is all there is"],
)
def test_a_network_has_learned_if_it_beats_the_largest_class(labels, predicted, learned):
    assert has_learned(evaluate(outputs(predicted), np.array(labels))) is learned


def test_predictions_of_a_single_class_are_pointed_out():
    def said(names):
        summary = Summary(Path("out.csv"), classes=3)
        n = len(names)
        summary.add({"id": [str(i) for i in range(n)], "class": names, "unreadable": [None] * n})
        return "\n".join(summary.lines())

    assert "every sample got the same one of 3 classes" in said(["a"] * 5)
    assert "same one" not in said(["a", "a", "b"])
    assert "same one" not in said([None, "a"])
