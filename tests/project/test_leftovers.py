"""Questions of earlier batches that nobody has answered get the newest model's predictions."""

from __future__ import annotations

import json

import pytest

from rlmba.annotators import create
from tests.helpers.labelstudio_files import annotation
from tests.helpers.people_data import NAMES, asked, made, rows_of, taken, write_manifest

OFFLINE = {"url": None}


@pytest.fixture
def project(tmp_path):
    rows, truth = rows_of(60)
    few = ("initial_labels=9", "project.validation_labels=6", "batch_size=3")
    options = {"annotator": "labelstudio", "annotator_options": OFFLINE}
    return made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows), *few, **options), truth


def export(folder, answers, round_):
    """The export of a project in which some samples have an answer."""
    tasks = [
        {"id": k, "data": {"sample_id": i, "round": round_}, "annotations": [annotation(name)]}
        for k, (i, name) in enumerate(answers.items())
    ]
    (folder / "labelstudio-export.json").write_text(json.dumps(tasks))


def test_leftovers_are_predicted_until_they_are_answered(project):
    folder, truth = project
    first = asked(folder).batch
    assert first.leftovers == ()
    export(folder, {i: truth[i] for i in first.ids[2:]}, 0)
    taken(folder, partial=True)

    second = asked(folder).batch
    left = [i for i in first.ids[:2] if i not in second.ids]
    assert left
    assert [q.id for q in second.leftovers] == left
    assert [q.rank for q in second.leftovers] == [4 + k for k in range(len(left))]
    for question in second.leftovers:
        assert question.prediction in NAMES
        assert 1 / 3 <= question.probability <= 1
        assert question.difficulty is not None
    tickets = create("labelstudio", folder, OFFLINE).tickets
    assert tickets.read("round_001")[0] == second
    assert asked(folder).batch == second

    # An answer that comes later counts, and the question is no leftover any more.
    export(folder, {i: truth[i] for i in first.ids[1:]}, 0)
    with pytest.warns(match="has no tasks of round 1"):
        taken(folder)
    assert [q.id for q in asked(folder).batch.leftovers] == [i for i in left if i != first.ids[1]]
