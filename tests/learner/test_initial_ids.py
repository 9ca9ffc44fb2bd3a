"""Runs that start from the samples of a file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba.config import RunConfig
from rlmba.data import load_dataset
from rlmba.errors import DataError, RunFolderError, UsageError
from rlmba.learner import configure, read_run, run
from tests.helpers.interrupting import StopAfter, Stopped


@pytest.fixture
def ids() -> list[str]:
    """Three training samples of each digit, by no rule that a run would follow."""
    data = load_dataset("digits")
    train = data.train_positions
    chosen = [train[data.labels[train] == c][5:8] for c in range(10)]
    return data.ids[np.concatenate(chosen)[::-1]].tolist()


def start(quick, file, **more) -> RunConfig:
    values = quick.model_dump(exclude_unset=True) | {"initial_labels": None, "initial_ids": file}
    return RunConfig.model_validate(values | more)


@pytest.mark.slow
def test_a_run_starts_from_them(quick, ids, tmp_path):
    file = tmp_path / "label.txt"
    file.write_text("\n".join(ids) + "\n")
    result = run(start(quick, file, rounds=1), tmp_path / "r")
    assert [r.labels for r in result.records] == [30, 40]
    assert result.config.initial_labels == 30
    selected = json.loads((tmp_path / "r" / "selected" / "round_000.json").read_text())
    assert selected["ids"] == ids
    split = json.loads((tmp_path / "r" / "split.json").read_text())
    assert split["initial"] == ids
    assert not set(split["validation"]) & set(ids)
    other = run(start(quick, file, rounds=0, strategy="random"), tmp_path / "other")
    assert other.records[0].test == result.records[0].test


@pytest.mark.slow
def test_resuming_needs_the_same_file(quick, ids, tmp_path, monkeypatch):
    file = tmp_path / "label.txt"
    file.write_text("\n".join(ids) + "\n")
    monkeypatch.chdir(tmp_path)
    whole = run(start(quick, "label.txt", rounds=2), tmp_path / "whole")

    with pytest.raises(Stopped):
        run(start(quick, "label.txt", rounds=2), tmp_path / "r", observer=StopAfter(1))
    monkeypatch.chdir("/")
    stored = configure({}, resume_from=tmp_path / "r")
    assert stored.initial_ids == file
    for changed in ([*ids[1:], ids[0]], [*ids[:-1], str(whole.path)]):
        file.write_text("\n".join(changed) + "\n")
        with pytest.raises(
            (RunFolderError, DataError), match=r"started from other|are not in the data set"
        ):
            run(stored, tmp_path / "r", resume=True)
    file.write_text("\n".join(ids[:-1]) + "\n")
    with pytest.raises(UsageError, match="expected 29, the number of initial ids, got 30"):
        run(stored, tmp_path / "r", resume=True)
    file.unlink()
    with pytest.raises(UsageError, match="no such file"):
        run(stored, tmp_path / "r", resume=True)
    file.write_text("\n".join(ids) + "\n")
    resumed = run(stored, tmp_path / "r", resume=True)
    assert [r.test for r in resumed.records] == [r.test for r in whole.records]
    assert len(read_run(tmp_path / "r").records) == 3


@pytest.mark.parametrize(
    ("content", "more", "match"),
    [
        ("", {}, "empty file"),
        ("apple_pie_apple_pie_1.jpg\n", {}, "1 of the 1 ids"),
        (None, {"initial_labels": 20}, "expected 30, the number of initial ids, got 20"),
        (
            "half",
            {},
            r"every class among the 15 initial labels, got none of \['0', '1', '2', '3', '4'",
        ),
        ("test", {}, "test split"),
    ],
)
def test_bad_files_write_nothing(quick, ids, tmp_path, content, more, match):
    data = load_dataset("digits")
    given = {None: ids, "half": ids[:15], "test": [*ids, str(data.ids[data.test_positions[0]])]}
    file = tmp_path / "label.txt"
    file.write_text("\n".join(given[content]) if content in given else content)
    with pytest.raises((UsageError, DataError), match=match):
        run(start(quick, file, **more), tmp_path / "r")
    assert not (tmp_path / "r").exists()
