"""What a project says about an accuracy that could be misread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlmba.project.findings import findings, has_learned
from rlmba.project.predict import Summary
from rlmba.training import evaluate
from rlmba.types import PoolOutputs, RoundRecord, TrainingDiagnostics


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


def record(test, validation):
    return RoundRecord(
        round=0, labels=4, selected=0, validation=validation, test=test, weights={},
        fusion_weights={}, delta={}, contributions={}, temperatures={},
        training=TrainingDiagnostics(), seconds={},
    )  # fmt: skip


def evaluated(predicted, labels, classes):
    logits = np.eye(classes, dtype=np.float32)[predicted]
    pool = replace(outputs([0] * len(predicted)), logits={"a": logits}, fused_logits=logits)
    return evaluate(pool, np.array(labels))


def test_classes_that_are_never_predicted_are_named_with_their_samples():
    labels = [0] * 40 + [1] * 30 + [2] * 6 + [3] * 4
    found = evaluated([0] * 40 + [1] * 30 + [0] * 10, labels, 5)
    assert found.never_predicted == ((2, 6), (3, 4))  # no sample is of the fifth class
    names = ["cat", "dog", "owl", "yak", "emu"]
    said = " ".join(findings(record(found, found), names))
    assert "never predicts the class 'owl' (6 samples) on the 80 test samples" in said
    assert "yak" not in said  # too few samples to tell
    said = " ".join(findings(record(None, found), []))
    assert "1 of the classes for none of the 80 validation samples" in said
    right = evaluated(labels, labels, 5)
    assert "never" not in " ".join(findings(record(right, found), names))
    both = evaluated([0] * 20, [0] * 6 + [1] * 5 + [2] * 9, 3)
    (first, *others) = findings(record(both, both), names)
    assert first.startswith("The network predicts only 'cat'")
    assert "never" not in " ".join(others)


def test_predictions_of_a_single_class_are_pointed_out():
    def said(names):
        summary = Summary(Path("out.csv"), classes=3)
        n = len(names)
        summary.add({"id": [str(i) for i in range(n)], "class": names, "unreadable": [None] * n})
        return "\n".join(summary.lines())

    assert "every sample got the same one of 3 classes" in said(["a"] * 5)
    assert "same one" not in said(["a", "a", "b"])
    assert "same one" not in said([None, "a"])
