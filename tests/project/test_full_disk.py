"""A disk that fills up in a round: a clear error, nothing half written, and the next command goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba.cli import main
from rlmba.errors import StorageError
from rlmba.learner import Trained
from rlmba.training import FeatureStore
from tests.helpers.small_disk import full_but_for, small_disk

ROWS = 40


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 8 << 20) as folder:
        if folder is None:
            pytest.skip("needs the right to mount a file system")
        yield folder


@pytest.fixture
def project(tmp_path, disk):
    """A project on that disk, before its first batch, and where its features are kept."""
    texts = [f"{('a cat purrs', 'the dog barks')[i % 2]} {i}" for i in range(ROWS)]
    lines = ["id,text", *(f"s{i},{text}" for i, text in enumerate(texts))]
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    truth = ["id,label", *(f"s{i},{('cat', 'dog')[i % 2]}" for i in range(ROWS))]
    (tmp_path / "truth.csv").write_text("\n".join(truth) + "\n")
    folder = disk / "p"
    settings = [
        *("batch_size=4", "initial_labels=6", "project.validation_labels=6", "device=cpu"),
        *("model.encoders.text={name: ngrams, width: 64}", "model.frozen=true", "epochs=2"),
        f"model.features_folder={disk / 'features'}",
    ]
    given = ["--manifest", str(tmp_path / "pool.csv"), "--annotator", "oracle"]
    given += ["--annotator-option", f"truth={tmp_path / 'truth.csv'}"]
    assert main(["init", str(folder), *given, *(w for s in settings for w in ("--set", s))]) == 0
    return folder


def test_rows_of_features_are_stored_completely_or_not_at_all(disk):
    rng = np.random.default_rng(0)
    store = FeatureStore(disk / "features", "abc", 256)
    keys = [f"key {i}".encode() for i in range(1000)]
    rows = rng.normal(size=(1000, 256)).astype(np.float32)
    there = np.ones(1000, np.bool_)
    store.add(keys[:100], rows[:100], there[:100])
    with (
        full_but_for(disk, 100_000),
        pytest.raises(StorageError, match=r"full.*free space there.*written before is kept"),
    ):
        store.add(keys[100:], rows[100:], there[100:])
    features, known, _ = store.read(keys)
    assert known.tolist() == [True] * 100 + [False] * 900
    np.testing.assert_array_equal(features[:100], rows[:100])
    store.add(keys[100:], rows[100:], there[100:])
    np.testing.assert_array_equal(store.read(keys)[0], rows)


def test_next_and_collect_go_on_after_a_full_disk(project, disk, capsys):
    """Whichever file does not fit: store, pending batch, ticket, labels, checkpoint, or log of rounds."""
    failed = []
    for command in ("next", "collect") * 2:
        before = _rounds(project)
        # Each time there is more space, so that another of the files is the one that does not fit.
        for left in (0, 4096, 12_288, 40_960, 122_880):
            capsys.readouterr()
            with full_but_for(disk, left):
                code = main([command, str(project)])
                said = capsys.readouterr().err
                assert main(["status", str(project)]) == 0
            if code == 0:
                break
            assert code == 1
            assert "No space left" in said or "full" in said
            assert "Traceback" not in said
            assert not list(disk.rglob("*.tmp"))
            failed.append(command)
            assert _rounds(project) == before
        else:
            assert main([command, str(project)]) == 0
    assert {"next", "collect"} == set(failed)
    assert [r["round"] for r in _rounds(project)] == [0, 1]
    answers = [json.loads(x) for x in (project / "labels.jsonl").read_text().splitlines()]
    assert len({a["id"] for a in answers}) == len(answers) == 16
    assert Trained.load(project).labels == 10


def _rounds(project):
    path = project / "rounds.jsonl"
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
